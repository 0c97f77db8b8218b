"""A folder of results by visit, as BIDS derivatives: names, whose folder it is, and what is complete."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vol3d.data.bids_writer import (
    DESCRIPTION,
    anat_place,
    parse_entities,
    read_maker,
    sidecar_of,
    write_description,
    write_text,
)
from vol3d.data.visit import Visit
from vol3d.errors import ConfigError
from vol3d.io.files import is_free, sha256
from vol3d.io.reading import read_json, under

KEPT = ("acq", "ce", "rec", "run", "space")
"""Entities of the input that results take over: they tell images apart, or say in which world voxels
lie. Not `res`, for which BIDS wants to be told, in each sidecar, what it means."""


@dataclass(frozen=True)
class Place:
    """Where the results of a visit go.

    Attributes:
        out: the folder.
        who: sub-X or sub-X_ses-Y, in letters and digits.
        entities: of the input, see `KEPT`.
        suffix: of the image whose sidecar completes the visit.
    """

    out: Path
    who: str
    entities: dict[str, str]
    suffix: str = "dseg"

    @classmethod
    def of(cls, out: Path, visit: Visit) -> "Place":
        """That of a visit, named as its first image is."""
        who = f"sub-{word(visit.subject)}" + (
            f"_ses-{word(visit.session)}" if visit.session else ""
        )
        said = parse_entities(visit.image) if visit.image.name.startswith("sub-") else {}
        kept = {k: v for k, v in said.items() if k in KEPT and word(v) == v}
        return cls(out, who, kept)

    def file(self, suffix: str, **entities: str) -> Path:
        """An image: `place.file("probseg", label="ventricles")`."""
        return anat_place(self.out, self.who, {**self.entities, **entities}, suffix)

    @property
    def sidecar(self) -> Path:
        """The file with which the visit is complete."""
        return sidecar_of(self.file(self.suffix))


@dataclass(frozen=True)
class Kind:
    """What a folder holds.

    Attributes:
        maker: the verb that writes it.
        name: of the dataset.
        description: in a few words.
        thing: one of its results, in a word.
        licence: of the results.
        readme: the text of README.
        ignored: names for which BIDS has no place.
    """

    maker: str
    name: str
    description: str
    thing: str
    licence: str
    readme: str
    ignored: Sequence[str]


def word(text: str) -> str:
    """Text as a BIDS name takes it: letters and digits alone."""
    return re.sub("[^A-Za-z0-9]", "", text)


def claim_folder(out: Path, kind: Kind, settings: dict[str, Any]) -> dict[str, Any]:
    """Take a free folder by describing it; the settings with which it is, or was, begun.

    Raises:
        ConfigError: it holds something else.
    """
    if is_free(out):
        made_by = {"Name": kind.maker, "Description": kind.description, "Settings": settings}
        # Of several that find it free at once, the first one's stays, and all read that.
        write_description(out, kind.name, kind.licence, made_by, keep=True)
        write_text(out / "README", kind.readme, keep=True)
        write_text(out / ".bidsignore", "".join(f"{t}\n" for t in kind.ignored), keep=True)
    if not (out / DESCRIPTION).is_file() or read_maker(out).get("Name") != kind.maker:
        raise ConfigError(f"{out}: holds something that is no {kind.thing}; name another folder")
    return under(read_maker(out), "Settings")


def check_begun(out: Path, begun: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuse, by a ConfigError, to go on with other settings; the first that differs is told."""
    for name, value in settings.items():
        if begun.get(name) != value:
            raise ConfigError(
                f"{out}: was begun with other {name} ({short(begun.get(name))}, now {short(value)}); "
                f"name another folder"
            )


def short(value: object) -> str:
    """A setting in a message."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def told_files(files: Mapping[str, Path | None]) -> dict[str, dict[str, str]]:
    """Files by name as a sidecar tells them, with their checksums; those that are None are left out."""
    return {
        name: {"File": path.name, "SHA256": sha256(path)} for name, path in files.items() if path
    }


def is_complete(at: Place, files: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether a visit was done already, from these files (see `told_files`).

    Raises:
        ConfigError: it was, from others.
    """
    if not at.sidecar.is_file():
        return False
    if read_json(at.sidecar).get("Inputs") != files:
        raise ConfigError(
            f"{at.sidecar}: is there already, of other images; remove it, or name another folder"
        )
    return True
