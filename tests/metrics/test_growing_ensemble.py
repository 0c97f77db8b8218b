"""An ensemble as it grows is at each size the ensemble of that size."""

import numpy as np
import pytest
import torch

from vol3d.metrics.band import foreground_band
from vol3d.metrics.calibration import Calibration
from vol3d.metrics.ensemble import Ensemble
from vol3d.metrics.growing_ensemble import grow
from vol3d.metrics.masks import Masks
from vol3d.metrics.overlap import overlap
from vol3d.metrics.raters import against_raters

SHAPE, K = (7, 6, 5), 3


def drawn(seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(K, *SHAPE, generator=rng)).softmax(0)


def test_each_size_is_the_ensemble_of_that_size():
    members = [drawn(i) for i in range(5)]
    truths = [drawn(90 + r).argmax(0).numpy() for r in range(2)]
    spacing = (1.0, 2.0, 3.0)
    found = {g.members: g for g in grow(iter(members), [1, 3, 5], truths, spacing)}
    assert list(found) == [1, 3, 5]
    for size, g in found.items():
        whole = Ensemble(K, SHAPE)
        for p in members[:size]:
            whole.add(p)
        consensus = whole.mean.argmax(0)
        each = [overlap(consensus, t, K, spacing)["dice"] for t in truths]
        assert g.dice == pytest.approx(np.mean(each, 0))
        raters = [Masks.of(t == k for t in truths) for k in (1, 2)]
        ged = [against_raters(whole.masks(k), raters[k - 1])["ged_squared"] for k in (1, 2)]
        assert g.ged_squared == pytest.approx(np.mean(ged))
        band = foreground_band(consensus, *truths, spacing=spacing)
        calibration = Calibration(K)
        for truth in truths:
            calibration.add(whole.mean[:, band], truth[band])
        assert g.reliability.error == pytest.approx(calibration.top.error, rel=1e-5)
    assert found[5].seconds >= found[3].seconds > 0


def test_with_one_rater_there_is_no_distance():
    (g,) = grow([drawn(0)], [1], [drawn(1).argmax(0).numpy()], (1.0, 1.0, 1.0))
    assert np.isnan(g.ged_squared)
