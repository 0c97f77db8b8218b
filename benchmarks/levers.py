"""What each way of computing is worth: a layer as torch has it, and as vol3d does it.

    OMP_NUM_THREADS=1 python -m benchmarks.levers [DEVICE [PRECISION]]

Both take turns; the table has medians and their ratio, and how far apart the answers are. Layers are in
the precision that the device multiplies in hardware, or in bf16 or fp32 where that is asked for.
"""

import sys
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from benchmarks.timing import in_turns
from vol3d.nn.blocks import Conv3, ResBlock, affine
from vol3d.nn.precision import resolve
from vol3d.nn.slab_conv import LAYOUT, Norm, weight_gradient
from vol3d.nn.slab_inference import cut
from vol3d.nn.slab_layers import conv_in, norm_conv
from vol3d.nn.upsample_conv import up_conv

Work = Callable[[], Tensor]


class Here:
    """Makes layers and voxels on a device, in a precision."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.how = {"device": device, "dtype": dtype}

    def layer(self, net: nn.Module) -> nn.Module:
        """In the layout of the layers."""
        return net.to(**self.how, memory_format=LAYOUT)

    def voxels(self, channels: int, *shape: int) -> Tensor:
        """Noise, [1, C, X, Y, Z]."""
        rng = torch.Generator().manual_seed(0)
        x = torch.randn(1, channels, *shape, generator=rng)
        return x.to(**self.how, memory_format=LAYOUT)

    def block(self, keep: bool) -> tuple[ResBlock, Tensor]:
        """A residual block of 64 channels at half the 1 mm grid."""
        return self.layer(ResBlock(64, 64, groups=32, keep=keep)), self.voxels(64, 80, 112, 80)


def plain(b: ResBlock, x: Tensor) -> Tensor:
    """The block as autograd does it."""
    return x + b.conv2(nnf.silu(b.norm2(b.conv1(nnf.silu(b.norm1(x))))))


def plainly(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """torch's norm of voxels in half precision, whose weights are float32 as autocast leaves them.

    A GPU has none of mixed types.
    """
    if x.device.type == "cpu":
        return norm(x)
    return nnf.group_norm(x.float(), norm.num_groups, norm.weight, norm.bias, norm.eps).to(x.dtype)


def step(net: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Forward and backward; the gradient of the input."""
    x = x.requires_grad_()
    y = net(x)
    return torch.autograd.grad(y, x, y.detach())[0]


def levers(here: Here) -> dict[str, tuple[Work, Work]]:
    """Name -> (as torch has it, as vol3d does it)."""
    voxels = here.voxels
    conv = here.layer(nn.Conv3d(128, 128, 3, padding=1))
    x = voxels(128, 10, 56, 40)
    one, first = voxels(1, 20, 112, 80), here.layer(nn.Conv3d(1, 64, 3, padding=1))
    many, norm = voxels(64, 20, 112, 80), nn.GroupNorm(32, 64).to(here.how["device"])
    last = nn.Conv3d(64, 1, 3, padding=1).to(here.how["device"])
    wide = here.layer(Conv3(512, 512, 3, padding=1))
    small = here.layer(Conv3(768, 768, 3, padding=1))
    at_wide, at_small = voxels(512, 20, 28, 20), voxels(768, 5, 7, 5)
    g, seen = voxels(64, 20, 112, 80), voxels(64, 22, 112, 80)
    weight = torch.zeros(64, 64, 3, 3, 3, **here.how)
    (kept, grid), (lean, _) = here.block(True), here.block(False)
    lean.load_state_dict(kept.state_dict())

    def torch_weight_gradient() -> Tensor:
        return torch.ops.aten.convolution_backward(
            g, seen, weight, [64], [1] * 3, [0, 1, 1], [1] * 3, False, [0] * 3, 1,
            [False, True, True],
        )[1]  # fmt: skip

    def normed() -> Tensor:
        known = Norm.of(cut(many), norm.weight, norm.bias, norm.num_groups, norm.eps)
        return known.apply(many, True, torch.empty_like(many))

    return {
        "statistics, norm and SiLU, 64 channels": (lambda: nnf.silu(plainly(norm, many)), normed),
        "doubling and convolution, 128 channels": (
            lambda: conv(nnf.interpolate(x, scale_factor=2.0, mode="nearest")),
            lambda: up_conv(x, (conv.weight, conv.bias)),
        ),
        "first convolution, 1 channel to 64": (
            lambda: first(one),
            lambda: conv_in(one, first.weight, first.bias),
        ),
        "norm and last convolution, 64 channels to 1, float32": (
            lambda: last(plainly(norm, many).float()),
            lambda: norm_conv(many, affine(norm), (last.weight, last.bias), is_active=False),
        ),
        "512 channels to 512 at 20x28x20": (
            lambda: nnf.conv3d(at_wide, wide.weight, wide.bias, padding=1),
            lambda: wide(at_wide),
        ),
        "768 channels to 768 at 5x7x5": (
            lambda: nnf.conv3d(at_small, small.weight, small.bias, padding=1),
            lambda: small(at_small),
        ),
        "gradient of a weight, 64 channels": (
            torch_weight_gradient,
            lambda: weight_gradient(g, seen, weight, pad=1)[0],
        ),
        "residual block": (lambda: plain(kept, grid), lambda: kept(grid)),
        "residual block, forward and backward": (
            lambda: step(lambda x: plain(kept, x), grid),
            lambda: step(kept, grid),
        ),
        "the same, keeping its input alone": (
            lambda: step(lambda x: plain(kept, x), grid),
            lambda: step(lean, grid),
        ),
    }


def main(words: list[str]) -> None:
    """Time every lever and print a Markdown table, line by line."""
    device = torch.device(words[0] if words else "cpu")
    precision = resolve(words[1] if words[1:] else "auto", device)
    here = Here(device, torch.bfloat16 if precision == "bf16" else torch.float32)
    print(f"| {device.type}, {precision} | torch, ms | vol3d, ms | faster | apart |")
    print("|---|---|---|---|---|")
    for name, (theirs, ours) in levers(here).items():
        with torch.set_grad_enabled("backward" in name or "alone" in name):
            a, b = theirs().float(), ours().float()  # once before the clock runs
            apart = ((a - b).norm() / a.norm()).item()
            taken = in_turns({"torch": theirs, "vol3d": ours}, device)
        slow, fast = (1e3 * median(t) for t in taken.values())
        line = f"| {name} | {slow:.1f} | {fast:.1f} | {slow / fast:.1f}× | {apart:.4f} |"
        print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
