"""The menu of segmenters: a volume to a label for each voxel. One of them begins with a trained model."""

from vol3d.config import menu
from vol3d.models.segmenters.monai_unet import MonaiUNet
from vol3d.models.segmenters.unet import SegmenterUNet
from vol3d.trained.segmenter_networks.diffusion_features import DiffusionFeatures

Segmenter = menu("segmenters", SegmenterUNet, MonaiUNet, DiffusionFeatures)
