"""Trained models, read back from their bundles and ready to be used."""

from vol3d.trained.autoencoder import TrainedAutoencoder
from vol3d.trained.generator import TrainedGenerator
from vol3d.trained.registrar import Registrar, TrainedRegistrar, open_registrar
from vol3d.trained.segmenter import TrainedSegmenter

__all__ = [
    "Registrar",
    "TrainedAutoencoder",
    "TrainedGenerator",
    "TrainedRegistrar",
    "TrainedSegmenter",
    "open_registrar",
]
