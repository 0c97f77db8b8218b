"""Pack the models that come with vol3d: weights in half precision, and a card that says who they are of.

python scripts/pack_ready.py RUN OUT       RUN as scripts/make_ready.sh leaves it
"""

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from vol3d.bundle import Bundle, write_bundle

ABOUT = """\
> Comes with vol3d under the name `ready`, to try everything with. **Its people are imagined**: it was
> trained on the cohort of `vol3d sample-cohort`, the ICBM 152 template (2009a, symmetric) warped,
> so nothing about real brains can be learnt from it. Made by `scripts/make_ready.sh`; weights are stored
> in half precision. Template: Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre,
> Montreal Neurological Institute, McGill University; free to use, copy, modify and distribute with this
> notice; provided "as is" without express or implied warranty. The weights: Apache-2.0, as vol3d.

"""


def pack(source: Path, target: Path, inside: dict[str, Path] | None = None) -> str:
    """Write a bundle anew in half precision, with what is packed already inside; its checksum."""
    bundle = Bundle(source)
    documents = {k: v for k, v in bundle.documents.items() if k != "versions"}
    if inside:
        documents["fingerprint"]["latents"]["autoencoder"] = Bundle(inside["autoencoder"]).checksum
    return write_bundle(
        target,
        config=bundle.config,
        weights={k: v.half() if v.is_floating_point() else v for k, v in bundle.weights().items()},
        documents=documents,
        card=ABOUT + (bundle.path / "README.md").read_text(),
        inside=inside,
    )


def main(run: Path, out: Path) -> None:
    """Pack generator, segmenter and registrar of a run into a folder that is replaced."""
    shutil.rmtree(out, ignore_errors=True)
    with TemporaryDirectory() as folder:
        autoencoder = Path(folder) / "autoencoder"
        pack(run / "diffusion" / "bundle" / "autoencoder", autoencoder)
        pack(run / "diffusion", out / "diffusion", {"autoencoder": autoencoder})
    for name in ("segmenter", "registrar"):
        pack(run / name, out / name)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
