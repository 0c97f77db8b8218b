"""What Linux says of the processor, and of the control groups; no torch is needed to ask."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path


@cache
def cpu_info() -> dict[str, str]:
    """The first processor in /proc/cpuinfo; empty where there is none."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n")[0].splitlines() if path.is_file() else []
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


def groups_of(
    controller: str,
    told: Path = Path("/proc/self/cgroup"),
    mount: Path = Path("/sys/fs/cgroup"),
) -> Iterator[Path]:
    """The control groups that this process is in, each before the one that it lies in.

    Version 2 has one tree; version 1 has one of its own for a controller (cpu, memory) or several. In a
    container the path may be that of the host, of which only the root can be seen.
    """
    for line in told.read_text().splitlines() if told.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            root = mount / controllers
            folder = root / path.strip("/")
            yield from (g for g in (folder, *folder.parents) if g.is_relative_to(root))


def cpu_flags() -> set[str]:
    """What this CPU can do, in Linux's words."""
    info = cpu_info()
    return set((info.get("flags") or info.get("Features") or "").split())
