"""Text that comes from data, made fit to be shown: on a terminal, in Markdown, in HTML."""

import re
from html import escape


def visible(text: object) -> str:
    """Text as it is, but what would steer a terminal or turn the line around is spelt out."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode()
        for c in str(text)
    )


def on_one_line(text: object) -> str:
    """The same in one line."""
    return " ".join(visible(text).split())


def as_html(text: object) -> str:
    """Text that HTML shows as it is."""
    return escape(visible(text))


def as_markdown(text: object) -> str:
    """Text that Markdown shows as it is, in a line or in the cell of a table."""
    marks = r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)"  # within a word, _ is no mark
    return re.sub(f"({marks})", r"\\\1", escape(on_one_line(text), quote=False))
