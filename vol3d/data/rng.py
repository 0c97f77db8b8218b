"""Random numbers that depend on what they are for, never on what was drawn before."""

import hashlib
from functools import lru_cache

import numpy as np
import torch


def seed_of(*key: int | str) -> int:
    """A 63-bit seed from a key such as (seed, image index); the same on every machine."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def torch_rng(*key: int | str) -> torch.Generator:
    """A torch generator on the CPU for a key; noise is drawn there on every device."""
    return torch.Generator().manual_seed(seed_of(*key))


def numpy_rng(*key: int | str) -> np.random.Generator:
    """A numpy generator for a key."""
    return np.random.default_rng(seed_of(*key))


def randn(shape: tuple[int, ...], rngs: list[torch.Generator]) -> torch.Tensor:
    """Standard normal noise [B, *shape]; image i is drawn from rngs[i] alone."""
    return torch.stack([torch.randn(shape, generator=rng) for rng in rngs])


def item_at(seed: int, nimg: int, n: int) -> int:
    """Which of n scans is the nimg-th image of a training: a new permutation each epoch."""
    return permutation(seed, nimg // n, n)[nimg % n]


@lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, n: int) -> list[int]:
    """The order of n scans in an epoch."""
    return torch.randperm(n, generator=torch_rng(seed, "epoch", epoch)).tolist()
