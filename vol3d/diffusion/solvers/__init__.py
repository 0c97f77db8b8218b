"""The menu of solvers: how a denoiser turns noise into an image.

Each has `sample(denoise, x, levels, draw, on_step)`: x [B, C, X, Y, Z] at the first level, in; the
image, out. For pure noise that x is `levels.sigma[0] * noise`. Coefficients are float64 numbers, so
the arithmetic has x's own dtype. Gradients are the caller's business (`torch.inference_mode`).
`objection(process)` says with which processes it cannot work; `calls(steps)` how often it asks the
denoiser.
"""

from vol3d.config import menu
from vol3d.diffusion.solvers.ddim import DDIM
from vol3d.diffusion.solvers.ddpm import DDPM
from vol3d.diffusion.solvers.dpmpp_2m import DPMpp2M
from vol3d.diffusion.solvers.euler import Euler
from vol3d.diffusion.solvers.euler_maruyama import EulerMaruyama
from vol3d.diffusion.solvers.heun import Heun
from vol3d.diffusion.solvers.pndm import PNDM
from vol3d.diffusion.solvers.predictor_corrector import PredictorCorrector

Solver = menu("solvers", Euler, Heun, DPMpp2M, PNDM, DDIM, DDPM, EulerMaruyama, PredictorCorrector)
