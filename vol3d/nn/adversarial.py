"""Losses of a generator and a discriminator that looks at one scale or several.

What a discriminator gives is a list over scales of lists of features, the last of them logits. Logits
and features are averaged over scales, so that a weight means the same for any number of them.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from vol3d.distributed.ranks import launched

Scales = list[list[Tensor]]
AdversarialLoss = Literal["hinge", "least_squares"]


def mean(terms: list[Tensor]) -> Tensor:
    """The mean of scalars."""
    return torch.stack(terms).mean()


def fool(fake: Scales, loss: AdversarialLoss) -> Tensor:
    """The generator's loss: the discriminator should take its output for real.

    Hinge: Lim and Ye 2017 (arXiv:1705.02894); least squares: Mao et al. 2017 (arXiv:1611.04076), eq. 9
    without its half.
    """
    logits = [features[-1].float() for features in fake]
    if loss == "hinge":
        return mean([-d.mean() for d in logits])
    return mean([(d - 1).square().mean() for d in logits])


def judge(real: Scales, fake: Scales, loss: AdversarialLoss) -> Tensor:
    """The discriminator's loss: tell real from fake; half of each (eq. 9)."""
    logits = [(r[-1].float(), f[-1].float()) for r, f in zip(real, fake, strict=True)]
    if loss == "hinge":
        return mean([(1 - r).relu().mean() + (1 + f).relu().mean() for r, f in logits]) / 2
    return mean([(r - 1).square().mean() + f.square().mean() for r, f in logits]) / 2


def feature_matching(real: Scales, fake: Scales) -> Tensor:
    """Mean absolute difference of the features before the logits (arXiv:1711.11585, eq. 4).

    Averaged over layers and scales, where the paper sums. Gradients flow into `fake` alone.
    """
    return mean(
        [
            functional.l1_loss(f.float(), r.detach().float())
            for at_real, at_fake in zip(real, fake, strict=True)
            for r, f in zip(at_real[:-1], at_fake[:-1], strict=True)
        ]
    )


class Balance(nn.Module):
    """Balances the adversarial loss so that it pulls as hard at the last layer as the reconstruction.

    VQ-GAN (arXiv:2012.09841), eq. 7, with the gradients of the whole update before: what a batch is cut
    into, passes or ranks, then makes no difference, and an update that is dropped changes nothing.
    """

    def __init__(self, last: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(()))
        # Of the update under way. Between updates they are empty, so no checkpoint needs them.
        for name in ("toward", "away"):
            self.register_buffer(name, torch.zeros_like(last), persistent=False)

    def add_up(self, reconstruction: Tensor, fooled: Tensor, last: Tensor, share: float) -> None:
        """Add the two gradients of one pass, which is this share of the update."""
        for loss, sum_ in ((reconstruction, self.toward), (fooled, self.away)):
            (gradient,) = torch.autograd.grad(loss, last, retain_graph=True)
            sum_.add_(gradient, alpha=share)

    @torch.no_grad()
    def settle(self, ok: Tensor) -> None:
        """Take the ratio of what was added up, at most 10^4, for the next update, if it is `ok`."""
        launched().add_up([self.toward, self.away])
        ratio = (self.toward.norm() / (self.away.norm() + 1e-4)).clamp(max=1e4)
        self.weight.copy_(torch.where(ok & ratio.isfinite(), ratio, self.weight))
        self.toward.zero_()
        self.away.zero_()
