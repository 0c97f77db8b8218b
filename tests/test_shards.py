"""Work shared out: no gap, no overlap, and folders and tables that several processes write at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from vol3d.config import Config
from vol3d.diffusion.model import Sampler
from vol3d.distributed.shards import ALL, Shard, share, sum_up
from vol3d.errors import ConfigError
from vol3d.io.files import copy_folder, is_free, whole
from vol3d.trained.generated_cohort import claim


class Shared(Config):
    shard: Shard = ALL


@pytest.mark.parametrize("n", [0, 1, 7, 12])
@pytest.mark.parametrize("of", [1, 3, 4, 9])
def test_shares_are_everything_once_and_even(n: int, of: int):
    shares = [share(list(range(n)), f"{i + 1}/{of}") for i in range(of)]
    assert sorted(x for s in shares for x in s) == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["5/4", "0/4", "2", "2/", "a/b", "-1/4", "1/0", "2/4/8", "", "½"])
def test_what_is_no_part_is_refused_in_one_line(text: str):
    with pytest.raises(ConfigError) as caught:
        Shared.read(None, [f"shard={text}"])
    assert str(caught.value).startswith("shard: '")
    assert "the second of four is 2/4" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_part_is_kept_as_it_was_typed():
    settings = Shared.read(None, ["shard=12/40"])
    assert settings.dump() == {"shard": "12/40"}
    assert Shared.parse(settings.dump()) == settings


def test_a_summary_is_written_again_where_more_was_made_meanwhile(tmp_path: Path):
    table, looks = tmp_path / "table", []

    def made() -> list[str]:
        return sorted(p.name for p in tmp_path.glob("scan*"))

    def write(names: list[str]) -> None:
        looks.append(names)
        table.write_text(" ".join(names))
        (tmp_path / "scan2").touch()  # another shard, while this one wrote

    (tmp_path / "scan1").touch()
    sum_up(made, write)
    assert looks == [["scan1"], ["scan1", "scan2"]]
    assert table.read_text() == "scan1 scan2"


def at_once(n: int, work) -> list:
    """What `work(i)` gives or raises, in n threads that begin together."""
    barrier = Barrier(n)

    def one(i: int):
        barrier.wait()
        try:
            return work(i)
        except Exception as error:
            return error

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(one, range(n)))


@pytest.mark.parametrize("round_", range(10))
def test_of_several_cohorts_one_gets_the_folder(tmp_path: Path, round_: int):
    out = tmp_path / "cohort"
    results = at_once(8, lambda i: claim(out, "abc", Sampler(steps=1 + i % 4)))
    refused = [r for r in results if isinstance(r, ConfigError)]
    assert len(refused) == 6  # the two of the same settings go on
    assert all("another origin, model or sampler" in str(r) for r in refused)
    assert {p.name for p in out.iterdir()} == {"README", "dataset_description.json"}


def test_a_folder_copied_by_several_is_there_once_and_whole(tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    for i in range(20):
        (source / f"file{i}").write_text("x" * 1000)
    results = at_once(8, lambda i: copy_folder(source, tmp_path / "out" / "copy"))
    assert results == [None] * 8
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["copy"]
    assert {p.name for p in (tmp_path / "out" / "copy").iterdir()} == {
        p.name for p in source.iterdir()
    }


def test_a_folder_is_free_while_its_first_file_is_written(tmp_path: Path):
    out = tmp_path / "out"
    assert is_free(out)
    out.mkdir()
    with whole(out / "first.json") as shard:
        shard.write_text("{}")
        assert is_free(out)
    assert not is_free(out)
    assert not is_free(out / "first.json")


def test_the_first_file_stays_where_it_is_to_be_kept(tmp_path: Path):
    for text in ("one", "two"):
        with whole(tmp_path / "a", keep=True) as shard:
            shard.write_text(text)
    assert (tmp_path / "a").read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
