"""min-SNR weights: those of the paper for each prediction."""

import pytest
import torch

from vol3d.diffusion.denoiser import Denoiser
from vol3d.diffusion.prediction import X0, Eps, Preconditioned, V
from vol3d.diffusion.schedules import EDM, VP, Flow
from vol3d.diffusion.weighting import MinSNR, Uniform

GAMMA = 5.0
PAPER = {
    "x0": lambda snr: torch.clamp(snr, max=GAMMA),
    "eps": lambda snr: torch.clamp(snr, max=GAMMA) / snr,
    "v": lambda snr: torch.clamp(snr, max=GAMMA) / (snr + 1),
}


@pytest.mark.parametrize("prediction", [X0(), Eps(), V()], ids=lambda p: p.kind)
def test_weights_are_those_of_the_paper(prediction):
    """Hang et al. 2023, section 3.4, for a process that keeps the variance."""
    sigma = VP().levels(20).sigma[:-1]
    alpha = VP().alpha(sigma)
    snr = (alpha / sigma) ** 2
    assert snr.min() < GAMMA < snr.max()
    ours = MinSNR(gamma=GAMMA).weight(alpha, sigma, prediction.gain(alpha, sigma))
    torch.testing.assert_close(ours, PAPER[prediction.kind](snr))


@pytest.mark.parametrize(
    ("schedule", "prediction"), [(EDM(), Preconditioned()), (VP(), V()), (Flow(), V())]
)
def test_loss_is_the_denoised_error_times_the_clamped_ratio(schedule, prediction, tiny_net):
    tiny_net.double()
    rng = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 3, 1, 4, 4, 4, generator=rng, dtype=torch.float64)
    sigma = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    across = sigma.view(-1, 1, 1, 1, 1)
    denoiser = Denoiser(tiny_net, prediction, schedule, MinSNR(gamma=GAMMA))
    D = denoiser(schedule.alpha(across) * x0 + across * noise, sigma)
    ratio = ((schedule.alpha(sigma) / sigma) ** 2).clamp(max=GAMMA)
    expected = ratio * (D - x0).square().flatten(1).mean(1)
    torch.testing.assert_close(denoiser.loss(x0, noise, sigma), expected)


def test_uniform_counts_all_alike(tiny_net):
    sigma = torch.tensor([0.1, 0.9])
    assert torch.equal(Uniform().weight(sigma, sigma, sigma), torch.ones(2))
