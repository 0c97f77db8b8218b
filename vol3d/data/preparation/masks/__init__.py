"""The menu of brain masks: how the brain is told from the rest of the head.

Each has `find(head, scan, folder)`: the mask on the head's grid, and a note for the sidecar.
"""

from vol3d.config import menu
from vol3d.data.preparation.masks.base import BrainMask, Found
from vol3d.data.preparation.masks.command import Command
from vol3d.data.preparation.masks.own import Own
from vol3d.data.preparation.masks.template import Template

Mask = menu("brain_masks", Own, Template, Command)

__all__ = ["BrainMask", "Command", "Found", "Mask", "Own", "Template"]
