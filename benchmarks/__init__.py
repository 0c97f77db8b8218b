"""How fast vol3d is and how much memory it takes, beside MONAI with the same weights.

`make bench` on a CPU, `make bench-gpu` on a GPU; `docs/performance.md` says what is measured and how.
"""
