"""A contestant: a network, how it is called, and what it is given."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from benchmarks.sizes import Sizes

Given = dict[str, Tensor]


@dataclass
class Contestant:
    """What is timed.

    Attributes:
        net: the network, on its device.
        forward: calls it.
        given: what it is called with, in the precision and layout of the contestant.
        trains: the forward pass is followed by an L1 loss and a backward pass.
        calling: a new context for each call, such as autocast.
        our_names: gives a dict by the network's names our names.
    """

    net: nn.Module
    forward: Callable[[nn.Module, Given], Tensor]
    given: Given
    trains: bool = False
    calling: Callable[[], AbstractContextManager] = nullcontext
    our_names: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict

    def run(self) -> Tensor:
        """One call, or one training step without an optimiser; the output."""
        if not self.trains:
            with torch.inference_mode(), self.calling():
                return self.forward(self.net, self.given)
        self.net.zero_grad(set_to_none=True)
        with self.calling():
            y = self.forward(self.net, self.given)
        nnf.l1_loss(y.float(), self.given["x"].float()).backward()
        return y.detach()

    def gradients(self) -> dict[str, Tensor]:
        """The gradients of the last step by our names, in float32 on the CPU."""
        found = {k: p.grad for k, p in self.net.named_parameters() if p.grad is not None}
        return {k: g.float().cpu() for k, g in self.our_names(found).items()}


def inputs(does: str, shape: tuple[int, int, int], sizes: Sizes) -> Given:
    """What all contestants of a case are given, float32 on the CPU."""
    rng = torch.Generator().manual_seed(1)
    latent = sizes.latent(shape)
    z_channels = sizes.autoencoder["latent_channels"]
    if does == "decode":
        return {"z": torch.randn(1, z_channels, *latent, generator=rng)}
    if does == "denoise":
        return {
            "x": torch.randn(1, sizes.unet["in_channels"], *latent, generator=rng),
            "t": torch.tensor([500.0]),
            "tokens": torch.randn(1, 1, sizes.unet["cross_attention_dim"], generator=rng),
        }
    given = {"x": torch.rand(1, 1, *shape, generator=rng)}
    if does == "train":
        given["noise"] = torch.randn(1, z_channels, *latent, generator=rng)
    return given


def moved(given: Given, device: torch.device, dtype: torch.dtype, *, channels_last: bool) -> Given:
    """The inputs where, in which precision and in which layout a contestant wants them."""

    def move(x: Tensor) -> Tensor:
        x = x.to(device, dtype)
        last = channels_last and x.ndim == 5
        return x.contiguous(memory_format=torch.channels_last_3d) if last else x

    return {name: move(x) for name, x in given.items()}
