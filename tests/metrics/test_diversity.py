from collections import Counter
from itertools import chain

import numpy as np
import pytest

from vol3d.metrics.diversity import choose_pairs, count_pairs, mean_ms_ssim


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 9])
def test_all_pairs_come_once(n):
    pairs = choose_pairs(n, 10**6)
    assert len(pairs) == count_pairs(n, 10**6) == n * (n - 1) // 2
    assert len({frozenset(p) for p in pairs}) == len(pairs)
    assert all(i != j for i, j in pairs)


@pytest.mark.parametrize(("n", "most"), [(64, 16), (64, 32), (64, 48), (64, 128), (7, 5), (9, 20)])
def test_each_is_used_about_equally(n, most):
    pairs = choose_pairs(n, most, seed=1)
    used = Counter(dict.fromkeys(range(n), 0))
    used.update(chain(*pairs))
    assert len(pairs) == most
    assert max(used.values()) - min(used.values()) <= 2
    if 2 * most <= n:
        assert max(used.values()) == 1


def test_seeded():
    assert choose_pairs(20, 10, seed=0) == choose_pairs(20, 10, seed=0)
    assert choose_pairs(20, 10, seed=0) != choose_pairs(20, 10, seed=1)


def test_a_collapsed_set_is_more_alike():
    rng = np.random.default_rng(0)
    one = rng.random((1, 16, 16, 16), np.float32)
    alike = [
        np.clip(one + rng.normal(0, 0.02, one.shape), 0, 1).astype(np.float32) for _ in range(4)
    ]
    different = [rng.random((1, 16, 16, 16), np.float32) for _ in range(4)]
    near, far = mean_ms_ssim(alike, pairs=4), mean_ms_ssim(different, pairs=4)
    assert near["ms_ssim"] > 0.9 > 0.5 > far["ms_ssim"]
    assert (near["n_pairs"], near["n_volumes"]) == (4, 4)
    assert (near["ms_ssim_levels"], near["ms_ssim_window"]) == (2, 7)


def test_one_volume_has_no_pair():
    with pytest.raises(ValueError, match="two volumes"):
        mean_ms_ssim([np.zeros((1, 8, 8, 8), np.float32)], pairs=4)
