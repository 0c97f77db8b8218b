"""The menu of conditions: ways by which covariates reach the denoiser, each through one port.

Each has `ports(widths)`, how wide it makes its port, and `build(widths)`, a module from the encoded
covariates and the latent's grid to a `Condition`. `widths` are the lengths of the covariates' rows.
"""

from vol3d.config import menu
from vol3d.diffusion.conditions.addition import Addition
from vol3d.diffusion.conditions.channels import Channels
from vol3d.diffusion.conditions.tokens import Tokens
from vol3d.diffusion.conditions.vector import Vector

ConditionKind = menu("conditions", Vector, Tokens, Channels, Addition)
