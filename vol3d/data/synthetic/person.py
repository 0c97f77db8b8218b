"""A person of the embedded cohort: age, sex, and how the brain differs from the template."""

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from vol3d.config import Config


class Anatomy(Config):
    """How people differ: the ranges that a cohort is drawn from."""

    age: tuple[float, float] = (20.0, 90.0)
    """Youngest and oldest, years; uniform between."""
    ventricles_ml: float = Field(default=25.0, gt=0)
    """Lateral ventricles of an average young woman."""
    ventricles_growth_ml: float = 25.0
    """What the ventricles gain from the youngest to the oldest; slowly at first, then faster."""
    ventricles_male_ml: float = 2.0
    """What men have more."""
    ventricles_free_ml: float = Field(default=16.5, ge=0)
    """Individual variation: uniform between minus and plus this, whatever the age."""
    head: float = Field(default=0.905, gt=0)
    """Size of an average head along each axis, relative to the template, which is large."""
    head_male: float = 0.03
    """How much larger a man's head is along each axis, as a fraction."""
    head_free: float = Field(default=0.022, ge=0)
    """Individual variation of head size, as a fraction: one standard deviation."""
    atrophy: float = 0.25
    """Strength of cortical atrophy at the greatest age; it grows with the square of age."""
    atrophy_free: float = Field(default=0.08, ge=0)
    """Individual variation of atrophy: one standard deviation."""
    shape_mm: float = Field(default=2.5, ge=0)
    """Free variation of shape: one standard deviation of the velocity along each axis, mm."""
    shape_knots_mm: float = Field(default=24.0, gt=0)
    """Over which distance the free variation of shape changes."""


@dataclass(frozen=True)
class Person:
    """What is drawn for one person.

    Attributes:
        age: years.
        sex: "F" or "M".
        log_size: log of the head's size relative to the template, along each axis.
        ventricles_ml: what the lateral ventricles aim at; the truth is measured afterwards.
        atrophy: strength of cortical atrophy.
    """

    age: float
    sex: str
    log_size: float
    ventricles_ml: float
    atrophy: float


def draw_person(rng: np.random.Generator, anatomy: Anatomy) -> Person:
    """Draw one person; every number is drawn in a fixed order."""
    youngest, oldest = anatomy.age
    old = rng.uniform()  # 0 youngest, 1 oldest
    male = bool(rng.integers(2))
    free = rng.uniform(-1, 1)
    normal = np.clip(rng.standard_normal(2), -2.5, 2.5)

    away = anatomy.head_male * (male - 0.5) + anatomy.head_free * normal[0]
    ventricles_ml = (
        anatomy.ventricles_ml
        + anatomy.ventricles_growth_ml * old**1.5
        + anatomy.ventricles_male_ml * male
        + anatomy.ventricles_free_ml * free
    )
    return Person(
        age=round(youngest + (oldest - youngest) * old, 2),
        sex="M" if male else "F",
        log_size=float(np.log(anatomy.head) + away),
        ventricles_ml=max(ventricles_ml, 1.0) * float(np.exp(1.5 * away)),  # larger in larger heads
        atrophy=float(anatomy.atrophy * old**2 + anatomy.atrophy_free * normal[1]),
    )
