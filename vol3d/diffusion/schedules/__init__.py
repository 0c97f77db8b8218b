"""The menu of noise schedules: how much noise in training, and which levels in sampling.

Each has `alpha(sigma)`, `draw_sigma(rng)` for one training image, `levels(steps)` for a sampler and
`c_noise(sigma)`, what the network is told; and it says two things about itself that predictions and
solvers ask for (`vol3d.diffusion.sampler_interface.Process`). Sigmas are float64: near pure noise
float32 cannot tell the levels of a DDPM schedule apart.
"""

from vol3d.config import menu
from vol3d.diffusion.schedules.cosine import Cosine
from vol3d.diffusion.schedules.edm import EDM
from vol3d.diffusion.schedules.flow import Flow
from vol3d.diffusion.schedules.linear_beta import LinearBeta
from vol3d.diffusion.schedules.scaled_linear_beta import ScaledLinearBeta
from vol3d.diffusion.schedules.sigmoid_beta import SigmoidBeta
from vol3d.diffusion.schedules.ve import VE
from vol3d.diffusion.schedules.vp import VP

Schedule = menu("schedules", EDM, Flow, VP, VE, LinearBeta, ScaledLinearBeta, SigmoidBeta, Cosine)
