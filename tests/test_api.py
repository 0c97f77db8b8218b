"""What Python gets is what the command line writes, bit for bit; and nothing is loaded too early."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.spatial.transform import Rotation

import vol3d as v
from tests.conftest import verb
from vol3d.cli import verbs
from vol3d.data.tables import read_rows
from vol3d.trained.segmented_visit import STEP as P_STEP
from vol3d.transforms.transform_file import read_transform
from vol3d.verbs import generate as generate_verb

ROOT = Path(__file__).parent.parent
LIGHT = """
import sys
import vol3d as v
assert "train" in dir(v) and "load" in dir(v)
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"torch", "numpy", "pydantic", "matplotlib", "nibabel"}, loaded
v.read, v.show, v.Volume, v.DataError
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"torch", "pydantic", "matplotlib", "SimpleITK"}, loaded
"""


def image_of(cohort: Path, who: str) -> Path:
    return next(cohort.glob(f"sub-{who}/anat/*desc-brain_T1w.nii.gz"))


def stored(path: Path) -> np.ndarray:
    """What a file holds, before its slope makes values of it."""
    return np.asarray(nib.load(path).dataobj.get_unscaled())


def test_nothing_is_loaded_before_it_is_used():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr.decode()


def test_every_verb_is_a_function_that_says_what_it_takes():
    for name in verbs():
        function = getattr(v, name.replace("-", "_").replace("import", "import_"))
        assert callable(function)
        assert f"vol3d {name}" in function.__doc__
    assert list(v.train.__signature__.parameters)[1:3] == ["run", "total_nimg"]
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        v.trian  # noqa: B018


def test_a_function_takes_the_same_words_as_its_verb(tmp_path: Path):
    made = v.sample_cohort(tmp_path / "a=b", "spacing=4", n=1, anatomy={"shape_mm": 0})
    assert made == tmp_path / "a=b"  # a Path is a folder, whatever its name
    same = verb("sample-cohort", str(tmp_path / "same"), "n=1", "anatomy.shape_mm=0")
    for path in sorted(same.rglob("*.nii.gz")):
        assert (made / path.relative_to(same)).read_bytes() == path.read_bytes()


def test_mistakes_are_one_line(diffusion: Path, tmp_path: Path):
    with pytest.raises(v.ConfigError, match=r"unknown setting or covariate 'agee'\. Did you mean"):
        v.load(diffusion).generate(agee=70)
    with pytest.raises(v.ConfigError, match=r"unknown key 'optmi'\. Did you mean 'optim'"):
        v.train(ROOT / "configs/demo/autoencoder.yaml", run=tmp_path, optmi={"lr": 1})
    with pytest.raises(v.ConfigError, match=r"kind: unknown value 'segmentr'\. Did you mean 'segm"):
        v.load("ready", "segmentr")
    with pytest.raises(v.DataError, match=r"nobody.nii: no such image") as error:
        v.read("nobody.nii")
    assert error.value._render_traceback_() == ["vol3d: nobody.nii: no such image"]


def a_cube() -> v.Volume:
    """8 voxels of 4 mm a side, some of them brain."""
    data = np.zeros((8, 8, 8), np.float32)
    data[2:6, 2:6, 2:6] = np.arange(1, 65).reshape(4, 4, 4)
    return v.Volume(data, np.diag([4.0, 4.0, 4.0, 1.0]))


CALLS = {
    "load(3)": "bundle: a path is due, or a list of them, got int",
    "load('ready', sampler='steps=3')": "sampler: Input should be a valid dict",
    "load('ready', device='mps')": "device=mps: auto, cpu, cuda or cuda:1 is due",
    "generator.generate(seed=1.5)": "seed: .* got a number with a fractional part, got 1.5",
    "generator.generate(seed=-1)": "seed: Input should be greater than or equal to 0, got -1",
    "generator.generate(3)": "generate: too many positional arguments",
    "generator.generate(age=np.ones(3))": "age=array.*: a number in years is due",
    "generator.inpaint(cube)": "inpaint: missing a required argument: 'mask'",
    "generator.inpaint(cube.data, cube)": r"image: a file or a volume is due, got ndarray of shape \(8",
    "segmenter.segment(cube.data)": "image: a file or a volume is due, got ndarray",
    "segmenter.segment({})": "image: one or more are due, by contrast",
    "segmenter.segment(cube, interval=3)": "interval: Input should be less than 1, got 3",
    "segmenter.segment(cube, consensus='x')": "consensus: unknown value 'x'. Known: majority, mean",
    "segmenter.segment(cube, lesions='str')": "lesions: no structure 'str'",
    "segmenter.segment(cube, membrs=3)": "unknown key 'membrs'. Did you mean 'members'",
    "segmenter.segment(cube, mask=no_mask)": "mask: nothing of the scan lies in this mask",
    "segmenter.segment(cube, members=1).labels_by('x')": "consensus='x': unknown. Known: mean",
    "registrar.register(cube, cube, spacing=0)": "spacing: Input should be greater than 0, got 0",
    "registrar.register(cube, cube, spacing=1e4)": "voxels of 10000 mm are larger than the fixed image",
    "registrar.register(cube, cube, affine=np.eye(4))": "affine: true, false or the file of an affine",
    "registrar.register(cube, None)": "fixed: a file or a volume is due, got NoneType",
    "registration.move(cube, part=2)": "part: Input should be less than or equal to 1, got 2",
    "registration.move(cube, interpolation='sinc')": "interpolation: unknown value 'sinc'. Known: cubic",
    "autoencoder.encode([cube])": "image: a file or a volume is due, got list",
    "autoencoder.decode(cube)": "latent: Input should be an instance of Latent",
    "autoencoder.decode(other)": "latent: finite numbers .* are due for an image of 8x8x8 voxels",
    "v.segment(['ready', 3], 'scans', 'out')": "bundle.1: a path is due, got 3",
    "v.segment('ready', cube, 'out')": "Volume 8x8x8 .*: a NIfTI file, a folder or a table is due",
    "v.register('a.nii', 'b.nii', 'out', data=3)": "data: settings are due, got 3",
    "v.sample_cohort('out', {'n': 3})": "'{'n': 3}': is one word too many",
    "v.read(3)": "path: a file is due, got int",
    "v.read('a.nii', form='xform')": "form='xform': unknown. Known: sform, qform",
    "v.show({})": "volumes: one or more by title are due",
    "v.show(cube)": "volumes: one or more by title are due, .* got Volume",
    "v.show({'a': cube.data})": "a: a volume is due, got ndarray",
    "v.show({'a': None})": "a: a volume is due, got NoneType",
    "cube.figure(at=(5, 0))": r"at=\(5, 0\): a point is due, three numbers in mm",
    "cube.figure(outline=cube.data)": "outline: a volume is due, got ndarray",
    "cube.reorient('RAX')": "'RAX': no orientation; three letters are due",
    "cube.resample((4, 4, 4))": "grid: volume.grid or a Grid is due, got tuple",
    "cube.grid.at(-3)": "spacing=-3: mm above 0 are due",
    "cube.write('cube.png')": "cube.png: the name of a NIfTI file is due",
    "cube.write('cube.nii', slope=np.inf)": "slope=inf: the size of a step is due, above 0",
    "cube.write('cube.nii', codes=[1, 9])": r"codes=\(1, 9\): two of 0 to 5 are due",
    "cube.write('nowhere/cube.nii')": "cube.nii: cannot be written .No such file or directory",
    "v.Volume([1, 2], np.eye(4))": "data: an array .* of real numbers is due, got list",
    "v.Volume(cube.data * 1j, np.eye(4))": "data: .* and type complex",
    "v.Volume(cube.data, np.eye(3))": r"affine: 4 x 4 numbers are due, .* got ndarray of shape \(3, 3",
    "v.Volume(cube.data, np.zeros((4, 4)))": "affine: gives voxels no size or no place",
    "v.Grid((4, 4, 0), np.eye(4))": r"shape=\(4, 4, 0\): three whole numbers of voxels are due",
}


@pytest.fixture(scope="module")
def known() -> dict:
    """What the calls are made with."""
    autoencoder, cube = v.load("ready", "autoencoder", device="cpu"), a_cube()
    latent = autoencoder.encode(cube)
    registrar = v.load("none", "registrar", device="cpu")
    return {
        **{"v": v, "np": np, "load": v.load, "cube": cube, "registrar": registrar},
        "no_mask": v.Volume(0 * cube.data, cube.affine),
        "generator": v.load("ready", device="cpu"),
        "segmenter": v.load("ready", "segmenter", device="cpu"),
        "registration": registrar.register(cube, cube, optimise=1, affine=False),
        "autoencoder": autoencoder,
        "other": replace(latent, mean=latent.mean[:, :1]),
    }


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_call_is_one_line(call: str, known: dict):
    with pytest.raises(v.Vol3dError, match=CALLS[call]) as error:
        eval(call, known)
    assert "\n" not in str(error.value)


def test_a_brain_is_the_one_that_generate_writes(
    diffusion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Drawn among others there, alone here."""
    seen, write = {}, generate_verb.write_brain

    def spy(path: Path, image: v.Volume, planned: tuple, *rest: object) -> None:
        seen[planned[0]] = image, path
        write(path, image, planned, *rest)

    monkeypatch.setattr(generate_verb, "write_brain", spy)
    words = ["n=5", "age=60", "sex=F", "micro_batch=2", "device=cpu"]
    verb("generate", str(diffusion), str(tmp_path / "made"), *words)
    model = v.load(diffusion, device="cpu", sampler={"micro_batch": 2})
    brain = model.generate(age=60, sex="F", seed=3)
    image, path = seen[3]
    assert np.array_equal(brain.data, image.data)
    assert np.array_equal(np.rint(brain.data / generate_verb.STEP), stored(path))
    assert brain.grid.matches(v.read(path).grid)
    assert brain.space_code == v.read(path).space_code
    assert brain.covariates["age"] == 60
    assert brain.caption.startswith("age 60 years, sex F, brain ")
    assert not np.array_equal(brain.data, model.generate(age=60, sex="F", seed=4).data)


def oblique(image: Path) -> v.Volume:
    """A brain with other axes, in an oblique place."""
    brain = v.read(image).reorient("LSA")
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [9, -14, 5], degrees=True).as_matrix()
    return v.Volume(brain.data, turn @ brain.affine, 1)


@pytest.mark.parametrize(
    ("kind", "in_memory"), [("dropout_segmenter", False), ("label_diffusion", True)]
)
def test_a_segmentation_is_the_one_that_segment_writes(
    kind: str, in_memory: bool, cohort: Path, tmp_path: Path, request: pytest.FixtureRequest
):
    bundle, image = request.getfixturevalue(kind), oblique(image_of(cohort, "0002"))
    path = tmp_path / "scan_T1w.nii.gz"
    image.write(path)
    settings = {"members": 2, "seed": 1, "interval": 0.5}
    out = v.segment(bundle, path, tmp_path / "out", pictures=False, device="cpu", **settings)
    model = v.load(bundle, device="cpu")
    assert isinstance(model, v.Segmenter)
    found = model.segment(image if in_memory else path, **settings)
    (labels,) = [p for p in out.rglob("*_dseg.nii.gz") if "_desc-" not in p.name]
    assert np.array_equal(found.labels.data, stored(labels))
    assert found.labels.grid.matches(v.read(labels).grid)
    for name, p in found.probabilities.items():
        (there,) = out.rglob(f"*_label-{name.removesuffix('_ml')}_probseg.nii.gz")
        assert np.array_equal(np.rint(p.data / P_STEP), stored(there))
    (there,) = out.rglob("*_desc-entropy_probseg.nii.gz")
    assert np.allclose(found.entropy.data, v.read(there).data, atol=2e-5)
    (there,) = out.rglob("*_desc-staple_dseg.nii.gz")
    assert np.array_equal(found.labels_by("staple").data, stored(there))
    written = {row["structure"]: row for row in read_rows(out / "volumes.tsv")}
    for name, told in found.volumes.items():  # a file keeps its affine in float32
        for key in ("mean_ml", "low_ml", "high_ml", "consensus_ml"):
            assert told[key] == pytest.approx(float(written[name][key]), rel=1e-7)
    assert found._repr_png_().startswith(b"\x89PNG")


def test_a_registration_is_the_one_that_register_writes(cohort: Path, tmp_path: Path):
    moving, fixed = tmp_path / "sub-a_T1w.nii.gz", tmp_path / "sub-b_T1w.nii.gz"
    oblique(image_of(cohort, "0002")).write(moving)
    v.read(image_of(cohort, "0003")).reorient("PIR").write(fixed)
    labels = next(cohort.glob("sub-0002/anat/*desc-tissue_dseg.nii.gz"))
    turned = v.Volume(oblique(labels).data.astype(np.int16), oblique(labels).affine)
    turned.write(tmp_path / "labels.nii.gz")
    settings = {"optimise": 2, "spacing": 8}
    more = {"labels": tmp_path / "labels.nii.gz", "pictures": False, "device": "cpu"}
    out = v.register(moving, fixed, tmp_path / "out", **settings, **more)
    registrar = v.load("none", "registrar", device="cpu")
    found = registrar.register(v.read(moving), fixed, **settings)
    written = v.read(next(out.rglob("*registered_T1w.nii.gz")))
    assert found.registered.grid.matches(v.read(fixed).grid)
    assert np.array_equal(found.registered.data, written.data)
    assert np.array_equal(found.move(moving).data, written.data)
    there = v.read(next(out.rglob("*_jacobian.nii.gz")))
    assert np.array_equal(found.jacobian.data, there.data)
    there = v.read(next(out.rglob("*registered_dseg.nii.gz")))
    moved = found.move(turned, labels=True)
    assert (moved.data != there.data).mean() < 1e-4  # equal shares fall either way
    for transform, ends in (found.transform, "T1w_to-b"), (found.inverse, "b_to-T1w"):
        theirs = read_transform(next(out.rglob(f"*from-{ends}_mode-image_xfm.h5")))
        point = (10.0, -15.0, 20.0)
        assert np.allclose(theirs.TransformPoint(point), transform.TransformPoint(point), atol=1e-3)
    unmoved = found.move(moving, part=0).data
    assert np.abs(unmoved - written.data).max() > 10
    far = v.Volume(v.read(moving).data, np.eye(4) + np.eye(4, k=3) * 1000)
    with pytest.raises(
        v.DataError, match=r"no voxel of the grid .* lies in the volume .* transform;"
    ):
        found.move(far)
    with pytest.raises(v.ConfigError, match="nothing but the search finds anything"):
        registrar.register(moving, fixed, optimise=0)


def test_latents_and_holes_are_those_of_the_verbs(
    cohort: Path, autoencoder: Path, latents: Path, diffusion: Path, tmp_path: Path
):
    image = image_of(cohort, "0003")
    model = v.load(autoencoder, device="cpu")
    latent = model.encode(image)
    written = load_file(next(latents.glob("sub-0003*_latent.safetensors")))
    assert np.array_equal(latent.mean, written["mean"])
    assert np.array_equal(latent.logvar, written["logvar"])
    assert np.allclose(latent.grid.spacing, 4 * model.model.downsample)
    back = model.reconstruct(image)
    assert back.grid.matches(v.read(image).grid)
    assert np.array_equal(back.data, model.decode(latent).data)

    scan = v.read(image)
    hole = np.zeros(scan.shape, np.uint8)
    hole[16:22, 24:30, 18:24] = 1
    hole = v.Volume(hole, scan.affine)
    hole.write(tmp_path / "hole.nii.gz")
    words = [diffusion, image, tmp_path / "hole.nii.gz", tmp_path / "filled.nii.gz"]
    filled = v.read(v.inpaint(*words, age=60, seed=2, device="cpu"))
    again = v.load(diffusion, device="cpu").inpaint(scan, hole, age=60, seed=2)
    assert np.array_equal(filled.data, again.data)
    with pytest.raises(v.DataError, match="mask: covers nothing"):
        v.load(diffusion).inpaint(scan, v.Volume(0 * hole.data, hole.affine))


def test_what_kind_of_model_it_is(autoencoder: Path, segmenter: Path, diffusion: Path):
    found = [v.load("ready"), v.load("ready", "segmenter"), v.load("ready", "autoencoder")]
    assert [type(m) for m in found] == [v.Generator, v.Segmenter, v.Autoencoder]
    assert "ventricles_ml: 9." in repr(found[0])
    both = v.load([segmenter, "ready"], "segmenter")
    assert len(both.segmenters) == 2
    with pytest.raises(v.ConfigError, match="is a segmenter bundle, a diffusion bundle is due"):
        v.load(segmenter, "generator")
    with pytest.raises(v.ConfigError, match="is no diffusion model, and has no sampler"):
        v.load(autoencoder, sampler={"steps": 3})


def bright() -> v.Volume:
    """One bright voxel to the right, in front and above; the axes point left, down and back."""
    data = np.zeros((10, 12, 6), np.float32)
    data[3:7, 3:9, 2:4] = 0.4
    data[8, 10, 4] = 1
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = [-10, -20, 5]
    return v.Volume(data, affine).reorient("LIP")


def test_a_picture_has_right_on_the_right_and_says_where():
    figure = bright().figure("one", at=(6, 10, 21))
    axial, coronal, sagittal = figure.axes
    assert [[t.get_text() for t in a.texts][:4] for a in figure.axes] == [
        [*"LRAP"],
        [*"LRSI"],
        [*"PASI"],
    ]
    for axes, width, height in ((axial, 20, 36), (coronal, 20, 24), (sagittal, 36, 24)):
        image = axes.images[0]
        left, right, low, high = image.get_extent()
        assert (right - left, high - low) == pytest.approx((width, height))
        picture = image.get_array()
        row, column = np.unravel_index(picture.argmax(), picture.shape)
        assert column >= 0.8 * picture.shape[1]  # the right side, or in front
        assert row <= 0.2 * picture.shape[0]  # in front, or above
    words = " ".join(t.get_text() for t in figure.texts)
    assert "through 6, 10, 21 mm (RAS+)" in words
    assert "10x6x12 voxels of 2x4x3 mm, LIP" in words
    assert "black 0, white 0.856" in words  # 99.5 % are not above
    assert bright()._repr_png_().startswith(b"\x89PNG")


def test_pictures_of_volumes_that_lie_elsewhere_are_refused():
    with pytest.raises(v.ConfigError, match=r"other: lies on a grid of .* resample it"):
        v.show({"one": bright(), "other": v.Volume(bright().data, np.eye(4))})
    with pytest.raises(v.ConfigError, match=r"at=\(99, 0, 0\) mm: lies outside"):
        bright().figure(at=(99, 0, 0))


def test_without_a_display_it_says_so(caplog: pytest.LogCaptureFixture):
    code = "import vol3d as v, numpy as np; v.Volume(np.ones((4, 4, 4)), np.eye(4)).show()"
    env = {**os.environ, "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env, cwd=ROOT
    )
    assert done.returncode == 0
    assert done.stderr.startswith("warning: no display here; figure().savefig(")
