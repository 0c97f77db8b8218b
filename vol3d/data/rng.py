"""Random numbers that depend on what they are for, never on what was drawn before."""

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode


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


class DrawnFrom(TorchFunctionMode):
    """Within it, a library that asks torch's global generator draws from `rng` instead.

    It holds for the thread that enters it and leaves the global generator as it is. To seed that one and
    put it back would not do: another thread that draws meanwhile, or the checkpointing of activations,
    which sets it, would change what is drawn here.
    """

    draws = frozenset({"rand", "randn", "randint", "uniform_", "normal_"})

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.rng = rng

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        """Call a function of torch, with our generator if it draws."""
        drawn = {"generator": self.rng} if func.__name__ in self.draws else {}
        return func(*args, **(kwargs or {}), **drawn)
