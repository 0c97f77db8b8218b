"""What a cohort says about itself: the columns of its table, its README, and its sidecars."""

from collections.abc import Sequence

from vol3d.data.synthetic.contrast import SEQUENCES, Contrast

LABELS = {"csf": "cerebrospinal fluid", "gm": "grey matter", "wm": "white matter",
          "ventricles": "lateral ventricles"}  # fmt: skip
COLUMNS = {
    "age": {"Description": "age drawn for the person", "Units": "years"},
    "sex": {"Description": "sex drawn for the person", "Levels": {"F": "female", "M": "male"}},
    "brain_ml": {"Description": "true volume of grey and white matter", "Units": "mL"},
    "ventricles_ml": {"Description": "true volume of the lateral ventricles", "Units": "mL"},
    "split": {"Description": "every sixth person is for validation",
              "Levels": {"train": "to learn from", "val": "to check on"}},
}  # fmt: skip
LICENCE = (
    "As the MNI152 template: free to use, copy, modify and distribute with its notice (README)"
)
LESION_COLUMNS = {
    "lesions_ml": {"Description": "true volume of white-matter lesions", "Units": "mL"}
}
INTRODUCTION = """\
A cohort of brains that do not exist, made by vol3d sample-cohort

Every person is the MNI152 template, moved by one smooth invertible warp that stands for head size,
the size of the lateral ventricles, atrophy of the cortex, and chance; then contrast, a slow drift
of brightness and noise. Age, sex and the volumes in participants.tsv are the truth. This is for
trying out software: nothing about real brains can be learnt from it.
"""
FILES = """\
sub-*/anat/*_desc-brain_T1w.nii.gz      the image
sub-*/anat/*_desc-tissue_dseg.nii.gz    its labels, named in desc-tissue_dseg.tsv
sourcedata/sub-*/*_xfm.nii.gz           the warp that made it: vectors in mm, RAS+, such that the
                                        template at x + u(x) is the person at x
"""
LESION_FILES = """\
sub-*/anat/*_desc-truth_mask.nii.gz     1 in white-matter lesions (label-lesion); lesions_ml in
                                        participants.tsv is their volume
"""
RATER_FILES = """\
sub-*/anat/*_desc-rater1_mask.nii.gz    what rater 1 takes for lesion, and so on; how they err stands
                                        in sourcedata/raters.tsv: theirs is bias_mm outside of the
                                        true surface, and an error of error_mm (one standard
                                        deviation) that changes smoothly from place to place
"""
NOTICE = """\
Template: ICBM 152 nonlinear symmetric 2009a, shipped with nilearn. Copyright (C) 1993-2009 Louis
Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill University.
Permission to use, copy, modify, and distribute this software and its documentation for any purpose
and without fee is hereby granted, provided that the above copyright notice appear in all copies.
The authors and McGill University make no representations about the suitability of this software
for any purpose. It is provided "as is" without express or implied warranty. The authors are not
responsible for any data loss, equipment damage, property loss, or injury to subjects or patients
resulting from the use or misuse of this software package.
Fonov et al., Unbiased average age-appropriate brain templates, NeuroImage 47, S102, 2009.
"""


def columns(*, lesions: bool) -> dict[str, dict]:
    """What the columns of participants.tsv mean."""
    return COLUMNS | LESION_COLUMNS if lesions else COLUMNS


def readme(contrasts: Sequence[Contrast], *, missing: float, lesions: bool, raters: int) -> str:
    """The README of a cohort with these images."""
    files, lack = FILES, "; some lack it" if missing else ""
    for contrast in contrasts:
        path = f"sub-*/anat/*_desc-brain_{contrast}.nii.gz"
        files += f"{path:40}the same brain as {contrast}, simulated from its tissues{lack}\n"
    files += LESION_FILES * lesions + RATER_FILES * bool(raters)
    return "\n".join([INTRODUCTION, files, NOTICE])


def image_sidecar(contrast: Contrast) -> dict[str, object]:
    """What holds for all T2w or all FLAIR images."""
    return {
        "Description": f"{contrast} brain of nobody, simulated from the shares of tissue",
        "SkullStripped": True,
        "MagneticFieldStrength": 3,
        **SEQUENCES[contrast].fields(),
    }


def mask_sidecar(rater: int | None) -> dict[str, object]:
    """What holds for all masks of lesions: the true ones, or those of a rater."""
    told = (
        "white-matter lesions, exact"
        if rater is None
        else f"white-matter lesions as rater {rater} outlines them; sourcedata/raters.tsv"
    )
    return {"Description": told, "Type": "Lesion"}
