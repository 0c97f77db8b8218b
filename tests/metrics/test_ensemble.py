import numpy as np
import pytest
import torch
from scipy import stats

from vol3d.metrics.ensemble import Ensemble

SHAPE = (5, 6, 7)


@pytest.fixture
def members():
    """Nine members of three labels, [9, 3, X, Y, Z]."""
    logits = np.random.default_rng(0).normal(0, 2, (9, 3, *SHAPE))
    return torch.softmax(torch.from_numpy(logits), 1).float().numpy()


def ensemble_of(members):
    ensemble = Ensemble(members.shape[1], members.shape[2:])
    for member in members:
        ensemble.add(torch.from_numpy(np.asarray(member, np.float32)))
    return ensemble


def test_sums_as_they_come_are_those_over_all(members):
    got = ensemble_of(members)
    mean = members.mean(0)
    assert len(got) == 9
    np.testing.assert_allclose(got.mean, mean, atol=1e-6)
    np.testing.assert_allclose(got.variance, members.var(0), atol=1e-6)
    total, each = stats.entropy(mean, axis=0), stats.entropy(members, axis=1)
    np.testing.assert_allclose(got.entropy, total, atol=1e-5)
    np.testing.assert_allclose(got.mutual_information, total - each.mean(0), atol=1e-5)
    labels = members.argmax(1)
    np.testing.assert_array_equal(np.stack(list(got.label_maps())), labels)
    np.testing.assert_array_equal(got.volumes[:, 1], (labels == 1).sum((1, 2, 3)))
    np.testing.assert_array_equal(np.stack(list(got.masks(2))), labels == 2)


def test_small_spread_around_certainty_is_not_lost():
    p = 1e-4 * np.array([1.0, 1.2, 0.9, 1.1])
    members = np.stack([1 - p, p], 1).reshape(4, 2, 1, 1, 1)
    assert ensemble_of(members).variance[1].item() == pytest.approx(p.var(), rel=0.01)


def test_members_that_agree_and_members_that_contradict_each_other():
    doubt = np.full((4, 2, 1, 1, 1), 0.5)
    assert ensemble_of(doubt).entropy.item() == pytest.approx(np.log(2))
    assert ensemble_of(doubt).mutual_information.item() == 0
    sure = np.zeros((4, 2, 1, 1, 1))
    sure[:2, 0] = sure[2:, 1] = 1
    assert ensemble_of(sure).entropy.item() == pytest.approx(np.log(2))
    assert ensemble_of(sure).mutual_information.item() == pytest.approx(np.log(2))


def test_majority_and_its_ties():
    # Two votes each for labels 1 and 2 in the first voxel; the mean of label 2 is higher. In the
    # second voxel label 1 has more votes, although label 0 has the highest mean.
    first = [[0.1, 0.5, 0.4], [0.1, 0.5, 0.4], [0.0, 0.1, 0.9], [0.0, 0.1, 0.9]]
    second = [[0.9, 0.1, 0.0], [0.4, 0.6, 0.0], [0.4, 0.6, 0.0], [0.4, 0.6, 0.0]]
    members = np.array([first, second]).transpose(1, 2, 0)[..., None, None]
    got = ensemble_of(members)
    assert got.mean[:, 1, 0, 0].argmax() == 0
    np.testing.assert_array_equal(got.majority.ravel(), [2, 1])


def held(ensemble):
    """Bytes of all that an ensemble holds: its maps, and the rest."""
    values = vars(ensemble).values()
    maps = sum(v.nbytes for v in values if isinstance(v, torch.Tensor))
    return maps, sum(len(v) for v in ensemble._label_maps)


def test_memory_does_not_grow_with_members_but_for_their_label_maps():
    """Spheres of slightly different size: less than a bit a voxel each."""
    shape = (32, 32, 32)
    away = np.linalg.norm(np.indices(shape) - 15.5, axis=0)
    ensemble, before = Ensemble(2, shape), None
    for i in range(20):
        p = 1 / (1 + np.exp((away - 9 - 0.1 * i) / 2))
        ensemble.add(np.stack([1 - p, p]))
        maps, label_maps = held(ensemble)
        assert before in (None, maps)
        before = maps
        assert label_maps < (i + 1) * np.prod(shape) / 8


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (np.full((2, 4, 4, 3), 0.5), r"\[2, 4, 4, 4\] probabilities, got \[2, 4, 4, 3\]"),
        (np.full((2, 4, 4, 4), 0.4), "sum of 1"),
        (np.stack([np.full((4, 4, 4), 1.5), np.full((4, 4, 4), -0.5)]), "sum of 1"),
        (np.full((2, 4, 4, 4), np.nan), "sum of 1"),
    ],
)
def test_what_is_no_member(member, words):
    ensemble = Ensemble(2, (4, 4, 4))
    with pytest.raises(ValueError, match=words):
        ensemble.add(member)
    assert len(ensemble) == 0


def test_numbers_of_labels():
    with pytest.raises(ValueError, match="2 to 256"):
        Ensemble(1, (4, 4, 4))
