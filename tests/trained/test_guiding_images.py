"""Images that guide a sample are what the model saw in its training."""

from pathlib import Path

import numpy as np

from vol3d.data.datasets import Bids
from vol3d.data.images import Images
from vol3d.trained.guiding_images import GuidingVisits


def test_they_are_resampled_as_in_the_training(cohort: Path):
    source = Bids(
        path=cohort,
        entities={"desc": "brain"},
        labels_entities={"desc": "tissue"},
        grid=["8mm"],
        subjects=["0001"],
        val_fraction=0,
    )
    images = Images(source, needs=["T1w", "labels"])
    (visit,) = images.train + images.val
    guides = GuidingVisits(["T1w", "labels"], {3: visit}, source.target_grids())
    found, seen = guides.of(3), images.read(visit)
    assert found["T1w"].shape == (20, 28, 20)
    assert all(np.array_equal(found[n].data, seen[n][0]) for n in ("T1w", "labels"))
    assert guides.of(4) == {}
