"""What a estimate says is what happens: bytes and operations that are known, and measured peaks."""

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from benchmarks.plan import HONEST, measure
from vol3d.training.cost_estimate import Cost, estimate_cost, stage
from vol3d.training.planner import changed, fake_data
from vol3d.verbs.plan import Plan

CPU = torch.device("cpu")
AUTOENCODER = ["configs/ixi2mm/autoencoder.yaml", "data.kind=bids", "data.path=none"]
DIFFUSION = ["configs/ixi2mm/diffusion.yaml"]


def plan(*words: str) -> Plan:
    path, *settings = words
    return Plan.read(path, settings)


def cost(training: Plan, device: torch.device = CPU, **settings) -> Cost:
    training = changed(training, settings)
    return estimate_cost(training, fake_data(training, training.shape), device)


def test_every_storage_is_counted_from_birth_to_death():
    with stage(CPU) as (ledger, _):
        x = torch.zeros(1000)
        y = x.view(10, 100).T  # the same bytes
        assert (ledger.now, ledger.peak) == (4000, 4000)
        z = x + 1
        del x, y
        assert (ledger.now, ledger.peak) == (4000, 8000)
        z.mul_(2)
        del z
        assert (ledger.now, ledger.peak) == (0, 8000)


def test_an_activation_lives_until_its_backward():
    with stage(CPU) as (ledger, _):
        w = torch.zeros(1000, requires_grad=True)
        y = (w.exp() * 2).sum()  # keeps exp(w); its double dies at once
        assert ledger.now == 4000 + 4000 + 4
        y.backward()
        assert ledger.now == 4000 + 4000 + 4 + 4000 - 4000  # a gradient for the activation


def test_operations_are_counted_with_those_of_the_backward():
    with stage(CPU) as (ledger, _):
        conv = nn.Conv3d(4, 8, 3, padding=1)
        forward = 2 * 8 * 4 * 27 * 10**3
        conv(torch.zeros(1, 4, 10, 10, 10, requires_grad=True)).sum().backward()
        q, k, v = (torch.zeros(1, 2, 50, 16, requires_grad=True) for _ in range(3))
        nn.functional.scaled_dot_product_attention(q, k, v).sum().backward()
        attention = 2 * (2 * 2 * 50 * 50 * 16)
        flops = sum(n * w.flops for w, n in ledger.work.items())
    assert flops == 3 * forward + (1 + 2.5) * attention


def test_the_gpu_is_stood_in_for_and_nothing_is_left_of_it():
    def dtype_of_norm() -> torch.dtype:
        with torch.autocast("cpu", torch.bfloat16):
            x = torch.zeros(1, 8, 4, 4, 4, dtype=torch.bfloat16)
            return nn.functional.group_norm(x, 2).dtype

    assert dtype_of_norm() == torch.bfloat16
    with stage(torch.device("cuda")):
        assert dtype_of_norm() == torch.float32  # as CUDA's autocast has it
    assert dtype_of_norm() == torch.bfloat16


def test_smaller_passes_do_the_same_work_in_less_memory():
    plain = ["batch=4", "task.model.num_res_blocks=1", "task.adversarial.weight=0"]
    training = plan(*AUTOENCODER, "shape=[40,56,40]", *plain, "task.perceptual_weight=0")
    whole, halves, ones = (cost(training, micro_batch=n) for n in (4, 2, 1))
    assert whole.flops == pytest.approx(halves.flops) == pytest.approx(ones.flops)
    assert whole.peak > halves.peak > ones.peak
    assert whole.lasting == pytest.approx(ones.lasting, rel=1e-3)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    "words", [[*AUTOENCODER, "shape=[64,64,64]"], [*DIFFUSION, "shape=[8,20,28,20]"]], ids=str
)
def test_checkpointing_takes_less_memory_and_more_work(words: list[str], device: str):
    device = torch.device(device)
    without, with_it = (
        cost(plan(*words), device, **{"task.model.checkpointing": on}) for on in (False, True)
    )
    assert with_it.step < without.step
    assert with_it.flops > 1.1 * without.flops
    assert with_it.lasting == without.lasting


def test_the_last_update_counts_with_the_discriminator_in_it():
    training = plan(*AUTOENCODER, "shape=[40,56,40]")
    never = cost(training, **{"task.adversarial.start_nimg": 10**6})
    assert cost(training).flops > 1.1 * never.flops


def test_initial_weights_do_not_depend_on_a_rehearsal():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    cost(plan(*DIFFUSION, "shape=[8,10,14,10]"))
    torch.manual_seed(0)
    assert torch.equal(torch.rand(3), expected)


MEASURED = [
    [
        *AUTOENCODER,
        "shape=[144,144,112]",
        "task.model.channels=[32,48]",
        "task.model.norm_groups=4",
    ],
    [*AUTOENCODER, "shape=[128,128,96]", "batch=2", "task.model.checkpointing=true"],
    [*DIFFUSION, "shape=[6,24,32,24]", "batch=2", "task.model.channels=[64,96]"],
]


@pytest.mark.slow
@pytest.mark.parametrize("words", MEASURED, ids=str)
def test_predicted_peaks_are_within_15_percent_of_measured_ones(words: list[str]):
    found = measured(words, "device=cpu")
    assert found["step"]["measured"] > 300e6
    for what in ("step", "validation"):
        ratio = found[what]["predicted"] / found[what]["measured"]
        assert 0.85 < ratio < 1.15, (what, found)


@pytest.mark.gpu
@pytest.mark.parametrize("words", MEASURED, ids=str)
def test_predicted_peaks_on_a_gpu(words: list[str], device: torch.device):
    if device.type == "cpu":  # does it run at all?
        if words != MEASURED[0]:
            pytest.skip("on a CPU one is enough; what is measured there is another test")
        found = measure([*words, "shape=[32,32,32]", "device=cpu"])
        assert all(found[what]["predicted"] > 0 for what in ("step", "validation"))
        return
    found = measure([*words, f"device={device}", "batch=8"])
    print(json.dumps(found))  # to be read where it fails: the constants of CUDA are guesses
    for what in ("step", "validation"):
        ratio = found[what]["predicted"] / found[what]["measured"]
        assert 0.85 < ratio < 1.15, (what, found)


def measured(words: list[str], *more: str) -> dict:
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.plan", "measure", *words, *more],
        env={**os.environ, **HONEST},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])
