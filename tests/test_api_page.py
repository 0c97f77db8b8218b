"""What docs/api.md shows runs, and it lists all that is stable."""

import re
from pathlib import Path

import pytest

import vol3d

PAGE = (Path(__file__).parent.parent / "docs" / "api.md").read_text()


def test_the_code_of_the_page_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/api.md", "exec"), names)
    told = capsys.readouterr().out
    assert "(40, 56, 40) (4.0, 4.0, 4.0) RAS" in told
    assert "['sub-000000_space-" in told
    assert (tmp_path / "brain.png").stat().st_size > 1e4


def test_the_page_lists_every_name():
    table, stable = PAGE.split("## What stays as it is")
    listed = set(re.findall(r"`v\.(\w+)`", table[table.index("| function |") :]))
    assert listed == set(vol3d.functions())
    assert set(re.findall(r"`(\w+)`", stable)) == set(vol3d.PLACES)
