"""Visits whose images and label maps guide what a generator draws, one for each sample."""

from collections.abc import Collection
from dataclasses import dataclass

from vol3d.data.images import normalise, within_mask
from vol3d.data.visit import Visit
from vol3d.volume import Volume


@dataclass(frozen=True)
class GuidingVisits:
    """What guides each sample.

    Attributes:
        names: of the images and label maps that guide the model.
        visits: one for each sample, by seed; none where nothing guides.
    """

    names: Collection[str]
    visits: dict[int, Visit]

    def of(self, seed: int) -> dict[str, Volume]:
        """The images and label maps of a sample that guide, as the model takes them."""
        if seed not in self.visits:
            return {}
        visit = self.visits[seed]
        images = {n: path for n, path in visit.images.items() if n in self.names}
        maps = {n: path for n, path in visit.labels.items() if n in self.names}
        found = {n: Volume.read(path, visit.form) for n, path in {**images, **maps}.items()}
        for name, path in images.items():
            brain = within_mask(visit, path, found[name])
            found[name] = Volume(normalise(brain.data), brain.affine, brain.space_code)
        return found

    def said(self, seed: int) -> dict[str, list[str] | str]:
        """What a sidecar says of it."""
        if seed not in self.visits:
            return {}
        visit = self.visits[seed]
        there = [n for n in (*visit.images, *visit.labels) if n in self.names]
        return {"Visit": visit.who, "Images": there}
