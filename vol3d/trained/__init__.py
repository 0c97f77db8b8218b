"""Trained models, read back from their bundles and ready to be used."""

from vol3d.trained.autoencoder import TrainedAutoencoder
from vol3d.trained.generator import TrainedGenerator
from vol3d.trained.segmenter import TrainedSegmenter

__all__ = ["TrainedAutoencoder", "TrainedGenerator", "TrainedSegmenter"]
