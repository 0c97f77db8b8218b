"""What README and docs tell a reader to type is understood, and what they point to is there."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from vol3d.cli import fill, load_verb, verbs
from vol3d.errors import ConfigError

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text()
FENCE = r"```\w*\n(.*?)```"
OWN = {
    "mydata.yaml": next(b for b in re.findall(FENCE, README, re.DOTALL) if "/data/mystudy" in b),
    "mycovariates.yaml": "task: {covariates: {icv_ml: {unit: ml}}}",
    "diffusion.yaml": "based_on: configs/ixi2mm/diffusion.yaml",
    "CONFIG.yaml": "based_on: configs/ixi2mm/diffusion.yaml",
}
"""Files of the reader's, as the pages call them."""


def commands(page: str) -> Iterator[list[str]]:
    """The words after `vol3d` of each command on a page; those with ... in them are no whole commands."""
    for block in re.findall(FENCE, page, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"([A-Z_]+=\S+ |(srun|torchrun|deepspeed|sbatch) .*)*vol3d ", line.strip()):
                yield after(line)
    prose = re.sub(FENCE, "", page, flags=re.DOTALL)
    yield from (after(span) for span in re.findall(r"`(vol3d [^`]+)`", prose))


def after(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    return words[words.index("vol3d") + 1 :]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_its_commands_are_understood(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for name, text in OWN.items():
        (tmp_path / name).write_text(text)
    wrong = []
    for name, *words in commands(page.read_text()):
        if any("..." in word for word in words) or name in ("VERB", "--help", "--version"):
            continue
        assert name in verbs(), name
        if not words or words[0] == "--help":  # a verb is named, no command given
            continue
        try:
            fill(name, load_verb(name), [w for w in words if w != "--dry-run"])
        except ConfigError as error:
            wrong.append(f"vol3d {name} {shlex.join(words)}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_it_points_to_is_there(page: Path):
    text = page.read_text()
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", re.sub(FENCE, "", text, flags=re.DOTALL))
    assert not [link for link in links if not (page.parent / link).exists()]
