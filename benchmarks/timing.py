"""Times, taken in turns."""

import time
from collections.abc import Callable, Iterator
from statistics import median

import torch

AT_LEAST, AT_MOST, ENOUGH_SECONDS = 2, 9, 45.0
"""Turns of a race; no new one begins after so many seconds."""


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Of one call, until the device has done it."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - start


def turns(
    calls: dict[str, Callable[[], object]], device: torch.device, at_most: int = AT_MOST
) -> Iterator[dict[str, list[float]]]:
    """Seconds of each call so far, told after each: A, B, C, A, B, C ...

    So a slow minute strikes all of them.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    for turn in range(at_most):
        if turn >= AT_LEAST and time.perf_counter() - start > ENOUGH_SECONDS:
            break
        for name, call in calls.items():
            taken[name].append(seconds(call, device))
            yield taken


def in_turns(
    calls: dict[str, Callable[[], object]], device: torch.device, at_most: int = AT_MOST
) -> dict[str, list[float]]:
    """The seconds of all turns."""
    *_, taken = turns(calls, device, at_most)
    return taken


def matrix_product(size: str, device: torch.device, precision: str) -> dict[str, float | str]:
    """How fast this machine multiplies two square matrices: what there is to reach."""
    on_gpu, is_low = device.type == "cuda", precision == "bf16"
    n = 256 if size == "small" else 8192 if on_gpu else 4096 if is_low else 2048
    dtype = torch.bfloat16 if is_low else torch.float32
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    taken = [seconds(lambda: a @ b, device) for _ in range(15)]
    return {
        "n": n,
        "precision": precision,
        "tflop_per_s": 2 * n**3 / median(taken) / 1e12,
    }
