import math

import pytest
import torch
from monai.metrics import PSNRMetric

from vol3d.metrics.reconstruction import brain_mask, compare, measure_reconstructions, psnr_db


@pytest.fixture
def scan():
    """A ball of noise [1, 16, 16, 16] in nothing."""
    torch.manual_seed(0)
    at = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 16)] * 3, indexing="ij"))
    return (0.5 + 0.3 * torch.rand(1, 16, 16, 16)) * (at.norm(dim=0) < 0.8)


def test_psnr_closed_form(scan):
    mask = brain_mask(scan)
    y = scan + 0.1 * mask
    assert psnr_db(scan, y, mask) == pytest.approx(20, abs=1e-4)
    share = float(mask.float().mean())
    whole = compare(scan, y, mask)["psnr_db"]
    assert whole == pytest.approx(20 - 10 * math.log10(share), abs=1e-3)
    assert whole == pytest.approx(float(PSNRMetric(max_val=1)(y[None], scan[None])), abs=1e-4)


def test_l1_in_the_brain_and_over_all(scan):
    mask = brain_mask(scan)
    got = compare(scan, scan + 0.1 * mask, mask)
    assert got["l1_brain"] == pytest.approx(0.1, abs=1e-5)
    assert got["l1"] == pytest.approx(0.1 * float(mask.float().mean()), abs=1e-5)


def test_errors_outside_the_brain_leave_brain_measures_alone(scan):
    mask = brain_mask(scan)
    y = (scan * 0.9).clone()
    z = y.clone()
    z[:, :2] += 0.5
    a, b = compare(scan, y, mask), compare(scan, z, mask)
    assert a["psnr_brain_db"] == b["psnr_brain_db"]
    assert a["psnr_db"] > b["psnr_db"] + 1
    assert a["ssim"] > b["ssim"]


def test_brain_mask_fills_holes(scan):
    mask = brain_mask(scan)
    scan[0, 7:9, 7:9, 7:9] = 0  # ventricles may be black
    assert torch.equal(brain_mask(scan), mask)
    assert not mask[0, 0, 0, 0]


def test_an_empty_scan_is_refused():
    x = torch.zeros(1, 8, 8, 8)
    with pytest.raises(ValueError, match="empty"):
        compare(x, x, brain_mask(x))


def test_summary_of_scans(scan):
    mask = brain_mask(scan)
    pairs = [(scan[None], (scan + e * mask)[None]) for e in (0.1, 0.01)]
    got = measure_reconstructions(iter(pairs), ["sub-a", "sub-b"], 4, 8)
    assert got["n"] == 2
    assert got["psnr_brain_db"] == pytest.approx(30, abs=1e-3)
    assert got["psnr_brain_db_sd"] == pytest.approx(math.sqrt(200), abs=1e-3)
    assert (got["worst_scan"], got["worst_psnr_brain_db"]) == ("sub-a", pytest.approx(20, abs=1e-3))
    assert got["brain_overlap"] == 1
    assert got["psnr_brain_block_average_db"] < got["psnr_brain_block_average_equal_values_db"]


def test_nothing_held_out_is_no_quality():
    assert measure_reconstructions(iter([]), [], 4, 8) == {}
