"""The menu of engines: what shares a training out over processes."""

from typing import Any

from vol3d.config import menu
from vol3d.training.engines.deepspeed import DeepSpeed
from vol3d.training.engines.torch import Torch

EngineKind: Any = menu("engines", Torch, DeepSpeed)
