"""The menu of datasets: where scans, labels and covariates come from."""

from vol3d.config import menu
from vol3d.data.datasets.bids import Bids
from vol3d.data.datasets.image import OneImage
from vol3d.data.datasets.table import Table

Source = menu("datasets", Bids, Table, OneImage)

__all__ = ["Bids", "OneImage", "Source", "Table"]
