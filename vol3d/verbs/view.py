"""Look at images, label maps, cohorts, segmentations, fields and models, in napari or a browser."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from vol3d.config import Config, flat, several
from vol3d.data.bids_writer import write_text
from vol3d.errors import ConfigError, RunError
from vol3d.io.files import make_folder

Place = Annotated[list[float], Field(min_length=3, max_length=3)]
QT = ("PyQt6", "PySide6")


def word(given: object) -> object:
    """A number names a person too: who=12."""
    return str(given) if isinstance(given, int) else given


class View(Config):
    """Look at files and folders: vol3d view IMAGE LABELS ... [plane=coronal] [screenshot=FILE.png].

    PATHS are NIfTI images, label maps, displacement fields, tables of points, cohorts (BIDS folders),
    what vol3d segment and vol3d register wrote, bundles and runs. All lie where they lie in the head,
    and the values that are told are the files' own. Opens napari, with the widget that goes with a
    folder beside it; format=html writes one page that any browser shows.
    """

    positional: ClassVar[tuple[str, ...]] = ("paths",)
    goes_on: ClassVar[bool] = True
    paths: Annotated[list[Path], BeforeValidator(several), Field(min_length=1)]
    """Files and folders. `ready` is the model that comes with vol3d."""
    who: Annotated[str | None, BeforeValidator(word)] = None
    """Whose, of folders with several people: sub-X, or sub-X_ses-Y. Without it that of an image among
    PATHS, else the first."""
    plane: Literal["axial", "coronal", "sagittal", "3d"] = "axial"
    """What is shown in napari."""
    at: Place | None = None
    """x, y, z in mm, RAS+, that slices go through, within what is shown: at=[12,-30,8]; the middle if not
    given."""
    screenshot: Path | None = None
    """A PNG to write instead of opening a window. Without a display, xvfb-run is used for it."""
    window: bool = False
    """screenshot shows the whole window with its lists and widgets, not the picture alone."""
    format: Literal["napari", "html"] = "napari"
    """html: write a page with slices to scroll through, for a browser; napari is not needed."""
    out: Path = Path("view.html")
    """The page that format=html writes."""
    overwrite: bool = False
    """Replace OUT, or the screenshot, if it is there."""

    @model_validator(mode="after")
    def one_way(self) -> "View":
        """A page has no screenshot."""
        if self.format == "html" and self.screenshot:
            raise ValueError("screenshot: is of napari's window; format=html writes a page to out")
        return self

    def execute(self) -> Path | str:
        """Open a window until it is closed; or write a picture or a page, and return its path."""
        file = self.check()
        if file:
            make_folder(file.absolute().parent)
        if self.format == "html":
            from vol3d.viewer.page import page_of

            write_text(self.out, page_of(self.paths, self.who, self.at))
            return self.out
        if not has_display():
            return self.on_a_display_of_its_own()
        from vol3d.viewer.session import Session, picture

        session = Session(self.paths, self.who, self.plane, self.at)
        if self.screenshot is None:
            import napari

            session.complete()
            napari.run()
            return "closed"
        if self.window:
            session.complete()
            session.wait()
        picture(session.viewer, self.screenshot, window=self.window)
        session.viewer.close()
        return self.screenshot

    def foresee(self) -> None:
        """Read what is to be shown, and refuse what a run would; a dry run stops here."""
        from vol3d.viewer.gathered import gather
        from vol3d.viewer.page import page_of
        from vol3d.viewer.together import check_place

        self.check()
        if self.format == "html":
            page_of(self.paths, self.who, self.at)
            return
        layers = gather(self.paths, self.who)
        if self.at is not None:
            check_place(layers, self.at)

    def check(self) -> Path | None:
        """What is to be written, if anything, once all is there that it takes.

        Raises:
            ConfigError: there is no such path, no napari, no display or nothing to take a picture of, or
                the name cannot be that of a new picture or page.
        """
        from vol3d.viewer.folders import kind_of, preview_of

        file, due = self.screenshot, ".png"
        if self.format == "html":
            file, due = self.out, ".html"
        if file and file.suffix != due:
            raise ConfigError(f"{file}: the name of a {due} is due")
        if file and file.exists() and not self.overwrite:
            raise ConfigError(f"{file}: is there already; name another, or overwrite=true")
        kinds = [kind_of(path) for path in self.paths]
        is_bare = all(
            k == "model" and not preview_of(p) for k, p in zip(kinds, self.paths, strict=True)
        )
        if self.screenshot and not self.window and is_bare:
            raise ConfigError(
                f"screenshot: {self.paths[0]} is a model, and has nothing to take a picture of; "
                f"window=true takes the whole window, with the widget and all"
            )
        if self.format == "napari":
            check_napari()
            if not has_display():
                self.check_display()
        return file

    def check_display(self) -> None:
        """Refuse, by a ConfigError, a window that nobody would see, or a picture without xvfb-run."""
        if not self.screenshot:
            raise ConfigError(
                "there is no display here to open a window on; screenshot=FILE.png takes a picture, "
                "format=html writes a page to look at in a browser"
            )
        if not shutil.which("xvfb-run"):
            raise ConfigError(
                "screenshot: takes a display, or xvfb-run (apt-get install xvfb xauth); format=html "
                "writes a page without either"
            )

    def on_a_display_of_its_own(self) -> Path:
        """Take the screenshot in a process with a display that nobody sees.

        Raises:
            RunError: the other process could not, and has said why.
        """
        given = self.model_dump(mode="json", exclude_unset=True)
        paths = given.pop("paths")
        words = [str(path) for path in paths] + [f"{k}={v}" for k, v in flat(given)]
        command = ["xvfb-run", "-a", "-s", "-screen 0 1600x1200x24"]
        command += [sys.executable, "-m", "vol3d", "view", *words]
        if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
            raise RunError(f"{self.screenshot}: no picture could be taken")
        return self.screenshot


def check_napari() -> None:
    """Refuse, by a ConfigError, an install without napari or without Qt."""
    if find_spec("napari") and any(map(find_spec, QT)):
        return
    lacks = "Qt, which napari needs," if find_spec("napari") else "napari"
    raise ConfigError(
        f"{lacks} is not installed: pip install 'vol3d[viewer]'; or write a page for a browser with "
        f"format=html"
    )


def has_display() -> bool:
    """Whether a window can be seen; other systems than Linux have a display or say so themselves."""
    names = ("DISPLAY", "WAYLAND_DISPLAY")
    return not sys.platform.startswith("linux") or any(os.environ.get(name) for name in names)
