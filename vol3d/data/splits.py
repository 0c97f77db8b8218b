"""Which people a model learns from (train) and which it is checked on (val): split by person."""

import hashlib

from vol3d.errors import DataError

SPLITS = ("train", "val")


def draw_split(subject: str, val_fraction: float, seed: int) -> str:
    """The person's split by a hash of (seed, subject): nobody moves when others join or leave."""
    digest = hashlib.sha256(f"{seed}:{subject}".encode()).digest()
    return "val" if int.from_bytes(digest[:8], "big") < val_fraction * 2**64 else "train"


def check_split(told: str, who: str) -> str:
    """The split as a table tells it: train or val, else a DataError."""
    if told not in SPLITS:
        raise DataError(f"{who}: split is {told!r}, train or val is due; mend the table")
    return told
