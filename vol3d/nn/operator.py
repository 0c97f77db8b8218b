"""Functions as operators of torch, for tensors that have no data; and kernels of our own under them."""

from collections.abc import Callable, Collection
from functools import wraps
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

NUMBA = find_spec("numba") is not None
"""Whether the kernels of `nn/kernels.py` can be compiled; a GPU does without them."""


def kernels() -> ModuleType:
    """`nn/kernels.py`, loaded when it is first wanted: Numba takes a second."""
    from vol3d.nn import kernels as module

    return module


def operator(writes: Collection[str] = ()) -> Callable:
    """Make a function a torch operator, for tensors without data; `writes` are the arguments it changes.

    Called on tensors that have data it is the function itself: an operator takes 40 us more, which
    small volumes would feel.
    """

    def made(f: Callable) -> Callable:
        op = torch.library.custom_op(f"vol3d::{f.__name__}", f, mutates_args=writes)

        @wraps(f)
        def call(x: Tensor, *args):
            return (f if type(x) is Tensor else op)(x, *args)

        call.register_fake = op.register_fake
        return call

    return made
