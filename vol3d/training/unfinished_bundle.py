"""A bundle of a run that has not finished, made of its last checkpoint and marked as that."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

from vol3d.bundle import write_bundle
from vol3d.io.reading import read_json
from vol3d.tasks.job import Job
from vol3d.training.checkpoint import Stored, check_scans, digest
from vol3d.training.loop import Training


def write_interim(training: Training, checkpoint: Path, job: Job) -> Path:
    """RUN/interim/CHECKPOINT: as the run's bundle would be if it ended there; made unless it is there.

    A ConfigError where the training scans are no longer those of the checkpoint.
    """
    target = training.run / "interim" / checkpoint.name
    if target.is_dir():
        return target
    state = read_json(checkpoint / "state.json")
    check_scans(training.run, state["scans"], digest(job.scans))
    stored = Stored(checkpoint / "tensors.safetensors")
    for name in job.averaged:
        stored.under(f"{name}/ema/").fill(job.nets[name])
    told = job.bundle(SimpleNamespace(averaged=job.nets))
    seen, total = state["nimg"], training.total_nimg
    told["documents"]["training"] = {"images": seen, "of": total, "batch": training.batch}
    told["card"] = f"**Its training has not finished: {seen} of {total} images.**\n\n{told['card']}"
    mine = target.with_name(f".{target.name}.{uuid4().hex}")
    write_bundle(mine, **told)
    try:
        os.replace(mine, target)
    except OSError:  # another process was faster, and its bundle is the same
        shutil.rmtree(mine)
    return target
