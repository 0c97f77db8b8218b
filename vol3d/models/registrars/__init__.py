"""The menu of networks that bring one image into another's shape."""

from vol3d.config import menu
from vol3d.models.registrars.svf import Svf
from vol3d.models.registrars.symmetric import Symmetric

RegistrarKind = menu("registrars", Symmetric, Svf)
