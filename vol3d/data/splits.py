"""Which people a model learns from (train) and which it is checked on (val): split by person."""

import hashlib
from collections.abc import Collection

from vol3d.errors import DataError

SPLITS = ("train", "val")


def draw_split(subject: str, val_fraction: float, seed: int) -> str:
    """The person's split by a hash of (seed, subject): nobody moves when others join or leave."""
    return "val" if drawn(subject, seed) < val_fraction * 2**64 else "train"


def draw_people(subjects: Collection[str], n: int, seed: int) -> list[str]:
    """n people by a hash of (seed, subject): of more people the first n are the same.

    Raises:
        DataError: there are fewer.
    """
    people = sorted(set(subjects), key=lambda subject: drawn(subject, f"people:{seed}"))
    if n > len(people):
        raise DataError(f"people={n}: there are {len(people)} people to learn from")
    return people[:n]


def drawn(subject: str, seed: int | str) -> int:
    """A person's number, from 0 to 2^64, for a seed."""
    digest = hashlib.sha256(f"{seed}:{subject}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def check_split(told: str, who: str) -> str:
    """The split as a table tells it: train or val, else a DataError."""
    if told not in SPLITS:
        raise DataError(f"{who}: split is {told!r}, train or val is due; mend the table")
    return told
