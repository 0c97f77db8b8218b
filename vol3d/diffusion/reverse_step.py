"""One step of the reverse chain: where a less noisy image lies, given a noisy and a clean one."""

from dataclasses import dataclass

from torch import Tensor

Coefficient = float | Tensor


@dataclass(frozen=True)
class Step:
    """x at the lower level is normal with mean x_share x + D_share D.

    Its variance lies between `small`, where x0 is known to be D, and `large`, where all that is
    known of x0 is that it has unit variance (Ho et al. 2020, arXiv:2006.11239, section 3.2).
    """

    x_share: Coefficient
    D_share: Coefficient
    small: Coefficient
    large: Coefficient


def step(alpha: Coefficient, sigma: Coefficient, alpha2: Coefficient, sigma2: Coefficient) -> Step:
    """From a level down to a lower one: equations 6 and 7 of DDPM for any process and any stride.

    `kept` is what noising from the lower to the upper level leaves of x, `added` the variance that
    it adds. Finite where alpha is 0.
    """
    kept = alpha / alpha2
    added = sigma**2 - kept**2 * sigma2**2
    total, total2 = alpha**2 + sigma**2, alpha2**2 + sigma2**2
    return Step(
        x_share=kept * sigma2**2 / sigma**2,
        D_share=alpha2 * added / sigma**2,
        small=added * sigma2**2 / sigma**2,
        large=added * total2 / total,
    )
