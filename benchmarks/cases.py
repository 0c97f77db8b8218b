"""What is measured. `python -m benchmarks.run --cases decode unet` picks some of it."""

from dataclasses import dataclass

MONAI = ("shipped", "tuned")


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        what: in words.
        does: decode, encode, denoise or train.
        net: autoencoder or unet.
        on: the volume, whole or half; or its latent.
        setting: of ours; see `benchmarks/ours.py`.
    """

    what: str
    does: str
    net: str = "autoencoder"
    on: str = "volume"
    setting: str = "inference"

    @property
    def race(self) -> tuple[str, str, str]:
        """Cases that differ only in our setting share a race, and MONAI's figures in it."""
        return self.does, self.net, self.on


CASES = {
    "decode": Case("latent to volume", "decode"),
    "decode-half": Case("latent to volume at half the grid", "decode", on="half"),
    "encode": Case("volume to latent", "encode"),
    "train-fast": Case(
        "training step of the autoencoder at half the grid", "train", on="half", setting="fast"
    ),
    "train-lean": Case("the same in the least memory", "train", on="half", setting="lean"),
    "unet": Case("one call of the diffusion U-Net", "denoise", net="unet"),
}
WHOLE = {
    "train-whole": "training step of generator and discriminator, with their optimisers",
    "sample": "from noise to NIfTI, 20 network calls",
}
"""Of ours alone; see `benchmarks/whole.py`."""
LIMIT_GIB = {"train-whole": 12.0}
"""What a case should stay below."""
END = "END"
"""The line that ends an answer of a process that measures."""
SLABS = "slabs"
"""The case that tries sizes of slabs: on a GPU, or where it is asked for."""
SWEPT = {
    "cpu": {"decode": CASES["decode-half"], "train": CASES["train-lean"]},
    "cuda": {
        "decode": CASES["decode"],
        "train": Case("training step in the least memory", "train", setting="lean"),
    },
}
"""What is done with each size of slab: on a GPU at the whole volume, where slabs are many."""


def better(seconds: dict[str, float | None]) -> str | None:
    """The faster of MONAI's two; None where neither was timed."""
    timed = {w: seconds[w] for w in MONAI if seconds.get(w)}
    return min(timed, key=timed.__getitem__, default=None)
