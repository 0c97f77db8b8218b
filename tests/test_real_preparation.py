"""Raw scans of real people, where they are at hand: prepared, and taken back."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from vol3d.data.tables import read_rows
from vol3d.verbs.prepare import Prepare
from vol3d.verbs.restore import Restore
from vol3d.volume import Volume, mni_grid

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
STRIPPED, HEADS = DATA / "ds002748-raw", DATA / "ds000011-raw"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not STRIPPED.is_dir(), reason="the raw scans are not beside the project"),
]


def prepared(raw: Path, person: str, out: Path) -> tuple[dict[str, str], Path]:
    """The row of the QC table, and the image."""
    Prepare(bids_dir=raw, out=out, subjects=[person], jobs=1).execute()
    (row,) = read_rows(out / "sourcedata" / "qc" / "qc.tsv")
    (image,) = out.glob("sub-*/anat/*_desc-brain_T1w.nii.gz")
    return row, image


def test_a_stripped_brain_lies_on_the_template_and_goes_back(tmp_path):
    row, image = prepared(STRIPPED, "72", tmp_path / "p")
    assert float(row["overlap"]) > 0.95
    assert row["flag"] == "n/a"
    assert Volume.read(image).grid.matches(mni_grid(2.0))
    mask = Path(str(image).replace("_T1w", "_mask"))
    back = Volume.read(Restore(image=mask, out=tmp_path / "back.nii.gz").execute())
    raw = Volume.read(STRIPPED / "sub-72/anat/sub-72_T1w.nii.gz")
    assert back.grid.matches(raw.grid)
    apart = np.subtract(*(ndimage.center_of_mass(x > 0) for x in (raw.data, back.data)))
    assert np.abs(apart).max() < 0.5  # voxels


def test_the_brain_is_found_in_a_whole_head(tmp_path):
    row, image = prepared(HEADS, "03", tmp_path / "p")
    assert float(row["overlap"]) > 0.95
    assert 900 < float(row["brain_ml"]) < 1500
    said = json.loads(Path(str(image).replace("_T1w.nii.gz", "_mask.json")).read_text())
    assert said["Approximate"] is True
