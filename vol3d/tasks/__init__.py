"""What can be trained: each task is a file that makes networks, losses and a bundle."""

from typing import Annotated

from pydantic import Field

from vol3d.tasks.autoencode import Autoencode
from vol3d.tasks.diffuse import Diffuse
from vol3d.tasks.register import Register
from vol3d.tasks.segment import Segment

Task = Annotated[Autoencode | Diffuse | Segment | Register, Field(discriminator="kind")]
