"""The ideal denoiser of one schedule, asked along another, is the ideal denoiser of the other."""

import pytest
import torch

from vol3d.diffusion.denoiser import Denoiser
from vol3d.diffusion.prediction import Eps, FlowVelocity
from vol3d.diffusion.rescheduled import Rescheduled
from vol3d.diffusion.schedules import EDM, VE, VP, Cosine, Flow, LinearBeta, ScaledLinearBeta

SCHEDULES = [EDM(), VE(), Flow(), Flow(shift=3), VP(), LinearBeta(), ScaledLinearBeta(), Cosine()]


class Ideal:
    """What a network trained without end on the Gaussian data set under a schedule would be."""

    def __init__(self, gaussian, schedule):
        self.denoise, self.schedule = gaussian.denoise(schedule), schedule

    def estimate(self, x, sigma, cond):
        return self.denoise(x, sigma), None


@pytest.mark.parametrize("other", SCHEDULES, ids=lambda s: s.kind)
@pytest.mark.parametrize("trained", SCHEDULES, ids=lambda s: s.kind)
def test_is_the_other_schedules_ideal_denoiser(gaussian, trained, other):
    noisiest = trained.levels(10).sigma[0] / trained.levels(10).alpha[0]
    reframed = Rescheduled(Ideal(gaussian, trained), other)
    x = torch.randn(5, 1, 2, 2, 1, dtype=torch.float64)
    asked = 0
    for sigma in other.levels(20).sigma[:-1]:
        if sigma / other.alpha(sigma) <= noisiest:
            exact = gaussian.denoise(other)(x, sigma)
            torch.testing.assert_close(reframed(x, sigma), exact, rtol=1e-7, atol=1e-7)
            asked += 1
    assert asked >= 5


@pytest.mark.parametrize("trained", SCHEDULES, ids=lambda s: s.kind)
def test_more_noise_than_was_trained_on_is_asked_for_as_the_most_there_was(gaussian, trained):
    blank = Flow().levels(4).sigma[0]  # nothing of the image is left
    x = torch.randn(5, 1, 2, 2, 1, dtype=torch.float64)
    most = trained.levels(4).sigma[0]
    got = Rescheduled(Ideal(gaussian, trained), Flow())(x, blank)
    torch.testing.assert_close(got, gaussian.denoise(trained)(most * x, most))


def test_along_its_own_schedule_nothing_changes(tiny_net):
    x, sigma = torch.randn(3, 1, 4, 4, 4), torch.tensor(0.4, dtype=torch.float64)
    for schedule, prediction in ((Flow(), FlowVelocity()), (VE(), Eps())):
        denoiser = Denoiser(tiny_net, prediction, schedule)
        torch.testing.assert_close(Rescheduled(denoiser, schedule)(x, sigma), denoiser(x, sigma))
