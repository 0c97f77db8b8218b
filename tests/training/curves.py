"""Makes trainings one after the other, in however many processes it was started.

python -m tests.training.curves TRAININGS.json, a list of the words of each (`in_turn` in test_ranks.py)
"""

import json
import logging
import sys
from pathlib import Path

from vol3d.cli import fill, load_verb
from vol3d.distributed.heartbeat import leave
from vol3d.distributed.ranks import joined
from vol3d.training.engines import deepspeed

BUCKET = deepspeed.BUCKET
with joined("cpu") as ranks:
    logging.basicConfig(level=logging.INFO if ranks.first else logging.ERROR, force=True)
    for words in json.loads(Path(sys.argv[1]).read_text()):
        is_tight = "tight" in words[0]  # so little is sent and kept at a time that this is much
        deepspeed.BUCKET = 300_000 if is_tight else BUCKET
        fill("train", load_verb("train"), words).work(ranks)
leave(0)
