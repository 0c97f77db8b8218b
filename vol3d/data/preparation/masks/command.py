"""A brain mask by a tool that is installed: SynthStrip, HD-BET, or another that takes two paths."""

import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import PositiveFloat, field_validator

from vol3d.data.preparation.masks.base import BrainMask, Found, checked
from vol3d.data.visit import Visit
from vol3d.errors import DataError
from vol3d.volume import Volume


class Command(BrainMask):
    """Run a tool on each scan, for example mask.command="mri_synthstrip -i {image} -m {mask}"."""

    kind: Literal["command"] = "command"
    command: str
    """The words to run; {image} is the scan and {mask} the NIfTI file that the tool shall write."""
    minutes: PositiveFloat = 30.0
    """A tool that takes longer is stopped, and the scan fails."""

    @field_validator("command")
    @classmethod
    def names_both_files(cls, command: str) -> str:
        """Both files are in it."""
        for word in ("{image}", "{mask}"):
            if word not in command:
                raise ValueError(
                    f"'{command}' does not say {word}; for example "
                    f"'mri_synthstrip -i {{image}} -m {{mask}}'"
                )
        return command

    def find(self, head: Volume, scan: Visit, folder: Path) -> Found:
        """What the tool writes, without a shell in between."""
        with tempfile.TemporaryDirectory() as place:
            image, made = Path(place) / "image.nii.gz", Path(place) / "mask.nii.gz"
            head.write(image)
            words = shlex.split(self.command)
            words = [w.replace("{image}", str(image)).replace("{mask}", str(made)) for w in words]
            self.run(words, scan)
            if not made.is_file():
                raise DataError(
                    f"{scan.name}: '{words[0]}' ended well but wrote no {{mask}}; check the command"
                )
            mask = Volume.read(made).reorient("RAS")
        if not mask.grid.matches(head.grid, tolerance_mm=0.01):
            raise DataError(
                f"{scan.name}: the mask of '{words[0]}' lies on a grid of {mask.grid}, the scan on "
                f"{head.grid}; let it write the mask on the scan's grid"
            )
        found = Found(Volume(mask.data > 0, mask.affine), f"made by: {self.command}")
        return checked(found, scan.name)

    def run(self, words: list[str], scan: Visit) -> None:
        """Run the tool."""
        if shutil.which(words[0]) is None:
            raise DataError(f"{scan.name}: '{words[0]}' is not installed, or not on the PATH")
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, check=False, timeout=60 * self.minutes
            )
        except subprocess.TimeoutExpired:
            raise DataError(
                f"{scan.name}: '{words[0]}' took longer than {self.minutes:g} minutes; "
                f"give it more with mask.minutes"
            ) from None
        if done.returncode:
            last = [*done.stdout.splitlines(), *done.stderr.splitlines(), "no word why"]
            said = next(line for line in reversed(last[:-1] or last) if line.strip())
            raise DataError(f"{scan.name}: '{words[0]}' failed with {done.returncode}: {said}")
