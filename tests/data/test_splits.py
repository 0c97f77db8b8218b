"""Which people are learnt from."""

from itertools import pairwise
from pathlib import Path

import pytest

from vol3d.data.datasets import Bids
from vol3d.data.images import Images
from vol3d.data.splits import draw_people
from vol3d.errors import DataError

PEOPLE = [f"{i:03d}" for i in range(40)]


def test_more_people_are_these_and_others():
    drawn = [draw_people(PEOPLE, n, 0) for n in range(1, 41)]
    assert all(more[: len(fewer)] == fewer for fewer, more in pairwise(drawn))
    assert sorted(drawn[-1]) == PEOPLE
    assert draw_people(PEOPLE[::-1] * 2, 5, 0) == drawn[4]  # visits and order have no say
    assert draw_people([p for p in PEOPLE if p != drawn[4][0]], 4, 0) == drawn[4][1:]
    assert draw_people(PEOPLE, 5, 1) != drawn[4]


def test_those_held_out_stay(cohort: Path):
    source = {"path": cohort, "entities": {"desc": "brain"}, "labels_entities": {"desc": "tissue"}}
    everyone, few = (Images(Bids(**source, people=n)) for n in (None, 3))
    assert len({s.subject for s in few.train}) == 3
    assert {s.subject for s in few.train} < {s.subject for s in everyone.train}
    assert [s.subject for s in few.val] == [s.subject for s in everyone.val]
    assert few.fingerprint()["people"] == {"train": 3, "val": 2}


def test_too_many_are_refused(cohort: Path):
    with pytest.raises(DataError, match="people=11: there are 10 people to learn from"):
        Images(Bids(path=cohort, entities={"desc": "brain"}, people=11))
