"""The same weights for every network, whatever it is called in, and in whatever precision.

Each weight is drawn from its own name, one at a time, so that no second copy of a network is ever in
memory, and a process that measures one contestant alone has the weights of all the others.
"""

import zlib

import torch
from torch import Tensor, nn

from vol3d.models.monai.weight_names import renamed


def draw(name: str, shape: torch.Size) -> Tensor:
    """The weight of this name, float32: norms and biases around 0.5, the rest by its fan-in."""
    rng = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    flat = torch.empty(shape).uniform_(-1, 1, generator=rng)
    return 0.5 + 0.3 * flat if len(shape) == 1 else (3 / shape[1:].numel()) ** 0.5 * flat


@torch.no_grad()
def fill(net: nn.Module) -> None:
    """Draw every weight of a network that has our names."""
    for name, p in net.named_parameters():
        p.copy_(draw(name, p.shape))


@torch.no_grad()
def fill_monai(net: nn.Module) -> None:
    """Draw every weight of one of MONAI's networks: those that `fill` gives ours."""
    weights = dict(net.named_parameters())
    for name, p in renamed(weights).items():
        p.copy_(draw(name, p.shape))
