"""What napari offers as samples: a person of the embedded cohort, and a brain of the model in the box.

Nobody is real. These are made here, by torch, in a few seconds.
"""

from vol3d.viewer.folders import GENERATED_LIMITS
from vol3d.viewer.layers import LayerTuple, field_layer, image_layer, labels_layer
from vol3d.viewer.together import masks_apart
from vol3d.volume import Volume

SPACING = 2.0
TISSUES = {
    1: "cerebrospinal fluid",
    2: "grey matter",
    3: "white matter",
    4: "lateral ventricles",
}
COLOURS = {1: "#4477aa", 2: "#999999", 3: "#eeeeee", 4: "#ee6677"}
RATERS = 3


def generated_brain() -> list[LayerTuple]:
    """A brain of a woman of 70 by the model that comes with vol3d, with what its segmenter finds."""
    from vol3d.trained import TrainedGenerator

    model = TrainedGenerator("ready")
    row = model.complete({"age": 70.0, "sex": "F"}, seed=0)
    x = model.generate([row], [0])[0, 0].numpy()
    brain = Volume(x, model.grid_of(row).affine)
    return [image_layer(brain, "generated, F, 70 years", limits=GENERATED_LIMITS)]


def embedded_subject() -> list[LayerTuple]:
    """A person of `vol3d sample-cohort`: images, tissues, lesions, raters, warp from the template."""
    from vol3d.data.synthetic.person import Anatomy
    from vol3d.data.synthetic.subject import make_subject

    one = make_subject(0, 1, SPACING, Anatomy(), contrasts=("FLAIR",), lesions=True, raters=RATERS)
    layers = [image_layer(one.image, "T1w")]
    layers += [image_layer(v, name, visible=False) for name, v in one.contrasts.items()]
    layers += [labels_layer(one.labels, "tissues", names=TISSUES, colours=COLOURS, opacity=0.3)]
    names = {1: "lesion"}
    for i, rating in enumerate(one.ratings, start=1):
        layers.append(labels_layer(rating, f"rater {i}", names=names, visible=False))
    layers.append(labels_layer(one.lesions, "lesions", names=names, colours={1: "#ffcc00"}))
    grid = one.image.grid
    layers.append(field_layer(one.displacement, grid, "template to subject", visible=False))
    return masks_apart(layers)
