"""The embedded cohort: warps that do not fold, and a truth that is the truth."""

import numpy as np
import pytest

from vol3d.data.synthetic.person import Anatomy, draw_person
from vol3d.data.synthetic.subject import choose_labels, make_subject
from vol3d.data.synthetic.template import load_template
from vol3d.data.synthetic.velocity import balance, field_of, load_parts, smooth, spline_basis
from vol3d.data.synthetic.warp import integrate, warp
from vol3d.errors import ConfigError
from vol3d.transforms.displacement import jacobian
from vol3d.volume import mni_grid

ANATOMY = Anatomy()
SOME = range(8)


@pytest.fixture(scope="module")
def subjects():
    return [make_subject(0, i, 2, ANATOMY) for i in SOME]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_template_ventricles_are_lateral_and_symmetric():
    template = load_template(2.0)
    ventricles = template.tissues[3]
    middle = ventricles.shape[0] // 2
    left, right = ventricles[:middle].sum(), ventricles[middle:].sum()
    assert left == pytest.approx(right, rel=0.02)
    assert 15 < ventricles.sum() * template.grid.voxel_ml < 19
    assert (template.tissues.sum(0) <= 1 + 1e-5).all()
    # The third ventricle lies on the midline at MNI (0, -15, -2): fluid, but not lateral ventricle.
    x, y, z = np.rint(np.linalg.inv(template.grid.affine) @ [0, -15, -2, 1]).astype(int)[:3]
    assert template.tissues[0, x, y, z] > 0.15
    assert ventricles[x - 1 : x + 2, y, z].max() == 0


def test_field_has_the_divergence_asked_for():
    rng = np.random.default_rng(0)
    f = smooth(rng.standard_normal((20, 24, 20)), mm=8)
    f -= f.mean()
    v = field_of(f)
    got = sum(np.gradient(v[i], 4.0, axis=i) for i in range(3))[2:-2, 2:-2, 2:-2]
    assert np.corrcoef(got.ravel(), f[2:-2, 2:-2, 2:-2].ravel())[0, 1] > 0.98


def test_balance_leaves_nothing_over():
    source, sink = np.random.default_rng(0).random((2, 5, 5, 5))
    assert balance(source, sink).sum() == pytest.approx(0, abs=1e-9)


def test_spline_weights_have_unit_length():
    assert np.linalg.norm(spline_basis(40, 6.0), axis=1) == pytest.approx(np.ones(40))


def test_integrating_growth_is_exponential():
    grid = mni_grid(4.0)
    parts = load_parts()
    u = integrate(np.float32(-0.1) * parts.size, 4.0)
    inner = (slice(None), *[slice(5, -5)] * 3)
    assert u[inner] == pytest.approx((np.exp(-0.1) - 1) * parts.size[inner], abs=0.1)
    assert np.median(jacobian(u, grid)) == pytest.approx(np.exp(-0.3), rel=1e-2)


def test_forwards_then_backwards_is_nothing():
    parts = load_parts()
    v = np.float32(2) * parts.ventricles
    there, back = integrate(v, 4.0), integrate(-v, 4.0)
    assert np.abs(there).max() > 3
    assert np.abs(there + warp(back, there, 4.0)).max() < 0.7


def test_no_folding(subjects):
    for s in subjects:
        assert jacobian(s.displacement, s.image.grid).min() > 0


def test_an_anatomy_that_folds_is_refused():
    with pytest.raises(ConfigError, match=r"the warp of a person aged .* folds"):
        make_subject(0, 0, 4, Anatomy(shape_mm=200, shape_knots_mm=10))


def test_volumes_agree_with_the_jacobian(subjects):
    """Volume of a structure = integral over the template of the inverse map's det J.

    The forward map's det J is 1 / det J of the backward map at the same point, so the integral is
    taken over the person: the backward map's det J turns it back into the template's volume.
    """
    template = load_template(1.0)
    here = template.tissues.sum((1, 2, 3)) * template.grid.voxel_ml
    for s in subjects:
        moved = warp(template.tissues, s.displacement, 2.0)
        j = jacobian(s.displacement, s.image.grid)
        back = (moved * j).sum((1, 2, 3)) * s.image.grid.voxel_ml
        assert back[1] + back[2] == pytest.approx(here[1] + here[2], rel=0.02)
        assert back[3] == pytest.approx(here[3], rel=0.03)


def test_volumes_agree_with_the_label_map_at_1_mm():
    """An independent count on a grid eight times finer than the one the truth is measured on."""
    for i in (1, 4):
        truth = make_subject(0, i, 2, ANATOMY)
        fine = make_subject(0, i, 1, ANATOMY)
        counted = np.bincount(fine.labels.data.ravel(), minlength=5) * fine.labels.grid.voxel_ml
        assert fine.ventricles_ml == pytest.approx(truth.ventricles_ml, rel=0.01)
        assert fine.brain_ml == pytest.approx(truth.brain_ml, rel=0.01)
        assert counted[4] == pytest.approx(truth.ventricles_ml, rel=0.03)
        assert counted[2] + counted[3] == pytest.approx(truth.brain_ml, rel=0.02)


def test_the_displacement_moves_the_template_onto_the_person(subjects):
    template, still = load_template(1.0), load_template(2.0).tissues[3] > 0.5
    for s in subjects:
        tissues = warp(template.tissues, s.displacement, 2.0)
        labels = choose_labels(tissues)
        for label in (2, 3, 4):
            assert dice(labels == label, s.labels.data == label) > 0.98
        # and without it the ventricles do not fit
        assert dice(still, s.labels.data == 4) < 0.9


def test_images_look_like_brains(subjects):
    for s in subjects:
        inside = s.labels.data > 0
        x = s.image.data
        assert x.dtype == np.uint8
        assert (x[~inside] == 0).all()
        brain = x[x > 0]
        assert np.percentile(brain, 99.5) == pytest.approx(255 / 1.2, abs=2)
        means = [x[s.labels.data == k].mean() for k in (4, 2, 3)]
        assert means[0] < 0.7 * means[1] < 0.7 * means[2]
        assert inside[[0, -1]].sum() == inside[:, [0, -1]].sum() == inside[:, :, -1].sum() == 0


def test_a_person_is_the_same_at_every_spacing():
    at2, at4 = make_subject(0, 2, 2, ANATOMY), make_subject(0, 2, 4, ANATOMY)
    assert (at2.person, at2.brain_ml, at2.ventricles_ml) == (
        at4.person, at4.brain_ml, at4.ventricles_ml
    )  # fmt: skip
    assert at4.image.shape == (40, 56, 40)


def test_another_seed_is_another_person():
    one, other = (make_subject(seed, 0, 4, ANATOMY) for seed in (0, 1))
    assert one.person != other.person
    assert (one.image.data != other.image.data).any()


def test_the_draw_of_people():
    """Over many people: ventricles follow age with r about 0.6, and spread evenly."""
    people = [draw_person(np.random.default_rng(i), ANATOMY) for i in range(3000)]
    age, ml = (np.array([getattr(p, k) for p in people]) for k in ("age", "ventricles_ml"))
    assert np.corrcoef(age, ml)[0, 1] == pytest.approx(0.62, abs=0.05)
    assert (age.min(), age.max()) == (pytest.approx(20, abs=0.5), pytest.approx(90, abs=0.5))
    assert 5 < ml.min() < 10
    assert 65 < ml.max() < 80
    assert abs(np.mean((ml - ml.mean()) ** 3) / ml.std() ** 3) < 0.3
