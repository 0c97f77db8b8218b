"""What `vol3d score` found on people held out, for new images of the same ensemble."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vol3d.errors import ConfigError
from vol3d.io.reading import read_json, understood
from vol3d.metrics.temperature import RANGE
from vol3d.trained.results_folder import short

log = logging.getLogger(__name__)
COMPUTED = ("micro_batch", "precision")
"""Settings of a sampler that say how voxels are computed, which machines differ in, not what is drawn."""


@dataclass(frozen=True)
class Calibration:
    """What `vol3d score` found on people held out.

    Attributes:
        temperature: that makes mean probabilities as sure as they should be.
        level: the share of people whose volume lies in an interval.
        offsets_ml: by how much the members' interval is widened, by structure.
        members: of each ensemble of which it was found; None where the file does not say.
        samplers: of its segmenters, likewise.
        segmenters: by their checksums, likewise.
        structures: all that were scored, likewise.
        learnt_from: of how many visits of the split train.
    """

    temperature: float
    level: float
    offsets_ml: dict[str, float]
    members: int | None
    samplers: list[dict[str, Any] | None] | None
    segmenters: list[str] | None
    structures: list[str] | None
    learnt_from: int = 0

    @classmethod
    def read(cls, path: Path) -> "Calibration":
        """From a JSON file.

        Raises:
            DataError: it is no calibration.
        """
        told = read_json(path)
        with understood(path):
            found = cls(
                float(told["temperature"]),
                float(told["level"]),
                {name: float(of["offset_ml"]) for name, of in told["conformal"].items()},
                *(told.get(name) for name in ("members", "samplers", "segmenters", "structures")),
                int(told.get("learnt_from") or 0),
            )
            least, most = RANGE
            if not (least <= found.temperature <= most and 0 < found.level < 1):
                raise ValueError(
                    f"a temperature from {least:g} to {most:g}, which is what vol3d score fits, and a "
                    f"level between 0 and 1 are due"
                )
            for name, offset in found.offsets_ml.items():
                if not math.isfinite(offset):
                    raise ValueError(f"the offset_ml of {name} is {offset}; a number of ml is due")
        return found

    def check(self, path: Path, **ensemble: object) -> None:
        """Of another ensemble it holds nothing: fewer members alone make narrower intervals.

        Warns where it may be of people who were learnt from.

        Args:
            path: of the file.
            ensemble: `members`, `samplers`, `segmenters` and `structures` of the one that it is for.

        Raises:
            ConfigError: one of them differs, or the file does not say.
        """
        for name, now in ensemble.items():
            then = getattr(self, name)
            if as_drawn(then) != as_drawn(now):
                raise ConfigError(
                    f"calibration: {path} is of other {name} "
                    f"({'not told' if then is None else short(then)}, now {short(now)}); segment people "
                    f"held out as these, and score them again"
                )
        if self.learnt_from:
            log.warning(
                "warning: calibration: %s is of %d visits of the split train; if the segmenter learnt "
                "from them, intervals are too narrow",
                *(path, self.learnt_from),
            )


def as_drawn(value: object) -> object:
    """What is compared of a setting: of samplers what they draw, see `COMPUTED`."""
    if isinstance(value, list):
        return [as_drawn(one) for one in value]
    if isinstance(value, dict):
        return {k: v for k, v in value.items() if k not in COMPUTED}
    return value
