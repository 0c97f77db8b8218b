"""Attention against its formula, and xformers' against PyTorch's."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from vol3d.nn.attention import Attention, attend, torch_attention, xformers_attention


def qkv(dtype: torch.dtype = torch.float64, device: str = "cpu", heads: int = 3) -> list:
    rng = torch.Generator().manual_seed(1)
    sizes = (70, 41, 41)
    return [torch.randn(2, n, heads, 32, generator=rng).to(device, dtype) for n in sizes]


def test_it_is_the_formula():
    q, k, v = qkv()
    weights = torch.einsum("bnhd,bthd->bhnt", q, k).div(32**0.5).softmax(dim=-1)
    expected = torch.einsum("bhnt,bthd->bnhd", weights, v)
    torch.testing.assert_close(attend(q, k, v), expected, rtol=1e-12, atol=1e-12)


def test_heads_are_slices_of_the_channels():
    x = torch.randn(1, 5, 96, generator=torch.Generator().manual_seed(0))
    net = Attention(96, head_channels=32)
    theirs = torch.nn.MultiheadAttention(96, 3, batch_first=True)
    state = {
        n: torch.cat([getattr(net, f"to_{c}").get_parameter(n) for c in "qkv"])
        for n in ("weight", "bias")
    }
    theirs.load_state_dict(
        {f"in_proj_{n}": t for n, t in state.items()}
        | {f"out_proj.{n}": t for n, t in net.out_proj.state_dict().items()}
    )
    torch.testing.assert_close(net(x), theirs(x, x, x)[0])


def test_a_cpu_has_pytorchs_whatever_is_installed():
    assert xformers_attention(torch.device("cpu"), torch.float32, 32) is None


PRECISIONS = [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)]


@pytest.mark.gpu
@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize(("dtype", "coarse"), PRECISIONS)
def test_attention_on_a_gpu_is_its_formula(dtype: torch.dtype, coarse: float, device: torch.device):
    """With whichever implementation is taken there."""
    q, k, v = (t.double() for t in qkv(dtype, "cpu"))
    weights = (torch.einsum("bnhd,bthd->bhnt", q, k) / q.shape[-1] ** 0.5).softmax(-1)
    expected = torch.einsum("bhnt,bthd->bnhd", weights, v)
    y = attend(*(t.to(device) for t in qkv(dtype, "cpu")))
    torch.testing.assert_close(y.double().cpu(), expected, rtol=coarse, atol=coarse)


@pytest.mark.gpu
@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize(("dtype", "coarse"), PRECISIONS)
def test_xformers_gives_what_pytorch_gives(dtype: torch.dtype, coarse: float, device: torch.device):
    pytest.importorskip("xformers", reason="xformers is an extra: pip install vol3d[xformers]")
    if device.type == "cpu":
        pytest.skip("on a CPU xformers has no attention")
    theirs = xformers_attention(device, dtype, 32)
    assert theirs is not None
    results = []
    for f in (torch_attention, theirs):
        tensors = [t.requires_grad_() for t in qkv(dtype, device)]
        y = f(*tensors)
        results.append([y, *torch.autograd.grad(y.float().square().sum(), tensors)])
    for ours, other in zip(*results, strict=True):
        torch.testing.assert_close(ours, other, rtol=coarse, atol=coarse)


@pytest.mark.gpu
def test_the_trial_may_come_in_a_checkpoint(device: torch.device):
    xformers_attention.cache_clear()
    tensors = [t.requires_grad_() for t in qkv(torch.float32, device)]
    checkpoint(attend, *tensors, use_reentrant=False).sum().backward()
    assert all(t.grad is not None for t in tensors)
