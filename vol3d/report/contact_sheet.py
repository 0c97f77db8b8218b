"""A contact sheet: the brains of a cohort in three planes, each with what its model was told."""

from pathlib import Path

from vol3d.data.covariates import Covariates, Row
from vol3d.planes import middle
from vol3d.report.pictures import Panel, in_rows, panels_in_rows, save
from vol3d.volume import Volume


def write_contact_sheet(path: Path, brains: list[tuple[Path, Row]], schema: Covariates) -> None:
    """Write a PNG of brains that share a grid, each with its complete row of covariates."""
    volumes = [Volume.read(image) for image, _ in brains]
    titles = [f"{image.name.split('_')[0]}: {caption(row, schema)}" for image, row in brains]
    top = max(1.0, *(v.data.max() for v in volumes))  # label maps go beyond 1
    panels = [Panel(title, v.data / top) for title, v in zip(titles, volumes, strict=True)]
    at = middle([panel.x for panel in panels])
    columns = 6 if 1 in volumes[0].shape else 2  # a slice is one picture, a brain three
    figure = panels_in_rows(in_rows(panels, columns), volumes[0].grid.spacing, at)
    save(figure, path)


def caption(row: Row, schema: Covariates) -> str:
    """`age 70 years, sex F, ventricles 45 ml`."""
    units = {c.name: getattr(c, "unit", None) for c in schema.columns}
    known = [(n, row[n], units[n]) for n in schema.names if row.get(n) is not None]
    words = [
        f"{name.removesuffix(f'_{unit}')} {f'{value:.0f}' if isinstance(value, float) else value}"
        f"{f' {unit}' if unit else ''}"
        for name, value, unit in known
    ]
    return ", ".join(words)
