"""Trains one task on several engines in turn, in however many processes it was started.

python -m tests.training.curves FOLDER STAGE ENGINE ... -- WORDS ...
"""

import sys
from pathlib import Path

from vol3d.cli import fill, load_verb
from vol3d.ranks import joined
from vol3d.roll_call import leave

folder, *rest = sys.argv[1:]
engines, words = rest[: rest.index("--")], rest[rest.index("--") + 1 :]
with joined("cpu") as ranks:
    for name in engines:
        kind = f"{{kind: deepspeed, stage: {name[-1]}}}" if name.startswith("zero") else name
        run = Path(folder) / f"{name}-{ranks.world}"
        fill("train", load_verb("train"), [f"run={run}", f"engine={kind}", *words]).work(ranks)
leave(0)
