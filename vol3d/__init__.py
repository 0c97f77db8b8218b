"""vol3d: learn a generator of 3-D brain MRI from your own scans, and use it."""

__version__ = "0.1.0"
