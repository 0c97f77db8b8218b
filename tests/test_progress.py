"""Progress in a log file: plain lines."""

import pytest

from vol3d.io import progress


def test_no_line_is_told_twice(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0)
    assert list(progress.track([1, 2, 3], "count")) == [1, 2, 3]
    assert list(progress.track([], "nothing")) == []
    told = [line.split(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert told == ["count: 1/3", "count: 2/3", "count: 3/3"]
