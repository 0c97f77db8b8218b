"""Make the pictures of docs/viewer.md: the embedded cohort and the model in the box, as vol3d view shows them.

    python scripts/viewer_pictures.py FOLDER [docs/pictures]

FOLDER keeps what is shown, and is used again where it is there. Takes napari, and a display or xvfb-run;
the page is pictured where a chromium is installed. Nobody in the pictures is real.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

COLOURS = 200
"""Of a picture: fewer make smaller files."""


def vol3d(*words: object) -> None:
    """Run vol3d, and stop where it fails."""
    subprocess.run([sys.executable, "-m", "vol3d", *map(str, words)], check=True)


def make(folder: Path) -> None:
    """A cohort, brains, and segmentations of both."""
    extras = ["spacing=2", "lesions=true", "raters=2", "contrasts=[FLAIR]"]
    vol3d("sample-cohort", folder / "cohort", "n=12", *extras)
    vol3d("generate", "ready", folder / "brains", "n=4", "age=70", "ventricles_ml=45")
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
        "viewer_3d": [folder / "brains", "plane=3d"],
    }


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
        subprocess.run([chromium, *flags, "--window-size=1240,960", *words], check=True)
        smaller(file)


if __name__ == "__main__":
    main()
