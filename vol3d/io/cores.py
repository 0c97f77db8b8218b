"""How many cores there are for us."""

import os


def own_cores() -> int:
    """Those that this process may run on; of systems that do not say so, such as macOS, all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
