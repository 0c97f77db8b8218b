"""Text from data is shown as text, wherever it is shown."""

import logging

import numpy as np
import pytest

from vol3d.cli import Visible, outcome
from vol3d.data.covariates import Category
from vol3d.io.text import as_html, as_markdown, in_short, visible
from vol3d.report.page import Section, Table, page
from vol3d.report.pictures import Panel, panels_in_rows
from vol3d.tasks.model_card import covariate_row

HOSTILE = "<script>alert(1)</script>|`*x*`\x1b[2J\u202e$\\frac$"


def test_on_a_terminal_nothing_steers_it():
    assert visible("a\tß\n\x1b[31m\u202e\r\0") == "a\tß\n\\x1b[31m\\u202e\\r\\x00"


def test_in_markdown_a_level_is_a_cell():
    column = Category(
        name="sex", levels={HOSTILE: 3, "a\nb": 2}, missing=0, absent="draw", guidance=1.0
    )
    row = covariate_row(column)
    assert "<" not in row
    assert "\n" not in row
    assert "\\|\\`\\*x\\*\\`" in row
    assert row.count("|") - row.count("\\|") == 6
    assert as_markdown("brain_ml") == "brain_ml"


def test_in_html_it_is_text():
    html = page(
        "t", [Section(HOSTILE, [HOSTILE], [HOSTILE], [Table(HOSTILE, [HOSTILE], [[HOSTILE]])])]
    )
    assert "<script>" not in html
    assert "\x1b" not in html
    assert html.count(as_html(HOSTILE)) == 6


def test_in_a_picture_it_is_no_formula():
    figure = panels_in_rows([[Panel(HOSTILE, np.ones((4, 4, 4)))]], (1.0, 1.0, 1.0), (2, 2, 2))
    figure.canvas.draw()


def test_the_command_line_shows_it(capsys: pytest.CaptureFixture):
    assert outcome([HOSTILE]) == 2
    told = capsys.readouterr().err
    assert "\x1b" not in told
    assert told.count("\n") == 1
    record = logging.LogRecord("a", logging.INFO, "a", 1, "%s", (HOSTILE,), None)
    assert Visible().format(record) == visible(HOSTILE)


def test_of_many_reasons_the_first_few_are_told():
    assert in_short(["a", ValueError("b")]) == "a; b"
    assert in_short(map(str, range(5))) == "0; 1; 2; 3; 4"
    assert in_short(map(str, range(6))) == "0; 1; 2; 3; 4; ..."
