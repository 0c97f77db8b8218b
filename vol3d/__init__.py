"""vol3d: learn a generator of 3-D brain MRI from your own scans, and use it."""

import os

__version__ = "0.1.0"

# Pages of 2 MB for large tensors on the CPU: the kernel hands out fresh memory twice as fast.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
