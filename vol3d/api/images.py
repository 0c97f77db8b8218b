"""Images that are given in Python: files, or volumes in memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import PlainValidator

from vol3d.data.native_scan import volume_of
from vol3d.io.header import Header, read_header
from vol3d.io.text import kind_of
from vol3d.volume import Volume


def an_image(given: Any) -> Path | str | Volume:
    """A file or a volume; a ValueError that says so, of anything else."""
    if not isinstance(given, Path | str | Volume):
        raise ValueError(
            f"a file or a volume is due, got {kind_of(given)}; v.Volume(array, affine) is an array that "
            f"knows where it lies"
        )
    return given


def some_images(given: Any) -> Any:
    """An image, or several by contrast; a ValueError of anything else."""
    if not isinstance(given, Mapping):
        return an_image(given)
    if not given:
        raise ValueError("one or more are due, by contrast: {'T1w': ...}")
    return {str(name): an_image(one) for name, one in given.items()}


Image = Annotated[Path | str | Volume, PlainValidator(an_image)]
"""A file that nibabel knows, or a volume."""
Images = Annotated[
    Path | str | Volume | Mapping[str, Path | str | Volume], PlainValidator(some_images)
]
"""An image, or several by contrast."""


def header_of(image: Image, name: str) -> Header:
    """A file's header, or that of a volume, which messages call `name`."""
    return image.header(name) if isinstance(image, Volume) else read_header(Path(image))


def seen(image: Image, name: str) -> Volume:
    """The volume of an image; warns of what is in doubt about its place."""
    return volume_of(header_of(image, name))
