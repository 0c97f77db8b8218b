"""The menu of discriminators: networks that tell real volumes from reconstructed ones.

Each gives, for every scale at which it looks, its features from first to last; the last is its
verdict, one logit per patch.
"""

from vol3d.config import menu
from vol3d.models.discriminators.multiscale import MultiScale
from vol3d.models.discriminators.patch import Patch

Discriminator = menu("discriminators", Patch, MultiScale)
