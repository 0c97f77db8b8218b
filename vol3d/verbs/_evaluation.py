"""An evaluation under way: what `vol3d evaluate` measures, step by step."""

import logging
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import vol3d
from vol3d.bundle import versions
from vol3d.data.bids_writer import write_json, write_text, write_tsv
from vol3d.data.dataset import SPACING
from vol3d.data.datasets import Bids
from vol3d.data.images import Images
from vol3d.data.visit import Visit
from vol3d.errors import ConfigError, DataError
from vol3d.io.progress import track
from vol3d.metrics.agreement import agreement
from vol3d.metrics.diversity import count_pairs, mean_ms_ssim
from vol3d.metrics.reconstruction import measure_scan, summarise
from vol3d.metrics.requests import request_table
from vol3d.metrics.verdict import findings, plain
from vol3d.report.console import tell
from vol3d.report.evaluation import Compared, Evidence, Reconstructed, evaluation_page
from vol3d.report.plots import Cloud
from vol3d.trained import TrainedGenerator, TrainedSegmenter
from vol3d.training.engine import device_of
from vol3d.verbs.generate import Generate
from vol3d.verbs.train import generator_at
from vol3d.volume import Volume

if TYPE_CHECKING:
    from vol3d.verbs.evaluate import Evaluate

log = logging.getLogger(__name__)


class Evaluation:
    """An evaluation under way: models and scans on one side, findings on the other."""

    def __init__(self, asked: "Evaluate") -> None:
        self.asked = asked
        device = device_of(asked.device)
        self.generator = TrainedGenerator(generator_at(asked.generator), device)
        if self.generator.codec.is_labels:
            raise ConfigError(
                f"{asked.generator}: draws label maps; a model that draws images is due"
            )
        self.segmenter = TrainedSegmenter(asked.segmenter, device) if asked.segmenter else None
        if len(asked.data.grid) > 1:
            raise ConfigError(
                f"data.grid={','.join(asked.data.grid)}: one resolution is evaluated at a time; "
                f"take data.grid={asked.data.grid[0]}"
            )
        self.images = Images(asked.data)
        self.grid = self.generator.grid_of({SPACING: self.images.grid.spacing[0]})
        if not self.images.grid.matches(self.grid, tolerance_mm=0.01):
            raise DataError(
                f"{asked.data.path}: lies on a grid of {self.images.grid}, the generator "
                f"on {self.grid}; give the data of its training, e.g. data.grid=2mm"
            )
        if self.segmenter is not None:
            self.segmenter.check_grid(self.grid)
        self.summary: dict[str, Any] = {}
        self.evidence = Evidence(self.grid.spacing)
        self.notes = [f"{words[:1].upper()}{words[1:]}." for words in self.generator.unfinished]
        self.rows: list[dict[str, object]] = []  # of measurements.tsv
        self.known = self.segmenter.structures if self.segmenter else []
        self.samples: list[Visit] = []

    # -- reconstruction ---------------------------------------------------------------------------

    def reconstruct(self) -> None:
        """How well the autoencoder brings held-out scans back, beside block averaging."""
        autoencoder, val = self.generator.autoencoder, self.images.val
        if autoencoder is None:
            self.notes.append("The generator draws no latents, so there is no reconstruction.")
            return
        if not val:
            self.notes.append("No scan is held out, so reconstruction was not measured.")
            return
        if autoencoder.fingerprint["sha256"] != self.images.fingerprint()["sha256"]:
            self.notes.append(
                "These are not exactly the scans that the autoencoder was trained on. Figures are "
                "too good if a held-out person here was among its training people."
            )
        rows = {}
        for scan in track(val, "reconstruct"):
            x, y = self.reconstruction(scan)
            rows[scan.name] = measure_scan(x, y, autoencoder.downsample, autoencoder.z_channels)
        self.summary["reconstruction"] = {
            **summarise(rows),
            "downsample": autoencoder.downsample,
            "z_channels": autoencoder.z_channels,
        }
        write_tsv(
            self.asked.out / "reconstructions.tsv",
            [{"image": name, **measures} for name, measures in rows.items()],
        )
        if not self.asked.pictures_of_people:
            del self.summary["reconstruction"]["worst_scan"]
            return
        by_name = {scan.name: scan for scan in val}
        self.evidence.people.add(by_name[self.summary["reconstruction"]["worst_scan"]].subject)
        for name in spread(
            sorted(rows, key=lambda r: rows[r]["psnr_brain_db"]), self.asked.pictures
        ):
            x, y = self.reconstruction(by_name[name])
            self.evidence.people.add(by_name[name].subject)
            self.evidence.reconstructed.append(
                Reconstructed(name, x[0].numpy(), y[0].numpy(), rows[name]["psnr_brain_db"])
            )

    def reconstruction(self, scan: Visit) -> tuple[torch.Tensor, torch.Tensor]:
        """A scan and its reconstruction, [1, X, Y, Z]."""
        x = torch.from_numpy(self.images.image(scan))
        return x, self.generator.autoencoder.reconstruct(x[None])[0].cpu()

    # -- volumes ----------------------------------------------------------------------------------

    def check_segmenter(self) -> None:
        """The segmenter's own error on held-out scans whose volumes are known."""
        if self.segmenter is None:
            self.notes.append("No segmenter was given, so no volumes were measured.")
            return
        if self.segmenter.fingerprint["sha256"] != self.images.fingerprint()["sha256"]:
            self.notes.append(
                "These are not exactly the scans that the segmenter was trained on. Its own error is "
                "too small if a held-out person here was among its training people."
            )
        val = track(self.images.val, "measure real scans")
        measured = [(s, self.measure(self.images.image(s))) for s in val]
        self.summary["segmenter"], self.evidence.segmenter = self.agree(measured, "held-out")

    def find_samples(self) -> None:
        """The samples to look at, made now unless a cohort was given."""
        folder = self.asked.samples
        if folder is None:
            folder = self.asked.out / "closed_loop"
            Generate(
                bundle=self.generator.path,
                out=folder,
                covariates=self.write_requests(),
                sampler=self.asked.sampler,
                device=self.asked.device,
            ).execute()
        cohort = Bids(path=folder, contrasts=[self.generator.kind])
        self.samples = cohort.scans()[: self.asked.n]

    def write_requests(self) -> Path:
        """OUT/requests.tsv: what is asked of each sample; one that is there must be the same."""
        rows = request_table(
            self.generator.schema,
            [s.covariates for s in self.images.train],
            self.known,
            self.asked.n,
            seed=self.asked.seed,
        )
        if SPACING in self.generator.schema.names:
            rows = [{**row, SPACING: self.grid.spacing[0]} for row in rows]
        path, part = self.asked.out / "requests.tsv", self.asked.out / ".requests.tsv.part"
        write_tsv(part, rows)
        if path.is_file() and path.read_bytes() != part.read_bytes():
            part.unlink()
            raise ConfigError(
                f"{path}: holds requests of other settings or another model (n, seed, "
                f"training scans); name another folder"
            )
        part.replace(path)
        return path

    def read_sample(self, sample: Visit) -> np.ndarray:
        """A sample [1, X, Y, Z] as it is: already in [0, 1]."""
        volume = Volume.read(sample.image).reorient("RAS")
        if not volume.grid.matches(self.grid, tolerance_mm=0.01):
            raise DataError(
                f"{sample.image}: lies on a grid of {volume.grid}, the generator on "
                f"{self.grid}; give samples of this generator"
            )
        x = volume.data.astype(np.float32)[None]
        if x.min() < 0 or x.max() > 1.001:
            raise DataError(
                f"{sample.image}: has values from {x.min():g} to {x.max():g}, samples of "
                f"vol3d generate lie in [0, 1]"
            )
        return x

    def measure_samples(self) -> None:
        """The closed loop: volumes asked for against volumes measured in the samples."""
        if self.segmenter is None:
            reals = spread(self.images.val or self.images.train, self.asked.pictures)
            samples = spread(self.samples, len(reals))
            for sample, real in zip(samples, reals, strict=False):
                self.show(sample, sample.name, real, real.name)
            return
        samples = track(self.samples, "measure samples")
        measured = [(s, self.measure(self.read_sample(s))) for s in samples]
        stats, self.evidence.conditioning = self.agree(measured, "sample")
        for name, structure in stats.items():
            values = [s.covariates[name] for s in self.samples if s.covariates[name] is not None]
            structure["asked"] = [min(values), max(values)]
        self.summary["conditioning"] = stats
        self.summary["spread_evenly"] = self.asked.samples is None
        if stats:
            self.show_range(next(iter(stats)), measured)

    def measure(self, x: np.ndarray) -> dict[str, float]:
        """Volumes in ml of x [1, X, Y, Z]."""
        return self.segmenter.measure(torch.from_numpy(x)[None], self.grid.voxel_ml)[0]

    def agree(
        self, measured: list[tuple[Visit, dict[str, float]]], which: str
    ) -> tuple[dict[str, dict], list[Cloud]]:
        """Agreement of each structure that the scans know, and its points."""
        stats, points = {}, []
        for name in self.known:
            pairs = [
                (s, s.covariates[name], ml[name])
                for s, ml in measured
                if isinstance(s.covariates.get(name), float)
            ]
            columns = ("image", "set", "structure", "reference_ml", "measured_ml")
            told = [(s.name, which, name, known, round(ml, 4)) for s, known, ml in pairs]
            self.rows += [dict(zip(columns, row, strict=True)) for row in told]
            reference, got = (np.array([p[i] for p in pairs], float) for i in (1, 2))
            try:
                stats[name] = agreement(reference, got, seed=self.asked.seed)
            except ValueError as error:
                self.notes.append(f"{plain(name)}, {which} volumes: {error}; left out.")
                continue
            points.append(Cloud(plain(name), reference, got, stats[name]))
        return stats, points

    def show_range(self, name: str, measured: list[tuple[Visit, dict[str, float]]]) -> None:
        """Samples from small to large beside real scans of about those volumes."""
        asked = [
            (s.covariates[name], ml[name], s)
            for s, ml in measured
            if s.covariates[name] is not None
        ]
        reals = [
            (s.covariates[name], s)
            for s in self.images.val or self.images.train
            if s.covariates.get(name) is not None
        ]
        self.evidence.compared_by = name
        for wanted, got, sample in spread(sorted(asked, key=lambda a: a[0]), self.asked.pictures):
            if not reals:
                return
            nearest = min(reals, key=lambda r: abs(r[0] - wanted))
            reals.remove(nearest)
            self.show(
                sample,
                f"{plain(name)}: asked for {wanted:.1f} ml, measured {got:.1f} ml",
                nearest[1],
                f"{nearest[1].name}, real: {nearest[0]:.1f} ml",
            )

    def show(self, sample: Visit, sample_title: str, real: Visit, real_title: str) -> None:
        """Put a sample into the report's picture, and a real scan if people are pictured."""
        beside = ()
        if self.asked.pictures_of_people:
            self.evidence.people.add(real.subject)
            beside = (real_title, self.images.image(real)[0])
        self.evidence.compared.append(Compared(sample_title, self.read_sample(sample)[0], *beside))

    # -- diversity --------------------------------------------------------------------------------

    def compare_pairs(self) -> None:
        """How alike samples are, beside how alike real scans are."""
        scans = self.images.val + self.images.train
        pairs = min(count_pairs(len(s), self.asked.pairs) for s in (scans, self.samples))
        if pairs == 0:
            self.notes.append("Diversity takes two samples and two scans; it was not measured.")
            return
        sets = {
            "samples": [self.read_sample(s) for s in self.samples[: 2 * pairs]],
            "real": [self.images.image(s) for s in scans[: 2 * pairs]],
        }
        told = self.summary["diversity"] = {}
        for key, volumes in sets.items():
            shown = partial(track, title=f"diversity of {key}")
            told[key] = mean_ms_ssim(volumes, pairs=pairs, seed=self.asked.seed, track=shown)

    # -- results ----------------------------------------------------------------------------------

    def write(self) -> list[Path]:
        """measurements.tsv, report.html, and summary.json last."""
        asked, made = self.asked, {"command": self.asked.command()}
        for name, model in (
            ("generator", self.generator),
            ("segmenter", self.segmenter),
            ("autoencoder", self.generator.autoencoder),
        ):
            if model is not None:
                made[f"{name}, SHA-256"] = model.checksum
        self.evidence.made = {**made, **versions()}
        self.summary = {
            "vol3d": vol3d.__version__,
            **self.summary,
            "generator_checksum": self.generator.checksum,
            "segmenter_checksum": self.segmenter.checksum if self.segmenter else None,
            "n_train": len(self.images.train),
            "n_val": len(self.images.val),
            "n_samples": len(self.samples),
            "notes": self.notes,
            "amiss": [f.words for f in findings(self.summary) if f.is_amiss],
        }
        if self.rows:
            write_tsv(asked.out / "measurements.tsv", self.rows)
        report = asked.out / "report.html"
        write_text(report, evaluation_page(self.summary, self.evidence))
        if asked.since is not None:
            self.summary["wall_s"] = round(time.time() - asked.since, 1)
        write_json(asked.out / "summary.json", self.summary)
        tell(self.summary)
        for note in self.notes:
            log.warning("note: %s", note)
        return [report, asked.out / "summary.json"]


def spread(items: list, n: int) -> list:
    """At most n of the items, evenly from the first to the last."""
    at = np.linspace(0, len(items) - 1, min(n, len(items)))
    return [items[round(i)] for i in at]
