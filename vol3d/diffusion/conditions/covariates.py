"""Covariates as a vector: age, sex and volumes reach the denoiser through adaptive group norm."""

from torch import Tensor, nn

from vol3d.diffusion.condition import Condition


class CovariateVector(nn.Module):
    """A two-layer network from the encoded row of covariates to the vector port.

    Args:
        width: length of an encoded row (`Covariates.width`): values, then known or not. 0 without
            covariates: the port stays empty.
        vector_dim: length of the vector.
    """

    def __init__(self, width: int, vector_dim: int) -> None:
        super().__init__()
        self.layers = (
            nn.Sequential(
                nn.Linear(width, vector_dim), nn.SiLU(), nn.Linear(vector_dim, vector_dim)
            )
            if width
            else None
        )

    def forward(self, encoded: Tensor) -> Condition:
        """encoded [B, width] -> a condition with a vector [B, vector_dim]."""
        return Condition(vector=self.layers(encoded)) if self.layers else Condition()
