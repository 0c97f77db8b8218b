"""Processor, memory, GPUs and disks."""

import os
import platform
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

from vol3d.diagnosis.report_lines import GIB, Lines, ask, reason, told
from vol3d.io.cores import own_cores
from vol3d.io.lock import mount_of
from vol3d.nn.cpu_features import cpu_flags, cpu_info, groups_of


def processor() -> Lines:
    """Its model, the cores that are ours, and its arithmetic."""
    model = cpu_info().get("model name", "of unknown model")
    yield "CPU", f"{model}, {platform.machine()}"
    mine, quota = own_cores(), cpu_quota()
    of_time = f", and time on {quota:.3g} of them" if quota else ""
    yield "cores", f"{os.cpu_count()}; this process may use {mine}{of_time}"
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "sve", "bf16")
    has = ", ".join(f for f in wanted if f in cpu_flags())
    yield "arithmetic", has or "none of those that help"
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    yield "torch uses", f"{capability}, {torch.get_num_threads()} threads"


def cpu_quota() -> float | None:
    """How many cores' time the innermost control group with a limit allows."""
    for group in groups_of("cpu"):
        for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):  # versions 2, 1
            if all((group / name).is_file() for name in names):
                limit, period = " ".join((group / name).read_text() for name in names).split()
                if limit not in ("max", "-1"):
                    return int(limit) / int(period)
    return None


def memory() -> Lines:
    """Of the machine, and what a training could have of it."""
    import torch

    from vol3d.training.device_memory import free_memory

    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    free = free_memory(torch.device("cpu"))
    free = "unknown" if free is None else f"{free / GIB:.1f} GiB"
    yield "memory", f"{whole:.1f} GiB; free for this process, within its limits: {free}"


def gpus() -> Lines:
    """What torch sees, what the driver says, and why torch sees nothing where it should."""
    asked = "--query-gpu=name,driver_version,memory.total"
    driver = ask("nvidia-smi", asked, "--format=csv,noheader") or ""
    cards = [f"{n} x {card}" for card, n in Counter(driver.splitlines()).items()]
    yield "nvidia-smi", "; ".join(cards) or "not here"
    import torch

    if not torch.cuda.is_available():
        yield "GPUs that torch sees", f"none ({why_none()})"
    for i in range(torch.cuda.device_count()):
        yield from told(gpu(i), f"cuda:{i}")


def why_none() -> str:
    """What keeps torch from seeing a GPU."""
    import torch

    if not torch.version.cuda and not torch.version.hip:
        return "this torch is a build for the CPU"
    try:
        torch.cuda.init()
    except Exception as error:  # no driver, an old one, a GPU that is taken
        return reason(error)
    return "CUDA starts, and has no device; see CUDA_VISIBLE_DEVICES"


def gpu(i: int) -> Lines:
    """One of them, as torch sees it."""
    import torch

    from vol3d.nn.attention import xformers_attention
    from vol3d.nn.norm_ops import why_not_triton
    from vol3d.nn.precision import units_of

    p = torch.cuda.get_device_properties(i)
    free, whole = torch.cuda.mem_get_info(i)
    has = "has" if units_of(torch.device("cuda", i)) else "no"
    able = f"compute capability {p.major}.{p.minor}, {has} bf16"
    yield f"cuda:{i}", f"{p.name}, {free / GIB:.1f} of {whole / GIB:.1f} GiB free, {able}"
    theirs = xformers_attention(torch.device("cuda", i), torch.bfloat16, 64)
    yield f"cuda:{i} attention", "PyTorch's" if theirs is None else "xformers'"
    reason = why_not_triton(torch.device("cuda", i))
    yield f"cuda:{i} group norm", f"PyTorch's, because {reason}" if reason else "Triton's"


def disk(run: Path | None) -> Lines:
    """Room, and how fast a small file is written, where a run writes; without the paths."""
    folders = {
        "working directory": Path.cwd(),
        "TMPDIR": Path(os.environ.get("TMPDIR") or tempfile.gettempdir()),
        "run": run,
    }
    for name, folder in folders.items():
        if folder is not None:
            yield from told(written(name, folder), name)


def shared_memory() -> Lines:
    """Where processes of a machine, and NCCL, exchange data."""
    yield "/dev/shm", f"{shutil.disk_usage('/dev/shm').free / GIB:.1f} GiB free"


def written(name: str, folder: Path) -> Lines:
    """In that folder, or in the one that it would be made in; TMPDIR must be there."""
    parents = [] if name == "TMPDIR" else folder.absolute().parents
    there = next((p for p in [folder.absolute(), *parents] if p.is_dir()), folder)
    data = os.urandom(8 * 2**20)
    with tempfile.NamedTemporaryFile(dir=there, prefix=".vol3d-doctor-") as file:
        began = time.monotonic()
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        pace = len(data) / 1e6 / (time.monotonic() - began)
    free = shutil.disk_usage(there).free / GIB
    told = f"{mount_of(there)[0]}, {free:.1f} GiB free"
    yield name, f"{told}, a small file is written at {pace:.1f} MB/s"
