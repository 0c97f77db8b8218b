"""How soon `vol3d view` shows a picture, and a cohort of any size its table, and the memory it takes.

python scripts/time_viewer.py   (on a display, or under xvfb-run -a)

Makes a person of the embedded cohort at 1 mm (160x224x160 voxels), their mask, and what the segmenter in
the box finds, in a temporary folder; two cohorts have that person's scan under 10 and 1,000 names. Each
figure is of a process of its own: from its start, with Python, napari and Qt still to be loaded, and from
the moment at which a window is asked for in a napari that has been open before. Seconds of the processor,
of all threads, stand beside those of the clock: other work on the machine changes them less.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 3
"""Of each, of which the middle one is told."""
PEOPLE = (10, 1000)
COLUMNS = ("", "seconds", "of the processor", "in a napari opened before", "MiB at most")
ROW = "{:<46} {:>8} {:>17} {:>26} {:>12}"
MIB = 1024
"""kB, in which Linux tells memory."""


def vol3d(*words: object) -> None:
    """Run vol3d, and stop where it fails."""
    subprocess.run([sys.executable, "-m", "vol3d", *map(str, words)], check=True)


def make(folder: Path) -> dict[str, list[Path]]:
    """What is shown, by what it is called in the table."""
    from vol3d.data.bids_writer import anat_path, write_description, write_tsv
    from vol3d.volume import Volume

    cohort, segmented = folder / "cohort", folder / "segmented"
    vol3d("sample-cohort", cohort, "n=1", "spacing=1")
    vol3d("segment", "ready", cohort, segmented)
    image = next(cohort.glob("sub-*/anat/*_T1w.nii.gz"))
    brain = Volume.read(image)
    mask = folder / "sub-0001_desc-brain_mask.nii.gz"
    Volume((brain.data > 0).astype("uint8"), brain.affine).write(mask)
    size = "x".join(map(str, brain.shape))
    found = {f"brain of {size}, mask, segmentation": [image, mask, segmented]}
    for n in PEOPLE:
        people = folder / f"{n}_people"
        write_description(people, "copies", "CC0", {"Name": "scripts/time_viewer.py"})
        rows = [{"participant_id": f"sub-{i:04d}", "age": 20 + i % 60} for i in range(n)]
        write_tsv(people / "participants.tsv", rows)
        for row in rows:
            path = anat_path(people, row["participant_id"], {}, "T1w")
            path.hardlink_to(image)
        found[f"cohort of {n}: table and the first person"] = [people]
    return found


def show(began: float, *, is_open_before: bool, paths: list[Path]) -> None:
    """Do as `vol3d view` does, until the picture is drawn; print seconds, the processor's, and MiB.

    Args:
        began: when the process was started, by the clock that all processes share.
        is_open_before: count from here instead, once a window was opened and closed.
        paths: what is shown.
    """
    from vol3d.verbs.view import View
    from vol3d.viewer.session import Session

    view = View(paths=paths)
    is_cohort = len(paths) == 1  # whose table is to be there too
    if is_open_before:
        import napari

        napari.Viewer().close()
        began = time.monotonic()
    used = time.process_time() if is_open_before else 0.0
    session = Session(view.paths, view.who, view.plane, view.at)  # its picture is drawn by now
    viewer = session.viewer
    if is_cohort:
        session.complete()
    took, worked = time.monotonic() - began, time.process_time() - used
    kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert viewer.screenshot(flash=False)[..., :3].std() > 5, "nothing is drawn"
    print(took, worked, kb / MIB)
    viewer.close()


def measured(paths: list[Path], *, is_open_before: bool) -> list[float]:
    """The middle one of several processes, by the seconds of the processor."""
    runs = []
    for _ in range(RUNS):
        words = [repr(time.monotonic()), str(int(is_open_before)), *map(str, paths)]
        done = subprocess.run(
            [sys.executable, __file__, *words], check=True, capture_output=True, text=True
        )
        runs.append([float(word) for word in done.stdout.split()[-3:]])
    return sorted(runs, key=lambda run: run[1])[RUNS // 2]


def main() -> None:
    """Print the table."""
    print(ROW.format(*COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        for words, paths in make(Path(folder)).items():
            whole = measured(paths, is_open_before=False)
            again = measured(paths, is_open_before=True)
            told = f"{again[0]:.2f} ({again[1]:.2f})"
            figures = f"{whole[0]:.2f}", f"{whole[1]:.2f}", told, f"{whole[2]:.0f}"
            print(ROW.format(words, *figures), flush=True)
    print(f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")


if len(sys.argv) > 1:
    started, before, *given = sys.argv[1:]
    show(float(started), is_open_before=before == "1", paths=[Path(path) for path in given])
else:
    main()
