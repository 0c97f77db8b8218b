"""Times, taken in turns."""

import time
from collections.abc import Callable
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


def in_turns(
    calls: dict[str, Callable[[], object]], device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each call: A, B, C, A, B, C ..., so that a slow minute strikes all of them."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    for turn in range(AT_MOST):
        if turn >= AT_LEAST and time.perf_counter() - start > ENOUGH_SECONDS:
            break
        for name, call in calls.items():
            taken[name].append(seconds(call, device))
    return taken


def matrix_product(size: str, device: torch.device) -> dict[str, float]:
    """How fast this machine multiplies two square bf16 matrices: what there is to reach."""
    n = {"small": 256, "full": 8192 if device.type == "cuda" else 4096}[size]
    a, b = (torch.randn(n, n, device=device).bfloat16() for _ in range(2))
    for _ in range(3):
        a @ b
    taken = [seconds(lambda: a @ b, device) for _ in range(15)]
    return {"n": n, "tflop_per_s": 2 * n**3 / median(taken) / 1e12}
