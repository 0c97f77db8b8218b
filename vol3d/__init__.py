"""vol3d: learn a generator of 3-D brain MRI from your own scans, and use it.

`import vol3d as v` offers what docs/api.md lists. Nothing of it is loaded before it is used.
"""

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vol3d.api.autoencoder import Autoencoder, Latent
    from vol3d.api.generator import Generated, Generator
    from vol3d.api.models import load
    from vol3d.api.registrar import Registrar, Registration
    from vol3d.api.segmenter import Segmenter
    from vol3d.api.volumes import read, show
    from vol3d.errors import ConfigError, DataError, RunError, Vol3dError
    from vol3d.trained.segmentation import Segmentation
    from vol3d.volume import Grid, Volume

__version__ = "0.1.0"

# Pages of 2 MB for large tensors on the CPU: the kernel hands out fresh memory twice as fast.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# A process of several that ends early is named in a line of our own, not in stack traces of C++.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

PLACES = {
    **dict.fromkeys(["ConfigError", "DataError", "RunError", "Vol3dError"], "vol3d.errors"),
    **dict.fromkeys(["Grid", "Volume"], "vol3d.volume"),
    **dict.fromkeys(["Generated", "Generator"], "vol3d.api.generator"),
    **dict.fromkeys(["Autoencoder", "Latent"], "vol3d.api.autoencoder"),
    **dict.fromkeys(["Registrar", "Registration"], "vol3d.api.registrar"),
    "Segmenter": "vol3d.api.segmenter",
    "Segmentation": "vol3d.trained.segmentation",
    "load": "vol3d.api.models",
    **dict.fromkeys(["read", "show"], "vol3d.api.volumes"),
}
"""The names that stay as they are, and where each is; the verbs, as functions, beside them."""
VERBS = Path(__file__).parent / "verbs"


def __getattr__(name: str) -> Any:
    """A name of `PLACES`, or a verb, loaded when it is asked for (PEP 562)."""
    if name in PLACES:
        found = getattr(importlib.import_module(PLACES[name]), name)
    elif name in functions():
        from vol3d.api.verbs import call_of

        found = call_of(functions()[name])
    else:
        raise AttributeError(f"module 'vol3d' has no attribute '{name}'")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*PLACES, *functions(), "__version__"})


def functions() -> dict[str, str]:
    """Each verb's name in Python, such as import_ and sample_cohort, with its name in a shell."""
    names = [path.stem for path in VERBS.glob("[a-z]*.py")]
    return {name: name.rstrip("_").replace("_", "-") for name in names}
