"""A cohort that a generator makes, as a dataset on disk: whose it is, its table, what was measured."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from vol3d.data.bids_writer import (
    DESCRIPTION,
    read_maker,
    sidecar_of,
    write_description,
    write_json,
    write_participants,
    write_text,
)
from vol3d.data.covariate_types import Number, Row
from vol3d.data.tables import read_rows
from vol3d.diffusion.model import Sampler
from vol3d.diffusion.sampler_interface import Around, as_it_is
from vol3d.errors import ConfigError
from vol3d.io.files import is_free
from vol3d.io.progress import track
from vol3d.io.reading import read_json, under
from vol3d.trained.generator import TrainedGenerator
from vol3d.trained.segmenter import TrainedSegmenter
from vol3d.volume import Volume

Planned = tuple[int, Row, Row]
"""Seed, what was asked for, and the complete row of a brain."""
MEASURED = "Measured"
"""Under this a sidecar holds the volumes in ml, and who measured them."""
README = """\
Brains that do not exist, made by vol3d generate

No image is of anybody. participants.tsv has the seed of each brain and the covariates that its model
was told; the sidecar of each image names the model, the sampler and what was asked for. A brain depends
on its seed and covariates alone: the same words make it again. sourcedata/contact_sheet.png shows the
first of them. desc-brain_mask says where the brain is; outside it an image is 0. Columns
measured_... of participants.tsv, if there are any, are volumes that a segmenter found in the images.

Not for diagnosis. How well the volumes that were asked for come out is measured by vol3d evaluate.
"""
LICENCE = "That of the model that made them; see its card"


def drawn(
    model: TrainedGenerator,
    plan: list[Planned],
    images: Callable[[int], Mapping[str, Volume]],
    around: Around = as_it_is,
) -> Iterator[tuple[Planned, Volume]]:
    """The brains of a plan, one after another, each as it will be on every other day.

    Args:
        model: that draws them.
        plan: in any order; no seed twice.
        images: those that guide the sample of a seed, by name.
        around: what is put around the denoiser, such as one that can be stopped.

    Returns:
        Images in [0, 1], float32; or labels, int16.
    """
    size = model.sampler.micro_batch
    for some in batches(plan, model):
        rows, seeds = [row for _, _, row in some], [seed for seed, _, _ in some]
        x = model.generate(rows, seeds, [images(seed) for seed in seeds], around)
        x = x[:, 0].cpu().numpy()
        x = x.astype(np.int16) if model.codec.is_labels else x  # [B, X, Y, Z]
        affine, code = model.grid_of(rows[0]).affine, model.fingerprint["space_code"]
        for place, planned in enumerate(some):
            if planned[0] % size == place:
                yield planned, Volume(x[place], affine, code)


def batches(plan: list[Planned], model: TrainedGenerator) -> Iterator[list[Planned]]:
    """Batches of one grid and exactly micro_batch brains, in which seed s has place s % micro_batch.

    Arithmetic can differ in the last bit from place to place, so the place is the seed's. A place
    that no seed is left for repeats a neighbour.
    """
    size = model.sampler.micro_batch
    for shape in sorted({model.grid_of(row).shape for _, _, row in plan}):
        alike = [p for p in plan if model.grid_of(p[2]).shape == shape]
        queues = [[p for p in alike if p[0] % size == place] for place in range(size)]
        for i in range(max(map(len, queues))):
            some = [q[i] if i < len(q) else None for q in queues]
            filler = next(p for p in some if p is not None)
            yield [p or filler for p in some]


def claim(out: Path, bundle: str, sampler: Sampler, *, any_precision: bool = False) -> Sampler:
    """Take a free folder by describing it, or check that it is of the same model and sampler.

    Args:
        out: the folder.
        bundle: the checksum of the model that is to make the cohort.
        sampler: how.
        any_precision: go on in the precision that the cohort was begun in, whichever that is.

    Returns:
        The sampler with which the cohort is made.

    Raises:
        ConfigError: it holds something else.
    """
    settings = {"bundle": bundle, "sampler": sampler.dump()}
    if is_free(out):
        made_by = {
            "Name": "vol3d generate",
            "Description": "synthetic brains; nobody real",
            "Settings": settings,
        }
        # Of several that find it free at once, the first one's stays, and all read that.
        write_description(out, "vol3d synthetic cohort", LICENCE, made_by, keep=True)
        write_text(out / "README", README, keep=True)
    if not (out / DESCRIPTION).is_file():
        raise ConfigError(f"{out}: holds something that is no cohort of ours; name another folder")
    made_by = read_maker(out)
    begun = under(made_by, "Settings")
    if any_precision and (precision := under(begun, "sampler").get("precision")):
        settings["sampler"]["precision"] = precision
    if made_by.get("Name") != "vol3d generate" or begun != settings:
        raise ConfigError(
            f"{out}: holds a dataset of another origin, model or sampler; name another folder"
        )
    return Sampler.parse(settings["sampler"])


def write_table(
    out: Path, plan: list[Planned], paths: dict[int, Path], model: TrainedGenerator
) -> None:
    """participants.tsv, which grows where more brains are asked for, or measured, later."""
    columns: dict[str, dict] = {"seed": {"Description": "fixes the noise of the sample"}}
    for c in model.schema.columns:
        unit = c.unit if isinstance(c, Number) else ""
        columns[c.name] = described(f"{c.name} that the model was told", unit)
    table = out / "participants.tsv"
    before = {r["participant_id"]: r for r in read_rows(table)} if table.is_file() else {}
    rows = {
        name_of(seed): {
            **before.get(name_of(seed), {}),
            "participant_id": name_of(seed),
            "seed": seed,
            **{n: shown(row[n]) for n in model.schema.names},
        }
        for seed, _, row in plan
    }
    for seed, path in paths.items():
        told = under(read_json(sidecar_of(path)), MEASURED) if sidecar_of(path).is_file() else {}
        for structure, ml in under(told, "Volumes").items():
            words = (
                f"{structure} that a segmenter (SHA-256 {told.get('Segmenter')}) found in the image"
            )
            columns[f"measured_{structure}"] = described(words, "ml")
            rows[name_of(seed)][f"measured_{structure}"] = shown(ml)
    if before:
        columns = {**read_json(table.with_suffix(".json")), **columns}
    names = ["participant_id", *columns]
    whole = [{n: row.get(n) for n in names} for _, row in sorted({**before, **rows}.items())]
    write_participants(out, whole, columns)


def described(words: str, unit: str) -> dict[str, str]:
    """What participants.json says of a column."""
    return {"Description": words, **({"Units": {"ml": "mL"}.get(unit, unit)} if unit else {})}


def measure(paths: list[Path], segmenter: TrainedSegmenter) -> None:
    """Put the volumes of brains into their sidecars, as measured in the images that were written."""

    def lacks(path: Path) -> bool:
        told = under(read_json(sidecar_of(path)), MEASURED)
        return told.get("Segmenter") != segmenter.checksum

    for path in track([p for p in paths if lacks(p)], "measure"):
        brain = Volume.read(path)
        x = torch.from_numpy(brain.data)[None, None]
        ml = segmenter.measure(x.float(), brain.grid.voxel_ml)[0]
        told = {"Segmenter": segmenter.checksum, "Volumes": {k: round(v, 4) for k, v in ml.items()}}
        write_json(sidecar_of(path), {**read_json(sidecar_of(path)), MEASURED: told})


def name_of(seed: int) -> str:
    """A brain is called by its seed."""
    return f"sub-{seed:06d}"


def entities_of(model: TrainedGenerator, desc: str) -> dict[str, str]:
    """What the names of a cohort's files say."""
    return {**model.fingerprint.get("entities", {}), "desc": desc}


def shown(value: float | str | None) -> str | None:
    """A covariate as a table shows it."""
    return f"{value:.4f}" if isinstance(value, float) else value
