"""MONAI's names of weights in ours."""

import re

from torch import Tensor

RENAMED = (
    (r"\.conv\.(weight|bias)$", r".\1"),  # MONAI wraps every convolution
    (r"\.(postconv|deconv|op)\.", ".conv."),
    (r"\.nin_shortcut\.", ".shortcut."),
    (r"\.skip_connection\.", ".shortcut."),
    (r"\.time_emb_proj\.", ".emb."),
    (r"\.ff\.linear", ".linear"),
    (r"^out\.0\.", "norm_out."),
    (r"^out\.2\.", "conv_out."),
)


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of AutoencoderKL or DiffusionModelUNet with our names."""
    out = {}
    for name, value in state.items():
        if name.startswith("class_embedding"):
            continue
        for old, new in RENAMED:
            name = re.sub(old, new, name)
        out[name] = value
    return out
