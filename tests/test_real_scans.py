"""Real scans, where they are at hand: read, measured and put on the grid as their makers did."""

from pathlib import Path

import numpy as np
import pytest

from vol3d.data.datasets import Bids
from vol3d.data.images import Images
from vol3d.volume import Volume, mni_grid

IXI = Path(__file__).parent.parent.parent / "shared" / "data" / "ixi2mm"
pytestmark = pytest.mark.skipif(
    not IXI.is_dir(), reason="the IXI brains are not beside the project"
)


def ixi(**more) -> Bids:
    some = [p.name.removeprefix("sub-") for p in sorted(IXI.glob("sub-*"))[:6]]
    return Bids(
        path=IXI,
        entities={"desc": "brain"},
        labels_entities={"desc": "muse"},
        subjects=some,
        **more,
    )


def test_volumes_measured_from_label_maps_agree_with_the_table():
    told = ixi().scans()
    measured = ixi(volumes={"ventricles_ml": ["49-52"], "brain_ml": ["1-48", "53-300"]}).scans()
    for a, b in zip(told, measured, strict=True):
        for name in (
            "ventricles_ml",
            "brain_ml",
        ):  # theirs on the native grid, ours on the aligned one
            assert b.covariates[name] == pytest.approx(a.covariates[name], rel=0.06)


def test_scans_lie_on_the_grid_of_their_name():
    images = Images(ixi(), needs=["labels"])
    assert images.grid.matches(mni_grid(2.0))
    x, labels = images.image(images.train[0]), images.labels(images.train[0])
    assert x.shape == labels.shape == (1, 80, 112, 80)
    assert 0 <= x.min() < x.max() <= 1
    assert np.mean(x[labels > 0] > 0) > 0.98  # labels lie on the brain


def test_a_coarser_grid_keeps_the_brain_in_place():
    fine = Volume.read(ixi().scans()[0].image).reorient("RAS")
    coarse = fine.resample(mni_grid(4.0))

    def centre(volume: Volume) -> np.ndarray:
        index = np.argwhere(volume.data > 50).mean(0)
        return (volume.affine @ np.append(index, 1))[:3]

    assert np.abs(centre(fine) - centre(coarse)).max() < 0.5  # mm
