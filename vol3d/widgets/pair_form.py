"""Which registration: a pair of a folder that `vol3d register` wrote, or three files."""

from collections.abc import Callable
from pathlib import Path

from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from vol3d.viewer.registered import PairFiles, files_of_pair, pairs_in
from vol3d.widgets.fields import Field
from vol3d.widgets.form import Form
from vol3d.widgets.layout import group
from vol3d.widgets.work import Work

FILES = [
    Field("fixed", "The image that stays.", "file", None),
    Field("moving", "The image that is moved onto it.", "file", None),
    Field(
        "transform",
        "From points of the fixed image to points of the moving one: .h5, a field .nii.gz, .mat. Its "
        "velocities, which `vol3d register` keeps beside it, make the path.",
        "file",
        None,
    ),
]
FOLDERS = [
    Field(
        "out",
        "The folder that vol3d register wrote; the files below are its pair's.",
        "folder",
        None,
    ),
    Field("data", "The dataset that has the images.", "folder", None, optional=True),
]


class PairForm(QWidget):
    """A folder with a list of its pairs, and below it the files of the one that is chosen.

    Args:
        work: looks for files beside the window.
        read: is told the files of a pair once it is chosen.
        clear: takes away what is shown, which is of another pair by then.

    Attributes:
        sidecars: of the pairs of the folder, by who moves where.
        pair: what is shown; None before.
        folders: the form of the folder.
        pairs: the list.
        files: the form of the files.
    """

    def __init__(
        self, work: Work, read: Callable[[PairFiles], None], clear: Callable[[], None]
    ) -> None:
        super().__init__()
        self.work, self.read, self.clear = work, read, clear
        self.sidecars: dict[str, Path] = {}
        self.pair: PairFiles | None = None
        self.wanted: str | None = None
        self.folders, self.pairs, self.files = Form(FOLDERS), QComboBox(), Form(FILES)
        self.folders.changed.connect(self.open_folder)
        self.pairs.currentTextChanged.connect(self.choose)
        self.files.changed.connect(self.open_files)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(group("What vol3d register wrote", self.folders, self.pairs))
        column.addWidget(group("Its files, or others", self.files))

    def show_folder(self, out: Path, data: Path | None = None, who: str | None = None) -> None:
        """Open a folder, as if somebody named it.

        Args:
            out: what `vol3d register` wrote.
            data: the dataset that has the images.
            who: whose image was moved, of the pair to begin with, or that pair: "sub-X to B".
        """
        self.wanted = who
        for name, path in (("out", out), ("data", data)):
            self.folders.set(name, str(path) if path else None)
        self.open_folder()

    def open_folder(self) -> None:
        """A folder was named: list its pairs, and show the first."""
        if out := self.folders.values["out"]:
            self.work.start(lambda tell: pairs_in(Path(out)), self.listed)

    def listed(self, sidecars: dict[str, Path]) -> None:
        """The pairs are known."""
        now = self.pairs.currentText()
        wanted = self.wanted or ""
        begins = [n for n in sidecars if wanted and f"{n} to ".startswith(f"{wanted} to ")]
        self.sidecars, self.wanted = sidecars, None
        self.pairs.blockSignals(True)
        self.pairs.clear()
        self.pairs.addItems([*sidecars])
        first = now if now in sidecars else next(iter(sidecars))
        self.pairs.setCurrentText(begins[0] if begins else first)
        self.pairs.blockSignals(False)
        self.choose(self.pairs.currentText())

    def choose(self, name: str) -> None:
        """A pair was chosen: look for its files."""
        if name in self.sidecars:
            self.clear()
            data = self.folders.values["data"]
            sidecar, place = self.sidecars[name], Path(data) if data else None
            self.work.start(lambda tell: files_of_pair(sidecar, place), self.found)

    def found(self, pair: PairFiles) -> None:
        """The files of a pair are known: read them."""
        self.pair = pair
        for name in ("fixed", "moving", "transform"):
            path = getattr(pair, name)
            self.files.set(name, str(path) if path else None)
        if pair.fixed is None:
            self.work.message.setText(f"{self.lacking}; without it nothing can be compared")
        else:
            self.read(pair)

    @property
    def lacking(self) -> str:
        """Which image is not found, and what to do."""
        return f"{self.pair.lacking[0]} is not there: name the dataset that has it as data"

    def open_files(self) -> None:
        """A file was named: once all are, read them."""
        given = {name: Path(path) for name, path in self.files.values.items() if path}
        if len(given) == len(FILES):
            self.pair = PairFiles(**given)
            self.read(self.pair)
