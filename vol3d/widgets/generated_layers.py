"""The layers of what the Generate widget draws: samples side by side, or a sweep to scrub through."""

from typing import TYPE_CHECKING, Any

import numpy as np

from vol3d.viewer.folders import GENERATED_LIMITS
from vol3d.viewer.layers import image_layer, labels_layer, replaced
from vol3d.viewer.window import add

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer

    from vol3d.trained import TrainedGenerator
    from vol3d.widgets.generation import Brain, Request

TOLD = "generated"
"""Under this a layer's metadata says where its brain came from."""


class GeneratedLayers:
    """Layers that are made once and then shown anew.

    Attributes:
        samples: a layer a seed.
        sweep: of the last sweep; None before.
    """

    def __init__(self, viewer: "Viewer") -> None:
        self.viewer = viewer
        self.samples: list[Layer] = []
        self.sweep: Layer | None = None
        self.values: tuple[float, ...] = ()
        self.axis_words = ""
        self.looks_anew = False
        viewer.dims.events.current_step.connect(self.tell_value)

    def begin(self, request: "Request", unit: str) -> None:
        """Make room: layers that are no longer asked for go."""
        if request.sweep:
            self.values = request.sweep.values
            self.axis_words = request.sweep.name + f"|{unit}" * bool(unit)
            self.remove(self.sweep)
            self.sweep = None
            return
        while len(self.samples) > len(request.seeds):
            self.remove(self.samples.pop())
        if self.sweep is not None:
            self.sweep.visible = False
            for layer in self.samples:
                layer.visible = True
            self.tell_value()
        if self.viewer.canvas.grid.enabled != (side_by_side := len(request.seeds) > 1):
            self.viewer.canvas.grid.enabled = side_by_side
            self.viewer.canvas.grid.stride = 1  # the first seed comes first
            self.looks_anew = True

    def remove(self, layer: "Layer | None") -> None:
        """Take a layer out, if it is still there."""
        if layer is not None and layer in self.viewer.layers:
            self.viewer.layers.remove(layer)

    def show(self, model: "TrainedGenerator", request: "Request", brain: "Brain") -> None:
        """Show a brain, or how far it is."""
        if request.sweep:
            self.show_in_sweep(model, request, brain)
            return
        name = f"seed {brain.seed}"
        if brain.number < len(self.samples) and self.samples[brain.number] in self.viewer.layers:
            layer = self.samples[brain.number]
            replaced(layer, brain.volume)
        else:
            (layer,) = add(self.viewer, [layer_of(model, brain.volume, name)])
            self.samples[brain.number : brain.number + 1] = [layer]
            self.looks_anew = True
        layer.name = name
        layer.metadata = {**layer.metadata, TOLD: told(model, request, brain)}
        if self.looks_anew:
            self.viewer.reset_view()
            self.looks_anew = False

    def show_in_sweep(self, model: "TrainedGenerator", request: "Request", brain: "Brain") -> None:
        """Show one value of a sweep, and go there."""
        if self.sweep is None or self.sweep not in self.viewer.layers:
            for layer in self.samples:
                layer.visible = False
            self.looks_anew |= self.viewer.canvas.grid.enabled
            self.viewer.canvas.grid.enabled = False
            name = f"sweep of {request.sweep.name}, seed {brain.seed}"
            frames = [brain.volume] * len(request.sweep.values)
            (self.sweep,) = add(self.viewer, [layer_of(model, frames, name)])
            self.sweep.metadata = {**self.sweep.metadata, TOLD: [None] * len(frames)}
            self.viewer.dims.axis_labels = (
                request.sweep.name,
                *self.viewer.dims.axis_labels[-3:],
            )
        replaced(self.sweep, brain.volume, frame=brain.number)
        self.sweep.metadata[TOLD][brain.number] = told(model, request, brain)
        self.viewer.dims.set_point(0, brain.number)
        self.tell_value()

    def tell_value(self, event: Any = None) -> None:
        """Say over the picture which value of a sweep is seen."""
        overlay = self.viewer.canvas.overlays.text
        if self.sweep not in self.viewer.layers or not self.sweep.visible:
            overlay.visible &= not self.values  # what somebody else wrote there stays
            return
        at = int(np.clip(round(self.viewer.dims.point[0]), 0, len(self.values) - 1))
        name, _, unit = self.axis_words.partition("|")
        overlay.text = f"{name} {self.values[at]:.1f} {unit}".strip()
        overlay.visible = True


def layer_of(model: "TrainedGenerator", volume: Any, name: str) -> Any:
    """An image, or labels of a model that draws those."""
    if not model.codec.is_labels:
        return image_layer(volume, name, limits=GENERATED_LIMITS)
    names = dict(enumerate(model.codec.structures, 1))
    return labels_layer(volume, name, names=names)


def told(model: "TrainedGenerator", request: "Request", brain: "Brain") -> dict[str, Any]:
    """Where a brain came from."""
    from vol3d.widgets.generation import told_of

    return told_of(model.sampling(request.sampler), brain)
