import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from vol3d.metrics.agreement import agreement
from vol3d.metrics.reconstruction import measure_reconstructions
from vol3d.report.evaluation import Compared, Evidence, Reconstructed, evaluation_page
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
        "ventricles_ml", [cloud], [cloud], {"generator, SHA-256": "abc"},
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
    assert tags.seen.count("h2") == 6
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
    assert (tags.seen.count("img"), tags.seen.count("h2")) == (0, 2)
    assert "No segmenter was given." in html
