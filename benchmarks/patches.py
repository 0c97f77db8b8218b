"""Memory of a diffusion U-Net on the CPU: an update on a volume or a patch, a call plain or slab by slab.

python -m benchmarks.patches            (each case in a process of its own; two minutes on two cores)
"""

import resource
import subprocess
import sys

WHOLE, PATCH = "80x112x80", "40x56x40"
CASES = [
    *(("update", shape, skips) for skips in ("concat", "add") for shape in (WHOLE, PATCH)),
    *((call, WHOLE, skips) for skips in ("concat", "add") for call in ("plain", "slabs")),
]


def peak_gib() -> float:
    """The largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(what: str, shape: str, skips: str) -> float:
    """GiB that the case takes beyond what was taken before it."""
    import torch

    from vol3d.models.denoisers import unet

    torch.manual_seed(0)
    config = unet.UNet(
        channels=(32, 64, 128), num_res_blocks=2, skips=skips, middle_attention=False
    )
    net = config.build(1, 1, extra_channels=4)
    optim = torch.optim.AdamW(net.parameters())
    size = tuple(map(int, shape.split("x")))
    x, more = torch.randn(1, 1, *size), torch.randn(1, 4, *size)
    unet.LARGE = 0 if what == "slabs" else sys.maxsize
    before = peak_gib()
    with torch.set_grad_enabled(what == "update"):
        out = net(x, torch.rand(1), channels=more)
    if what == "update":
        out.square().mean().backward()
        optim.step()
    return peak_gib() - before


def main() -> None:
    """A line for each case."""
    for case in CASES:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.patches", *case],
            capture_output=True,
            text=True,
            check=True,
        )
        print(f"{case[0]:7} {case[1]:10} {case[2]:7} {float(done.stdout):.2f} GiB", flush=True)


if __name__ == "__main__":
    print(measure(*sys.argv[1:])) if len(sys.argv) > 1 else main()
