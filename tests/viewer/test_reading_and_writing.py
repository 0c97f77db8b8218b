"""napari's plugin without Qt: the manifest, what is opened as what, and what is written where."""

import re
import subprocess
import sys
import time
import tomllib
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

import vol3d.viewer
from tests.segmented import box, person, segmentation
from tests.viewer import scenes
from vol3d.data.bids_writer import anat_path, read_maker
from vol3d.errors import ConfigError, DataError
from vol3d.trained.segmentation_folder import MAKER
from vol3d.transforms.field_file import write_field
from vol3d.viewer.axes import turned
from vol3d.viewer.files import layers_of_file, read_frames
from vol3d.viewer.folders import SEGMENTER, facts_of_model, layers_at, layers_of_segmentations
from vol3d.viewer.gathered import gather
from vol3d.viewer.layers import OURS, image_layer, labels_layer, points_layer
from vol3d.viewer.reader import get_reader
from vol3d.viewer.sample_data import embedded_subject, generated_brain
from vol3d.viewer.writer import write_places, write_volume
from vol3d.volume import Volume

npe2 = pytest.importorskip("npe2")
AFFINE = np.diag([-2.0, 2.0, 2.0, 1.0])
ROOT = Path(vol3d.viewer.__file__).parents[2]
OPENS = """
import sys, time
start = time.perf_counter()
from vol3d.viewer.reader import get_reader
layers = get_reader(sys.argv[1])(sys.argv[1])
took = time.perf_counter() - start
assert not {"torch", "napari", "monai"} & sys.modules.keys(), "loaded"
print(len(layers), took)
"""


@pytest.fixture(scope="module")
def plugin() -> "npe2.PluginManifest":
    """Ours, known to npe2 even where vol3d was installed before it had one."""
    manifest = npe2.PluginManifest.from_file(ROOT / "vol3d/viewer/napari.yaml")
    manager = npe2.PluginManager.instance()
    manager.discover()
    if "vol3d" not in manager:
        manager.register(manifest)
    return manifest


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of segmentations by two members, of one person."""
    folder = tmp_path_factory.mktemp("segmented")
    visit = person(folder / "data", "sub-01", {"truth": box(4, 4, 4)})
    segmentation(folder / "out", visit, [box(4, 4, 4), box(5, 4, 4)])
    return folder / "out"


def test_the_manifest_names_what_is_there(plugin: "npe2.PluginManifest"):
    for command in plugin.contributions.commands:
        module, _, attribute = command.python_name.partition(":")
        source = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        assert re.search(rf"^(class|def) {attribute}\b", source.read_text(), re.M), command
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert told["project"]["entry-points"]["napari.manifest"] == {
        "vol3d": "vol3d.viewer:napari.yaml"
    }
    assert "viewer/napari.yaml" in told["tool"]["setuptools"]["package-data"]["vol3d"]
    if find_spec("PyQt6") or find_spec("PySide6"):
        plugin.validate_imports()


def test_npe2_reads_and_writes_with_our_plugin(plugin: "npe2.PluginManifest", tmp_path: Path):
    volume = Volume(
        np.arange(60, dtype=np.float32).reshape(3, 4, 5), scenes.GRIDS["oblique"].affine
    )
    volume.write(tmp_path / "v.nii.gz")
    (layer,) = npe2.io_utils.read([str(tmp_path / "v.nii.gz")], stack=False, plugin_name="vol3d")
    assert layer[1]["name"] == "v"
    (written,) = npe2.io_utils.write(str(tmp_path / "w.nii.gz"), [layer], plugin_name="vol3d")
    again = Volume.read(written)
    assert again.grid.matches(volume.grid)
    assert np.array_equal(again.data, volume.data)


@pytest.mark.parametrize("what", ["image", "cohort", "segmentations"])
def test_a_reader_opens_without_torch(what: str, cohort: Path, segmented: Path):
    """Two seconds on a machine that does nothing else; here others test beside it."""
    image = next(cohort.glob("sub-*/anat/*T1w.nii.gz"))
    path = {"image": image, "cohort": cohort, "segmentations": segmented}[what]
    done = subprocess.run(
        [sys.executable, "-c", OPENS, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    n, took = done.stdout.split()
    assert int(n) >= 1
    assert float(took) < 10


def test_label_maps_know_their_names_and_colours(tmp_path: Path):
    path = anat_path(tmp_path, "sub-01", {"desc": "tissue"}, "dseg")
    Volume(box(3, 3, 3), AFFINE).write(path)
    (tmp_path / "dseg.tsv").write_text("index\tname\n1\twrong\n")
    (tmp_path / "desc-other_dseg.tsv").write_text("index\tname\n1\twrong too\n")
    table = "index\tname\tcolor\n0\tbackground\t#000000\n1\tgrey matter\t#aa0000\n2\twhite\tn/a\n"
    (tmp_path / "desc-tissue_dseg.tsv").write_text(table)
    ((_, settings, kind),) = layers_of_file(path)
    assert kind == "labels"
    assert settings["metadata"][OURS].names == {0: "background", 1: "grey matter", 2: "white"}
    layer = pytest.importorskip("napari.layers").Labels(np.zeros((2, 2, 2), int), **settings)
    assert layer.get_color(0) is None or layer.get_color(0)[3] == 0
    assert np.allclose(layer.get_color(1), [0xAA / 255, 0, 0, 1])
    assert np.allclose(layer.get_color(2), [0x44 / 255, 0x77 / 255, 0xAA / 255, 1])
    assert settings["features"]["name"] == ["background", "grey matter", "white"]
    (tmp_path / "desc-tissue_dseg.tsv").write_text("index\tname\none\tgrey\n")
    with pytest.raises(DataError, match=r"desc-tissue_dseg\.tsv: columns index"):
        layers_of_file(path)


def test_series_fields_and_points(tmp_path: Path):
    frames = np.random.default_rng(0).random((4, 5, 6, 3)).astype(np.float32)
    image = nib.Nifti1Image(frames, AFFINE)
    image.set_sform(AFFINE, 1)
    nib.save(image, tmp_path / "series.nii.gz")
    assert [v.shape for v in read_frames(tmp_path / "series.nii.gz")] == [(4, 5, 6)] * 3
    ((data, settings, _),) = layers_of_file(tmp_path / "series.nii.gz")
    assert data.shape == (3, 6, 5, 4)
    assert np.array_equal(data[2], frames[::-1, :, :, 2].T)  # LAS: turned to RAS
    assert settings["affine"].shape == (5, 5)

    grid = scenes.GRIDS["oblique"]
    write_field(tmp_path / "field.nii.gz", np.full((3, *grid.shape), 2.0), grid)
    ((vectors, settings, kind),) = layers_of_file(tmp_path / "field.nii.gz")
    assert kind == "vectors"
    step = settings["affine"][0, 0]
    assert np.allclose(vectors[:, 1] * step, 2.0)

    (tmp_path / "lesions.tsv").write_text("structure\tx_mm\ty_mm\tz_mm\nventricles\t1\t2\t3\n")
    ((points, settings, kind),) = layers_of_file(tmp_path / "lesions.tsv")
    assert kind == "points"
    assert points.tolist() == [[3, 2, 1]]
    assert settings["features"] == {"structure": ["ventricles"]}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", "hello", "is no file that can be shown"),
        ("a.nii.gz", "hello", "cannot be read as an image"),
        ("a.tsv", "a\tb\n1\t2\n", "columns x, y, z"),
        ("a.tsv", "x\ty\tz\n1\t2\tthree\n", "mm are due"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_line(
    tmp_path: Path, name: str, content: str, words: str
):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=words):
        layers_at(tmp_path / name)


def test_the_reader_leaves_to_others_what_is_not_ours(tmp_path: Path):
    (tmp_path / "table.tsv").write_text("a\tb\n1\t2\n")
    assert get_reader(str(tmp_path / "table.tsv")) is None
    assert get_reader(str(tmp_path)) is None
    with pytest.raises(ConfigError, match="holds nothing that can be shown"):
        layers_at(tmp_path)
    with pytest.raises(ConfigError, match="no such file or folder"):
        layers_at(tmp_path / "nothing")


def test_segmentations_show_the_consensus_of_whom_is_asked_for(segmented: Path):
    assert SEGMENTER == MAKER == read_maker(segmented)["Name"]
    shown = layers_of_segmentations(segmented)
    assert [s["name"] for _, s, _ in shown if s["visible"]] == ["sub-01 dseg"]
    names = {s["name"] for _, s, _ in shown}
    assert {"sub-01 label-box_probseg", "sub-01 desc-entropy_probseg"} <= names
    assert not any("members" in name for name in names)
    with pytest.raises(ConfigError, match="has no sub-02"):
        layers_of_segmentations(segmented, "sub-02")


def test_an_image_decides_whose_segmentation_lies_over_it(cohort: Path, segmented: Path):
    image = next(cohort.glob("sub-0002/anat/*T1w.nii.gz"))
    shown = gather([image, cohort])
    assert {s["name"].split("_")[0].split()[0] for _, s, _ in shown} == {"sub-0002"}
    assert sum(s.get("visible", True) for _, s, _ in shown) == 1  # not the same image twice
    kinds = [kind for _, _, kind in gather([cohort])]
    assert kinds == sorted(kinds)  # images below labels
    with pytest.raises(ConfigError, match=r"who=X: .* has nobody of that name"):
        gather([cohort], "X")


def test_a_model_says_what_it_is():
    facts = dict(facts_of_model(Path("ready")))
    assert facts["kind"] == "diffusion"
    assert facts["age"].endswith("years")
    with pytest.raises(DataError, match="is a model without pictures"):
        layers_at(Path("ready"))


@pytest.mark.parametrize("name", list(scenes.GRIDS))
def test_what_was_painted_is_written_onto_the_grid_of_the_file(name: str, tmp_path: Path):
    layers = pytest.importorskip("napari.layers")
    grid = scenes.GRIDS[name]
    data, settings, _ = labels_layer(Volume(scenes.cubes(grid), grid.affine), "mask")
    layer = layers.Labels(data, **settings)
    middle = grid.affine @ [*scenes.LANDMARKS[3], 1]
    at = np.rint(layer.world_to_data(turned(middle[:3]))).astype(int)
    layer.data[tuple(slice(a - 3, a + 4) for a in at)] = 99
    layer.refresh()
    told = layer.as_layer_data_tuple()
    write_volume(str(tmp_path / "painted.nii.gz"), told[0], told[1])
    again = Volume.read(tmp_path / "painted.nii.gz")
    assert again.grid.matches(grid)
    assert again.data[tuple(scenes.LANDMARKS[3])] == 99
    untouched = again.data != 99
    assert np.array_equal(again.data[untouched], scenes.cubes(grid)[untouched])
    painted = np.linalg.solve(grid.affine, [*turned(layer.data_to_world(at)), 1])[:3]
    assert np.linalg.norm(np.argwhere(~untouched).mean(0) - painted) < 0.25


@pytest.mark.parametrize("name", ["oblique", "oblique, flipped, thick"])
def test_a_stroke_one_voxel_thick_is_there_when_it_is_opened_again(name: str, tmp_path: Path):
    """On an oblique map it runs beside the middles of the file's voxels, and is kept all the same."""
    layers = pytest.importorskip("napari.layers")
    grid = scenes.GRIDS[name]
    data, settings, _ = labels_layer(Volume(np.zeros(grid.shape, np.uint8), grid.affine), "mask")
    layer = layers.Labels(data, **settings)
    middle = np.array(data.shape) // 2
    stroke = np.zeros(data.shape, bool)
    for i in range(-9, 10):  # slanting, on one slice
        stroke[middle[0], middle[1] + i, middle[2] + i // 2] = True
    layer.data[stroke] = 7
    layer.refresh()
    write_volume(str(tmp_path / "stroke.nii.gz"), *layer.as_layer_data_tuple()[:2])
    again = Volume.read(tmp_path / "stroke.nii.gz")
    assert again.grid.matches(grid)
    seen = np.asarray(labels_layer(again, "mask")[0])
    assert (seen[stroke] == 7).all()
    assert np.count_nonzero(seen) < 5 * stroke.sum()  # and hardly anything else
    layer.data[stroke] = 0
    layer.refresh()
    write_volume(str(tmp_path / "none.nii.gz"), *layer.as_layer_data_tuple()[:2])
    assert not Volume.read(tmp_path / "none.nii.gz").data.any()


def test_each_mask_has_a_colour_of_its_own(tmp_path: Path):
    napari_layers = pytest.importorskip("napari.layers")
    image = scenes.image(scenes.GRIDS["plain"])
    inside = Volume((image.data > 50).astype(np.uint8), image.affine)
    names = [f"sub-01_label-{name}_mask.nii.gz" for name in ("lesion", "brain", "roi")]
    for name in [*names, "sub-01_dseg.nii.gz"]:
        inside.write(tmp_path / name)
    (tmp_path / "dseg.tsv").write_text("index\tname\n1\tfirst\n2\tsecond\n")
    paths = [tmp_path / name for name in [*names, "sub-01_dseg.nii.gz"]]
    for made in (gather(paths), get_reader([*map(str, paths)])([*map(str, paths)])):
        shown = [napari_layers.Labels(data, **settings) for data, settings, _ in made]
        colours = {tuple(layer.get_color(1)) for layer in shown}
        assert len(colours) == 4
        (tissues,) = (layer for layer in shown if "dseg" in layer.name)
        assert tuple(tissues.get_color(2)) not in colours  # nor the map's other labels'
        for layer in shown:  # a page takes the colours from here
            told = layer.metadata[OURS].colours[1]
            assert np.allclose(layer.get_color(1)[:3], to_rgb(told), atol=1e-6)
    rated = [s for _, s, _ in embedded_subject() if "rater" in s["name"]]
    assert len({s["metadata"][OURS].colours[1] for s in rated}) == len(rated) == 3


def test_an_image_is_written_as_it_was_read(tmp_path: Path):
    grid = scenes.GRIDS["oblique, flipped, thick"]
    noise = Volume(np.random.default_rng(0).random(grid.shape).astype(np.float32), grid.affine, 1)
    data, settings, _ = image_layer(noise, "noise")
    write_volume(str(tmp_path / "noise.nii.gz"), data, settings)
    again = Volume.read(tmp_path / "noise.nii.gz")
    assert np.array_equal(again.data, noise.data)
    assert (again.space_code, again.grid.matches(grid)) == (1, True)


def test_points_are_written_in_mm(tmp_path: Path):
    places = scenes.places(scenes.GRIDS["oblique"])
    data, settings, _ = points_layer(places, "points", features={"name": [*"abcdefghij"]})
    write_places(str(tmp_path / "points.tsv"), data, settings)
    ((again, told, _),) = layers_of_file(tmp_path / "points.tsv")
    assert np.allclose(turned(again), places, atol=1e-4)
    assert told["features"]["name"] == [*"abcdefghij"]


def test_sample_data():
    start = time.perf_counter()
    names = [settings["name"] for _, settings, _ in embedded_subject()]
    assert names[0] == "T1w"
    assert {"rater 1", "lesions", "tissues", "template to subject"} <= {*names}
    ((brain, _, _),) = generated_brain()
    assert brain.max() > 0.5
    assert time.perf_counter() - start < 60
