"""Kernels for CPUs and GPUs: as near as bf16 or float32 allows to torch in float64."""

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor

from vol3d.nn import norm_ops as moments
from vol3d.nn.norm_ops import (
    brought,
    combine,
    grouped,
    mean_and_var,
    normalise,
    normalise_backward,
    shares,
    suits,
)
from vol3d.nn.slab_volume import LAYOUT

SHAPES = [(1, 4, 1, 1, 2), (1, 3, 2, 5, 7), (1, 64, 3, 20, 17), (1, 40, 2, 30, 30)]
HALF_A_STEP = {torch.bfloat16: 2.0**-8, torch.float32: 1e-6}


@pytest.fixture(params=HALF_A_STEP, ids=["bf16", "fp32"], autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    monkeypatch.setattr(moments, "FEW", 0)
    return request.param


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)], autouse=True)
def where(request: pytest.FixtureRequest):
    """Makes all tensors on a device; the kernels of a GPU cannot be rehearsed on a CPU."""
    device = request.getfixturevalue("device") if request.param == "gpu" else torch.device("cpu")
    if request.param == "gpu" and device.type == "cpu":
        pytest.skip("Triton compiles for a GPU alone")
    with device:
        yield device


def voxels(kind: torch.dtype, shape: tuple[int, ...], seed: int = 0, mean: float = 0.5) -> Tensor:
    x = 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), device="cpu") + mean
    return x.to(torch.get_default_device(), kind, memory_format=LAYOUT)


def channels(n: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(9)
    return list(torch.randn(3, n, generator=rng, device="cpu").to(torch.get_default_device()))


def across(x: Tensor) -> Tensor:
    return x.double().view(1, -1, 1, 1, 1)


def as_defined(x: Tensor, mean: Tensor, scale: Tensor, beta: Tensor, is_active: bool) -> Tensor:
    y = across(scale) * (x - across(mean)) + across(beta)
    return nnf.silu(y) if is_active else y


@pytest.mark.parametrize("is_active", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_norm_and_silu_there_and_back(kind: torch.dtype, shape: tuple[int, ...], is_active: bool):
    x, g, given = voxels(kind, shape), voxels(kind, shape, 1), channels(shape[1])
    assert suits(x, g)
    out, grad = torch.empty_like(x), torch.empty_like(x)
    normalise(x, *given, is_active, out)
    exact = x.double().requires_grad_()
    wanted = as_defined(exact, *given, is_active)
    # Rounded once: half a step of bf16, and what float32 adds where terms cancel.
    torch.testing.assert_close(out.double(), wanted.detach(), rtol=HALF_A_STEP[kind], atol=1e-5)

    normed = as_defined(x.double(), *given, False).requires_grad_()
    y = nnf.silu(normed) if is_active else normed
    (wanted,) = torch.autograd.grad(y, normed, g.double())
    sums = normalise_backward(g, x, *given, is_active, grad)
    torch.testing.assert_close(grad.double(), wanted, rtol=HALF_A_STEP[kind], atol=1e-5)
    by_gamma = (wanted * (x.double() - across(given[0]))).sum((0, 2, 3, 4))
    n = x[0, 0].numel()
    torch.testing.assert_close(sums[0].double(), by_gamma, rtol=1e-5, atol=1e-5 * n)
    torch.testing.assert_close(sums[1].double(), wanted.sum((0, 2, 3, 4)), rtol=1e-5, atol=1e-5 * n)


@pytest.mark.parametrize("shape", SHAPES)
def test_combining(kind: torch.dtype, shape: tuple[int, ...]):
    g, x, mean = voxels(kind, shape), voxels(kind, shape, 1), channels(shape[1])[0]
    a, b, c = channels(shape[1])
    wanted = across(a) * g.double() + across(b) * (x.double() - across(mean)) + across(c)
    combine(g, x, mean, a, b, c, torch.empty_like(g))
    torch.testing.assert_close(g.double(), wanted, rtol=HALF_A_STEP[kind], atol=1e-5)


@pytest.mark.parametrize("mean", [0.5, 200.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_statistics(kind: torch.dtype, shape: tuple[int, ...], mean: float):
    x = voxels(kind, shape, mean=mean)
    told = mean_and_var(x).double()
    exact = x.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(told[0], exact.mean(1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(told[1], exact.var(1), rtol=1e-5, atol=1e-6)


def test_far_from_zero_a_silu_is_the_identity_or_nothing(kind: torch.dtype):
    values = torch.tensor([-1e30, -300.0, -88.0, -87.0, 0.0, 87.0, 300.0, 1e30])
    x = values.view(1, 1, 1, 1, -1).to(kind, memory_format=LAYOUT)
    one, out = torch.ones(1), torch.empty_like(x)
    normalise(x, 0 * one, one, 0 * one, True, out)
    torch.testing.assert_close(
        out.double(), nnf.silu(x.double()), rtol=HALF_A_STEP[kind], atol=1e-6
    )
    normalise_backward(torch.ones_like(x), x, 0 * one, one, 0 * one, True, out)
    slope = torch.tensor([0.0, 0, 0, 0, 0.5, 1, 1, 1]).view_as(x)
    torch.testing.assert_close(out.float(), slope, rtol=HALF_A_STEP[kind], atol=1e-6)


def test_what_is_no_number_stays_none(kind: torch.dtype):
    x = voxels(kind, (1, 4, 2, 3, 3))
    x[0, 1, 1, 2, 2] = torch.nan
    for is_active in (True, False):
        out = torch.empty_like(x)
        normalise(x, *channels(4), is_active, out)
        assert torch.equal(out.isnan(), x.isnan())
        normalise_backward(x, voxels(kind, x.shape), *channels(4), is_active, out)
        assert torch.equal(out.isnan(), x.isnan())
    assert mean_and_var(x).isnan().all(0).tolist() == [False, True, False, False]


def test_as_many_threads_as_torch_has_and_the_same_numbers(kind: torch.dtype):
    x, given, before = voxels(kind, (1, 64, 3, 20, 17)), channels(64), torch.get_num_threads()
    told, outs = [], []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            outs.append(torch.empty_like(x))
            normalise(x, *given, True, outs[-1])
            told.append(
                torch.stack([mean_and_var(x), normalise_backward(x, x, *given, True, x + 0)])
            )
            assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*outs)
    assert torch.equal(*told)


def test_other_voxels_are_left_to_torch(
    kind: torch.dtype, where: torch.device, monkeypatch: pytest.MonkeyPatch
):
    x = voxels(kind, (1, 4, 2, 3, 5))
    assert not suits(x.double())
    assert not suits(x, x.half())
    assert not suits(x[:, :, :, :2])
    assert not suits(x.contiguous())
    assert suits(x[:, :, 1:])
    monkeypatch.setattr(moments, "FEW", x.numel() + 1)
    assert suits(x) == (kind == torch.bfloat16 or where.type == "cuda")


@pytest.mark.parametrize("is_added", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_brought_and_measured(kind: torch.dtype, shape: tuple[int, ...], is_added: bool):
    made, out = voxels(kind, shape), voxels(kind, shape, 1)
    wanted = made + out if is_added else made.clone()
    told = brought(made, out, is_added)
    assert torch.equal(out, wanted)
    torch.testing.assert_close(told, mean_and_var(out), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("groups", "n"), [(1, 3), (2, 40), (32, 64)])
def test_arithmetic_of_a_group_norm(groups: int, n: int):
    """In float32, on a GPU by one kernel, as in float64 by torch."""
    told, gamma = torch.stack([*channels(n)[:2]] * 3).view(3, 2, n).square() + 0.1, channels(n)[2]
    counts, sums = torch.tensor([5.0, 7.0, 1.0]), torch.stack(channels(n)[1:])
    stats = grouped(told, counts, gamma, groups, 1e-6)
    exact = grouped(*(t.double() for t in (told, counts, gamma)), groups, 1e-6)
    torch.testing.assert_close(stats.double(), exact, rtol=1e-5, atol=1e-5)
    by = shares(sums, stats, gamma, groups, 1e-6, 13)
    exact = shares(*(t.double() for t in (sums, exact, gamma)), groups, 1e-6, 13)
    torch.testing.assert_close(by.double(), exact, rtol=1e-4, atol=1e-5)
