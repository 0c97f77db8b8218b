"""The ways of conditioning: shapes, which covariate goes where, and that each tells the network."""

import numpy as np
import pytest
import torch

from vol3d.data.covariates import Covariates, Wanted
from vol3d.diffusion.condition import Condition, Ports, join, join_widths
from vol3d.diffusion.conditioning import COORDINATES, COVARIATES, Known
from vol3d.diffusion.conditions import Addition, Channels, Coordinates, Tokens, Vector
from vol3d.diffusion.model import Diffusion
from vol3d.errors import ConfigError

ROWS = [
    {"age": 20.0 + i, "sex": "FM"[i % 2], "site": "abc"[i % 3], "brain_ml": 1000.0 + 7 * i * i}
    for i in range(12)
]
WANTED = {
    "age": Wanted(unit="years"),
    "sex": Wanted(kind="category"),
    "site": Wanted(kind="category"),
    "brain_ml": Wanted(unit="ml"),
}
SHAPE = (4, 5, 3)


@pytest.fixture
def schema():
    return Covariates.measure(WANTED, ROWS, [str(i) for i in range(12)])


def test_places_are_where_encode_puts_a_covariate(schema):
    full = torch.tensor(schema.encode(ROWS[5]))
    for i, name in enumerate(schema.names):
        hidden = [n != name for n in schema.names]
        changed = (torch.tensor(schema.encode(ROWS[5], hidden)) != full).nonzero().flatten()
        places = schema.places(name)
        assert set(changed.tolist()) <= set(places)
        assert places[-1] in changed, "the flag for known"
        assert len(places) == schema.columns[i].width + 1


def given(schema, *rows):
    return {COVARIATES: torch.tensor([schema.encode(r) for r in rows])}


def build(schema, **conditions):
    torch.manual_seed(0)
    settings = Diffusion.parse(
        {
            "model": {"kind": "unet", "channels": [8, 8], "norm_groups": 4},
            "conditions": {"vector": None, **conditions},
        }
    )
    return settings.build(Known(schema, 2))


@pytest.mark.parametrize(
    ("conditions", "ports"),
    [
        ({"v": {"kind": "vector", "dim": 6}}, {"vector": (3, 6)}),
        ({"t": {"kind": "tokens", "dim": 6}}, {"tokens": (3, 4, 6)}),
        ({"v": {"kind": "vector", "dim": None}}, {"vector": (3, 11)}),
        ({"t": {"kind": "tokens", "dim": None}}, {"tokens": (3, 1, 11)}),
        ({"c": {"kind": "channels"}}, {"channels": (3, 11, *SHAPE)}),
        ({"c": {"kind": "channels", "mask": False}}, {"channels": (3, 7, *SHAPE)}),
        ({"a": {"kind": "addition", "dim": 2}}, {"addition": (3, 2, *SHAPE)}),
        (
            {
                "v": {"kind": "vector", "dim": 6, "of": ["sex"]},
                "v2": {"kind": "vector", "dim": 5, "of": ["site"]},
                "t": {"kind": "tokens", "of": ["age", "brain_ml"]},
                "c": {"kind": "channels", "of": ["age"]},
            },
            {"vector": (3, 11), "tokens": (3, 2, 64), "channels": (3, 2, *SHAPE)},
        ),
    ],
    ids=[
        "vector",
        "tokens",
        "plain vector",
        "plain token",
        "channels",
        "no mask",
        "addition",
        "several",
    ],
)
def test_covariates_reach_the_ports_they_are_sent_to(schema, conditions, ports):
    model = build(schema, **conditions)
    told = model.condition(given(schema, *ROWS[:3]), SHAPE)
    for name, value in told.ports().items():
        assert (None if value is None else tuple(value.shape)) == ports.get(name), name


def test_braindlm_s_way_channels_and_tokens_at_once(schema):
    model = build(schema, maps={"kind": "channels"}, context={"kind": "tokens"})
    told = model.condition(given(schema, ROWS[0]), SHAPE)
    assert told.channels is not None
    assert told.tokens is not None
    assert told.vector is None
    age = schema["age"].encode(ROWS[0]["age"])[0]
    torch.testing.assert_close(told.channels[0, 0], torch.full(SHAPE, age))


def test_numbers_as_they_are(schema):
    plain = {"mask": False, "dim": None}
    model = build(schema, t={"kind": "tokens", **plain}, v={"kind": "vector", **plain})
    assert not list(model.conditions.parameters())
    row = torch.tensor([schema.encode(ROWS[5])])
    told = model.condition({COVARIATES: row}, SHAPE)
    torch.testing.assert_close(told.vector, row[:, :-4])  # without what is known
    torch.testing.assert_close(told.tokens, row[:, None, :-4])


@pytest.mark.parametrize("kind", ["vector", "tokens", "channels", "addition"])
def test_each_way_is_learnt(schema, kind):
    """A covariate that decides the image is found out: the loss falls below that of not knowing."""
    model = build(schema, way={"kind": kind, "of": list(schema.names)})
    encoded = torch.tensor([schema.encode({**ROWS[0], "age": a}) for a in (20.0, 31.0)] * 4)
    z = torch.tensor([-1.0, 1.0] * 4).view(-1, 1, 1, 1, 1).expand(8, 2, 4, 4, 4).clone()
    sigma = torch.full((8,), 0.95, dtype=torch.float64)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    rng = torch.Generator().manual_seed(0)
    for _ in range(60):
        noise = torch.randn(z.shape, generator=rng)
        optimizer.zero_grad()
        model(z, noise, sigma, {COVARIATES: encoded})["denoising"].mean().backward()
        optimizer.step()
    noise = torch.randn(z.shape, generator=rng)
    known = model(z, noise, sigma, {COVARIATES: encoded})["denoising"].mean()
    swapped = model(z, noise, sigma, {COVARIATES: encoded.flip(0)})["denoising"].mean()
    assert known < 0.5 * swapped


@pytest.mark.parametrize("octaves", [0, 1, 4])
def test_coordinates_and_their_waves(schema, octaves):
    ports, module = Coordinates(octaves=octaves).connect(Known(schema, 1))
    c = np.random.default_rng(0).uniform(-1, 1, (2, 3, *SHAPE))
    told = module({COORDINATES: torch.tensor(c)}, SHAPE).channels
    assert told.shape[1] == ports.channels == 3 + 6 * octaves
    waves = [f(np.pi * 2**k * c) for k in range(octaves) for f in (np.sin, np.cos)]
    np.testing.assert_allclose(told, np.concatenate([c, *waves], 1), atol=1e-12)


def test_more_octaves_than_four_are_refused():
    with pytest.raises(ConfigError, match="octaves"):
        Coordinates.parse({"octaves": 5})


def test_addition_begins_as_nothing(schema):
    model = build(schema, way={"kind": "addition"})
    x, sigma = torch.randn(1, 2, 4, 4, 4), torch.tensor(0.5, dtype=torch.float64)
    a, b = (
        model.denoiser(x, sigma, model.condition(given(schema, r), (4, 4, 4)))
        for r in (ROWS[0], ROWS[7])
    )
    assert torch.equal(a, b)


def test_join_puts_tokens_after_each_other_and_the_rest_side_by_side():
    a = Condition(vector=torch.zeros(2, 3), tokens=torch.zeros(2, 1, 4))
    b = Condition(vector=torch.ones(2, 2), tokens=torch.ones(2, 2, 4))
    both = join([a, b])
    assert both.vector.tolist() == [[0, 0, 0, 1, 1]] * 2
    assert both.tokens.shape == (2, 3, 4)
    assert both.channels is None
    assert join([]) == Condition()
    assert join_widths([Ports(vector=3), Ports(vector=2, tokens=4)]) == Ports(vector=5, tokens=4)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"v": {"kind": "vector", "of": ["agee", "sex", "site", "brain_ml", "age"]}},
         "conditions.v.of: unknown covariate 'agee'. Did you mean 'age'"),
        ({"v": {"kind": "vector", "of": ["age"]}}, "covariates sex, site, brain_ml: go no way"),
        ({"a": {"kind": "tokens", "dim": 8}, "b": {"kind": "tokens", "dim": 9}},
         r"tokens are of one length, got \[8, 9\]"),
        ({}, "there is none"),
    ],
)  # fmt: skip
def test_wrong_ways_are_refused(schema, conditions, message):
    with pytest.raises(ConfigError, match=message):
        build(schema, **conditions)


def test_no_covariates_need_no_way():
    empty = Covariates.measure({}, ROWS, [str(i) for i in range(12)])
    model = build(empty, v={"kind": "vector"})
    assert model.condition({COVARIATES: torch.zeros(2, 0)}, SHAPE) == Condition()


def test_kinds_have_their_own_files():
    assert [c(of=()).kind for c in (Vector, Tokens, Channels, Addition)] == [
        "vector", "tokens", "channels", "addition"
    ]  # fmt: skip
