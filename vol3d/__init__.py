"""vol3d: learn a generator of 3-D brain MRI from your own scans, and use it."""

import os

__version__ = "0.1.0"

# Pages of 2 MB for large tensors on the CPU: the kernel hands out fresh memory twice as fast.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# A process of several that ends early is named in a line of our own, not in stack traces of C++.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
