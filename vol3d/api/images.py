"""Images that are given in Python: files, or volumes in memory."""

from pathlib import Path

from vol3d.data.native_scan import volume_of
from vol3d.io.header import Header, read_header
from vol3d.volume import Volume

Image = Path | str | Volume
"""A file that nibabel knows, or a volume."""


def header_of(image: Image, name: str) -> Header:
    """A file's header, or that of a volume, which messages call `name`."""
    return image.header(name) if isinstance(image, Volume) else read_header(Path(image))


def seen(image: Image, name: str) -> Volume:
    """The volume of an image; warns of what is in doubt about its place."""
    return volume_of(header_of(image, name))
