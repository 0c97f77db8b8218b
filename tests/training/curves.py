"""Trains one task on several engines in turn, in however many processes it was started.

python -m tests.training.curves FOLDER STAGE ENGINE ... -- WORDS ...
"""

import sys
from pathlib import Path

from vol3d.cli import fill, load_verb
from vol3d.ranks import joined
from vol3d.roll_call import leave
from vol3d.training.engines import deepspeed

folder, *rest = sys.argv[1:]
engines, words = rest[: rest.index("--")], rest[rest.index("--") + 1 :]
with joined("cpu") as ranks:
    for name in engines:
        stage = name.removeprefix("zero")[0]
        kind = f"{{kind: deepspeed, stage: {stage}}}" if name.startswith("zero") else name
        if name.endswith("-tight"):  # so little is sent and kept at a time that even this is much
            deepspeed.BUCKET = 300_000
        run = Path(folder) / f"{name}-{ranks.world}"
        fill("train", load_verb("train"), [f"run={run}", f"engine={kind}", *words]).work(ranks)
leave(0)
