"""The menu of datasets: where scans, labels and covariates come from."""

from typing import Annotated

from pydantic import Field

from vol3d.data.datasets.bids import Bids
from vol3d.data.datasets.table import Table

Source = Annotated[Bids | Table, Field(discriminator="kind")]

__all__ = ["Bids", "Source", "Table"]
