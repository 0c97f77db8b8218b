"""Many segmentations of one scan in one pass: their mean, spread, votes, volumes and consensus.

Entropies are in nats. The entropy of the mean is the total uncertainty of a voxel; that of the
members on average is what each of them leaves open (aleatoric); the difference is the mutual
information between label and member, by which they contradict each other (epistemic): Depeweg et
al. 2018 (arXiv:1710.07283), Smith and Gal 2018 (arXiv:1803.08533), Gal et al. 2017
(arXiv:1703.02910).
"""

import zlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from vol3d.metrics.masks import Masks
from vol3d.metrics.staple import staple

ROUNDING = 0.02
"""How far probabilities may miss a sum of 1: those of a network in bfloat16 do."""


class Ensemble:
    """Takes members one by one, and never holds two of them.

    What grows with their number are the volumes (a few numbers each) and their label maps, which
    STAPLE, lesions and the measures against raters go through again. These are kept deflated: 0.2
    MB each at 160 x 224 x 160 where borders are smooth, where a bit a voxel would be 0.7 MB for every
    structure; noise takes more, a byte a voxel at the very most.

    Sums are kept in float32 on `device`, and results are numpy arrays.

    Attributes:
        num_labels: K, the background (label 0) included.
        shape: (X, Y, Z).
    """

    def __init__(
        self,
        num_labels: int,
        shape: tuple[int, int, int],
        device: torch.device | str = "cpu",
    ):
        if not 2 <= num_labels <= 256:
            raise ValueError(f"labels are 2 to 256 with the background, got {num_labels}")
        self.num_labels, self.shape = num_labels, tuple(shape)
        self._mean = torch.zeros(num_labels, *self.shape, device=device)
        self._squares, self._entropies = (
            torch.zeros_like(self._mean),
            torch.zeros_like(self._mean[0]),
        )
        self._votes = torch.zeros_like(self._mean, dtype=torch.int16)
        self._volumes: list[list[int]] = []
        self._label_maps: list[bytes] = []

    def __len__(self) -> int:
        return len(self._label_maps)

    def add(self, probabilities: Tensor | np.ndarray) -> None:
        """Take in one member.

        Args:
            probabilities: [K, X, Y, Z], of which each voxel's sum to 1.

        Raises:
            ValueError: another shape; values that are no probabilities.
        """
        p = torch.as_tensor(probabilities).detach().to(self._mean)  # [K, X, Y, Z] float32
        if p.shape != (self.num_labels, *self.shape):
            raise ValueError(
                f"a member is {[self.num_labels, *self.shape]} probabilities, got {list(p.shape)}"
            )
        # written so that NaN fails, too
        if not (p.min() >= -ROUNDING and (p.sum(0) - 1).abs().max() <= ROUNDING):
            raise ValueError(
                "a member's probabilities are not 0 to 1 with a sum of 1 in each voxel"
            )
        p = p.clamp(0, 1)

        # Welford's updates: no small difference of large sums.
        apart = p - self._mean
        self._mean += apart / (len(self) + 1)
        self._squares += apart * (p - self._mean)
        self._entropies += torch.special.entr(p).sum(0)
        label_map = p.argmax(0)
        self._volumes.append([])
        for k in range(self.num_labels):
            has = label_map == k
            self._votes[k] += has
            self._volumes[-1].append(int(has.sum()))
        self._label_maps.append(zlib.compress(label_map.byte().cpu().numpy().tobytes(), 1))

    # -- maps -------------------------------------------------------------------------------------

    @property
    def mean(self) -> np.ndarray:
        """[K, X, Y, Z] mean probability over members."""
        return self._mean.cpu().numpy()

    @property
    def variance(self) -> np.ndarray:
        """[K, X, Y, Z] variance of each label's probability over members, divided by their number."""
        return (self._squares / len(self)).cpu().numpy()

    @property
    def entropy(self) -> np.ndarray:
        """[X, Y, Z] entropy of the mean in nats, the total (predictive) uncertainty; ln K at most."""
        return torch.special.entr(self._mean).sum(0).cpu().numpy()

    @property
    def mutual_information(self) -> np.ndarray:
        """[X, Y, Z] entropy of the mean less the members' mean entropy, in nats: the epistemic part.

        It is never negative (Jensen); what rounding makes of 0 is set to 0.
        """
        return np.maximum(self.entropy - (self._entropies / len(self)).cpu().numpy(), 0)

    @property
    def majority(self) -> np.ndarray:
        """[X, Y, Z] uint8: the label most members vote for; of equals, that of the higher mean."""
        most = self._votes == self._votes.amax(0)
        return torch.where(most, self._mean, -1).argmax(0).byte().cpu().numpy()

    # -- members ----------------------------------------------------------------------------------

    @property
    def volumes(self) -> np.ndarray:
        """[members, K] voxels of each member's label map.

        Not sums of probabilities: a diffusion model leaves a little of each structure in every
        voxel of the background, which adds up (docs/segmentation.md).
        """
        return np.array(self._volumes)

    def label_maps(self) -> Iterator[np.ndarray]:
        """Each member's label map in turn, [X, Y, Z] uint8."""
        for packed in self._label_maps:
            yield np.frombuffer(zlib.decompress(packed), np.uint8).reshape(self.shape)

    def masks(self, label: int) -> Masks:
        """All members' masks of one structure, a bit a voxel."""
        return Masks.of(label_map == label for label_map in self.label_maps())

    def staple(self) -> np.ndarray:
        """[X, Y, Z] uint8: the consensus of members' label maps by STAPLE, one structure at a time.

        A voxel takes the structure with the highest probability, or 0 where none has 0.5.
        """
        best = np.full(self.shape, np.nextafter(np.float32(0.5), np.float32(0)))
        labels = np.zeros(self.shape, np.uint8)
        for k in range(1, self.num_labels):
            probability = staple(self.masks(k)).probability
            better = probability > best
            best[better], labels[better] = probability[better], k
        return labels
