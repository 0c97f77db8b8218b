"""The menu of segmenters: a volume to a label for each voxel."""

from vol3d.models.segmenters.unet import SegmenterUNet

Segmenter = SegmenterUNet
"""One kind so far; more make it a union told apart by `kind`."""
