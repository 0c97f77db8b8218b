"""The prepared dataset on disk: where files go, what the sidecars say, and what is carried over."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import SimpleITK as sitk

import vol3d
from vol3d.data.bids_writer import MNI_SPACE, anat_path, parse_entities, sidecar_of, write_json
from vol3d.data.preparation.intensity import MEANING, STEP
from vol3d.data.preparation.other_contrasts import Beside
from vol3d.data.preparation.pipeline import Prepared, Steps, ignore, prepare
from vol3d.data.preparation.transforms import keep_transform, transform_path
from vol3d.data.visit import Visit
from vol3d.errors import Vol3dError
from vol3d.io.files import sha256
from vol3d.io.reading import read_json, understood


@dataclass(frozen=True)
class Place:
    """Where the files of a scan go.

    Attributes:
        contrast: which kind of image is aligned to the template, such as T1w; others are aligned to it.
    """

    folder: Path
    raw: Path
    contrast: str

    def image(self, scan: Visit, steps: Steps, contrast: str = "") -> Path:
        """The brain, of the first contrast if none is named."""
        kind = contrast or self.contrast
        return anat_path(self.folder, scan.name, entities(steps, "brain"), kind)

    def files(self, scan: Visit, steps: Steps) -> Iterator[Path]:
        """All that a visit comes to, but the sidecar of the first image."""
        yield self.mask(scan, steps)
        yield from [self.labels(scan, steps)] if scan.labels else []
        for contrast in scan.images:
            image = self.image(scan, steps, contrast)
            yield from (image, self.transform(scan, contrast))
            yield from [sidecar_of(image)] if contrast != self.contrast else []

    def mask(self, scan: Visit, steps: Steps) -> Path:
        """Its mask."""
        return anat_path(self.folder, scan.name, entities(steps, "brain"), "mask")

    def labels(self, scan: Visit, steps: Steps) -> Path:
        """Its label map; it keeps its word for what the labels are."""
        desc = parse_entities(scan.label_map).get("desc", "labels")
        return anat_path(self.folder, scan.name, entities(steps, desc), "dseg")

    def transform(self, scan: Visit, contrast: str = "") -> Path:
        """The way back, of the first contrast if none is named."""
        return transform_path(self.folder, scan.name, contrast or self.contrast)


def entities(steps: Steps, desc: str) -> dict[str, str]:
    """The words of the file names; BIDS takes letters and digits only, so 1.5 is 1p5."""
    return {"space": MNI_SPACE, "res": f"{steps.spacing:g}".replace(".", "p"), "desc": desc}


def prepare_and_write(
    scan: Visit, place: Place, steps: Steps, on_stage: Callable[[str], None] = ignore
) -> str | None:
    """Prepare a scan and write its files; why not in one line, where that failed.

    Whatever goes wrong with one scan must not stop the others.
    """
    start = time.monotonic()
    try:
        with one_thread():
            done = prepare(scan, place.raw, steps, on_stage)
            on_stage("files")
            write(scan, place, steps, done, start)
    except Vol3dError as error:
        return str(error)
    except Exception as error:  # ITK, the file system: a scan may fail in any way
        first = (str(error).strip() or "no word why").splitlines()[-1]
        return f"{scan.image}: {type(error).__name__}: {first}"
    return None


@contextmanager
def one_thread() -> Iterator[None]:
    """ITK in one thread: scans run side by side, and sums come out the same on every machine."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def write(scan: Visit, place: Place, steps: Steps, done: Prepared, start: float) -> None:
    """All files of a scan; the image's sidecar last."""
    where = {
        "SpatialReference": f"{MNI_SPACE} template, as shipped with nilearn",
        "Resolution": f"{steps.grid} isotropic, {'x'.join(map(str, done.image.shape))} voxels",
        "Sources": [source_of(scan.image, place)],
    }
    mask = place.mask(scan, steps)
    done.mask.write(mask)
    found = {"Description": done.found.method, "Approximate": done.found.approximate}
    write_json(sidecar_of(mask), {"Type": "Brain", **found, **where})
    if done.labels is not None:
        labels = place.labels(scan, steps)
        done.labels.write(labels)
        about = {"Description": "the data set's labels, nearest neighbour", "Manual": False}
        write_json(sidecar_of(labels), {**about, **where})
    for contrast, other in done.beside.items():
        about = {"Description": f"{contrast} brain, rigidly aligned to the {place.contrast}"}
        write_image(scan, place, steps, contrast, other, {**about, **where})
    software = {p: version(p) for p in ("SimpleITK", "nilearn", "scipy")}
    about = {
        "Description": f"{place.contrast} brain, {steps.align}ly aligned",
        **where,
        "SourceSHA256": digest(scan),
        "Steps": steps_told(steps, done),
        "Software": {"vol3d": vol3d.__version__, **software},
        "QC": done.measures,
        "Seconds": round(time.monotonic() - start, 1),
    }
    write_image(scan, place, steps, place.contrast, done, about)


def source_of(image: Path, place: Place) -> str:
    """A raw image as BIDS names it."""
    return f"bids:raw:{image.relative_to(place.raw).as_posix()}"


def write_image(
    scan: Visit, place: Place, steps: Steps, contrast: str, made: Prepared | Beside, about: dict
) -> None:
    """One contrast of a visit: the way back, the brain, and last the sidecar."""
    source, transform = source_of(scan.images[contrast], place), place.transform(scan, contrast)
    keep_transform(transform, made.transform, made.native, source)
    image = place.image(scan, steps, contrast)
    made.image.write(image, slope=STEP)
    content = {
        **about,
        "SkullStripped": True,
        "Sources": [source],
        "Transform": transform.relative_to(place.folder).as_posix(),
        "Intensity": MEANING,
        "IntensityOffset": made.offset,
        "IntensityOne": made.one,
    }
    write_json(sidecar_of(image), content)


def digest(scan: Visit) -> str:
    """The SHA-256 of a visit's image; of several all of theirs, one after the other."""
    return "".join(map(sha256, scan.images.values()))


def steps_told(steps: Steps, done: Prepared) -> list[dict]:
    """What was done, in order, with its parameters."""
    bias = {"Name": "N4 bias field correction in the brain mask"}
    offset = {"Name": "a constant put on all intensities, so that they begin at 0"}
    return [
        {"Name": "reorientation to RAS+, no interpolation"},
        *([{**offset, "Parameters": {"offset": done.offset}}] if done.offset else []),
        {
            "Name": "brain mask",
            "Method": done.found.method,
            "Approximate": done.found.approximate,
            "Parameters": steps.mask.dump(),
        },
        *([{**bias, "Parameters": steps.bias.dump()}] if steps.bias else []),
        {
            "Name": f"{steps.align} registration to {MNI_SPACE}",
            "Method": "Mattes mutual information, gradient descent (SimpleITK)",
            "DegreesOfFreedom": 6 if steps.align == "rigid" else 12,
        },
        {"Name": f"linear resampling at {steps.grid}; nearest neighbour for labels"},
        {"Name": "intensity", "Method": MEANING},
    ]


def qc_row(image: Path) -> dict[str, object]:
    """What a complete scan's sidecar says for the QC table: its numbers."""
    sidecar = sidecar_of(image)
    with understood(sidecar):
        return {k: float(v) for k, v in read_json(sidecar)["QC"].items()}
