import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from vol3d.metrics.agreement import agreement
from vol3d.metrics.reconstruction import measure_reconstructions
from vol3d.report.evaluation import Compared, Evidence, Reconstructed, evaluation_page
from vol3d.report.page import Table, html_of_table
from vol3d.report.plots import Cloud


@pytest.fixture
def cloud():
    rng = np.random.default_rng(0)
    asked = np.linspace(10, 50, 30)
    measured = asked + rng.normal(0, 2, 30) - 3
    return Cloud("ventricles", asked, measured, {**agreement(asked, measured), "asked": [10, 50]})


@pytest.fixture
def findings(cloud):
    """A summary with every part, and the evidence behind it."""
    x = torch.rand(1, 1, 12, 14, 12, generator=torch.Generator().manual_seed(0))
    y = 0.9 * x
    r = measure_reconstructions([(x, y)], ["sub-<a>"], 4, 8)
    alike = {"ms_ssim": 0.5, "ms_ssim_sd": 0.1, "n_pairs": 3, "n_volumes": 4, "ms_ssim_levels": 3,
             "ms_ssim_window": 7}  # fmt: skip
    summary = {
        "reconstruction": {**r, "downsample": 4, "z_channels": 8},
        "conditioning": {"ventricles_ml": cloud.stats}, "segmenter": {"ventricles_ml": cloud.stats},
        "diversity": {"samples": alike, "real": alike}, "notes": [], "spread_evenly": True,
    }  # fmt: skip
    a, b = x[0, 0].numpy(), y[0, 0].numpy()
    evidence = Evidence(
        (2.0, 2.0, 2.0), [Reconstructed("sub-<a>", a, b, 20.0)], [Compared("s", a, "r", b)],
        "ventricles_ml", [cloud], [cloud], {"generator, SHA-256": "abc"}, {"<a>"},
    )  # fmt: skip
    return summary, evidence


class Tags(HTMLParser):
    """Counts tags, and keeps those that are open."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_whole_page_is_sound_and_stands_alone(findings):
    html = evaluation_page(*findings)
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert tags.seen.count("img") == 4
    assert tags.seen.count("h2") == 7
    assert all(
        src.startswith("data:image/png;base64,") for src in re.findall(r'src="([^"]*)', html)
    )
    assert "http" not in re.sub(r'src="[^"]*"', "", html)
    assert "sub-<a>" not in html
    assert "sub-&lt;a&gt;" in html


def test_sentences_tell_the_figures(findings, cloud):
    summary, evidence = findings
    html = evaluation_page(summary, evidence)
    s = cloud.stats
    assert f"{s['slope']:.2f}" in html
    assert "asked for between 10 and 50 ml" in html
    assert f"{-s['bias_ml']:.1f} ml too small" in html
    assert f"{summary['reconstruction']['psnr_brain_db']:.1f} dB" in html


def test_what_was_not_measured_is_left_out(findings):
    html = evaluation_page({"notes": ["No segmenter was given."]}, Evidence((2.0, 2.0, 2.0)))
    tags = Tags()
    tags.feed(html)
    assert (tags.seen.count("img"), tags.seen.count("h2")) == (0, 3)
    assert "No segmenter was given." in html


def test_it_begins_with_what_the_figures_mean(findings):
    summary, evidence = findings
    summary["conditioning"]["ventricles_ml"] |= {"spearman_r": -0.5, "spearman_r_ci": [-0.7, -0.2]}
    html = evaluation_page(summary, evidence)
    first = html[: html.index("<table>")]
    assert '<p class="note">The ventricles volume comes out the wrong way round' in first
    assert "names real people (1)" in first


def test_people_are_left_out(findings):
    summary, evidence = findings
    del summary["reconstruction"]["worst_scan"]
    evidence.reconstructed.clear()
    evidence.people.clear()
    evidence.compared[:] = [Compared("s", evidence.compared[0].sample)]
    html = evaluation_page(summary, evidence)
    assert "names real people" not in html
    assert "sub-" not in html


def test_a_column_is_on_one_side():
    html = html_of_table(Table("", ["a", "b"], [["1 dB", "2"], ["r = 1", "-3"]]))
    assert html.count("<td class=number>") == 2
    assert "<td>1 dB</td>" in html
