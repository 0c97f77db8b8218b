"""Move an image, a label map or points through transforms, to another space and grid."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import SimpleITK as sitk
from pydantic import BeforeValidator, Field

from vol3d.config import Config, parse_override, several
from vol3d.data.bids_writer import holds_labels
from vol3d.data.points import Axes, is_table, read_points, write_points
from vol3d.errors import ConfigError, DataError
from vol3d.io.files import check_new_image, make_folder
from vol3d.io.header import Form, Header, read_header
from vol3d.transforms.overlap import lattice, overlap, overlaps_with_fields
from vol3d.transforms.resample import Interpolation, move_image, move_labels
from vol3d.transforms.transform import move_points
from vol3d.transforms.transform_file import read_chain, read_transform
from vol3d.volume import Grid, Volume, write_series

log = logging.getLogger(__name__)
SAME_MM = 0.01
"""Ends of a flow and of its transform are further apart only if they are of two registrations."""
TOLD_BELOW = 0.98
"""Where fields reach so large a share of what is not 0, the rest is not worth a word."""
MANY = 10_000
"""So many voxels stand for all of an image."""


def named(given: Any) -> Any:
    """One file, or a list of files, which may be one word: [a.h5,b.nii.gz]."""
    is_list = isinstance(given, str) and given.startswith("[")
    return several(parse_override(f"transform={given}")["transform"] if is_list else given)


class Transform(Config):
    """Move an image through transforms: vol3d transform TRANSFORM IMAGE OUT reference=FILE.

    TRANSFORM sends points of the fixed space, REFERENCE's, to the moving one, IMAGE's, as ITK and ANTs
    keep it (from-IMAGE_to-REFERENCE_mode-image_xfm): with it IMAGE moves onto REFERENCE's grid. Several
    are listed as for antsApplyTransforms: [warp.nii.gz,affine.mat] sends each voxel of REFERENCE through
    warp first, then affine, so IMAGE seems to move by affine first. IMAGE is read once, whatever their
    number. A field moves nothing outside its own grid.

    IMAGE may be a table (.tsv, .csv) with columns x, y, z in mm. Points go the way of the transform, from
    the fixed space to the moving one, as in antsApplyTransformsToPoints: inverse=true takes points of
    IMAGE along with it.
    """

    positional: ClassVar[tuple[str, ...]] = ("transform", "image", "out")
    transform: Annotated[list[Path], BeforeValidator(named), Field(min_length=1)]
    """Files of ITK and ANTs: fields (.nii.gz), .h5, .mat, .txt, .tfm; REFERENCE's points go through the
    first one first."""
    image: Path
    """NIfTI image of the moving space, or a table of points."""
    out: Path
    """NIfTI file to write; for points, a table."""
    reference: Path | None = None
    """NIfTI image on whose grid OUT lies, in the fixed space. Points need none."""
    interpolation: Interpolation = "linear"
    """linear, nearest or cubic; of label maps, linear takes the label with the largest share."""
    labels: bool | None = None
    """Whether values are labels, which must not be mixed; if not given, files named dseg or mask."""
    inverse: bool | list[bool] = False
    """true: the way back through all of them, so that IMAGE is of the fixed space and REFERENCE of the
    moving one; [false,true]: of those alone, each in its place, as ANTs' [affine.mat,1]."""
    coordinates: Axes = "RAS"
    """Where the axes of points go: RAS as in NIfTI, LPS as in ITK, ANTs and DICOM."""
    form: Form | None = None
    """sform or qform: what holds where a header says two things about left and right."""
    path: int | None = Field(default=None, ge=2)
    """Write so many images in place of one, 4-D: the way from IMAGE as it is to IMAGE moved, in even
    steps of time. For a transform of vol3d register, beside which lie its velocities."""
    overwrite: bool = False
    """Replace OUT if it is there."""

    def execute(self) -> Path:
        """Read, move, write."""
        if is_table(self.image):
            return self.move_table()
        reference, volume, chain = self.opened()
        grid = Grid(reference.shape, reference.affine)
        ways = self.way() if self.path else [chain]
        frames = [self.move_volume(volume, T, grid) for T in ways]
        if volume.data.any() and not frames[-1].data.any():
            gap = overlap(move_points(chain, lattice(grid)), volume.grid).gap_mm
            raise DataError(
                f"{self.image}: nothing of it comes to lie on the grid of {self.reference}; after the "
                f"transform {gap:.0f} mm lie between them; are both what it is for, or is the way back "
                f"due (inverse=true)?"
            )
        if len(points := points_of(frames[-1])):  # an empty mask has none
            self.tell_missed(chain, points, self.image)
        make_folder(self.out.parent)
        if self.path:
            write_series(self.out, frames, reference.space_code)
        else:
            Volume(frames[0].data, grid.affine, reference.space_code).write(self.out)
        return self.out

    def foresee(self) -> None:
        """Refuse what a run would refuse before it moves anything; a dry run stops here."""
        if is_table(self.image):
            self.opened_table()
            return
        self.opened()
        if self.path:
            next(self.way())

    def opened(self) -> tuple[Header, Volume, sitk.Transform]:
        """The reference, the image and the transforms, which go together.

        Raises:
            ConfigError: a setting is off, or OUT is there already.
            DataError: a file is not as it should be, or a field reaches nothing of the reference.
        """
        check_new_image(self.out, self.overwrite)
        if self.reference is None:
            raise ConfigError(
                "reference: an image on whose grid OUT is to lie is due: reference=FILE"
            )
        reference = read_header(self.reference, self.form)
        volume, chain = Volume.read(self.image, self.form), self.read_chain()
        self.check_way(chain, lattice(Grid(reference.shape, reference.affine)), self.reference)
        return reference, volume, chain

    def read_chain(self) -> sitk.Transform:
        """The transforms as one, from what is written to what is read.

        Raises:
            ConfigError: `inverse` is a list of another length.
        """
        if isinstance(self.inverse, bool):
            paths = self.transform[::-1] if self.inverse else self.transform
            return read_chain(paths, [self.inverse] * len(paths))
        if len(self.inverse) != len(self.transform):
            raise ConfigError(
                f"inverse: lists {len(self.inverse)} values for {len(self.transform)} transforms"
            )
        return read_chain(self.transform, self.inverse)

    def way(self) -> Iterator[sitk.Transform]:
        """The transforms on the way to the whole, from none of it to all of it.

        Half of a transform is not half of its displacement: what a flow carries goes along curves, and
        its velocities times t lead up to t, exactly (Kim and Ye 2022).

        Raises:
            ConfigError: there are several transforms.
            DataError: one has no velocities beside it, or others.
        """
        from vol3d.transforms.velocity_file import read_flow, velocities_of  # here: loads torch

        if len(self.transform) > 1:
            raise ConfigError("path: is that of one transform, several are named")
        path = self.transform[0]
        velocities, is_sibling = velocities_of(path)
        flow = read_flow(velocities)
        whole = flow.back(1.0) if is_sibling else flow.at(1.0)
        points = lattice(flow.grid)
        ends = [move_points(T, points) for T in (whole, read_transform(path))]
        if (apart := np.abs(ends[0] - ends[1]).max()) > SAME_MM:
            raise DataError(
                f"{velocities}: are the velocities of another transform than {path}, which "
                f"ends {apart:.3g} mm away; take both from one registration"
            )
        is_back = (self.inverse in (True, [True])) != is_sibling
        for i in range(self.path):
            t = i / (self.path - 1)
            yield flow.back(t) if is_back else flow.at(t)

    def check_way(self, chain: sitk.Transform, points: np.ndarray, whose: Path) -> None:
        """Refuse, by a DataError, points of which a field on their way reaches none."""
        for met in overlaps_with_fields(chain, points):
            if not met.share:
                raise DataError(
                    f"{whose}: lies {met.gap_mm:.0f} mm away from a displacement field, which moves "
                    f"nothing of it; is it what the transform is for, or is the way back due "
                    f"(inverse=true)?"
                )

    def tell_missed(self, chain: sitk.Transform, points: np.ndarray, whose: Path) -> None:
        """Tell of points that fields on their way do not reach."""
        for met in overlaps_with_fields(chain, points):
            if met.share < TOLD_BELOW:
                log.warning(
                    "warning: %s: %.0f %% of it lies outside a displacement field and is not moved by it",
                    whose,
                    100 * (1 - met.share),
                )

    def move_volume(self, volume: Volume, chain: sitk.Transform, grid: Grid) -> Volume:
        """The image, or label map, on the grid.

        Raises:
            ConfigError: of labels there is no cubic.
            DataError: labels are no whole numbers.
        """
        if not (holds_labels(self.image) if self.labels is None else self.labels):
            return move_image(volume, chain, grid, self.interpolation)
        if self.interpolation == "cubic":
            raise ConfigError("interpolation=cubic: is not for labels; linear or nearest are")
        try:
            return move_labels(volume, chain, grid, nearest=self.interpolation == "nearest")
        except DataError as error:
            raise DataError(
                f"{self.image}: {error}; for an image, or a map of probabilities, say labels=false"
            ) from None

    def opened_table(self) -> tuple[np.ndarray, list[dict[str, str]], sitk.Transform]:
        """Points, the rows of their table, and the transforms.

        Raises:
            ConfigError: OUT is no table, or there already.
        """
        if self.path:
            raise ConfigError("path: is for images and label maps; points go all the way")
        if not is_table(self.out):
            raise ConfigError(f"{self.out}: points go to a table, ending in .tsv or .csv")
        if self.out.exists() and not self.overwrite:
            raise ConfigError(f"{self.out}: is there already; name another, or overwrite=true")
        points, rows = read_points(self.image, self.coordinates)
        chain = self.read_chain()
        self.check_way(chain, points, self.image)
        return points, rows, chain

    def move_table(self) -> Path:
        """Points sent through the transform."""
        points, rows, chain = self.opened_table()
        self.tell_missed(chain, points, self.image)
        make_folder(self.out.parent)
        write_points(self.out, move_points(chain, points), rows, self.coordinates)
        log.info(
            "points went from the %s",
            "moving space to the fixed one"
            if self.inverse is True
            else "fixed space to the moving one",
        )
        return self.out


def points_of(moved: Volume) -> np.ndarray:
    """Voxels that are not 0, [n, 3] mm, RAS+: the brain, and not the corners of its box; some of many."""
    index = np.argwhere(moved.data)
    index = index[:: max(1, len(index) // MANY)]
    return index @ moved.affine[:3, :3].T + moved.affine[:3, 3]
