"""Make the pictures of docs/viewer.md and docs/widgets.md: the embedded cohort, and the model in the box.

    python scripts/viewer_pictures.py FOLDER [docs/pictures]

FOLDER keeps what is shown, and is used again where it is there. Takes napari, and a display or xvfb-run;
the page is pictured where a chromium is installed. Nobody in the pictures is real.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WINDOW = (1280, 860)
"""Of a widget's picture, in pixels."""
SEGMENTED, REGISTERED = "sub-0030", ("sub-0012", "sub-0003")
"""Who is segmented, and who is registered to whom."""
STRUCTURE = "lesions_ml"
COLOURS = 200
"""Of a picture: fewer make smaller files."""


def vol3d(*words: object) -> None:
    """Run vol3d, and stop where it fails."""
    subprocess.run([sys.executable, "-m", "vol3d", *map(str, words)], check=True)


def make(folder: Path) -> None:
    """A cohort, and what the segmenter in the box finds in it."""
    extras = ["spacing=2", "lesions=true", "raters=2", "contrasts=[FLAIR]"]
    vol3d("sample-cohort", folder / "cohort", "n=12", *extras)
    segmented = folder / "segmented"
    vol3d("segment", "ready", folder / "cohort", segmented, "data.entities.desc=brain")


def pictures(folder: Path) -> dict[str, list[object]]:
    """What vol3d view is asked for, by the name of the picture."""
    cohort, one = folder / "cohort", "sub-0002"
    image = next((cohort / one).rglob("*_T1w.nii.gz"))
    lesions = next((cohort / one).rglob("*truth_mask.nii.gz"))
    warp = next((cohort / "sourcedata" / one).rglob("*_xfm.nii.gz"))
    return {
        "viewer_window": [
            cohort,
            folder / "segmented",
            f"who={one}",
            "window=true",
            "at=[12,4,22]",
        ],
        "viewer_field": [image, warp, "plane=coronal", "at=[0,-16,16]"],
        "viewer_lesions": [image, lesions, "plane=sagittal", "at=[-22,-16,22]"],
        "viewer_3d": [image, "plane=3d"],
    }


def make_for_widgets(folder: Path) -> None:
    """Lesions outlined by four raters, these as an ensemble, and a registration of two people."""
    raters = folder / "raters"
    vol3d("sample-cohort", raters, "n=40", "contrasts=FLAIR", "lesions=true", "raters=4")
    raters_as_members(raters, folder / "lesions")
    two = [next((raters / who).rglob("*_T1w.nii.gz")) for who in REGISTERED]
    vol3d("register", *two, folder / "registered", "spacing=4")


def raters_as_members(raters: Path, out: Path) -> None:
    """What vol3d segment would write if each rater were a member of its ensemble."""
    from vol3d.data.native_scan import NativeScan
    from vol3d.data.visit import Visit
    from vol3d.metrics.ensemble import Ensemble
    from vol3d.trained.results_folder import Place
    from vol3d.trained.segmentation import Segmentation, Wanted
    from vol3d.trained.segmentation_folder import claim, describe
    from vol3d.trained.segmented_visit import write_visit
    from vol3d.volume import Volume

    image = next((raters / SEGMENTED).rglob("*_FLAIR.nii.gz"))
    visit = Visit(SEGMENTED.removeprefix("sub-"), None, {"FLAIR": image}, {}, "val")
    settings = {"segmenters": ["raters"], "samplers": [None]}
    claim(out, settings, any_precision=False)
    describe(out, [STRUCTURE])
    scan = NativeScan.read(visit, ["FLAIR"])
    ensemble = Ensemble(2, scan.grid.shape)
    for path in sorted((raters / SEGMENTED).rglob("*rater*_mask.nii.gz")):
        is_lesion = Volume.read(path).reorient("RAS").data.astype(np.float32)
        ensemble.add(np.stack([1 - is_lesion, is_lesion]))
    wanted = Wanted([STRUCTURE], lesions=[STRUCTURE], keep_members=True)
    told = {"Visit": SEGMENTED, "Inputs": {"FLAIR": {"File": image.name}}, "Interval": 0.9}
    write_visit(Place.of(out, visit), Segmentation(scan, ensemble, wanted), told)


# -- widgets ----------------------------------------------------------------------------------------


def widget_pictures(folder: Path, out: Path) -> None:
    """A picture of each widget, driven through its controls."""
    import napari

    from vol3d.viewer.window import prepare

    for name, drive in (
        ("generate", generate),
        ("generate_sweep", generate_sweep),
        ("ensemble", ensemble),
        ("registration", registration),
    ):
        viewer = prepare(napari.Viewer(show=True))
        viewer.window._qt_window.resize(*WINDOW)
        drive(viewer, folder)
        file = out / f"widget_{name}.png"
        settle()
        viewer.window.screenshot(str(file), canvas_only=False, flash=False)
        smaller(file)
        viewer.close()


def settle(seconds: float = 0.5) -> None:
    """Let Qt draw."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()


def until(is_so: Callable[[], Any]) -> None:
    """Let Qt work until something is so."""
    while not is_so():
        settle(0.02)
    settle()


def generate(viewer: Any, folder: Path) -> None:
    """Four brains with larger ventricles than training had."""
    from vol3d.widgets.generate import GenerateWidget

    widget = GenerateWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Generate")
    until(lambda: viewer.layers and not widget.work.is_busy)
    for name, value in (("age", 70.0), ("ventricles_ml", 80.0)):
        line = widget.sliders.lines[name]
        line.slider.setValue(line.slider.step_of(value))
    widget.draws.set("n", 4)
    until(lambda: not widget.work.is_busy)


def generate_sweep(viewer: Any, folder: Path) -> None:
    """A brain whose ventricles grow."""
    from qtpy.QtWidgets import QScrollArea

    from vol3d.widgets.generate import GenerateWidget

    widget = GenerateWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Generate")
    until(lambda: viewer.layers and not widget.work.is_busy)
    widget.swept.setCurrentText("ventricles_ml")
    widget.sweep_button.click()
    until(lambda: not widget.work.is_busy)
    widget.findChild(QScrollArea).ensureWidgetVisible(widget.save_button)


def ensemble(viewer: Any, folder: Path) -> None:
    """Lesions: how probable, contours, the volumes of members, and one that was chosen."""
    from vol3d.widgets.ensemble import EnsembleWidget

    widget = EnsembleWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Ensemble")
    widget.folders.set("out", str(folder / "lesions"))
    widget.folders.set("data", str(folder / "raters"))
    widget.folders.changed.emit()
    until(lambda: widget.visit and not widget.work.is_busy)
    widget.lesions.selectRow(0)


def registration(viewer: Any, folder: Path) -> None:
    """Two people: swipe, the warped grid, and the log-Jacobian, halfway along the flow."""
    from vol3d.widgets.registration import RegistrationWidget

    widget = RegistrationWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Registration")
    widget.show_folder(folder / "registered", folder / "raters")
    until(lambda: widget.step and not widget.work.is_busy)
    widget.mode.setCurrentText("checkerboard")
    for name in ("warped grid", "log-Jacobian"):
        widget.overlays[name].setChecked(True)


def smaller(file: Path) -> None:
    """Write a PNG again with a palette."""
    with Image.open(file) as picture:
        few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(file, optimize=True)


def main() -> None:
    """All pictures."""
    folder = Path(sys.argv[1])
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("docs/pictures")
    make(folder)
    make_for_widgets(folder)
    widget_pictures(folder, out)
    for name, words in pictures(folder).items():
        file = out / f"{name}.png"
        vol3d("view", *words, f"screenshot={file}", "overwrite=true")
        smaller(file)
    page = folder / "page.html"
    show = [folder / "cohort", folder / "segmented", "who=sub-0002"]
    vol3d("view", *show, "format=html", f"out={page}", "overwrite=true")
    if chromium := shutil.which("chromium"):
        file = out / "viewer_page.png"
        words = [f"--screenshot={file.absolute()}", f"file://{page.absolute()}"]
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000"]
        size = "--window-size=1240,960"
        subprocess.run([chromium, *flags, size, *words], check=True, stderr=subprocess.DEVNULL)
        smaller(file)


if __name__ == "__main__":
    main()
