"""Augmentation: seeds and threads, label maps that follow, zeros that stay, names that are refused."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from vol3d.data.augment import Augment
from vol3d.data.rng import torch_rng
from vol3d.errors import ConfigError
from vol3d.tasks.segment import Segment

SPACING = (2.0, 2.0, 2.5)
MOVING = {"affine": {"p": 1}, "elastic": {"p": 1, "max_displacement": 3}}
SHADING = {name: {"p": 1} for name in ("gamma", "bias_field", "motion", "blur", "noise")}
ALL = MOVING | SHADING


def blob(shape: tuple[int, int, int] = (28, 32, 24)) -> tuple[Tensor, Tensor]:
    """An ellipsoid off the centre, its shade uneven, and its label map [1, X, Y, Z]."""
    axes = [torch.linspace(-1, 1, n) for n in shape]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    inside = ((x - 0.15) ** 2 / 0.36 + y**2 / 0.25 + (z + 0.1) ** 2 / 0.3 < 1)[None]
    return (0.6 + 0.2 * y[None]) * inside, 7 * inside.long()


def augmented(settings: dict, seed: int = 1) -> tuple[Tensor, Tensor]:
    x, y = blob()
    images, labels = Augment.parse(settings).augmented(
        {"x": x}, {"x": y}, SPACING, torch_rng("test", seed)
    )
    return images["x"], labels["x"]


def same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    return all(map(torch.equal, one, other))


@pytest.mark.parametrize("name", ALL)
def test_a_result_depends_on_its_generator_alone(name: str):
    settings = {name: ALL[name]}
    first = augmented(settings)
    torch.manual_seed(99)
    before = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    assert same(first, augmented(settings))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (str(np.random.get_state()), random.getstate())
    assert not torch.equal(first[0], augmented(settings, seed=2)[0])


def test_threads_that_draw_at_once_give_what_one_gives():
    alone = [augmented(ALL, seed) for seed in range(8)]
    done = threading.Event()

    def disturb() -> None:
        while not done.is_set():
            torch.manual_seed(0)
            torch.rand(10)

    with ThreadPoolExecutor(3) as threads:
        threads.submit(disturb)
        try:
            together = list(threads.map(lambda seed: augmented(ALL, seed), range(8)))
        finally:
            done.set()
    assert all(map(same, alone, together))


def test_to_set_one_transform_leaves_what_another_draws():
    alone, with_noise = augmented(MOVING), augmented(MOVING | {"noise": {"p": 1}})
    assert torch.equal(alone[1], with_noise[1])
    assert not torch.equal(alone[0], with_noise[0])


@pytest.mark.parametrize("settings", [{"affine": {"p": 1, "degrees": 15}}, MOVING])
def test_a_label_map_moves_with_its_image(settings: dict):
    was = blob()[1] > 0
    for seed in range(4):
        x, y = augmented(settings, seed)
        found = x > 0.3
        assert 2 * (found & (y > 0)).sum() / (found.sum() + (y > 0).sum()) > 0.95
        assert 2 * (was & (y > 0)).sum() / (was.sum() + (y > 0).sum()) < 0.98  # and it did move
        assert set(y.unique().tolist()) == {0, 7}
        assert torch.equal(x > 0, y > 0)  # no rim of interpolated voxels


def test_an_affine_shifts_by_mm():
    """Forty shifts reach towards 5 mm along each axis and no further."""
    x, _ = blob()
    grid = torch.stack(
        torch.meshgrid(*[torch.arange(float(n)) for n in x.shape[1:]], indexing="ij")
    )
    shift_only = Augment.parse({"affine": {"p": 1, "scales": 0, "degrees": 0, "translation": 5}})

    def centre(x: Tensor) -> Tensor:
        return (grid * x).sum((1, 2, 3)) / x.sum() * torch.tensor(SPACING)

    drawn = [shift_only.augmented({"x": x}, {}, SPACING, torch_rng(i))[0]["x"] for i in range(40)]
    shifts = torch.stack([centre(moved) - centre(x) for moved in drawn]).abs().amax(0)
    assert (shifts > 4).all()
    assert (shifts < 5.1).all()


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_a_slice_stays_in_its_plane(axis: int):
    """Of a disc that no change is large enough to move out of sight, nearly all is still there."""
    x, _ = blob((28, 28, 28))
    x = x.narrow(axis, 14, 1)
    settings = {"affine": {"p": 1, "translation": 6}, "elastic": {"p": 1, "max_displacement": 6}}
    for seed in range(8):
        images, labels = Augment.parse(settings).augmented(
            {"x": x}, {"x": (x > 0).long()}, (2.0, 2.0, 2.0), torch_rng("test", seed)
        )
        moved = images["x"]
        assert moved.shape == labels["x"].shape == x.shape
        assert 0.8 < (moved > 0).sum() / (x > 0).sum() < 1.25
        assert torch.equal(labels["x"] > 0, moved > 0)
        assert not torch.equal(moved, x)


@pytest.mark.parametrize("name", SHADING)
def test_intensity_transforms_leave_labels_and_zeros(name: str):
    x, y = blob()
    changed, labels = augmented({name: SHADING[name]})
    assert torch.equal(labels, y)
    assert not torch.equal(changed, x)
    assert not changed[x == 0].any()


def test_shape_type_range_and_the_given_tensors_are_kept():
    x, y = blob((25, 31, 24))  # odd, too
    images, labels = {"t1": x, "t2": 1 - x.where(x > 0, 1)}, {"y": y, "z": y.int()}
    before = [t.clone() for t in (*images.values(), *labels.values())]
    strong = ALL | {"noise": {"p": 1, "std": 0.5, "mean": 0.3}, "bias_field": {"coefficients": 1}}
    new = Augment.parse(strong).augmented(images, labels, SPACING, torch_rng(0))
    assert all(map(torch.equal, before, (*images.values(), *labels.values())))
    for given, got in zip((images, labels), new, strict=True):
        assert list(given) == list(got)
        for name in given:
            assert (got[name].shape, got[name].dtype) == (given[name].shape, given[name].dtype)
    assert all(0 <= image.min() < image.max() <= 1 for image in new[0].values())
    assert torch.equal(new[1]["y"], new[1]["z"].long())


def test_a_blank_image_stays_blank():
    images = {"x": torch.zeros(1, 16, 16, 16)}
    assert not Augment.parse(ALL).augmented(images, {}, SPACING, torch_rng(0))[0]["x"].any()


def test_off_is_the_same_objects_and_draws_nothing():
    images, labels, rng = {"x": blob()[0]}, {"y": blob()[1]}, torch_rng(0)
    before = rng.get_state()
    new = Augment().augmented(images, labels, SPACING, rng)
    assert new[0] is images
    assert new[1] is labels
    assert torch.equal(before, rng.get_state())


def test_a_probability_is_that_of_a_change():
    x, _ = blob((8, 8, 8))
    augment = Augment.parse({"gamma": {"p": 0.3}})
    drawn = [augment.augmented({"x": x}, {}, SPACING, torch_rng(i))[0]["x"] for i in range(300)]
    changed = sum(not torch.equal(x, d) for d in drawn)
    assert 60 < changed < 120  # 90 are due


def test_settings():
    task = {"kind": "segment", "structures": {"brain": [7]}, "model": "unet"}
    on = Segment.parse(task | {"augment": {"affine": {}, "noise": {"std": 0.1}}}).augment
    assert on.affine == type(on.affine)()
    assert on.noise.std == 0.1
    assert on.blur is None
    assert Augment.parse(on.dump()) == on
    for wrong, told in [
        ({"afine": {}}, "unknown key 'augment.afine'. Did you mean 'affine'?"),
        ({"affine": {"degree": 5}}, "unknown key 'augment.affine.degree'. Did you mean 'degrees'?"),
        ({"blur": {"p": 2}}, "augment.blur.p: Input should be less than or equal to 1, got 2"),
    ]:
        with pytest.raises(ConfigError) as caught:
            Segment.parse(task | {"augment": wrong})
        assert told in str(caught.value)
