"""Progress in a log file: plain lines."""

import pytest

from vol3d.io import progress


def test_no_line_is_told_twice(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0)
    assert list(progress.track([1, 2, 3], "count")) == [1, 2, 3]
    assert list(progress.track([], "nothing")) == []
    told = [line.split(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert told == ["count: 1/3", "count: 2/3", "count: 3/3"]


def test_a_window_hears_of_bars_in_its_own_thread_and_can_end_the_work():
    told: list[tuple[str, int, int]] = []

    def heard(title: str, done: int, total: int) -> None:
        told.append((title, done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), progress.heard_by(heard):
        list(progress.track([1, 2, 3], "count"))
    assert told == [("count", 1, 3), ("count", 2, 3)]
    list(progress.track([1, 2, 3], "count"))
    assert len(told) == 2
