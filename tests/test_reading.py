"""Whatever comes from outside and is not as it should be is told in one line, with the file's name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import vol3d
from tests.conftest import verb
from vol3d.bundle import CHECKSUMS
from vol3d.cli import outcome
from vol3d.config import read_yaml
from vol3d.data.bids_writer import read_maker, write_tsv
from vol3d.data.datasets import Table
from vol3d.data.latents import LatentImages
from vol3d.data.preparation.transforms import read_native_grid
from vol3d.data.tables import read_rows
from vol3d.diffusion.model import Sampler
from vol3d.errors import ConfigError, Vol3dError
from vol3d.io.files import make_folder, sha256
from vol3d.models.monai.zoo import Zoo
from vol3d.nn.perceptual import resnet_features
from vol3d.trained import TrainedGenerator
from vol3d.trained.generated_cohort import claim
from vol3d.training.checkpoint import damage
from vol3d.training.log import RunLog
from vol3d.verbs.generate import is_made

READY = Path(vol3d.__file__).parent / "ready" / "diffusion"


def one_line(what: Callable[[], object], *words: str) -> None:
    with pytest.raises(Vol3dError) as caught:
        what()
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value


def edited(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def sealed(bundle: Path) -> None:
    """With checksums that are right: somebody meant it."""
    (bundle / CHECKSUMS).unlink()
    files = sorted(p for p in bundle.rglob("*") if p.is_file())
    sums = {p.relative_to(bundle).as_posix(): sha256(p) for p in files}
    (bundle / CHECKSUMS).write_text(json.dumps(sums))


BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
BUNDLES = {
    "a YAML tag": ("config.yaml", "a: !!python/object/apply:os.system [ls]\n"),
    "YAML of another kind": ("config.yaml", "- 1\n"),
    "a line that stands for billions": ("config.yaml", BOMB),
    "a list that holds itself": ("config.yaml", "a: &a [*a]\n"),
    "an unknown setting": ("config.yaml", "kind: diffusion\nfoo: 1\n"),
    "JSON of another kind": ("covariates.json", "[]"),
    "JSON too deep": ("covariates.json", "[" * 100_000),
    "an odd schema": ("covariates.json", '{"columns": 5}'),
    "no weights": ("model.safetensors", "hello"),
    "no grid": ("fingerprint.json", lambda d: d.update(grids=[{"shape": 3}])),
    "a path in a word": ("fingerprint.json", lambda d: d.update(entities={"space": "../../x"})),
    "no latents": ("fingerprint.json", lambda d: d.pop("latents")),
}
SUMS = {
    "cut off": ("is no JSON", '{"config.ya'),
    "of another kind": ("a mapping", "[1]"),
    "of nothing": ("does not vouch for config.yaml", "{}"),
    "no text": ("is not text", b"\xff\xfe"),
    "a path that leads out": ("within", lambda d: d.update({"../../etc/passwd": "x"})),
    "an absolute path": ("within", lambda d: d.update({"/etc/passwd": "x"})),
}


def changed(path: Path, content: object) -> None:
    if callable(content):
        edited(path, content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content)


def test_a_bundle_that_lies(tmp_path: Path):
    for name, (file, content) in BUNDLES.items():
        bundle = shutil.copytree(READY, tmp_path / name)
        changed(bundle / file, content)
        sealed(bundle)
        one_line(lambda b=bundle: TrainedGenerator(b), f"{bundle / file}: ")
    for name, (words, content) in SUMS.items():
        bundle = shutil.copytree(READY, tmp_path / name)
        changed(bundle / CHECKSUMS, content)
        one_line(lambda b=bundle: TrainedGenerator(b), name, CHECKSUMS, words)


def test_a_link_that_leads_out_of_a_bundle_is_not_followed(tmp_path: Path):
    bundle = shutil.copytree(READY, tmp_path / "b")
    (bundle / "README.md").rename(tmp_path / "secret")
    (bundle / "README.md").symlink_to(tmp_path / "secret")
    one_line(lambda: TrainedGenerator(bundle), "names 'README.md'", "cp -rL")


def test_latents_that_lie(tmp_path: Path):
    scan = {"name": "sub-1", "subject": "1", "session": None, "split": "train", "covariates": {}}
    images = {"shape": [4, 4, 4], "affine": np.eye(4).tolist(), "space_code": 4}
    good = {
        "z_channels": 1, "shift": [0.0], "scale": [1.0], "latent_shape": [1, 1, 1],
        "autoencoder": "", "images": images, "scans": [{**scan, "file": "a.safetensors"}],
    }  # fmt: skip
    manifest = tmp_path / "latents.json"
    manifest.write_text(json.dumps(good))
    LatentImages(tmp_path)
    for odd in (
        {"scans": [{**scan, "file": "../a.safetensors"}]},
        {"scans": [scan]},
        {"scans": 7},
        {"shift": [0.0, 0.0]},
        {"images": []},
        {"images": {**images, "affine": [[0.0] * 4] * 4}},
    ):
        manifest.write_text(json.dumps({**good, **odd}))
        one_line(lambda: LatentImages(tmp_path), f"{manifest}: ")


@pytest.mark.parametrize(
    "made_by", ["x", {}, [], ["x"], [{"Name": "vol3d generate", "Settings": [1]}],
                [{"Name": "vol3d generate", "Settings": {"sampler": "x"}}]]
)  # fmt: skip
def test_a_description_that_lies(tmp_path: Path, made_by: object):
    (tmp_path / "dataset_description.json").write_text(json.dumps({"GeneratedBy": made_by}))
    assert isinstance(read_maker(tmp_path), dict)
    sampler = Sampler(precision="fp32")
    one_line(lambda: claim(tmp_path, "", sampler, any_precision=True), "another origin")


def test_sidecars_and_tables_that_cannot_be_read(tmp_path: Path):
    side, table, weights = (tmp_path / n for n in ("a.json", "t.tsv", "w.pt"))
    side.write_text('{"Covariates": ')
    one_line(lambda: is_made(tmp_path / "a.nii.gz", {}, {}), f"{side}: ")
    table.write_bytes(b"subject\timage\nx\t" + b"y" * 200_000 + b"\n")
    one_line(lambda: read_rows(table), f"{table}: ", "as a table")
    (tmp_path / "i.nii.gz").touch()
    table.write_text("subject\timage\n../../x\ti.nii.gz\n")
    one_line(Table(path=table).scans, "'sub-../../x'")
    write_tsv(table, [{"participant_id": "x", "sex": "a\tb\nc"}])
    assert read_rows(table) == [{"participant_id": "x", "sex": "a b c"}]
    weights.write_text("hello")
    one_line(lambda: resnet_features("resnet10", weights, sha256(weights)), f"{weights}: ")


def test_notes_and_models_of_others_that_cannot_be_read(tmp_path: Path):
    note = tmp_path / "log.jsonl"
    note.write_text("[1]\n")
    one_line(lambda: RunLog(tmp_path, 1), f"{note}: ")
    note = tmp_path / "inference.json"
    for content in ("[]", '{"net": {"_target_": "AutoencoderKL", "channels": 5}}'):
        note.write_text(content)
        one_line(
            lambda: Zoo(tmp_path, tmp_path / "inference.json").said_of("autoencoder"), str(note)
        )
    note = tmp_path / "xfm.json"
    note.write_text('{"NativeShape": 5, "NativeAffine": []}')
    one_line(lambda: read_native_grid(tmp_path / "xfm.txt"), f"{note}: ", "native=FILE")
    for sums in ("[1]", '{"../x": ""}', '{"a'):
        (tmp_path / "checksums.json").write_text(sums)
        assert damage(tmp_path) == "its checksums cannot be read"


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file/out: this folder cannot be made"):
        make_folder(tmp_path / "file" / "out")
    one_line(
        lambda: verb("sample-cohort", str(tmp_path / "file" / "out"), "n=1"), "cannot be written"
    )


def test_what_the_system_refuses_is_one_line_of_the_command(capsys: pytest.CaptureFixture):
    assert outcome(["train", f"{'x' * 300}.yaml"]) == 1
    told = capsys.readouterr().err
    assert told.endswith("x.yaml: File name too long\n")
    assert told.count("\n") == 1


def test_a_config_that_is_based_on_itself(tmp_path: Path):
    for text, words in (("based_on: a.yaml\n", "itself"), ("based_on: 5\n", "list of files")):
        (tmp_path / "a.yaml").write_text(text)
        one_line(lambda: read_yaml(tmp_path / "a.yaml"), words)
