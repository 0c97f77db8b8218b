"""One number that makes probabilities less (or more) sure of themselves, fitted on people held out.

Temperature scaling, Guo et al. 2017 (arXiv:1706.04599, equation 9), of mean probabilities over an
ensemble: their logarithms stand for the logits, which are the same up to a constant.
"""

from collections.abc import Iterable

import numpy as np

from vol3d.data.rng import numpy_rng

LEAST = 1e-6
"""Smaller probabilities count as this in the fit, which one voxel called impossible would decide."""
RANGE = (0.05, 20.0)
"""Temperatures among which the fit searches."""
VOXELS = 20_000
"""Per person; a hundred people with four labels are then 32 MB."""


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """p^(1 / T), scaled to a sum of 1 again; above 1 is less sure, and the likeliest label stays.

    With two labels the logit is divided by T. What is impossible stays so.

    Args:
        probabilities: [K, ...].
        temperature: above 0.
    """
    scaled = (probabilities / probabilities.max(0)) ** (1 / temperature)
    return scaled / scaled.sum(0)


def log_scaled(log_p: np.ndarray, temperature: float) -> np.ndarray:
    """Logarithms [K, ...] of the probabilities at a temperature."""
    scaled = log_p / temperature
    scaled = scaled - scaled.max(0)
    return scaled - np.log(np.exp(scaled).sum(0))


def fit_temperature(
    people: Iterable[tuple[np.ndarray, np.ndarray]], *, voxels: int = VOXELS, seed: int = 0
) -> float:
    """The temperature at which the truth is least surprising (negative log-likelihood).

    Each person gives at most so many voxels, drawn by the seed and the person's place in the
    stream, so that those with large structures do not decide alone. The likelihood has one
    maximum: it is concave in 1 / T.

    Args:
        people: probabilities [K, n] and labels [n] of the voxels in the band, one after the other.
        voxels: of each person at most.
        seed: of their choice.

    Returns:
        the temperature, within 0.05 to 20.

    Raises:
        ValueError: no voxels.
    """
    from scipy.optimize import minimize_scalar  # here: it takes a while to load

    log_ps, labels = [], []
    for i, (probabilities, truth) in enumerate(people):
        chosen = slice(None)
        if len(truth) > voxels:
            chosen = numpy_rng("temperature", seed, i).choice(len(truth), voxels, replace=False)
        log_ps.append(np.log(np.clip(probabilities[:, chosen], LEAST, 1)).astype(np.float32))
        labels.append(np.asarray(truth)[chosen])
    if not sum(map(len, labels)):
        raise ValueError("a temperature is fitted on voxels of people held out, got none")
    log_p, label = np.concatenate(log_ps, 1).astype(np.float64), np.concatenate(labels)
    at = np.arange(len(label))

    def surprise(log_temperature: float) -> float:
        return -log_scaled(log_p, np.exp(log_temperature))[label, at].mean()

    return float(np.exp(minimize_scalar(surprise, bounds=np.log(RANGE), method="bounded").x))
