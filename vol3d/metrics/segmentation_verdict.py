"""What the scores of a segmenter mean, in words; and which of them are not good enough."""

from typing import Any

from vol3d.metrics.verdict import Finding, plain

GOOD_DICE = 0.7
"""Customary for good agreement (Zijdenbos et al. 1994, doi:10.1109/42.363096); small structures seldom
have more, so that raters, where there are several, count instead."""
NEAR_RATERS = 0.05
"""By how much less the segmenter may agree with raters than they do with each other."""
SMALL_ECE = 0.05
GOOD_AUROC = 0.7
BIAS = 0.05
"""Share of the mean volume."""
COVERAGE = 0.1
"""Coverage whose interval reaches further below what is due has not been shown to be enough."""
SPREAD = (0.5, 2.0)
"""Of members' volumes over that of raters'."""


def findings(summary: dict[str, Any]) -> list[Finding]:
    """What a scoring found, a sentence each.

    Args:
        summary: the content of scores.json, or that with NaN for null.
    """
    found = []
    for name, s in summary["structures"].items():
        name = plain(name).capitalize()
        found.append(of_overlap(name, s))
        found += of_bias(name, s["volume"])
        found += of_intervals(name, s["volume"], summary["level"], summary["members"])
        found += of_lesions(name, s.get("lesions"))
        found += of_spread(name, s.get("raters"))
    found += of_calibration(summary["calibration"])
    return [*found, *of_uncertainty(summary["uncertainty"])]


def known(figure: dict[str, Any] | None) -> bool:
    """Whether there is a number."""
    return bool(figure) and figure["value"] is not None and figure["value"] == figure["value"]


def told(
    figure: dict[str, Any], form: str = ".2f", *, with_n: bool = False, of: int | None = None
) -> str:
    """A figure with its interval in brackets; n/a where there is no number.

    Its n follows where that is wanted, or is less than `of`.
    """
    if not known(figure):
        return "n/a"
    with_n |= of is not None and figure["n"] < of
    ends = ", ".join(format(end, form) for end in figure["ci"] or ())
    words = format(figure["value"], form) + (f" [{ends}]" if ends else "")
    return words + (f", n {figure['n']}" if with_n else "")


def of_overlap(name: str, s: dict[str, Any]) -> Finding:
    """Whether it finds the structure: as raters do, or by the customary limit."""
    dice, raters, member = s["dice"], s.get("raters_dice"), s.get("member_dice")
    words = f"Dice {told(dice, with_n=True)}"
    if not s["volume"]["truth_ml"]["value"]:
        return Finding(
            f"{name}: no label map that was scored has any; are its labels others there? See structures.",
            is_amiss=True,
        )
    if known(raters):
        # A consensus agrees with each rater better than any two of them do: a member is like a rater.
        one = member if known(member) else dice
        words += f", of a member {told(member)}" if known(member) else ""
        words += f"; of two raters {told(raters)}"
        if one["value"] >= raters["value"] - NEAR_RATERS:
            return Finding(f"{name}: found about as well as raters agree ({words}).")
        return Finding(f"{name}: found less well than raters agree ({words}).", is_amiss=True)
    if dice["value"] >= GOOD_DICE:
        return Finding(f"{name}: found well ({words}).")
    return Finding(
        f"{name}: not found well ({words}; {GOOD_DICE} is customary); look at the worst person.",
        is_amiss=True,
    )


def of_bias(name: str, volume: dict[str, Any]) -> list[Finding]:
    """Whether volumes are too large or too small on the whole."""
    bias, truth = volume["bias_ml"], volume["truth_ml"]["value"]
    if not bias["ci"] or not truth:
        return []
    low, high = bias["ci"]
    share, words = abs(bias["value"]) / truth, f"({told(bias, '+.2f')} ml of {truth:.3g} ml)"
    if share >= BIAS and not low <= 0 <= high:
        too = "large" if low > 0 else "small"
        return [
            Finding(
                f"{name}: volumes are too {too} by {share:.0%} on average {words}.", is_amiss=True
            )
        ]
    if max(-low, high) <= BIAS * truth:
        return [Finding(f"{name}: volumes have no bias to speak of {words}.")]
    return [
        Finding(
            f"{name}: whether volumes have a bias of {BIAS:.0%}, {bias['n']} visits cannot tell {words}.",
            is_open=True,
        )
    ]


def of_intervals(name: str, volume: dict[str, Any], level: float, members: int) -> list[Finding]:
    """Whether intervals hold the true volume as often as they say.

    The middle share of m members holds one more draw of their kind in level (m - 1) / (m + 1) of cases;
    more cannot be asked of them.
    """
    own, fitted = (volume.get(kind, {}).get("coverage") for kind in ("credible", "conformal"))
    found = []
    if own and own["ci"]:
        due = level * (members - 1) / (members + 1)
        asked = f"{due:.0%} is due of {members} members"
        amiss = "is too narrow." + " Take the fitted intervals." * bool(fitted)
        found.append(
            of_coverage(f"{name}: the members' own interval of the volume", own, due, asked, amiss)
        )
    if fitted and fitted["ci"]:
        width = volume["conformal"]["width_ml"]["value"]
        asked = f"{level:.0%} is asked for; {width:.3g} ml wide"
        what = f"{name}: the interval of the volume that was fitted on other people"
        amiss = "does not hold. Are people of several kinds?"
        found.append(of_coverage(what, fitted, level, asked, amiss))
    return found


def of_coverage(what: str, coverage: dict[str, Any], due: float, asked: str, amiss: str) -> Finding:
    """Whether an interval holds the truth as often as is due; see `COVERAGE` for when that is known."""
    (low, high), n = coverage["ci"], coverage["n"]
    words = f"It holds the truth in {told(coverage, '.0%')} of {n} visits; {asked}."
    if high < due:
        return Finding(f"{what} {amiss} {words}", is_amiss=True)
    if low < due - COVERAGE:
        return Finding(f"{what} may hold; so few visits cannot tell. {words}", is_open=True)
    return Finding(f"{what} holds. {words}")


def of_lesions(name: str, lesions: dict[str, Any] | None) -> list[Finding]:
    """How many pieces are found, and how many of those found are there."""
    if not lesions or not (known(lesions["sensitivity"]) and known(lesions["precision"])):
        return []
    found, right = (lesions[k]["value"] for k in ("sensitivity", "precision"))
    return [
        Finding(
            f"{name}: of its pieces {told(lesions['sensitivity'], '.0%')} are found, and "
            f"{told(lesions['precision'], '.0%')} of those found are there.",
            is_amiss=min(found, right) < 0.5,
        )
    ]


def of_spread(name: str, raters: dict[str, Any] | None) -> list[Finding]:
    """Whether members differ as raters do."""
    if not raters or not known(raters["volume_spread"]):
        return []
    spread = raters["volume_spread"]
    words = f"spread of volumes {told(spread)} times that of raters"
    low, high = SPREAD
    if any(spread["ci"][0] < limit < spread["ci"][1] for limit in SPREAD if spread["ci"]):
        words = f"{name}: whether members differ as raters do, so few people cannot tell ({words})."
        return [Finding(words, is_open=True)]
    if spread["value"] < low:
        return [Finding(f"{name}: members differ less than raters do ({words}).", is_amiss=True)]
    if spread["value"] > high:
        return [Finding(f"{name}: members differ more than raters do ({words}).", is_amiss=True)]
    return [Finding(f"{name}: members differ about as raters do ({words}).")]


def of_calibration(calibration: dict[str, Any]) -> list[Finding]:
    """Whether probabilities mean what they say, as they are and once fitted."""
    before, after = (calibration.get(k, {}).get("ece") for k in ("before", "after"))
    if not known(before):
        return []
    words = f"calibration error near structures {told(before, '.3f')}"
    if known(after):
        words += f", fitted on other people {told(after, '.3f')}"
    if before["value"] <= SMALL_ECE:
        return [Finding(f"Probabilities mean what they say ({words}).")]
    if known(after) and after["value"] <= SMALL_ECE:
        return [
            Finding(f"Probabilities mean what they say once a temperature is fitted ({words}).")
        ]
    return [Finding(f"Probabilities do not mean what they say ({words}).", is_amiss=True)]


def of_uncertainty(measures: dict[str, Any]) -> list[Finding]:
    """Whether doubts are where the errors are."""
    found = []
    for measure, figures in measures.items():
        name, auroc = measure.replace("_", " "), figures["auroc"]
        if not known(auroc):
            found.append(
                Finding(
                    f"Whether the {name} shows errors cannot be told: nothing is wrong, or all is.",
                    is_open=True,
                )
            )
            continue
        words = f"AUROC {told(auroc, with_n=True)}"
        if auroc["value"] >= GOOD_AUROC:
            found.append(Finding(f"The {name} is high where the segmentation is wrong ({words})."))
        else:
            found.append(
                Finding(
                    f"The {name} hardly shows where the segmentation is wrong ({words}).",
                    is_amiss=True,
                )
            )
    return found
