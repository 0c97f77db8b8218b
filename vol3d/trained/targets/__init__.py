"""The menu of what is drawn: latents of an autoencoder, images, or label maps.

Each has its training side, `samples(data, images)`, and its way back to volumes, `codec(bundle)`. What is
drawn is always [C, X, Y, Z]; a slice, or an X-ray, is a volume that is one voxel thick.
"""

from vol3d.config import menu
from vol3d.trained.targets.images import Images
from vol3d.trained.targets.labels import Labels
from vol3d.trained.targets.latents import Latents

TargetKind = menu("targets", Latents, Images, Labels)
