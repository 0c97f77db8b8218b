"""What Linux says of the processor; no torch is needed to ask."""

from functools import cache
from pathlib import Path


@cache
def cpu_info() -> dict[str, str]:
    """The first processor in /proc/cpuinfo; empty where there is none."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n")[0].splitlines() if path.is_file() else []
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


def cpu_flags() -> set[str]:
    """What this CPU can do, in Linux's words."""
    info = cpu_info()
    return set((info.get("flags") or info.get("Features") or "").split())
