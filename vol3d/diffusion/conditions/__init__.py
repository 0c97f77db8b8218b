"""The menu of conditions: ways by which what guides reaches the denoiser, each through one port.

What guides is taken of the sample: covariates, another image of the visit, coordinates, hidden numbers,
a rater.
Each way has `connect(known)`, how wide it makes its port, and a module from what samples give to a
`Condition`. In training a module may look at what is drawn, and add to the loss.
"""

from vol3d.config import menu
from vol3d.diffusion.conditions.addition import Addition
from vol3d.diffusion.conditions.ambiguity import Ambiguity
from vol3d.diffusion.conditions.channels import Channels
from vol3d.diffusion.conditions.coordinates import Coordinates
from vol3d.diffusion.conditions.image import Image
from vol3d.diffusion.conditions.rater import Rater
from vol3d.diffusion.conditions.tokens import Tokens
from vol3d.diffusion.conditions.vector import Vector

ConditionKind = menu(
    "conditions", Vector, Tokens, Channels, Addition, Image, Coordinates, Ambiguity, Rater
)
