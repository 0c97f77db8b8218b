"""Calibration of a few made-up voxels, by netcal 1.4.0: writes calibration.json beside this file.

python -m venv /tmp/netcal && /tmp/netcal/bin/pip install netcal==1.4.0
/tmp/netcal/bin/python tests/metrics/golden/make_calibration.py
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from netcal.metrics import ECE
from scipy.special import softmax

rng = np.random.default_rng(0)
logits = rng.normal(0, 1.5, (200, 3))
truth = np.array([rng.choice(3, p=p) for p in softmax(logits, axis=1)])
probabilities = softmax(2.2 * logits, axis=1).round(4)  # too sure of themselves
probabilities /= probabilities.sum(1, keepdims=True)

golden = {"netcal": version("netcal"), "probabilities": probabilities.T.tolist()}
golden["truth"] = truth.tolist()
for bins in (10, 15):
    golden[f"top_{bins}"] = float(ECE(bins).measure(probabilities, truth))
    for k in (1, 2):
        there = (truth == k).astype(int)
        golden[f"structure{k}_{bins}"] = float(ECE(bins).measure(probabilities[:, k].copy(), there))
path = Path(__file__).with_name("calibration.json")
path.write_text(json.dumps(golden, indent=None) + "\n")
