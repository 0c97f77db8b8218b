"""The CPU in the place of a GPU that is not at hand: under autocast it rounds where the GPU would."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.library import Library
from torch.utils._pytree import tree_map

from vol3d.nn.slab_conv import SLAB

IN_FLOAT32 = """
cosine_similarity cumprod cumsum dist exp expm1 group_norm layer_norm linalg_vector_norm log log10 log1p
log2 log_softmax.int logsumexp native_layer_norm norm.Scalar norm.ScalarOpt_dim pow.Scalar
pow.Tensor_Scalar pow.Tensor_Tensor reciprocal rsqrt softmax.int softplus sum sum.dim_IntList
upsample_nearest3d upsample_trilinear3d
"""
"""What CUDA's autocast computes in float32, and the CPU's does in whatever it gets
(pytorch.org/docs/stable/amp.html, the two lists of ops that autocast to float32)."""


@contextmanager
def cuda_rules() -> Iterator[None]:
    """While it lasts, the CPU's autocast follows CUDA's rules, and its layers CUDA's layout and slabs."""
    library, group_norm = Library("aten", "IMPL"), torch.group_norm
    slab, SLAB["cpu"] = SLAB["cpu"], SLAB["cuda"]

    def plain_layout(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return group_norm(x.contiguous(), *args, **kwargs)

    try:
        torch.group_norm = plain_layout
        for name in IN_FLOAT32.split():
            if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", "AutocastCPU"):
                library.impl(name, in_float32(name), "AutocastCPU")
        yield
    finally:
        torch.group_norm, SLAB["cpu"] = group_norm, slab
        library._destroy()


def in_float32(name: str) -> Callable[..., Any]:
    """An operation of aten on what it is given in float32."""
    packet, _, overload = name.partition(".")
    op = getattr(getattr(torch.ops.aten, packet), overload or "default")
    autocast = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)

    def run(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = tree_map(wide, (args, kwargs))
        with torch._C._ExcludeDispatchKeyGuard(autocast):
            return op(*args, **kwargs)

    return run


def wide(x: Any) -> Any:
    """A tensor in half precision as float32."""
    half = isinstance(x, Tensor) and x.dtype in (torch.bfloat16, torch.float16)
    return x.float() if half else x
