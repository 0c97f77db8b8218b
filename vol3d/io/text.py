"""Text that comes from data, made fit to be shown: on a terminal, in Markdown, in HTML."""

import re
from collections.abc import Iterable
from html import escape

LONGEST = 80
"""Letters of a value that a message shows."""
MOST = 5
"""Reasons that a message gives of many."""


def visible(text: object) -> str:
    """Text as it is, but what would steer a terminal or turn the line around is spelt out."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode()
        for c in str(text)
    )


def on_one_line(text: object) -> str:
    """The same in one line."""
    return " ".join(visible(text).split())


def kind_of(given: object) -> str:
    """What was given where something else is due, in a word or two: ndarray of shape (3, 3)."""
    shape = getattr(given, "shape", None)
    return type(given).__name__ + (f" of shape {tuple(shape)}" if isinstance(shape, tuple) else "")


def brief(given: object) -> str:
    """A value that is off, as a message shows it: in one line, and no more than fits there."""
    said = on_one_line(repr(given))
    return said if len(said) <= LONGEST else f"{said[:LONGEST]}..."


def in_short(reasons: Iterable[object]) -> str:
    """Why several failed, on one line: the first few reasons."""
    reasons = [str(reason) for reason in reasons]
    return "; ".join(reasons[:MOST] + ["..."] * (len(reasons) > MOST))


def as_html(text: object) -> str:
    """Text that HTML shows as it is."""
    return escape(visible(text))


def as_markdown(text: object) -> str:
    """Text that Markdown shows as it is, in a line or in the cell of a table."""
    marks = r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)"  # within a word, _ is no mark
    return re.sub(f"({marks})", r"\\\1", escape(on_one_line(text), quote=False))
