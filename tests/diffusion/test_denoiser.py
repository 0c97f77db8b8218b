"""The denoiser's joints: ports, precision, batch, gradients and the loss of each image."""

import math

import pytest
import torch
from torch import nn

from vol3d.data.rng import randn
from vol3d.diffusion.condition import Condition
from vol3d.diffusion.denoiser import Denoiser
from vol3d.diffusion.prediction import Eps, Preconditioned, V
from vol3d.diffusion.sampler_interface import Levels
from vol3d.diffusion.schedules import EDM, Cosine, Flow, LinearBeta
from vol3d.diffusion.solvers import (
    DDIM,
    DDPM,
    PNDM,
    DPMpp2M,
    Euler,
    EulerMaruyama,
    Heun,
    PredictorCorrector,
)

SHAPE = (1, 4, 4, 4)


def batch(count=3):
    rngs = [torch.Generator().manual_seed(i) for i in range(count)]
    x0, noise = randn(SHAPE, rngs), randn(SHAPE, rngs)
    return x0, noise, rngs


class Zero(nn.Module):
    """Predicts nothing, so that the loss is that of the target itself."""

    def forward(self, x, c_noise, **ports):
        return torch.zeros_like(x)


def test_scalar_sigma_is_the_same_as_one_for_each(tiny_net):
    denoiser = Denoiser(tiny_net, V(), LinearBeta())
    x, _, _ = batch()
    s = torch.tensor(0.3, dtype=torch.float64)
    assert torch.equal(denoiser(x, s), denoiser(x, s.expand(3)))


def test_each_image_has_its_own_level(tiny_net):
    denoiser = Denoiser(tiny_net, Preconditioned(), EDM())
    x, _, _ = batch()
    sigma = torch.tensor([0.1, 1.0, 30.0], dtype=torch.float64)
    together = denoiser(x, sigma)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], denoiser(x[i : i + 1], sigma[i]))


def test_every_port_reaches_the_network(tiny_net):
    denoiser = Denoiser(tiny_net, V(), Flow())
    x, _, _ = batch()
    s = torch.tensor(0.5, dtype=torch.float64)
    plain = denoiser(x, s)
    for cond in [
        Condition(vector=torch.ones(3, 2)),
        Condition(tokens=torch.ones(3, 2, 2)),
        Condition(channels=torch.ones(3, 2, 4, 4, 4)),
        Condition(addition=torch.ones(3, 2, 4, 4, 4)),
    ]:
        assert not torch.allclose(plain, denoiser(x, s, cond))


def test_loss_is_the_mean_square_of_each_image():
    x0, noise, _ = batch()
    sigma = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    loss = Denoiser(Zero(), V(), Flow()).loss(x0, noise, sigma)
    assert loss.shape == (3,)
    for i, s in enumerate(sigma.tolist()):
        expected = ((1 - s) * noise[i] - s * x0[i]).square().mean()
        torch.testing.assert_close(loss[i], expected)


def test_edm_loss_is_the_weighted_error_of_the_denoised(tiny_net):
    """Eq. 2 and Table 1 of Karras et al.: lambda(sigma) ||D - x0||^2."""
    sd = 0.5
    denoiser = Denoiser(tiny_net, Preconditioned(sigma_data=sd), EDM())
    x0, noise, _ = batch()
    sigma = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    D = denoiser(x0 + sigma.view(-1, 1, 1, 1, 1).float() * noise, sigma)
    weight = (sigma**2 + sd**2) / (sigma * sd) ** 2
    expected = weight.float() * (D - x0).square().flatten(1).mean(1)
    torch.testing.assert_close(denoiser.loss(x0, noise, sigma), expected, rtol=1e-4, atol=1e-5)


def test_loss_trains_the_network(tiny_net):
    denoiser = Denoiser(tiny_net, V(), LinearBeta())
    x0, noise, rngs = batch()
    sigma = torch.stack([LinearBeta().draw_sigma(rng) for rng in rngs])
    before = denoiser.loss(x0, noise, sigma).mean()
    optim = torch.optim.SGD(denoiser.parameters(), lr=0.1)
    for _ in range(10):
        optim.zero_grad()
        denoiser.loss(x0, noise, sigma).mean().backward()
        optim.step()
    assert denoiser.loss(x0, noise, sigma).mean() < 0.95 * before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_result_is_at_least_float32(dtype, tiny_net):
    x, noise, _ = batch()
    sigma = torch.full((3,), 0.4, dtype=torch.float64)
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    denoiser = Denoiser(tiny_net.to(wanted), V(), LinearBeta())
    assert denoiser(x.to(dtype), sigma).dtype == wanted
    assert denoiser.loss(x.to(dtype), noise.to(dtype), sigma).dtype == wanted


def test_autocast_reaches_the_network_only(tiny_net):
    denoiser = Denoiser(tiny_net, Preconditioned(), EDM())
    x, noise, _ = batch()
    tiny = torch.full((3,), 0.002, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        D, loss = denoiser(x, tiny), denoiser.loss(x, noise, tiny)
    assert D.dtype == loss.dtype == torch.float32
    # c_out is 0.002: were c_skip x in bfloat16 as well, the error would be ten times this bound.
    assert (D - denoiser(x, tiny)).abs().max() < 1e-4


def test_alpha_near_pure_noise_is_exact():
    """In float32 the last cosine levels would all have alpha 0, and D would not be finite."""
    schedule = Cosine()
    sigma, alpha = schedule.levels(1000).sigma[0], schedule.levels(1000).alpha[0]
    x0, n, _ = batch()
    noisy = alpha.float() * x0 + sigma.float() * n
    D = Denoiser(Zero(), Eps(), schedule)(noisy, sigma)
    torch.testing.assert_close(D * math.sqrt(1 - float(sigma) ** 2), noisy)


SOLVERS = [
    Euler(),
    Heun(),
    DPMpp2M(),
    PNDM(),
    DDPM(),
    DDIM(eta=0.7),
    EulerMaruyama(),
    PredictorCorrector(),
]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: s.kind)
def test_a_sample_depends_on_its_own_generator_only(solver, tiny_net):
    schedule = LinearBeta()
    denoiser = Denoiser(tiny_net, V(), schedule)
    levels = schedule.levels(5)

    @torch.inference_mode()
    def sample(seeds):
        rngs = [torch.Generator().manual_seed(seed) for seed in seeds]
        x = randn(SHAPE, rngs) * float(levels.sigma[0])
        return solver.sample(denoiser, x, levels, lambda: randn(SHAPE, rngs))

    torch.manual_seed(1)
    state = torch.get_rng_state()
    alone = sample([8])
    assert torch.equal(alone, sample([8])), "the same seed gives the same bits"
    torch.testing.assert_close(sample([3, 8, 5])[1:2], alone, rtol=0, atol=1e-6)
    torch.testing.assert_close(sample([8, 1])[:1], alone, rtol=0, atol=1e-6)
    assert not torch.allclose(sample([9]), alone)
    assert torch.equal(state, torch.get_rng_state()), "the global generator was used"


def test_noise_of_an_image_is_bit_for_bit_its_own():
    def rngs(*seeds):
        return [torch.Generator().manual_seed(s) for s in seeds]

    noise = randn(SHAPE, rngs(4, 5, 6))
    assert noise.shape == (3, *SHAPE)
    assert torch.equal(randn(SHAPE, rngs(6, 4)), noise[[2, 0]])


def test_levels_that_do_not_end_at_the_image_are_caught():
    one = torch.ones(2, dtype=torch.float64)
    with pytest.raises(AssertionError, match="without noise"):
        Levels(alpha=one, sigma=torch.tensor([1.0, 0.5], dtype=torch.float64))
    with pytest.raises(AssertionError, match="fall"):
        Levels(alpha=one, sigma=torch.tensor([0.0, 0.0], dtype=torch.float64))
