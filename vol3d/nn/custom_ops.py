"""Functions as operators of torch, for tensors that have no data; and kernels of our own under them."""

from collections.abc import Callable, Collection
from functools import wraps
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import is_fake

NUMBA = find_spec("numba") is not None
"""Whether the kernels of `nn/cpu_kernels.py` can be compiled; a GPU does without them."""


def kernels(device: str = "cpu") -> ModuleType:
    """The kernels for a type of device, loaded when they are first wanted: Numba takes a second."""
    if device == "cpu":
        from vol3d.nn import cpu_kernels as module
    else:
        from vol3d.nn import triton_kernels as module
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


def there(constant: Tensor | tuple[int, ...], like: Tensor) -> Tensor:
    """A constant where another tensor is, in its type; copied to a GPU once: each copy waits for it."""

    def copied() -> Tensor:
        made = torch.tensor(constant) if isinstance(constant, tuple) else constant
        return made.to(like.device, like.dtype)

    if like.device.type == "cpu" or is_fake(like):
        return copied()
    key = constant if isinstance(constant, tuple) else id(constant), like.device, like.dtype
    if key not in COPIES:
        with torch.inference_mode(False):  # the next to ask may want gradients
            COPIES[key] = constant, copied()
    return COPIES[key][1]


COPIES: dict[tuple, tuple[Tensor | tuple, Tensor]] = {}
"""Constants, kept so that no other takes their id, and their copies."""
