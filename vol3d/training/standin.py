"""The CPU in the place of a GPU that is not at hand: it rounds where the GPU would."""

from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

IN_FLOAT32 = {
    functional.group_norm,
    functional.layer_norm,
    functional.softmax,
    functional.l1_loss,
    functional.mse_loss,
    functional.cross_entropy,
    functional.normalize,
    torch.exp,
    torch.log,
    torch.pow,
    torch.prod,
    torch.rsqrt,
    torch.softmax,
    torch.sum,
    torch.Tensor.exp,
    torch.Tensor.log,
    torch.Tensor.pow,
    torch.Tensor.prod,
    torch.Tensor.rsqrt,
    torch.Tensor.softmax,
    torch.Tensor.sum,
    torch.Tensor.norm,
}
"""What autocast computes in float32 on a GPU, but not on the CPU, and our networks use."""


class StandIn(TorchFunctionMode):
    """CUDA's autocast rules, and its group norm, which leaves the channels-last layout."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.group_norm:
            args = (args[0].contiguous(), *args[1:])
        if func not in IN_FLOAT32 or not torch.is_autocast_enabled("cpu"):
            return func(*args, **kwargs)
        args, kwargs = tree_map(wide, (args, kwargs))
        with torch.autocast("cpu", enabled=False):
            return func(*args, **kwargs)


def wide(x: Any) -> Any:
    """A tensor in half precision as float32."""
    half = isinstance(x, torch.Tensor) and x.dtype in (torch.bfloat16, torch.float16)
    return x.float() if half else x
