"""MONAI's names of weights in ours; with `layout.py` all that knows them.

Three generations name the same layers apart: MONAI's core (`postconv`, `attn.to_q`), MONAI
GenerativeModels before it (`conv.conv`, `to_q`, `proj_attn`, `to_out.0`), and MAISI, which wraps each
convolution once more.
"""

import re

import torch
from torch import Tensor

MAISI = (
    (r"\.(conv1|conv2|nin_shortcut)\.conv\.conv\.", r".\1.conv."),
    (r"\.blocks\.(\d+)\.conv\.conv\.", r".blocks.\1.conv."),
)
RENAMED = (
    (r"\.conv\.(weight|bias)$", r".\1"),  # MONAI wraps every convolution
    (r"\.(postconv|deconv|op)\.", ".conv."),
    (r"\.nin_shortcut\.", ".shortcut."),
    (r"\.skip_connection\.", ".shortcut."),
    (r"\.time_emb_proj\.", ".emb."),
    (r"\.ff\.linear", ".linear"),
    (r"^out\.0\.", "norm_out."),
    (r"^out\.2\.", "conv_out."),
    (r"(?<!\.attn)(?<!\.attn[12])\.(to_[qkv])\.", r".attn.\1."),  # GenerativeModels, from here on
    (r"\.to_out\.0\.", ".out_proj."),
)


def is_maisi(state: dict[str, Tensor]) -> bool:
    """Whether it is MAISI's autoencoder, whose first convolution is wrapped twice."""
    return "encoder.blocks.0.conv.conv.weight" in state


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of AutoencoderKL, AutoencoderKlMaisi or DiffusionModelUNet with our names.

    Classes become a vector, one-hot, through the same numbers.
    """
    rules = (*MAISI, *RENAMED) if is_maisi(state) else RENAMED
    out = {}
    for old, value in state.items():
        name = old
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        if name == "class_embedding.weight":
            out["vector_embed.weight"] = value.T.contiguous()  # [E, classes]
        elif match := re.fullmatch(r"(.*\.)qkv\.(weight|bias)", name):
            parts = zip("qkv", value.chunk(3), strict=True)
            out |= {f"{match[1]}to_{p}.{match[2]}": part.contiguous() for p, part in parts}
        elif ".proj_attn." not in name:  # GenerativeModels had it and never called it
            out[name] = value
    return out | last_layers(out)


def last_layers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The identity, where attention ends without a linear layer (`include_fc=False`)."""
    added = {}
    for name, value in state.items():
        attention = name.removesuffix(".to_q.weight")
        if attention != name and f"{attention}.out_proj.weight" not in state:
            channels = value.shape[0]
            added[f"{attention}.out_proj.weight"] = torch.eye(channels, dtype=value.dtype)
            added[f"{attention}.out_proj.bias"] = torch.zeros(channels, dtype=value.dtype)
    return added
