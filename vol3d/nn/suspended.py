"""Real tensors where an estimate of cost has tensors without data (`vol3d.training.cost_estimate`)."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch.utils._python_dispatch import _disable_current_modes


@contextmanager
def suspended() -> Iterator[None]:
    """While it lasts tensors are real, for what looks at their numbers."""
    with _disable_current_modes():
        yield
