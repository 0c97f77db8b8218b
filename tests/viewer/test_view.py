"""vol3d view: a page without napari, a picture without a display, and one line where neither goes."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import verb, vol3d
from tests.viewer import scenes
from vol3d.cli import fill, load_verb
from vol3d.errors import ConfigError
from vol3d.report.slices import SCALE, SCRIPT, html_of_slices
from vol3d.viewer.cursor import readings
from vol3d.viewer.gathered import gather
from vol3d.viewer.layers import field_layer, image_layer, labels_layer, points_layer
from vol3d.viewer.page import page_of, slices_of
from vol3d.viewer.together import check_place, start_of
from vol3d.volume import Grid, Volume

WITHOUT_NAPARI = """
import sys
for name in ("napari", "qtpy", "PyQt6", "torch"):
    sys.modules[name] = None
from vol3d.cli import main
main(sys.argv[1:])
"""


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """An oblique image, and a label map on it."""
    grid = scenes.GRIDS["oblique"]
    image, labels = tmp_path / "sub-01_T1w.nii.gz", tmp_path / "sub-01_dseg.nii.gz"
    scenes.image(grid).write(image)
    Volume(scenes.cubes(grid), grid.affine).write(labels)
    (tmp_path / "dseg.tsv").write_text("index\tname\n3\tthe third <cube>\n")
    return [image, labels]


def data_in(page: str) -> dict:
    """What the script of a page reads."""
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])


def voxels_in(uri: str, shape: list[int], columns: int) -> np.ndarray:
    """[X, Y, Z] as the script puts them together."""
    from PIL import Image

    sheet = np.array(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    x, y, z = shape
    tiles = [(k // columns * y, k % columns * x) for k in range(z)]
    return np.stack([sheet[r : r + y, c : c + x].T for r, c in tiles], axis=-1)


def test_a_page_holds_every_voxel_where_it_is(files: list[Path]):
    told = data_in(page_of(files, None, None))
    shape, spacing, origin = (np.array(told[k]) for k in ("shape", "spacing", "origin"))
    scan, overlay = told["images"][0], told["overlays"][0]
    image = voxels_in(scan["uri"], told["shape"], told["columns"])
    labels = voxels_in(overlay["uri"], told["shape"], told["columns"])
    assert overlay["names"][3] == "the third <cube> (3)"
    for i, place in enumerate(scenes.places(scenes.GRIDS["oblique"]), start=1):
        at = tuple(np.rint((place - origin) / spacing).astype(int))
        assert all(0 <= a < n for a, n in zip(at, shape, strict=True))
        assert labels[at] == i
        value = scan["low"] + image[at] / 255 * (scan["high"] - scan["low"])
        assert value == pytest.approx(100, abs=1)
        for layer in (scan, overlay):
            voxel = np.array(layer["to_voxel"]) @ [*place, 1]
            assert np.allclose(voxel, scenes.LANDMARKS[i - 1], atol=1e-6)
    assert scan["white"] == pytest.approx(255 / SCALE)


TELLS = """
const { readFileSync } = require("fs");
const [script, json, sheets] = process.argv.slice(2);
globalThis.document = { querySelectorAll: () => [] };
const Slices = eval(readFileSync(script, "utf8") + "\\nSlices");
const page = Object.create(Slices.prototype);
Object.assign(page, JSON.parse(readFileSync(json, "utf8")), { image: 0, line: {} });
const voxels = JSON.parse(readFileSync(sheets, "utf8"));
for (const layer of [...page.images, ...page.overlays])
  Object.assign(layer, { voxels: voxels[layer.name], seen: true });
for (const at of voxels.places) { page.tell(at); console.log(page.line.textContent); }
"""


@pytest.mark.parametrize("name", list(scenes.GRIDS))
def test_a_page_tells_the_voxels_of_each_file_and_nothing_outside(name: str, tmp_path: Path):
    """What the page's script says of places, beside what the window's line says of them."""
    if not (node := shutil.which("node")):
        pytest.skip("the script is run by node, which is not here")
    grid = scenes.GRIDS[name]
    noise = np.random.default_rng(0).integers(1, 256, grid.shape).astype(np.uint8)
    half = Grid((18, 20, 30), scenes.GRIDS["oblique"].affine)  # a file that ends halfway
    layers = [
        image_layer(Volume(noise, grid.affine), "noise", limits=(0.0, 255 / SCALE)),
        labels_layer(Volume(np.ones(half.shape, np.uint8), half.affine), "half", names={1: "in"}),
    ]
    told = data_in(html_of_slices(slices_of(layers)))
    places = np.random.default_rng(1).integers(0, told["shape"], (400, 3))
    voxels = {
        layer["name"]: voxels_in(layer["uri"], told["shape"], told["columns"]).T.ravel().tolist()
        for layer in told["images"] + told["overlays"]
    }
    for file, content in (("page", told), ("sheets", {**voxels, "places": places.tolist()})):
        (tmp_path / file).write_text(json.dumps(content))
    (tmp_path / "tells.js").write_text(TELLS)
    words = [tmp_path / "tells.js", SCRIPT, tmp_path / "page", tmp_path / "sheets"]
    done = subprocess.run([node, *words], capture_output=True, text=True, check=True)
    shown = [
        SimpleNamespace(visible=True, name=s["name"], metadata=s["metadata"]) for _, s, _ in layers
    ]
    n = {"noise": 0, "half": 0}
    for at, line in zip(places, done.stdout.splitlines(), strict=True):
        mm = np.array(told["origin"]) + np.array(told["spacing"]) * at
        due = readings(shown, mm[::-1])
        said = dict(part.split(": ", 1) for part in line.split("  \u00b7  ")[1:])
        assert [*said] == [one.layer for one in due][::-1], line
        for one in due:
            value = f"{one.value:.0f}" if one.layer == "noise" else "in (1)"
            assert said[one.layer] == f"{value} {[*one.voxel]}", line
            n[one.layer] += 1
    assert 10 < n["half"] < n["noise"] <= 400
    assert name == "plain" or "turned" in name or n["noise"] < 390  # an oblique file has no corners


@pytest.mark.parametrize("name", list(scenes.GRIDS))
def test_slices_begin_in_the_middle_of_what_is_there_not_of_the_air(name: str):
    grid = scenes.GRIDS[name]
    scan, middle = scenes.aside(grid)
    mask = labels_layer(Volume(np.ones(grid.shape, np.uint8), grid.affine), "mask")
    hidden = image_layer(scenes.image(grid), "hidden", visible=False)
    layers = [hidden, image_layer(scan, "scan"), mask]
    assert np.allclose(start_of(layers), middle)
    assert np.allclose(start_of([mask]), scenes.MIDDLE)
    assert np.allclose(start_of([points_layer(np.array([[1.0, 2, 3], [3, 6, 9]]), "p")]), [2, 4, 6])
    told = data_in(html_of_slices(slices_of(layers)))
    at = np.array(told["origin"]) + np.array(told["spacing"]) * told["start"]
    assert (np.abs(at - middle) <= np.array(told["spacing"]) / 2 + 1e-6).all()


def test_a_place_that_nothing_shows_is_refused(files: list[Path], tmp_path: Path):
    line = (
        r"at=\[500,0,0\]: lies outside of all .* goes from x -\d+ to \d+, y -\d+ to \d+, z -\d+ to"
    )
    with pytest.raises(ConfigError, match=line):
        page_of(files, None, [500, 0, 0])
    volumes = gather(files)
    points = points_layer([(500.0, 0.0, 0.0), (520.0, 9.0, 9.0)], "far")
    field = field_layer(np.ones((3, 4, 4, 4)), Grid((4, 4, 4), np.diag([9.0, 9, 9, 1])), "field")
    with pytest.raises(ConfigError, match=line):
        check_place(volumes, [500, 0, 0])
    check_place([*volumes, points], [510, 5, 5])
    check_place([field], [20, 20, 20])
    with pytest.raises(ConfigError, match="x 0 to 27, y 0 to 27, z 0 to 27 mm"):
        check_place([field], [20, 20, 40])


def test_a_page_needs_nothing_else_and_is_small(files: list[Path]):
    page = page_of(files, None, None)
    assert not re.search(r"(src|href)\s*=\s*.?https?:|@import|fetch\(", page)
    assert "the third \\u003ccube>" in page  # no text ends the script
    assert len(page) < 300_000


@pytest.mark.parametrize("words", [["format=html", "out=a.html"]])
def test_a_page_is_made_without_napari_and_torch(
    files: list[Path], tmp_path: Path, words: list[str]
):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NAPARI, "view", *map(str, files), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "a.html\n"
    assert 'class="slices"' in (tmp_path / "a.html").read_text()


def test_a_model_is_a_page_too(tmp_path: Path):
    verb("view", "ready", "format=html", f"out={tmp_path / 'm.html'}")
    assert "20.06 to 88.62 years" in (tmp_path / "m.html").read_text()


def test_any_number_of_paths_may_be_named():
    view = fill("view", load_verb("view"), ["a.nii", "b", "c", "plane=coronal", "at=[1,2,3]"])
    assert view.paths == [Path("a.nii"), Path("b"), Path("c")]
    assert view.at == [1.0, 2.0, 3.0]
    assert fill("view", load_verb("view"), ["a", "who=12"]).who == "12"
    assert fill("view", load_verb("view"), ["paths=[a,b]"]).paths == [Path("a"), Path("b")]
    with pytest.raises(ConfigError, match="one word too many"):
        fill("view", load_verb("view"), ["c", "paths=[a,b]"])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["format=html", "screenshot=a.png"], "screenshot: is of napari's window"),
        (["format=html", "out=a.htm"], "the name of a .html is due"),
        (["screenshot=a.jpg"], "the name of a .png is due"),
        (["at=[1,2]"], "at: "),
        (["plane=top"], "plane: "),
    ],
)
def test_what_does_not_go_is_one_line(files: list[Path], words: list[str], line: str):
    with pytest.raises(ConfigError, match=line):
        verb("view", str(files[0]), *words)


def test_a_picture_of_a_model_is_that_of_its_window(tmp_path: Path):
    words = ["view", "ready", f"screenshot={tmp_path / 'a.png'}", "--dry-run"]
    done = vol3d(*words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "ready is a model, and has nothing to take a picture of" in line
    assert "window=true takes" in line


def test_a_path_that_is_not_there_is_said_before_all_else(files: list[Path], tmp_path: Path):
    with pytest.raises(ConfigError, match="nope: no such file or folder"):
        verb("view", "nope")
    words = [
        "view",
        str(files[0]),
        "format=html",
        f"out={tmp_path / 'new' / 'a.html'}",
        "--dry-run",
    ]
    assert vol3d(*words).returncode == 0
    assert not (tmp_path / "new").exists()
    assert "lies outside of all that is shown" in vol3d(*words, "at=[999,0,0]").stderr


def test_without_a_display_a_line_says_what_to_do(files: list[Path]):
    pytest.importorskip("napari")
    done = vol3d("view", files[0], env={k: v for k, v in os.environ.items() if k != "DISPLAY"})
    assert done.returncode == 2
    assert re.fullmatch(
        "vol3d: (there is no display|Qt, which napari needs, is not installed).*format=html.*\n",
        done.stderr,
    )


def test_without_napari_a_line_says_what_to_install(files: list[Path]):
    code = WITHOUT_NAPARI.replace("sys.modules[name] = None", "pass").replace(
        "from vol3d.cli", "import importlib.util as u; u.find_spec = lambda n: None\nfrom vol3d.cli"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "view", str(files[0])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "napari is not installed: pip install 'vol3d[viewer]'" in done.stderr
