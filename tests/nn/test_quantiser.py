"""The quantiser against MONAI's on the same codes, closed forms, and one process against two."""

import copy

import pytest
import torch
from monai.networks.layers.vector_quantizer import EMAQuantizer, VectorQuantizer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.conftest import torchrun
from vol3d.nn.optim import Optim
from vol3d.nn.quantiser import Quantiser
from vol3d.training.engine import Engine

K, C, SHAPE = 7, 3, (2, 3, 4, 5, 3)
OK = torch.tensor(True)


def volumes(seed: int, shape: tuple = SHAPE) -> tuple[Tensor, Tensor]:
    """A latent and its noise."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng), torch.randn(shape, generator=rng)


def quantiser(num_codes: int = K, decay: float = 0.9) -> Quantiser:
    """One whose codes are all in use."""
    rng = torch.Generator().manual_seed(5)
    q = Quantiser(num_codes, C, decay=decay, restart_below=0.01)
    q.codes.copy_(torch.randn(num_codes, C, generator=rng))
    q.uses.copy_(torch.rand(num_codes, generator=rng) + 1)
    q.sums.copy_(q.codes * q.uses[:, None])
    return q


def state(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def test_against_monai():
    ours = quantiser()
    theirs = EMAQuantizer(3, K, C, commitment_cost=1.0, decay=0.9, epsilon=0.0, ddp_sync=False)
    theirs.embedding.weight.data.copy_(ours.codes)
    theirs.ema_cluster_size.copy_(ours.uses)
    theirs.ema_w.copy_(ours.sums)
    wrapped = VectorQuantizer(theirs)
    for seed in range(3):  # three updates one upon the other
        z, noise = volumes(seed)
        loss, quantised = wrapped(z)
        found = ours(z, noise)
        ours.settle(OK)
        torch.testing.assert_close(found.z, quantised)
        torch.testing.assert_close(found.commitment, loss)
        torch.testing.assert_close(found.perplexity, wrapped.perplexity)
        torch.testing.assert_close(ours.codes, theirs.embedding.weight)
        torch.testing.assert_close(ours.uses, theirs.ema_cluster_size)
        torch.testing.assert_close(ours.sums, theirs.ema_w)


def test_the_nearest_code_is_the_nearest():
    q, (z, noise) = quantiser(), volumes(0)
    expected = q.codes[torch.cdist(z.movedim(1, -1), q.codes).argmin(-1)].movedim(-1, 1)
    for found in (q.nearest(z), q(z, noise).z):
        torch.testing.assert_close(found, expected)


def test_in_bf16_the_choice_is_made_in_float32():
    q, (z, noise) = quantiser(512), volumes(0, (2, C, 8, 8, 8))
    expected = q.codes[q.choose(z.movedim(1, -1))].movedim(-1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(q.nearest(z), expected)
        torch.testing.assert_close(q(z, noise).z, expected)


def test_gradients_pass_straight_through_and_commitment_pulls():
    q, (z, noise) = quantiser(), volumes(0)
    z.requires_grad_(True)
    found = q(z, noise)
    weights = torch.randn(SHAPE, generator=torch.Generator().manual_seed(9))
    (straight,) = torch.autograd.grad((found.z * weights).sum(), z, retain_graph=True)
    assert torch.equal(straight, weights)
    (pull,) = torch.autograd.grad(found.commitment, z)
    torch.testing.assert_close(pull, 2 * (z - q.nearest(z)).detach() / z.numel())


def test_perplexity_counts_the_codes_in_use():
    q = Quantiser(8, 1, decay=0.9, restart_below=0.01)
    q.codes.copy_(torch.arange(8.0)[:, None])
    z = torch.arange(4.0).repeat(6).view(2, 1, 3, 2, 2)
    assert q(z, z).perplexity.item() == pytest.approx(4)
    assert q(z * 0, z).perplexity.item() == pytest.approx(1)


def test_only_training_adds_up_and_only_settling_moves():
    q, (z, noise) = quantiser(), volumes(0)
    before = state(q)
    q.eval()(z, noise)
    assert q.new_uses.sum() == 0
    q.train()(z, noise)
    assert q.new_uses.sum() == z[:, 0].numel()
    assert same(before, state(q))
    q.settle(OK)
    assert not torch.equal(before["codes"], q.codes)
    assert q.new_uses.sum() == 0


def test_the_state_between_updates_is_all_that_is_kept():
    assert set(quantiser().state_dict()) == {"codes", "uses", "sums"}


def test_no_value_is_looked_at():
    """On the meta device there are none to look at; on a GPU it would wait for them."""
    q, n = quantiser().to("meta"), 30
    vectors, rank = torch.empty(n, C, device="meta"), torch.empty(n, device="meta")
    q.add_up(vectors, q.choose(vectors), torch.empty_like(q.uses), rank)
    q.settle(OK.to("meta"))
    with pytest.raises(RuntimeError, match="meta"):
        q.uses.sum().item()


def test_the_first_batch_makes_the_codebook():
    q = Quantiser(16, C, decay=0.99, restart_below=0.1)
    z, noise = volumes(0)
    q(z, noise)
    q.settle(OK)
    vectors = z.movedim(1, -1).reshape(-1, C)
    torch.testing.assert_close(q.codes[0], vectors.mean(0))  # at first all choose the first code
    order = noise[:, 0].flatten().argsort(descending=True)
    assert torch.equal(q.codes[1:], vectors[order[:15]])
    torch.testing.assert_close(q.uses[1:], torch.ones(15))


def test_a_code_that_is_seldom_used_restarts_at_a_vector_of_the_batch():
    q, (z, noise) = quantiser(), volumes(0)
    q.codes[2] = 100.0  # nobody chooses it
    q.uses[2] = 0.011
    codes, best = q.codes.clone(), noise[:, 0].flatten().argmax()
    q(z, noise)
    q.settle(OK)  # 0.9 x 0.011 is below 0.01
    assert torch.equal(q.codes[2], z.movedim(1, -1).reshape(-1, C)[best])
    assert q.uses[2] == 1
    others = torch.arange(K) != 2
    moved = (q.codes - codes).norm(dim=1)[others]
    assert (moved < 1).all(), "the others are running means"


def test_a_code_that_no_vector_is_left_for_waits():
    q = Quantiser(5, C, decay=0.9, restart_below=0.1)
    z, noise = volumes(0, (1, C, 2, 1, 1))
    q(z, noise)
    q.settle(OK)
    assert (q.uses >= 0.1).tolist() == [True, True, True, False, False]
    assert not q.codes[3:].any()
    assert q.codes.isfinite().all()


def test_micro_batches_and_their_order_of_noise_count_as_one_batch():
    whole, parts = (Quantiser(16, C, decay=0.9, restart_below=0.1) for _ in range(2))
    for seed in range(3):
        z, noise = volumes(seed, (4, C, 3, 2, 2))
        whole(z, noise)
        for i in range(4):
            parts(z[i : i + 1], noise[i : i + 1])
        for q in (whole, parts):
            q.settle(OK)
        for k in whole.state_dict():
            torch.testing.assert_close(whole.state_dict()[k], parts.state_dict()[k])


class Net(nn.Module):
    """A convolution and a codebook."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.quantiser = nn.Conv3d(C, C, 1), quantiser()

    def forward(self, z: Tensor, noise: Tensor) -> Tensor:
        found = self.quantiser(self.conv(z), noise)
        return found.commitment + found.z.square().mean()


@pytest.fixture
def engine() -> Engine:
    torch.manual_seed(0)
    return Engine(
        {"model": Net()},
        {"model": Optim(lr=0.1, warmup=0)},
        averaged=["model"],
        ema_halflife=4,
        device=torch.device("cpu"),
        precision="fp32",
    )


def update(engine: Engine, z: Tensor, noise: Tensor) -> dict[str, Tensor]:
    engine.backward("model", {"loss": engine.nets["model"](z, noise)}, 1.0)
    return engine.step(share=0.0, nimg=0, names=["sub-01"])


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_an_update_that_is_not_finite_leaves_the_codes_and_what_comes_after(
    engine: Engine, poison: float
):
    update(engine, *volumes(0))
    before, untouched = state(engine.nets["model"]), copy.deepcopy(engine.nets["model"])
    z, noise = volumes(1)
    z[0, 0, 0, 0, 0] = poison
    update(engine, z, noise)
    assert same(before, state(engine.nets["model"]))
    q, z = untouched.quantiser, untouched.conv(volumes(2)[0])
    q(z, volumes(2)[1])
    q.settle(OK)
    update(engine, *volumes(2))
    assert same(state(q), state(engine.nets["model"].quantiser)), "nothing of the bad batch is left"


def test_the_average_takes_the_codes(engine: Engine):
    update(engine, *volumes(0))
    engine.average(2, 2)
    mine, averaged = engine.nets["model"].quantiser, engine.averaged["model"].quantiser
    assert same(state(mine), state(averaged))


def test_measures_are_means_and_have_no_say(engine: Engine):
    engine.tell({"perplexity": torch.tensor(2.0)})
    engine.tell({"perplexity": torch.tensor(4.0)})
    assert update(engine, *volumes(0))["perplexity"] == 3
    before = state(engine.nets["model"])
    engine.tell({"perplexity": torch.tensor(float("nan"))})
    assert update(engine, *volumes(1))["perplexity"].isnan()
    assert not same(before, state(engine.nets["model"]))
    assert not engine.watch.read(), "no update was dropped"
    assert "perplexity" not in update(engine, *volumes(2))


RANKS = """
import sys, torch
from safetensors.torch import load_file, save_file
from vol3d.nn.quantiser import Quantiser
from vol3d.distributed.ranks import joined

with joined("cpu") as ranks:
    folder = sys.argv[1]
    batches = load_file(f"{folder}/batches.safetensors")
    q = Quantiser(16, 3, decay=0.9, restart_below=0.1)
    for i in range(3):
        q(batches[f"z{i}"][ranks.rank :: 2], batches[f"noise{i}"][ranks.rank :: 2])
        q.settle(torch.tensor(True))
    save_file(q.state_dict(), f"{folder}/{ranks.rank}.safetensors")
"""


def test_two_processes_have_the_codes_of_one_with_both_batches(tmp_path):
    batches, one = {}, Quantiser(16, C, decay=0.9, restart_below=0.1)
    for i in range(3):
        batches[f"z{i}"], batches[f"noise{i}"] = volumes(i, (4, C, 3, 2, 2))
        one(batches[f"z{i}"], batches[f"noise{i}"])
        one.settle(OK)
    save_file(batches, tmp_path / "batches.safetensors")
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    done = torchrun(2, script, tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert same(first, second)
    for k, v in one.state_dict().items():
        torch.testing.assert_close(first[k], v)
