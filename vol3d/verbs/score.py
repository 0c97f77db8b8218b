"""Score what `vol3d segment` wrote against label maps, and tell how far its doubts can be trusted."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, model_validator

from vol3d.config import Config, flat
from vol3d.data.dataset import Names
from vol3d.data.datasets import Source, told_by_path
from vol3d.errors import ConfigError
from vol3d.io.files import is_free
from vol3d.io.lock import at_work
from vol3d.trained.targets.labels import Structures
from vol3d.verbs._scoring import TABLE, Scoring


class Score(Config):
    """Score segmentations: vol3d score SEGMENTATIONS OUT data.path=FOLDER data.labels_entities.desc=seg.

    Every visit that was segmented and has a label map counts. Writes scores.json, scores.tsv,
    calibration.json (for vol3d segment calibration=FILE) and report.html. What is fitted, a
    temperature and intervals of volumes, is judged on people on whom it was not fitted.
    """

    positional: ClassVar[tuple[str, ...]] = ("segmentations", "out")
    segmentations: Path
    """What vol3d segment wrote."""
    out: Path
    """Folder to write; new, empty, or scores that are to be made anew."""
    data: Source
    """The scans with their label maps."""
    of: Names = []
    """The label maps that are true: labels for those of data.labels_entities, or the names of raters. Of
    several each counts alike. Without names the former where there are any, else all raters."""
    structures: Structures = {}
    """The labels that make each structure in these maps, as in the training: {ventricles_ml: [4, 43]}.
    Only what is named is scored; what the segmentations say of it holds if none is."""
    lesions: Names = []
    """Structures whose pieces are counted one by one."""
    split: Literal["train", "val"] | None = None
    """Only people of this part of the data: with the data of the training, val are those held out."""
    level: float = Field(default=0.9, gt=0, lt=1)
    """The share of people whose true volume an interval is to hold; `interval` of vol3d segment is the
    share of members."""
    folds: int = Field(default=5, ge=2)
    """Into how many parts people are dealt; each is judged by what was fitted on the others."""
    pictures_of_people: bool = True
    """Show slices of the best, a middling and the worst person, and name them; false leaves both out of
    report.html. scores.tsv names everybody all the same."""
    seed: NonNegativeInt = 0
    """Of the folds, of the voxels drawn for calibration and of the bootstrap."""

    @model_validator(mode="before")
    @classmethod
    def know_the_data(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Their path tells the kind of the data where nobody says it."""
        return told_by_path(given)

    def execute(self) -> list[Path]:
        """Score each visit, sum up, and write the report."""
        scoring = self.foresee()
        with at_work(self.out):
            scoring.score()
            return scoring.write()

    def foresee(self) -> Scoring:
        """Who will be scored, with nothing read but names and headers; a dry run stops here."""
        if not is_free(self.out) and not (self.out / TABLE).exists():
            raise ConfigError(f"{self.out}: holds something else; name another folder")
        return Scoring(self)

    def command(self) -> str:
        """The settings that were given, as one would type them."""
        given = self.model_dump(mode="json", exclude_unset=True)
        words = [str(given.pop(name)) for name in self.positional]
        return " ".join(["vol3d score", *words, *[f"{k}={v}" for k, v in flat(given)]])
