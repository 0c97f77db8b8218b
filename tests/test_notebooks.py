"""Every notebook runs, from its first cell to its last, on a tiny model."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook(path: Path, diffusion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "diffusion").symlink_to(diffusion)
    monkeypatch.chdir(tmp_path)
    cells = json.loads(path.read_text())["cells"]
    assert all(not c.get("outputs") for c in cells), "outputs are stripped"
    names: dict = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), path.name, "exec"), names)
    assert names["volume"].grid.matches(names["model"].grid)
