"""Visits whose images and label maps guide what a generator draws, one for each sample."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from vol3d.data.network_images import as_seen, onto, within_mask
from vol3d.data.visit import Visit
from vol3d.io.reading import naming
from vol3d.volume import Grid, Volume


@dataclass(frozen=True)
class GuidingVisits:
    """What guides each sample.

    Attributes:
        names: of the images and label maps that guide the model.
        visits: one for each sample, by seed; none where nothing guides.
        grids: to resample to, by the name that a visit of several has; none: images stay where they lie.
    """

    names: Collection[str]
    visits: dict[int, Visit]
    grids: Mapping[str, Grid] = field(default_factory=dict)

    def of(self, seed: int) -> dict[str, Volume]:
        """The images and label maps of a sample that guide, as the model takes them."""
        if seed not in self.visits:
            return {}
        visit = self.visits[seed]
        grid = self.grids[visit.res] if visit.res else next(iter(self.grids.values()), None)
        found = {}
        for name, path in visit.images.items():
            if name in self.names:
                volume = within_mask(visit, path, Volume.read(path, visit.form))
                with naming(path):
                    found[name] = as_seen(volume, grid)
        for name, path in visit.labels.items():
            if name in self.names:
                volume = Volume.read(path, visit.form)
                with naming(path):
                    found[name] = onto(volume, grid, nearest=True)
        return found

    def said(self, seed: int) -> dict[str, list[str] | str]:
        """What a sidecar says of it."""
        if seed not in self.visits:
            return {}
        visit = self.visits[seed]
        there = [n for n in (*visit.images, *visit.labels) if n in self.names]
        return {"Visit": visit.who, "Images": there}
