"""Losses of a generator and a discriminator that looks at one scale or several.

What a discriminator gives is a list over scales of lists of features, the last of them logits. Logits
and features are averaged over scales, so that a weight means the same for any number of them.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

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


def adaptive_weight(reconstruction: Tensor, fooled: Tensor, last: Tensor) -> Tensor:
    """Ratio of the two gradients at the last layer (VQ-GAN, arXiv:2012.09841, eq. 7), at most 10^4."""
    (toward,) = torch.autograd.grad(reconstruction, last, retain_graph=True)
    (away,) = torch.autograd.grad(fooled, last, retain_graph=True)
    return (toward.norm() / (away.norm() + 1e-4)).clamp(max=1e4).detach()
