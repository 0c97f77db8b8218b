"""The architecture of MONAI's networks, read off the names and shapes of their weights.

What weights do not tell (groups of the norm, heads of attention) comes as a hint. That all of it is
right is proven by names and shapes: the network that is read off must have just these.
"""

import re
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from vol3d.config import Config
from vol3d.errors import ConfigError, DataError
from vol3d.models.autoencoders.kl import AutoencoderKL
from vol3d.models.denoisers.unet import UNet
from vol3d.models.monai.weight_names import is_maisi, renamed


class Hints(Config):
    """What the weights of neither network tell."""

    norm_groups: PositiveInt | None = None
    """Groups of the group norm; 32 if nothing says it, as in MONAI."""
    norm_eps: PositiveFloat | None = None
    """Epsilon of the group norm; 1e-6 likewise."""


class KLHints(Hints):
    """What the weights of an autoencoder do not tell."""

    transposed: bool | None = None
    """Whether the decoder goes up by transposed convolutions, where the weights leave it open (MAISI
    and MONAI GenerativeModels); false likewise."""


class UNetHints(Hints):
    """What the weights of a denoising U-Net do not tell."""

    head_channels: PositiveInt | tuple[NonNegativeInt, ...] | None = None
    """Channels of an attention head, or one per level; 8 likewise."""


@dataclass(frozen=True)
class Read:
    """A network of MONAI as ours.

    Attributes:
        what: MONAI's name of it.
        state: its weights by our names.
        ports: sizes for `config.build`.
        derived: settings that the weights tell.
        assumed: settings that nothing tells, with the defaults that were taken.
    """

    what: str
    config: AutoencoderKL | UNet
    state: dict[str, Tensor]
    ports: dict[str, Any]
    derived: dict[str, Any]
    assumed: dict[str, Any]


def kind_of(state: dict[str, Tensor]) -> str | None:
    """autoencoder, unet, or neither."""
    if "quant_conv_mu.conv.weight" in state:
        return "autoencoder"
    ends = {"down_blocks.0.resnets.0.conv1.conv.weight", "out.2.conv.weight"}
    return "unet" if ends <= state.keys() else None


def channels_of(state: dict[str, Tensor]) -> tuple[int, ...]:
    """Channels of each level of either network."""
    ours = renamed(state)
    if kind_of(state) == "autoencoder":
        return tuple(level_widths(ours, layers(ours, "encoder")))
    firsts = (f"down_blocks.{i}.resnets.0.conv1.weight" for i in range(len(ours)))
    return tuple(ours[k].shape[0] for k in takewhile(ours.__contains__, firsts))


def read_autoencoder(state: dict[str, Tensor], hints: KLHints, name: str) -> Read:
    """AutoencoderKL or AutoencoderKlMaisi, by MONAI's names; `name` is that of the file."""
    ours = refuse_plane(renamed(state), "encoder.blocks.0.weight", name)
    up_open = is_maisi(state) or any(re.match(r"decoder.*\.\d+\.conv\.conv\.", n) for n in state)
    encoder, decoder = layers(ours, "encoder"), layers(ours, "decoder")
    levels = encoder.split("D")
    mid_encoder = levels[-1].endswith("AR")  # a level ends in A if it attends, else it has no A
    levels[-1] = levels[-1][:-3] if mid_encoder else levels[-1]
    derived = {
        "channels": channels_of(state),
        "z_channels": shape_at(ours, "quant_conv_mu.weight", name)[0],
        "num_res_blocks": tuple(level.count("R") for level in levels),
        "attention_levels": tuple("A" in level for level in levels),
        "mid_attention_encoder": mid_encoder,
        "mid_attention_decoder": len(decoder.split("D")[0]) > len(levels[-1]),
    }
    told, assumed = settle(hints, norm_groups=32, norm_eps=1e-6, transposed=False)
    wide = told.pop("transposed")
    if len(levels) > 1 and up_open:
        plain = "trilinear" if is_maisi(state) else "repeat"
        up = {"upsampling": "transposed_wide" if wide else plain}
    else:
        assumed.pop("transposed", None)
        transposed = any(".deconv." in n for n in state)
        up = {"upsampling": "transposed" if transposed else "repeat"}
        derived |= up
    settings = {"kind": "kl", "patch": 1, **derived, **told, **up}
    config = parsed(AutoencoderKL, settings, name, "kl")
    ports = {"in_channels": shape_at(ours, "encoder.blocks.0.weight", name)[1]}
    what = "AutoencoderKlMaisi" if is_maisi(state) else "AutoencoderKL"
    check_fit(lambda: config.build(**ports), ours, name, what)
    return Read(what, config, ours, ports, derived, assumed)


def read_unet(state: dict[str, Tensor], hints: UNetHints, name: str) -> Read:
    """DiffusionModelUNet; see `read_autoencoder`."""
    ours = refuse_plane(renamed(state), "conv_in.weight", name)
    at = [f"down_blocks.{i}" for i in range(count(ours, r"down_blocks\.(\d+)\."))]
    transformer = "middle_block.attention.transformer_blocks"
    tokens = ours.get(f"{transformer}.0.attn2.to_k.weight")
    vector = ours.get("vector_embed.weight")
    derived = {
        "channels": channels_of(state),
        "num_res_blocks": tuple(count(ours, rf"{a}\.resnets\.(\d+)\.") for a in at),
        "attention_levels": tuple(f"{a}.attentions.0.norm.weight" in ours for a in at),
        "resblock_updown": f"{at[0]}.downsampler.norm1.weight" in ours,
        "transformer_layers": max(1, count(ours, rf"{transformer}\.(\d+)\.")),
    }
    told, assumed = settle(hints, norm_groups=32, norm_eps=1e-6, head_channels=8)
    settings = {"kind": "unet", "modulation": "add", **derived, **told}
    config = parsed(UNet, settings, name, "unet")
    ports = {
        "in_channels": shape_at(ours, "conv_in.weight", name)[1],
        "out_channels": shape_at(ours, "conv_out.weight", name)[0],
        "token_dim": None if tokens is None else tokens.shape[1],
        "vector_dim": None if vector is None else vector.shape[1],
    }
    check_fit(lambda: config.build(**ports), ours, name, "DiffusionModelUNet")
    return Read("DiffusionModelUNet", config, ours, ports, {**derived, **ports}, assumed)


def settle(hints: Config, **defaults: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Each setting as hinted, else as MONAI has it; and those of which nothing was said."""
    told = {k: getattr(hints, k) for k in defaults}
    assumed = {k: defaults[k] for k, v in told.items() if v is None}
    return {**told, **assumed}, assumed


def parsed(cls: type[Config], settings: dict[str, Any], name: str, group: str) -> Any:
    """The config, or why the hints do not fit these weights."""
    try:
        return cls.parse(settings)
    except ConfigError as error:
        raise ConfigError(
            f"{name}: {error}; say what it was made with, e.g. {group}.norm_groups=16"
        ) from None


def layers(state: dict[str, Tensor], half: str) -> str:
    """A letter per block of encoder or decoder: R residual, A attention, D or up; not the ends."""
    letters = ""
    for i in range(count(state, rf"{half}\.blocks\.(\d+)\.")):
        at = f"{half}.blocks.{i}"
        if f"{at}.conv1.weight" in state:
            letters += "R"
        elif f"{at}.attn.to_q.weight" in state:
            letters += "A"
        elif f"{at}.conv.weight" in state:
            letters += "D"
    return letters


def level_widths(state: dict[str, Tensor], letters: str) -> list[int]:
    """Channels at the end of each level of the encoder."""
    widths, width = [], 0
    for i, letter in enumerate(letters, start=1):  # block 0 is the first convolution
        if letter == "R":
            width = state[f"encoder.blocks.{i}.conv1.weight"].shape[0]
        elif letter == "D":
            widths.append(width)
    return [*widths, width]


def count(state: dict[str, Tensor], pattern: str) -> int:
    """One more than the highest number that names have at a place; 0 where none has."""
    found = [int(m[1]) for name in state if (m := re.match(pattern, name))]
    return max(found, default=-1) + 1


def shape_at(state: dict[str, Tensor], name: str, file: str) -> torch.Size:
    """The shape of a weight that there must be."""
    if name not in state:
        raise DataError(f"{file}: has no weight {name}; is it cut short?")
    return state[name].shape


def refuse_plane(state: dict[str, Tensor], first: str, name: str) -> dict[str, Tensor]:
    """The state, if it is that of a 3-D network."""
    ndim = len(shape_at(state, first, name))
    if ndim != 5:
        raise DataError(f"{name}: is a {ndim - 2}-D network; vol3d's are 3-D")
    return state


def check_fit(build: Any, state: dict[str, Tensor], name: str, what: str) -> None:
    """The network must have these weights, each of this shape, and no other."""
    with torch.device("meta"):
        net: nn.Module = build()
    ours = {k: tuple(v.shape) for k, v in net.state_dict().items()}
    theirs = {k: tuple(v.shape) for k, v in state.items()}
    odd = [k for k in theirs if k not in ours]
    lost = [k for k in ours if k not in theirs]
    other = [k for k in ours if k in theirs and ours[k] != theirs[k]]
    if odd:
        raise DataError(
            f"{name}: has {len(odd)} weights that {what} has not, such as {odd[0]}; "
            f"it is a network that vol3d does not read (see docs/import.md)"
        )
    if lost:
        raise DataError(f"{name}: lacks {len(lost)} weights of {what}, such as {lost[0]}")
    if other:
        k = other[0]
        raise DataError(
            f"{name}: {len(other)} weights have another shape than in {what}, such as {k}: "
            f"{theirs[k]}, where {ours[k]} is due"
        )
