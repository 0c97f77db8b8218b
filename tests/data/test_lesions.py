"""Lesions, further contrasts and raters of the embedded cohort: what is made is what is told."""

import numpy as np
import pytest
from scipy.interpolate import interpn

from vol3d.data.synthetic.contrast import MATTER, SEQUENCES, InversionRecovery, SpinEcho, Tissue
from vol3d.data.synthetic.lesions import (
    REACH_MM,
    Outline,
    draw_lesions,
    load_places,
    lower,
    person_points,
    wander,
)
from vol3d.data.synthetic.person import Anatomy, draw_person
from vol3d.data.synthetic.raters import BIAS_MM, ERROR_MM, Rater, draw_rater, outline
from vol3d.data.synthetic.subject import Subject, draw_displacement, make_subject
from vol3d.volume import mni_grid

ANATOMY = Anatomy()
BOTH = ("T2w", "FLAIR")
OLD = 0
"""The first person of seed 0 is 76."""


def still() -> np.ndarray:
    """The displacement of somebody who is the template."""
    return np.zeros((3, 40, 56, 40), np.float32)


def ball(radius: float) -> Outline:
    """The surface of a sphere in the middle of the view."""
    grid = mni_grid(1.0)
    distance = np.full(grid.shape, REACH_MM, np.float32)
    lower(distance, grid, np.array([0.3, -18.1, 7.2]), np.full(3, radius), np.eye(3))
    near = np.stack(np.nonzero(distance < REACH_MM))
    return Outline(near, distance[tuple(near)])


def volume_ml(surface: Outline) -> float:
    """What it holds where all is white matter."""
    return float(surface.share(np.ones((80, 112, 80), np.float32)).sum()) * 0.008


@pytest.fixture(scope="module")
def plain() -> Subject:
    return make_subject(0, OLD, 4, ANATOMY)


@pytest.fixture(scope="module")
def full() -> Subject:
    return make_subject(0, OLD, 4, ANATOMY, contrasts=BOTH, lesions=True, raters=3)


@pytest.fixture(scope="module")
def fine() -> Subject:
    return make_subject(0, OLD, 1, ANATOMY, lesions=True, raters=1)


def test_signals_are_those_of_the_equations():
    water = Tissue(T1=1000, T2=100, PD=0.8)
    assert SpinEcho(TR=1e9, TE=0).signal(water) == pytest.approx(0.8)
    assert SpinEcho(TR=1000, TE=100).signal(water) == pytest.approx(0.8 * (1 - 1 / np.e) / np.e)
    null = InversionRecovery(TR=1e9, TI=1000 * np.log(2), TE=0)
    assert null.signal(water) == pytest.approx(0, abs=1e-9)
    assert InversionRecovery(TR=1e9, TI=0, TE=100).signal(water) == pytest.approx(-0.8 / np.e)


def test_fluid_shines_on_t2w_and_is_dark_on_flair_and_lesions_shine_on_both():
    t2w, flair = (
        {name: abs(SEQUENCES[c].signal(tissue)) for name, tissue in MATTER.items()} for c in BOTH
    )
    assert t2w["csf"] > t2w["lesion"] > t2w["gm"] > t2w["wm"]
    assert flair["lesion"] > 1.4 * flair["gm"] > 1.4 * flair["wm"]
    assert max(flair["csf"], flair["ventricles"]) < 0.1 * flair["wm"]


def test_the_images_show_it(full: Subject):
    labels, lesions = full.labels.data, full.lesions.data > 0
    means = {
        name: {k: x.data[(labels == k) & ~lesions].mean() for k in (2, 3, 4)}
        | {"lesion": x.data[lesions].mean()}
        for name, x in {"T1w": full.image, **full.contrasts}.items()
    }
    t1w, t2w, flair = (means[name] for name in ("T1w", *BOTH))
    assert t1w[4] < t1w[2] < t1w["lesion"] < 0.95 * t1w[3]
    assert t2w[4] > t2w["lesion"] > 1.4 * t2w[3]
    assert t2w[2] > 1.4 * t2w[3]
    assert flair["lesion"] > 1.3 * flair[2] > 1.3 * flair[3]
    assert flair[4] < 0.3 * flair[3]


def test_contrasts_are_0_off_the_brain_alone_and_saturate_nowhere(full: Subject):
    inside = full.labels.data > 0
    for x in full.contrasts.values():
        assert x.data.dtype == np.uint8
        assert ((x.data > 0) == inside).all()
        assert (x.data == 255).mean() < 1e-4


def test_contrasts_have_noise_and_drift_of_their_own(full: Subject):
    seen = [full.image.data, *(x.data for x in full.contrasts.values())]
    pure = (full.labels.data == 3) & (full.lesions.data == 0)
    a, b, c = (x[pure].astype(float) for x in seen)
    assert np.abs(np.corrcoef([b, c])[0, 1]) < 0.95
    assert len({x.std() for x in (a, b, c)}) == 3


def same(a: Subject, b: Subject, *, image: bool = True) -> bool:
    told = [(s.person, s.brain_ml, s.ventricles_ml, s.split) for s in (a, b)]
    arrays = [(s.labels.data, s.displacement, *([s.image.data] * image)) for s in (a, b)]
    return told[0] == told[1] and all(map(np.array_equal, *arrays))


def test_nothing_else_depends_on_what_is_asked_for(plain: Subject, full: Subject):
    t2w = make_subject(0, OLD, 4, ANATOMY, contrasts=["T2w"])
    lesions = make_subject(0, OLD, 4, ANATOMY, lesions=True)
    flair = make_subject(0, OLD, 4, ANATOMY, contrasts=["FLAIR"], lesions=True, raters=1)
    assert same(plain, t2w)
    assert same(plain, lesions, image=False)
    assert same(lesions, full)
    assert np.array_equal(lesions.lesions.data, full.lesions.data)
    assert np.array_equal(flair.contrasts["FLAIR"].data, full.contrasts["FLAIR"].data)
    assert np.array_equal(flair.ratings[0].data, full.ratings[0].data)
    # T1w is darker where lesions are, and elsewhere the same but for what they do to the scale
    darker = plain.image.data.astype(int) - full.image.data
    assert darker[full.lesions.data > 0].min() > 3
    assert 0 < (darker > 1).mean() < 0.03
    assert darker.min() >= -1


def test_the_volume_told_is_that_of_the_mask_at_every_spacing(full: Subject, fine: Subject):
    assert full.lesions_ml > 2
    assert abs(full.lesions.data.sum() * 0.064 - full.lesions_ml) <= 0.033
    assert abs(fine.lesions.data.sum() * 0.001 - fine.lesions_ml) <= 0.001
    assert fine.lesions_ml == pytest.approx(full.lesions_ml, rel=0.02)
    rated = [s.ratings[0].data.sum() * s.labels.grid.voxel_ml for s in (fine, full)]
    assert rated[0] == pytest.approx(rated[1], rel=0.03)


def test_lesions_are_of_white_matter(full: Subject, fine: Subject):
    assert (fine.labels.data[fine.lesions.data > 0] == 3).mean() > 0.95
    assert (full.labels.data[full.lesions.data > 0] == 3).mean() > 0.8


def test_lesions_are_near_the_ventricles_or_deep_and_more_with_age():
    white = np.ones((80, 112, 80), np.float32)
    ml = {
        age: [
            draw_lesions(np.random.default_rng(i), age, still()).share(white).sum() * 0.008
            for i in range(6)
        ]
        for age in (25, 55, 85)
    }
    young, middle, old = (np.median(v) for v in ml.values())
    assert 0 <= young < 1 < middle < 0.5 * old
    assert old < 40
    assert len({round(v, 3) for v in ml[85]}) == 6

    places, below_near, below_deep = load_places()
    near, deep = (np.diff(b, prepend=0) for b in (below_near, below_deep))
    ventricles = (np.abs(places[:, 0]) < 40) & (np.abs(places[:, 1] + 15) < 60)
    assert near[ventricles].sum() > 0.95
    assert near.min() == deep.min() == 0
    assert not (deep[np.abs(places[:, 0]) < 8]).any()


def test_points_of_the_template_are_found_in_the_person():
    """The inverse of the warp, checked by going back."""
    rng = np.random.default_rng(0)
    u = draw_displacement(draw_person(np.random.default_rng(3), ANATOMY), rng, ANATOMY)
    grid, points = mni_grid(4.0), load_places()[0][::500]
    x = person_points(points, u)
    axes = [np.arange(n) * 4 + o for n, o in zip(grid.shape, grid.origin, strict=True)]
    moved = interpn(axes, u.transpose(1, 2, 3, 0), x)  # [n, 3]
    assert np.abs(moved).max() > 5
    assert np.abs(x + moved - points).max() < 0.01


@pytest.mark.parametrize("bias", [-1.0, 0.0, 1.0])
def test_a_bias_moves_the_surface_by_so_many_mm(bias: float):
    """A sphere's volume is 4/3 pi r^3."""
    truth, none = ball(5.0), np.random.default_rng(0)
    rated = outline(Rater(bias_mm=bias, error_mm=0.0), truth, none)
    assert volume_ml(rated) == pytest.approx(4 / 3 * np.pi * (5 + bias) ** 3 / 1000, rel=0.02)


def test_an_error_has_the_size_told_and_is_new_in_each_person():
    truth, rater = ball(15.0), Rater(bias_mm=0.4, error_mm=0.6)
    moved = [
        truth.distance - outline(rater, truth, np.random.default_rng(i)).distance for i in range(20)
    ]
    assert np.mean(moved) == pytest.approx(0.4, abs=0.05)
    assert np.std(moved) == pytest.approx(0.6, rel=0.15)
    assert abs(np.corrcoef(moved[0], moved[1])[0, 1]) < 0.3
    step = wander(np.random.default_rng(0), np.array([[80, 81], [112, 112], [80, 80]]), 8.0)
    assert abs(step[0] - step[1]) < 0.5  # smooth


def test_raters_are_who_they_are_however_many_there_are():
    raters = [draw_rater(0, k) for k in range(1, 9)]
    assert raters == [draw_rater(0, k) for k in range(1, 9)]
    biases = sorted(r.bias_mm for r in raters)
    assert -BIAS_MM <= biases[0] < -0.5 < 0.5 < biases[-1] <= BIAS_MM
    assert np.diff(biases).min() > 0.1
    assert all(ERROR_MM[0] <= r.error_mm <= ERROR_MM[1] for r in raters)
    assert draw_rater(1, 1) != raters[0]


def test_volumes_of_raters_are_in_the_order_of_their_biases(full: Subject):
    raters = [draw_rater(0, k) for k in (1, 2, 3)]
    order = np.argsort([r.bias_mm for r in raters])
    ml = np.array([r.data.sum() for r in full.ratings])[order]
    assert (np.diff(ml) > 0).all()
    assert ml[0] < full.lesions.data.sum() < ml[-1]


def test_nobody_has_lesions_who_was_not_asked_to(plain: Subject):
    assert plain.lesions is None
    assert plain.lesions_ml is None
    assert plain.ratings == ()
    assert plain.contrasts == {}
