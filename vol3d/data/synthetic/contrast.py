"""T2w and FLAIR of a person, by signal equations on the shares of tissue.

T1 and T2 at 3 T of grey and white matter: Stanisz et al. 2005, Magn Reson Med 54:507; of
fluid: PMC10696635 (2023), in the subarachnoid space and in the frontal horns. PD is the water of a
tissue relative to pure water: Gasparovic et al. 2006, Magn Reson Med 55:1219. What a lesion has is
our choice between white matter and fluid: more water and longer T1 and T2 than white matter.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vol3d.data.synthetic.template import TISSUES

Contrast = Literal["T2w", "FLAIR"]
"""BIDS's words for the images that can be made beside T1w."""
PERCENTILE, HEADROOM = 50.0, 2.6
"""255 is so many times the median of the brain: neither lesions nor ventricles reach it, and how
many lesions there are does not change the scale."""


@dataclass(frozen=True)
class Tissue:
    """How the magnetisation of a tissue behaves.

    Attributes:
        T1, T2: relaxation times, ms.
        PD: density of protons relative to water.
    """

    T1: float
    T2: float
    PD: float


MATTER = {
    "csf": Tissue(T1=4309, T2=1886, PD=0.97),
    "gm": Tissue(T1=1820, T2=99, PD=0.78),
    "wm": Tissue(T1=1084, T2=69, PD=0.65),
    "ventricles": Tissue(T1=4454, T2=2373, PD=0.97),
    "lesion": Tissue(T1=1600, T2=140, PD=0.75),
}


@dataclass(frozen=True)
class SpinEcho:
    """S = PD (1 - exp(-TR / T1)) exp(-TE / T2); times in ms."""

    TR: float
    TE: float

    def signal(self, t: Tissue) -> float:
        """What a voxel full of the tissue gives."""
        return float(t.PD * (1 - np.exp(-self.TR / t.T1)) * np.exp(-self.TE / t.T2))

    def fields(self) -> dict[str, float]:
        """The times under BIDS's names, s."""
        return {"RepetitionTimeExcitation": self.TR / 1000, "EchoTime": self.TE / 1000}


@dataclass(frozen=True)
class InversionRecovery:
    """S = PD (1 - 2 exp(-TI / T1) + exp(-TR / T1)) exp(-TE / T2); times in ms.

    TI is where fluid passes through zero, so it is dark.
    """

    TR: float
    TI: float
    TE: float

    def signal(self, t: Tissue) -> float:
        """What a voxel full of the tissue gives, with its sign; the image shows its size."""
        recovered = 1 - 2 * np.exp(-self.TI / t.T1) + np.exp(-self.TR / t.T1)
        return float(t.PD * recovered * np.exp(-self.TE / t.T2))

    def fields(self) -> dict[str, float]:
        """The times under BIDS's names, s."""
        return {
            "RepetitionTimePreparation": self.TR / 1000,
            "InversionTime": self.TI / 1000,
            "EchoTime": self.TE / 1000,
        }


SEQUENCES: dict[Contrast, SpinEcho | InversionRecovery] = {
    "T2w": SpinEcho(TR=5000, TE=90),
    "FLAIR": InversionRecovery(TR=9000, TI=2500, TE=100),
}


def signal_of(contrast: Contrast, tissues: np.ndarray, lesions: np.ndarray | None) -> np.ndarray:
    """The signal [X, Y, Z] without noise; white matter is 1.

    The magnetisations of what shares a voxel add up, then |S| is taken, as a scanner does.

    Args:
        contrast: T2w or FLAIR.
        tissues: [4, X, Y, Z] shares.
        lesions: [X, Y, Z] which share is lesion, a part of the white matter's; None: nobody has any.
    """
    S = {name: SEQUENCES[contrast].signal(tissue) for name, tissue in MATTER.items()}
    x = np.tensordot(np.float32([S[name] for name in TISSUES]), tissues, axes=1)  # [X, Y, Z]
    if lesions is not None:
        x += np.float32(S["lesion"] - S["wm"]) * lesions
    return np.abs(x) / np.float32(S["wm"])


def darken(t1w: np.ndarray, tissues: np.ndarray, lesions: np.ndarray) -> np.ndarray:
    """The T1w image [X, Y, Z] with lesions: between white and grey matter, as far as their T1 is.

    Args:
        t1w: as it would be without lesions.
        tissues: [4, X, Y, Z] shares.
        lesions: [X, Y, Z] which share is lesion.
    """
    T1 = {name: tissue.T1 for name, tissue in MATTER.items()}
    toward_grey = (T1["lesion"] - T1["wm"]) / (T1["gm"] - T1["wm"])
    grey, white = (
        np.average(t1w, weights=tissues[TISSUES.index(name)]).astype(np.float32)
        for name in ("gm", "wm")
    )
    lesion = white + np.float32(toward_grey) * (grey - white)
    return t1w + lesions * np.minimum(lesion - t1w, 0)
