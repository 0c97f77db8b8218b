"""Hidden numbers of ambiguity: their divergence, what they add to the loss, and that they are learnt."""

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from vol3d.data.covariates import Covariates
from vol3d.data.rng import torch_rng
from vol3d.diffusion.conditioning import NUMBERS, Known
from vol3d.diffusion.conditions.ambiguity import Ambiguity, Gaussian, GaussianNet
from vol3d.diffusion.model import Diffusion, DiffusionNet, Sampler
from vol3d.errors import ConfigError
from vol3d.trained.sampling import Guides, draw_samples

SHAPE = (8, 8, 8)
NOBODY = Covariates.measure({}, [{}, {}], ["a", "b"])


def build(**ambiguity) -> DiffusionNet:
    torch.manual_seed(0)
    settings = Diffusion.parse(
        {
            "model": {"kind": "unet", "channels": [16, 16], "norm_groups": 4},
            "conditions": {
                "vector": None,
                "t1": {"kind": "image", "of": "T1w"},
                "raters": {"kind": "ambiguity", **ambiguity},
            },
        }
    )
    return settings.build(Known(NOBODY, 1, {"T1w": 1}))


def gaussian(rng: torch.Generator) -> Gaussian:
    return Gaussian(torch.randn(5, 6, generator=rng), torch.randn(5, 6, generator=rng))


def test_the_divergence_is_that_of_torch():
    rng = torch.Generator().manual_seed(0)
    q, p = gaussian(rng), gaussian(rng)
    theirs = [Independent(Normal(g.mean, g.log_std.exp()), 1) for g in (q, p)]
    torch.testing.assert_close(q.kl(p), kl_divergence(*theirs), rtol=1e-5, atol=1e-5)
    assert q.kl(q).abs().max() == 0


def test_a_draw_has_its_mean_and_spread():
    g = Gaussian(torch.tensor([[2.0, -1.0]]), torch.tensor([[0.5, -3.0]]))
    numbers = torch.randn(20000, 2, generator=torch.Generator().manual_seed(0))
    z = g.at(numbers)
    torch.testing.assert_close(z.mean(0), g.mean[0], atol=0.05, rtol=0)
    torch.testing.assert_close(z.std(0), g.log_std[0].exp(), rtol=0.03, atol=0)


def test_a_few_voxels_are_not_lost_in_the_mean():
    """Which weights count is learnt: a net that weighs by its features reads one voxel of 4096."""
    torch.manual_seed(0)
    net = GaussianNet(1, (8,), 1)
    x = torch.zeros(1, 1, 16, 16, 16)
    x[..., 8, 8, 8] = 1
    blank, single = net(torch.zeros_like(x)).mean.detach(), net(x).mean.detach()
    with torch.no_grad():
        h = torch.nn.functional.silu(net.convs[0](x))
        away = h[..., 4, 4, 4] - h[..., 0, 0, 0].clone()
        net.weight.weight.copy_(1000 * away.view_as(net.weight.weight))
    weighed = net(x).mean.detach()
    assert (weighed - blank).abs() > 50 * (single - blank).abs()


def images(*values: float) -> torch.Tensor:
    """Images that are a number everywhere, known."""
    flat = torch.tensor(values).view(-1, 1, 1, 1, 1).expand(-1, 1, *SHAPE)
    return torch.cat([flat, torch.ones_like(flat)], 1)


@pytest.mark.parametrize("port", ["vector", "addition"])
def test_where_prior_and_posterior_are_one_nothing_is_added(port: str):
    model = build(port=port, kl_weight=0.5)
    module = model.conditions["raters"]
    with torch.no_grad():  # q reads the images as p does, and nothing of x0
        for theirs, ours in zip(
            module.prior.parameters(), module.posterior.parameters(), strict=True
        ):
            ours.zero_()
            ours[tuple(slice(n) for n in theirs.shape)].copy_(theirs)
    rng = torch.Generator().manual_seed(0)
    given = {"T1w": images(0.3, 0.7), NUMBERS: torch.randn(2, 6, generator=rng)}
    x0, noise = (torch.randn(2, 1, *SHAPE, generator=rng) for _ in range(2))
    terms = model(x0, noise, torch.tensor([0.3, 0.9], dtype=torch.float64), given)
    assert terms["ambiguity"].abs().max() < 1e-6
    sampled = module(given, SHAPE).ports()[port]
    learnt = module.learn(given, x0)[0].ports()[port]
    torch.testing.assert_close(sampled, learnt)
    assert sampled.shape == ((2, 6) if port == "vector" else (2, 6, *SHAPE))


def test_a_training_pass_is_a_function_of_what_was_drawn():
    model = build(kl_weight=0.1, control_weight=0.1)
    sigma = torch.tensor([0.3, 0.9], dtype=torch.float64)

    def terms(*key: int):
        rngs = [torch_rng(k) for k in key]
        x0, noise, numbers = (
            torch.stack([torch.randn(shape, generator=r) for r in rngs])
            for shape in ((1, *SHAPE), (1, *SHAPE), (6,))
        )
        return model(x0, noise, sigma, {"T1w": images(0.3, 0.7), NUMBERS: numbers})

    a, again, b = terms(1, 2), terms(1, 2), terms(1, 3)
    assert list(a) == ["denoising", "ambiguity", "control"]
    for name, loss in a.items():
        assert loss.shape == (2,)
        assert torch.equal(loss, again[name])
        torch.testing.assert_close(loss[0], b[name][0])  # whatever stands beside it
        assert loss[1] != b[name][1]
    sum(t.mean() for t in a.values()).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert not without


def sizes(model: DiffusionNet, seeds: list[int], micro: int) -> torch.Tensor:
    """The mean of each sample."""
    drawn = []
    for i in range(0, len(seeds), micro):
        some = seeds[i : i + micro]
        given = [{"T1w": torch.zeros(1, *SHAPE)} for _ in some]
        guides = Guides({"T1w": 1}, {"T1w": 1.0}, given)
        sampler = Sampler(steps=4, precision="fp32")
        rows = [{} for _ in some]
        drawn.append(draw_samples(model, NOBODY, rows, some, sampler, (1, *SHAPE), guides))
    return torch.cat(drawn).mean((1, 2, 3, 4))


def test_two_raters_are_told_apart_and_both_are_drawn():
    """One says -1 everywhere, the other 1: z finds out, the prior learns it, samples are of both."""
    model = build(dim=2, kl_weight=1e-2, channels=[8])
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    rng = torch.Generator().manual_seed(0)
    x0 = torch.tensor([-1.0, 1.0] * 4).view(-1, 1, 1, 1, 1).expand(8, 1, *SHAPE)
    losses = []
    for _ in range(150):
        noise, numbers = (torch.randn(s, generator=rng) for s in (x0.shape, (8, 2)))
        sigma = torch.rand(8, generator=rng, dtype=torch.float64).clamp(0.02, 1)
        terms = model(x0, noise, sigma, {"T1w": images(*[0.0] * 8), NUMBERS: numbers})
        loss = sum(t.mean() for t in terms.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])
    assert terms["ambiguity"].mean() / 1e-2 > 0.4  # nats; one of two raters is 0.69
    drawn = sizes(model, [*range(8)], 8)
    assert drawn.min() < -0.5
    assert drawn.max() > 0.5
    torch.testing.assert_close(sizes(model, [5, 2], 1), drawn[[5, 2]], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"t1": {"kind": "image", "of": "T1w"}, "a": {"kind": "ambiguity", "of": ["T1"]}},
         "conditions.a.of: 'T1' does not guide this model. Did you mean 'T1w'"),
        ({"a": {"kind": "ambiguity"}}, "conditions.a.of: no image guides this model"),
        ({"a": {"kind": "ambiguity"}, "b": {"kind": "ambiguity"}}, "a, b: only one may draw"),
    ],
)  # fmt: skip
def test_wrong_ways_are_refused(conditions, message):
    words = {"model": {"kind": "unet"}, "conditions": {"vector": None, **conditions}}
    known = Known(NOBODY, 1, {"T1w": 1} if "t1" in conditions else {})
    with pytest.raises(ConfigError, match=message):
        Diffusion.parse(words).build(known)


def test_its_settings():
    assert Ambiguity().numbers == 6
    assert Diffusion.parse({"model": {"kind": "unet"}}).numbers == 0
