"""Words follow sign and interval."""

import re

import pytest

from vol3d.metrics.verdict import (
    Finding,
    findings,
    of_diversity,
    of_reconstruction,
    of_ruler,
    of_volume,
    overall,
)


def stats(r: float, r_ci: tuple, slope_ci: tuple) -> dict:
    slope = sum(slope_ci) / 2
    return {"n": 9, "spearman_r": r, "spearman_r_ci": r_ci, "slope": slope, "slope_ci": slope_ci}


@pytest.mark.parametrize(
    ("measured", "words", "is_amiss"),
    [
        (stats(0.9, (0.8, 0.95), (0.8, 1.1)), "follows what is asked for .* by as much", False),
        (stats(0.9, (0.8, 0.95), (0.5, 1.2)), "follows .* by as much cannot be told", False),
        (stats(0.9, (0.8, 0.95), (0.6, 0.9)), "follows .* changes by less", True),
        (stats(0.9, (0.8, 0.95), (1.1, 1.2)), "follows .* changes by more", True),
        (stats(0.2, (-0.1, 0.4), (0.8, 1.1)), "does not follow .* can tell \\(", True),
        (stats(-0.2, (-0.4, 0.1), (-0.8, 0.1)), "does not follow .* wrong way round", True),
        (stats(-0.9, (-0.95, -0.8), (-0.8, -0.1)), "comes out the wrong way round", True),
    ],
)
def test_volumes_as_asked(measured: dict, words: str, is_amiss: bool):
    found = of_volume("brain", measured)
    assert re.search(words, found.words)
    assert found.is_amiss == is_amiss


def test_the_ruler():
    assert "cannot measure" in of_ruler("brain", stats(-0.2, (-0.4, 0.1), (0.8, 1.1))).words
    assert "too small" in of_ruler("brain", stats(0.9, (0.8, 0.95), (0.6, 0.9))).words
    assert not of_ruler("brain", stats(0.9, (0.8, 0.95), (0.9, 1.1))).is_amiss
    wide = of_ruler("brain", stats(0.9, (0.8, 0.95), (0.2, 1.1)))
    assert wide.is_open
    assert "cannot be told" in wide.words


@pytest.mark.parametrize(
    ("samples", "sd", "words"),
    [
        (0.9, 0.03, "about as much as people"),
        (0.96, 0.03, "too much alike"),
        (0.8, 0.03, "more than people do"),
        (0.93, 0.2, "about as much"),
    ],
)
def test_diversity_both_ways(samples: float, sd: float, words: str):
    told = {"samples": samples, "real": 0.89}
    found = of_diversity(
        {
            k: {"ms_ssim": v, "ms_ssim_sd": sd, "n_volumes": 64, "n_pairs": 9}
            for k, v in told.items()
        }
    )
    assert words in found.words
    assert found.is_amiss == ("about" not in words)


def test_an_autoencoder_that_does_no_better_than_none():
    quality = {"psnr_brain_db": 20.0, "psnr_brain_block_average_db": 22.0}
    assert "no better than averaging" in of_reconstruction(quality).words
    assert not of_reconstruction({**quality, "psnr_brain_db": 23.0}).is_amiss


def test_all_together():
    assert findings({}) == []
    assert overall([Finding("a"), Finding("b", is_amiss=True)]).startswith("1 of 2 findings is")
    assert "Nothing that was measured" in overall([Finding("a")])
    assert "1 of them cannot be told" in overall([Finding("a"), Finding("b", is_open=True)])
