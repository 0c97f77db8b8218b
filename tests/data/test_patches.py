"""Patches: where they lie, what is in them, and that a bias is undone by their weights."""

from collections import Counter

import pytest
import torch

from vol3d.data.patches import Patch, Place, whole
from vol3d.data.rng import torch_rng
from vol3d.errors import ConfigError


def test_patches_come_from_their_generator_and_fit():
    x = torch.arange(6 * 7 * 5.0).reshape(1, 6, 7, 5)
    patch = Patch(size=(4, 4, 5))
    places = [patch.place((6, 7, 5), None, torch_rng(0, i)) for i in range(200)]
    assert places[1].start == patch.place((6, 7, 5), None, torch_rng(0, 1)).start
    assert {p.start for p in places} == {(i, j, 0) for i in range(3) for j in range(4)}
    i, j, _ = places[0].start
    assert torch.equal(places[0].of(x), x[:, i : i + 4, j : j + 4])
    assert torch.equal(whole((6, 7, 5)).of(x), x)


def test_a_smaller_image_gets_zeros_around_it():
    x = torch.ones(1, 3, 4, 2)
    place = Patch(size=(4, 4, 5)).place((3, 4, 2), None, torch_rng(0))
    out = place.of(x)
    assert out.shape == (1, 4, 4, 5)
    assert out.sum() == x.sum()
    assert torch.equal(Place((-1, 0, 0), (5, 4, 2)).of(x)[:, 1:4], x)


@pytest.mark.parametrize("foreground", [0.0, 0.5])
def test_weights_undo_the_bias(foreground: float):
    """The weighted share of each place is that of a place drawn without a bias."""
    mask = torch.zeros(9, 7, 6, dtype=torch.bool)
    mask[6:, 2, 3], mask[0, 0, 0] = True, True
    patch = Patch(size=(4, 5, 8), centre=0.4, foreground=foreground)
    drawn, counted, n = Counter(), Counter(), 20000
    rng = torch_rng("places")
    for _ in range(n):
        place = patch.place(mask.shape, mask, rng)
        drawn[place.start] += 1
        counted[place.start] += place.weight / n
    assert len(counted) == 6 * 3  # six along X, three along Y, and one along Z, which is padded
    assert max(drawn.values()) > 1.2 * min(drawn.values())  # there is a bias
    assert all(abs(share - 1 / 18) < 0.15 / 18 for share in counted.values())


def test_every_place_is_learnt_from():
    with pytest.raises(ConfigError, match="leave a tenth of the patches"):
        Patch.parse({"size": [4, 4, 4], "centre": 0.5, "foreground": 0.5})
