"""One configuration of ours is MONAI's network: the same weights give the same output."""

import pytest
import torch
from monai.networks.nets import AutoencoderKL as MonaiAutoencoder
from monai.networks.nets import DiffusionModelUNet

from tests.models.monai_networks import apart, assert_same_autoencoder, randomise
from vol3d.models.autoencoders.kl import AutoencoderKL
from vol3d.models.denoisers.unet import UNet
from vol3d.models.monai.weight_names import renamed

AUTOENCODERS = {
    "plain": {"channels": (8, 16), "num_res_blocks": (1, 1)},
    "three levels": {"channels": (8, 16, 24), "num_res_blocks": (2, 1, 1)},
    "attention": {"channels": (8, 16), "num_res_blocks": (1, 2), "attention_levels": (False, True)},
    "mid attention": {"channels": (8, 16), "num_res_blocks": (1, 1), "mid": True},
    "transposed": {"channels": (8, 16), "num_res_blocks": (1, 1), "transposed": True},
    # brain_image_synthesis_latent_diffusion of MONAI's model zoo, narrower
    "BrainLDM": {"channels": (8, 16, 16, 16), "num_res_blocks": (2, 2, 2, 2), "z_channels": 3},
}


@pytest.mark.parametrize("shape", AUTOENCODERS.values(), ids=list(AUTOENCODERS))
@torch.inference_mode()
def test_autoencoder(shape: dict):
    levels = len(shape["channels"])
    attends = shape.get("attention_levels", (False,) * levels)
    mid, z_channels, transposed = (
        shape.get("mid", False),
        shape.get("z_channels", 4),
        shape.get("transposed", False),
    )
    theirs = randomise(
        MonaiAutoencoder(
            spatial_dims=3,
            in_channels=1,
            out_channels=1,
            channels=shape["channels"],
            num_res_blocks=shape["num_res_blocks"],
            attention_levels=attends,
            latent_channels=z_channels,
            norm_num_groups=4,
            with_encoder_nonlocal_attn=mid,
            with_decoder_nonlocal_attn=mid,
            use_convtranspose=transposed,
        )
    )
    ours = (
        AutoencoderKL(
            channels=shape["channels"],
            num_res_blocks=shape["num_res_blocks"],
            attention_levels=attends,
            z_channels=z_channels,
            patch=1,
            norm_groups=4,
            mid_attention_encoder=mid,
            mid_attention_decoder=mid,
            upsampling="transposed" if transposed else "repeat",
        )
        .build()
        .eval()
    )
    ours.load_state_dict(renamed(theirs.state_dict()))
    assert_same_autoencoder(theirs, ours)


UNETS = {
    "plain": {"channels": (8, 16), "attention_levels": (False, False)},
    "attention": {"channels": (8, 16, 16), "attention_levels": (False, True, True), "heads": 8},
    "updown": {"channels": (8, 16), "attention_levels": (False, True), "heads": 8, "updown": True},
    "two blocks": {"channels": (8, 16), "attention_levels": (True, True), "heads": 4, "blocks": 2},
    "tokens": {"channels": (8, 16), "attention_levels": (False, True), "heads": 8, "token_dim": 5},
    # brain_image_synthesis_latent_diffusion of MONAI's model zoo, narrower
    "BrainLDM": {
        "channels": (8, 16, 24),
        "attention_levels": (False, True, True),
        "heads": (0, 16, 24),
        "token_dim": 4,
        "blocks": 2,
        "updown": True,
        "in_channels": 7,
        "out_channels": 3,
    },
}


@pytest.mark.parametrize("shape", UNETS.values(), ids=list(UNETS))
@torch.inference_mode()
def test_unet(shape: dict):
    cin, cout = shape.get("in_channels", 3), shape.get("out_channels", 3)
    heads, blocks = shape.get("heads", 8), shape.get("blocks", 1)
    token_dim, updown = shape.get("token_dim"), shape.get("updown", False)
    theirs = randomise(
        DiffusionModelUNet(
            spatial_dims=3,
            in_channels=cin,
            out_channels=cout,
            channels=shape["channels"],
            attention_levels=shape["attention_levels"],
            num_res_blocks=blocks,
            num_head_channels=heads,
            norm_num_groups=4,
            resblock_updown=updown,
            with_conditioning=token_dim is not None,
            cross_attention_dim=token_dim,
        )
    )
    ours = (
        UNet(
            channels=shape["channels"],
            attention_levels=shape["attention_levels"],
            num_res_blocks=blocks,
            head_channels=heads,
            norm_groups=4,
            modulation="add",
            resblock_updown=updown,
        )
        .build(cin, cout, token_dim=token_dim)
        .eval()
    )
    ours.load_state_dict(renamed(theirs.state_dict()))
    rng = torch.Generator().manual_seed(1)
    x, t = torch.randn(2, cin, 8, 12, 8, generator=rng), torch.tensor([3.0, 700.0])
    tokens = torch.randn(2, 2, token_dim, generator=rng) if token_dim else None
    assert apart(ours(x, t, tokens=tokens), theirs(x, t, context=tokens)) < 1e-5


@torch.inference_mode()
def test_class_embedding_is_a_vector():
    theirs = randomise(
        DiffusionModelUNet(
            spatial_dims=3,
            in_channels=2,
            out_channels=2,
            channels=(8, 16),
            num_head_channels=8,
            attention_levels=(False, False),
            num_res_blocks=1,
            norm_num_groups=4,
            num_class_embeds=3,
        )
    )
    ours = (
        UNet(channels=(8, 16), head_channels=8, norm_groups=4, modulation="add")
        .build(2, 2, vector_dim=3)
        .eval()
    )
    embedding = theirs.class_embedding.weight  # [3, E]: one-hot classes through a linear map
    ours.load_state_dict({**renamed(theirs.state_dict()), "vector_embed.weight": embedding.T})
    x, t = (
        torch.randn(2, 2, 8, 8, 8, generator=torch.Generator().manual_seed(1)),
        torch.tensor([3.0, 9.0]),
    )
    vector = torch.eye(3)[[2, 0]]
    assert apart(ours(x, t, vector=vector), theirs(x, t, class_labels=torch.tensor([2, 0]))) < 1e-5
