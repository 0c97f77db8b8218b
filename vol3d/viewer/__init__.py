"""Volumes as napari layers. napari shows arrays Z, Y, X: here, and only here, the order is reversed."""

import numpy as np

from vol3d.volume import Volume


def layer_of(volume: Volume, name: str, *, is_labels: bool = False) -> tuple[np.ndarray, dict, str]:
    """A napari layer tuple (data, settings, type) whose world is mm, RAS+, in the order Z, Y, X."""
    reverse = [2, 1, 0, 3]
    affine = volume.affine[np.ix_(reverse, reverse)]
    settings = {"name": name, "affine": affine}
    return volume.data.transpose(2, 1, 0), settings, "labels" if is_labels else "image"
