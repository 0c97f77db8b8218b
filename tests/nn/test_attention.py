"""Attention against its formula, and xformers' against PyTorch's."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from vol3d.nn.attention import attend, torch_attention, xformers_attention
from vol3d.nn.blocks import Attention


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


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "coarse"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_xformers_gives_what_pytorch_gives(dtype: torch.dtype, coarse: float):
    pytest.importorskip("xformers", reason="xformers is an extra: pip install vol3d[xformers]")
    theirs = xformers_attention(torch.device("cuda"), dtype, 32)
    assert theirs is not None
    results = []
    for f in (torch_attention, theirs):
        tensors = [t.requires_grad_() for t in qkv(dtype, "cuda")]
        y = f(*tensors)
        results.append([y, *torch.autograd.grad(y.float().square().sum(), tensors)])
    for ours, other in zip(*results, strict=True):
        torch.testing.assert_close(ours, other, rtol=coarse, atol=coarse)


@pytest.mark.gpu
def test_the_trial_may_come_in_a_checkpoint():
    pytest.importorskip("xformers", reason="xformers is an extra: pip install vol3d[xformers]")
    xformers_attention.cache_clear()
    tensors = [t.requires_grad_() for t in qkv(torch.float32, "cuda")]
    checkpoint(attend, *tensors, use_reentrant=False).sum().backward()
    assert all(t.grad is not None for t in tensors)
