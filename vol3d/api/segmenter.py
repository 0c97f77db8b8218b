"""A segmenter as Python sees it: an image goes in, an ensemble's answer comes out."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from vol3d.api.arguments import ruled_by
from vol3d.api.images import Image, Images, header_of
from vol3d.data.native_scan import NativeScan
from vol3d.data.visit import Visit, kind_said
from vol3d.trained.members import Members
from vol3d.trained.mixture import Mixture
from vol3d.trained.segmentation import Consensus, Segmentation, Wanted, segment
from vol3d.verbs.segment import Segment

log = logging.getLogger(__name__)
ANY = "image"
"""What an image is called where no segmenter says which it takes."""


class Segmenter:
    """One or more trained segmenters that find the same structures, as one ensemble.

    Attributes:
        structures: what it finds, in the order of its labels from 1.
        contrasts: the images that it takes; any single one if empty.
        segmenters: what is beneath, with tensors; not stable.
    """

    def __init__(self, segmenters: Sequence[Members], device: torch.device) -> None:
        self.segmenters, self.device = segmenters, device
        mixture = Mixture(segmenters, len(segmenters), 0)
        self.structures, self.contrasts = mixture.structures, mixture.contrasts
        for words, path in [(w, s.path) for s in segmenters for w in s.unfinished]:
            log.warning("warning: %s: %s", path, words)

    @ruled_by(Segment, "members", "seed", "consensus", "interval", "lesions", "calibration")
    def segment(
        self,
        image: Images,
        *,
        members: int = 16,
        seed: int = 0,
        mask: Image | None = None,
        consensus: Consensus = "mean",
        interval: float = 0.9,
        lesions: Sequence[str] = (),
        calibration: Path | str | None = None,
    ) -> Segmentation:
        """Segment one image, as `vol3d segment` does with the same settings.

        Args:
            image: a file or a volume; or several by contrast, {"T1w": ..., "FLAIR": ...}.
            members: how many segmentations; a segmenter whose answer is always the same gives one.
            seed: of the first member.
            mask: of the brain, on the grid of the image, outside of which it becomes 0.
            consensus: what `labels` are: mean, majority or staple.
            interval: the share of members that `low_ml` and `high_ml` hold.
            lesions: structures whose separate pieces are listed.
            calibration: calibration.json of `vol3d score`, of the same ensemble.

        Returns:
            Maps that lie where the image lies, and volumes in ml.

        Raises:
            ConfigError: a setting is off.
            DataError: an image is not as it should be, or lacks.
        """
        mixture = Mixture(self.segmenters, members, seed)
        mixture.tell(members)
        settings = {
            "calibration": calibration,
            "consensus": consensus,
            "interval": interval,
            "lesions": lesions,
        }
        wanted = Wanted.of(mixture, **settings)
        images = image if isinstance(image, Mapping) else {self.contrast_of(image): image}
        headers = {name: header_of(one, name) for name, one in images.items()}
        mixture.check([Visit(ANY, None, {n: h.path for n, h in headers.items()}, {}, "val")])
        headers = {name: headers[name] for name in mixture.looks_at(headers)}
        inside = None if mask is None else header_of(mask, "mask")
        return segment(mixture, NativeScan.of(headers, inside), wanted, self.device)

    def contrast_of(self, image: Image) -> str:
        """What an image is: as its name says, else what is taken."""
        said = None if hasattr(image, "affine") else kind_said(Path(image))
        return said or (self.contrasts or [ANY])[0]

    def __repr__(self) -> str:
        paths = ", ".join(str(s.path) for s in self.segmenters)
        takes = ", ".join(self.contrasts) or "any image"
        return f"Segmenter {paths}: finds {', '.join(self.structures)} in {takes}"
