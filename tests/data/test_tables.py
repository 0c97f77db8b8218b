"""Tables: values, names, and the formats of FreeSurfer and SynthSeg."""

import pytest

from vol3d.data.tables import VolumeTable, parse_person, parse_value, read_rows
from vol3d.errors import DataError


@pytest.mark.parametrize(
    ("text", "value"),
    [("70.5", 70.5), ("1e3", 1000.0), ("n/a", None), ("", None), ("NaN", None), ("F", "F"),
     ("inf", "inf"), ("1_000", "1_000"), ("70 y", "70 y")],
)  # fmt: skip
def test_values(text, value):
    assert parse_value(text) == value


@pytest.mark.parametrize(
    ("name", "person"),
    [("IXI013", ("IXI013", None)), ("sub-01", ("01", None)), ("sub-01_ses-02", ("01", "02")),
     ("sub-01_ses-02_space-MNI_T1w", ("01", "02")), ("sub-01_T1w", ("01", None))],
)  # fmt: skip
def test_people(name, person):
    assert parse_person(name) == person


def test_freesurfer(tmp_path):
    path = tmp_path / "aseg.tsv"
    path.write_text(
        "Measure:volume\tLeft-Lateral-Ventricle\tRight-Lateral-Ventricle\tEstimatedTotalIntraCranialVol\n"
        "sub-01\t10000.5\t9000.5\t1500000\nsub-02\t8000.0\tn/a\t1400000.0\n"
    )
    columns = {
        "ventricles_ml": ["Left-Lateral-Ventricle", "Right-Lateral-Ventricle"],
        "head_ml": ["EstimatedTotalIntraCranialVol"],
    }
    assert VolumeTable(path=path, columns=columns).read() == {
        ("01", None): {"ventricles_ml": pytest.approx(19.001), "head_ml": 1500.0},
        ("02", None): {"ventricles_ml": None, "head_ml": 1400.0},
    }


def test_synthseg(tmp_path):
    path = tmp_path / "vol.csv"
    path.write_text("subject,total intracranial,left lateral ventricle\nsub-1_ses-2,1e6,7000.0\n")
    table = VolumeTable(path=path, columns={"v": ["left lateral ventricle"]})
    assert table.read() == {("1", "2"): {"v": 7.0}}


def test_byte_order_mark_and_crlf(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_bytes(b"\xef\xbb\xbfparticipant_id\tage\r\nsub-1\t3 \r\n")
    assert read_rows(path) == [{"participant_id": "sub-1", "age": "3"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"subject,b\n1,2\n", "has no column 'lv'"),
        (
            b"# Title Segmentation Statistics \n# \n1 4 6562 6562.6\n",
            "of one person.*asegstats2table",
        ),
        (b"subject,lv\nsub-1,big\n", "'sub-1' has 'big' in column 'lv', a number in mm3 is due"),
        (b"subject,lv\nsub-1,2\nsub-1_T1w,2\n", "two rows are of 'sub-1_T1w'"),
        (b"subject,lv\n\xff\xfe,2\n", "is not text in UTF-8"),
        (b"", "holds no rows"),
    ],
)
def test_bad_tables(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        VolumeTable(path=path, columns={"v": ["lv"]}).read()


def test_no_such_table(tmp_path):
    with pytest.raises(DataError, match="no such table"):
        VolumeTable(path=tmp_path / "t.csv", columns={"v": ["lv"]}).read()
