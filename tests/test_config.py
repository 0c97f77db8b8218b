"""Settings: what a mistake looks like, and that what is saved is the exact rerun."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, PositiveInt

from vol3d.config import Config
from vol3d.diffusion.model import Diffusion
from vol3d.errors import ConfigError


class Heun(Config):
    kind: Literal["heun"] = "heun"
    churn: float = 0.0


class Ddim(Config):
    kind: Literal["ddim"] = "ddim"
    eta: float = Field(default=0.0, ge=0, le=1)


class Optim(Config):
    lr: float = 1e-3


class Run(Config):
    seed: int = 0
    optim: Optim = Optim()
    sampler: Annotated[Heun | Ddim, Field(discriminator="kind")] = Heun()
    steps: PositiveInt = 4


def message(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        Run.read(None, list(overrides))
    return str(caught.value)


def test_overrides_are_read_as_yaml_reads_them():
    run = Run.read(None, ["optim.lr=1e-4", "sampler=ddim", "sampler.eta=0.5"])
    assert run.optim.lr == 1e-4
    assert run.sampler == Ddim(eta=0.5)


def test_what_says_no_kind_goes_with_any():
    assert Run.read(None, ["sampler.eta=0.5", "sampler.kind=ddim"]).sampler == Ddim(eta=0.5)
    assert Run.read(None, ["sampler={kind: heun, churn: 1}", "sampler.kind=ddim"]).sampler == Ddim()


def test_unknown_key_names_the_nearest():
    assert message("optmi.lr=1") == (
        "unknown key 'optmi'. Did you mean 'optim'? Known: seed, optim, sampler, steps."
    )


def test_unknown_key_inside_groups():
    assert "unknown key 'optim.lrr'. Did you mean 'lr'? Known: lr." in message("optim.lrr=1")
    assert "unknown key 'sampler.chrun'. Did you mean 'churn'?" in message("sampler.chrun=1")
    assert "unknown key 'sampler.churn'" in message("sampler=ddim", "sampler.churn=1")


def test_unknown_kind_names_the_nearest():
    text = message("sampler=huen")
    assert text == "sampler: unknown kind 'huen'. Did you mean 'heun'? Known: ddim, heun."


def test_a_menu_without_a_default_needs_its_kind():
    class Needy(Config):
        sampler: Annotated[Heun | Ddim, Field(discriminator="kind")]

    with pytest.raises(
        ConfigError, match=r"sampler\.kind: is needed and was not given\. Known: ddim, heun"
    ):
        Needy.read(None, ["sampler.eta=0.5"])


def test_values_out_of_range_and_of_the_wrong_type():
    assert message("steps=0") == "steps: Input should be greater than 0, got 0"
    assert "optim.lr: Input should be a valid number" in message("optim.lr=fast")
    assert "got 'fast'" in message("optim.lr=fast")
    assert "sampler.eta" in message("sampler=ddim", "sampler.eta=2")


def test_all_unknown_keys_are_told_at_once():
    assert {"'sed'", "'stps'"} <= set(message("sed=1", "stps=2").replace(".", " ").split())


def test_not_a_setting():
    assert "key=value" in message("seed")


def test_based_on_and_kind_replaces_the_group(tmp_path: Path):
    (tmp_path / "base.yaml").write_text(
        "seed: 7\nsampler: {kind: heun, churn: 3}\noptim: {lr: 2e-4}\n"
    )
    (tmp_path / "top.yaml").write_text("based_on: base.yaml\nsampler: {kind: ddim}\nsteps: 9\n")
    run = Run.read(tmp_path / "top.yaml", ["steps=2"])
    assert run == Run(seed=7, sampler=Ddim(), optim=Optim(lr=2e-4), steps=2)


def test_what_is_written_reads_back_equal(tmp_path: Path):
    run = Run(seed=3, sampler=Ddim(eta=0.25), optim=Optim(lr=1e-5))
    run.write(tmp_path / "c.yaml")
    assert Run.read(tmp_path / "c.yaml") == run


def test_missing_and_broken_files(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such config file"):
        Run.read(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigError, match="not readable as YAML"):
        Run.read(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match=r"list\.yaml: values by name are due.*holds a list"):
        Run.read(tmp_path / "list.yaml")


def test_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Run().seed = 1


def test_an_entry_taken_away_stays_away():
    settings = {"model": {"kind": "unet"}, "conditions": {"vector": None, "t": {"kind": "tokens"}}}
    config = Diffusion.parse(settings)
    assert config.conditions["vector"] is None
    again = Diffusion.parse(config.dump())
    assert again == config
    assert again.dump() == config.dump()
