"""A page of headings, sentences, tables and figures, as one HTML file that needs nothing else."""

import base64
import io
from dataclasses import dataclass, field

from matplotlib.figure import Figure

from vol3d.io.text import as_html
from vol3d.report.slices import SCRIPT, Slices, html_of_slices
from vol3d.report.slices import STYLE as STYLE_OF_SLICES

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; margin: 1rem 0; } caption { text-align: left; color: #555; }
th, td { text-align: left; padding: .3rem .8rem; border-bottom: 1px solid #ddd;
         vertical-align: top; }
.number { text-align: right; font-variant-numeric: tabular-nums; } td.number { white-space: nowrap; }
figure { margin: 1rem 0; } figcaption { color: #555; } img { max-width: 100%; height: auto; }
p.note { background: #fff6dd; padding: .5rem .8rem; } code { overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Table:
    """A table with a caption; columns of numbers are set to the right."""

    caption: str
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Picture:
    """A figure and what there is to see in it."""

    figure: Figure
    caption: str


@dataclass
class Section:
    """What stands under a heading, in this order: sentences, notes, rest, tables, pictures, slices."""

    title: str
    sentences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    slices: list[Slices] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)


def page(title: str, sections: list[Section]) -> str:
    """The HTML of a report."""
    body = "\n".join(html_of_section(s) for s in sections)
    style = STYLE
    if any(s.slices for s in sections):
        style += STYLE_OF_SLICES
        body += f"\n<script>\n{SCRIPT.read_text(encoding='utf-8')}</script>"
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{as_html(title)}</title>\n'
        f"<style>{style}</style>\n</head>\n<body>\n<h1>{as_html(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def html_of_section(section: Section) -> str:
    """One section."""
    parts = [f"<h2>{as_html(section.title)}</h2>"]
    parts += [f"<p>{as_html(s)}</p>" for s in section.sentences]
    parts += [f'<p class="note">{as_html(s)}</p>' for s in section.notes]
    parts += [f"<p>{as_html(s)}</p>" for s in section.rest]
    parts += [html_of_table(t) for t in section.tables]
    parts += [html_of_picture(p) for p in section.pictures]
    parts += [html_of_slices(s) for s in section.slices]
    return f"<section>\n{chr(10).join(parts)}\n</section>"


def html_of_table(table: Table) -> str:
    """One table."""
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.header)
    classes = [" class=number" * all(map(looks_like_a_number, c or "-")) for c in columns]

    def row_of(tag: str, cells: list[str]) -> str:
        made = zip(classes, cells, strict=True)
        return "".join(f"<{tag}{kind}>{as_html(c)}</{tag}>" for kind, c in made)

    head = row_of("th", table.header)
    rows = "\n".join(f"<tr>{row_of('td', row)}</tr>" for row in table.rows)
    return (
        f"<table>\n<caption>{as_html(table.caption)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody>\n</table>"
    )


def looks_like_a_number(cell: str) -> bool:
    """Whether a cell begins with a digit, after its sign; nan is a number that is not there."""
    return cell.lstrip("+-")[:1].isdigit() or cell.startswith("nan")


def html_of_picture(picture: Picture) -> str:
    """One figure, its PNG within the page."""
    with io.BytesIO() as file:
        picture.figure.savefig(file, format="png", facecolor=picture.figure.get_facecolor())
        png = base64.b64encode(file.getvalue()).decode()
    caption = as_html(picture.caption)
    return (
        f'<figure>\n<img alt="{caption}" src="data:image/png;base64,{png}">\n'
        f"<figcaption>{caption}</figcaption>\n</figure>"
    )
