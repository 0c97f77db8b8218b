"""The architecture is read off the weights alone, and what comes of it is MONAI's network."""

import pytest
import torch

from tests.models.monai_networks import (
    BRAINLDM_KL,
    BRAINLDM_UNET,
    MAISI_KL,
    aged,
    apart,
    assert_same_autoencoder,
    autoencoder,
    maisi,
    narrow_brainldm,
    randomise,
    unet,
)
from vol3d.errors import ConfigError, DataError
from vol3d.models.monai.architecture import (
    KLHints,
    Read,
    UNetHints,
    kind_of,
    read_autoencoder,
    read_unet,
)

GROUPS = KLHints(norm_groups=4)


def built(read: Read) -> torch.nn.Module:
    net = read.config.build(**read.ports).eval()
    net.load_state_dict(read.state)
    return net


@torch.inference_mode()
def assert_same_unet(theirs, read: Read, classes: int | None = None) -> None:
    ours, p = built(read), read.ports
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(2, p["in_channels"], 8, 12, 8, generator=rng)
    t = torch.tensor([3.0, 700.0])
    tokens = torch.randn(2, 2, p["token_dim"], generator=rng) if p["token_dim"] else None
    labels = torch.tensor([classes - 1, 0]) if classes else None
    vector = torch.eye(classes)[labels] if classes else None
    want = theirs(x, t, context=tokens, class_labels=labels)
    assert apart(ours(x, t, tokens=tokens, vector=vector), want) < 1e-5


AUTOENCODERS = {
    "plain": {},
    "one level": {"channels": (8,)},
    "three levels, uneven": {"channels": (8, 16, 24), "num_res_blocks": (2, 1, 3)},
    "attention": {"attention_levels": (False, True)},
    "attention, one block": {"attention_levels": (False, True), "num_res_blocks": 1},
    "attention everywhere": {
        "attention_levels": (True, True),
        "with_encoder_nonlocal_attn": True,
        "with_decoder_nonlocal_attn": True,
    },
    "middle of the encoder": {"with_encoder_nonlocal_attn": True},
    "middle of the decoder": {
        "with_decoder_nonlocal_attn": True,
        "attention_levels": (False, True),
    },
    "transposed": {"use_convtranspose": True},
    "attention ends without a layer": {"attention_levels": (False, True), "include_fc": False},
    "one layer for q, k and v": {"attention_levels": (False, True), "use_combined_linear": True},
    "BrainLDM": BRAINLDM_KL | {"channels": (8, 16, 16, 16)},
}


@pytest.mark.parametrize("shape", AUTOENCODERS.values(), ids=list(AUTOENCODERS))
def test_autoencoder(shape: dict):
    theirs = randomise(autoencoder(**shape))
    assert kind_of(theirs.state_dict()) == "autoencoder"
    assert_same_autoencoder(theirs, built(read_autoencoder(theirs.state_dict(), GROUPS, "a.pt")))


MAISIS = {
    "published, narrower": {},
    "attention in the middle": {
        "with_encoder_nonlocal_attn": True,
        "with_decoder_nonlocal_attn": True,
    },
    "attention": {"attention_levels": (False, False, True)},
}


@pytest.mark.parametrize("shape", MAISIS.values(), ids=list(MAISIS))
def test_maisi(shape: dict):
    theirs = randomise(maisi(**shape))
    read = read_autoencoder(theirs.state_dict(), GROUPS, "a.pt")
    assert read.what == "AutoencoderKlMaisi"
    assert read.config.upsampling == "trilinear"
    assert read.assumed == {"norm_eps": 1e-6, "transposed": False}
    assert_same_autoencoder(theirs, built(read))


def test_maisi_with_transposed_convolutions():
    theirs = randomise(maisi(use_convtranspose=True))
    hints = KLHints(norm_groups=4, transposed=True)
    assert_same_autoencoder(theirs, built(read_autoencoder(theirs.state_dict(), hints, "a.pt")))


UNETS = {
    "plain": {"attention_levels": (False, False)},
    "one level": {"channels": (8,), "attention_levels": (False,)},
    "attention": {"channels": (8, 16, 16), "attention_levels": (False, True, True)},
    "uneven blocks": {"channels": (8, 16, 16), "num_res_blocks": (1, 3, 2)}
    | {"attention_levels": (True, False, True)},
    "updown": {"resblock_updown": True},
    "tokens": {"with_conditioning": True, "cross_attention_dim": 5},
    "two layers": {
        "with_conditioning": True,
        "cross_attention_dim": 5,
        "transformer_num_layers": 2,
    },
    "attention ends without a layer": {"include_fc": False},
    "one layer for q, k and v": {"use_combined_linear": True},
}


@pytest.mark.parametrize("shape", UNETS.values(), ids=list(UNETS))
def test_unet(shape: dict):
    theirs = randomise(unet(**shape, num_head_channels=8))
    assert kind_of(theirs.state_dict()) == "unet"
    assert_same_unet(theirs, read_unet(theirs.state_dict(), UNetHints(norm_groups=4), "u.pt"))


def test_unet_of_brainldm():
    theirs = randomise(narrow_brainldm()[1])
    hints = UNetHints(norm_groups=4, head_channels=(0, 16, 24))
    read = read_unet(theirs.state_dict(), hints, "u.pt")
    assert read.assumed == {"norm_eps": 1e-6}
    assert_same_unet(theirs, read)


def test_classes_are_a_vector():
    theirs = randomise(unet(num_class_embeds=3, num_head_channels=8))
    read = read_unet(theirs.state_dict(), UNetHints(norm_groups=4), "u.pt")
    assert read.ports["vector_dim"] == 3
    assert_same_unet(theirs, read, classes=3)


# -- the names before MONAI's core: MONAI itself says what they mean ---------------------------------


def test_old_names_of_an_autoencoder():
    shape = {"attention_levels": (False, True), "include_fc": False}
    old = aged(randomise(autoencoder(**shape | {"include_fc": True})).state_dict())
    theirs = autoencoder(**shape).eval()
    theirs.load_old_state_dict(dict(old))
    assert_same_autoencoder(theirs, built(read_autoencoder(old, GROUPS, "a.pt")))


def test_old_names_of_brainldm():
    kl, net = map(randomise, narrow_brainldm())
    old = aged(net.state_dict())
    assert not set(old) <= set(net.state_dict())
    net.load_old_state_dict(dict(old))
    hints = UNetHints(norm_groups=4, head_channels=(0, 16, 24))
    assert_same_unet(net, read_unet(old, hints, "u.pt"))
    old = aged(kl.state_dict())
    kl.load_old_state_dict(dict(old))
    assert_same_autoencoder(kl, built(read_autoencoder(old, GROUPS, "a.pt")))


# -- true to size: names and shapes ------------------------------------------------------------------


@pytest.mark.parametrize("names", [dict, aged], ids=["core", "GenerativeModels"])
def test_brainldm_true_to_size(names):
    with torch.device("meta"):
        kl = autoencoder(**BRAINLDM_KL, norm_num_groups=32)
        net = unet(**BRAINLDM_UNET, norm_num_groups=32)
    read = read_autoencoder(names(kl.state_dict()), KLHints(), "a.pt")
    assert read.config.channels == (64, 128, 128, 128)
    assert read.config.z_channels == 3
    assert read.config.downsample == 8
    read = read_unet(names(net.state_dict()), UNetHints(head_channels=(0, 512, 768)), "u.pt")
    assert read.config.channels == (256, 512, 768)
    assert read.config.attention_levels == (False, True, True)
    assert read.config.resblock_updown
    ports = {"in_channels": 7, "out_channels": 3, "token_dim": 4, "vector_dim": None}
    assert read.ports == ports
    millions = sum(v.numel() for v in read.state.values()) / 1e6
    assert round(millions) == 553


def test_maisi_true_to_size():
    with torch.device("meta"):
        kl = maisi(**MAISI_KL, norm_num_groups=32)
    read = read_autoencoder(kl.state_dict(), KLHints(), "a.pt")
    assert read.config.channels == (64, 128, 256)
    assert read.config.num_res_blocks == (2, 2, 2)
    assert read.config.upsampling == "trilinear"


# -- what is refused -----------------------------------------------------------------------------------


def test_what_is_another_network_is_refused():
    state = unet(num_head_channels=8).state_dict()
    with pytest.raises(DataError, match=r"u\.pt: has 1 weights that DiffusionModelUNet has not"):
        read_unet({**state, "spacing_layer.0.weight": torch.zeros(3, 3)}, hints_of_four(), "u.pt")
    lacking = {k: v for k, v in state.items() if k != "time_embed.2.bias"}
    with pytest.raises(DataError, match=r"lacks 1 weights .* such as time_embed\.2\.bias"):
        read_unet(lacking, hints_of_four(), "u.pt")
    other = {**state, "time_embed.2.bias": torch.zeros(3)}
    with pytest.raises(DataError, match=r"time_embed\.2\.bias: \(3,\), where \(32,\) is due"):
        read_unet(other, hints_of_four(), "u.pt")


def hints_of_four() -> UNetHints:
    return UNetHints(norm_groups=4, head_channels=8)


def test_groups_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match=r"a\.pt: channels=8 must be a multiple .* kl\.norm_grou"):
        read_autoencoder(autoencoder().state_dict(), KLHints(), "a.pt")


def test_a_plane_is_refused():
    from monai.networks.nets import AutoencoderKL

    flat = AutoencoderKL(
        2,
        channels=(8,),
        num_res_blocks=(1,),
        attention_levels=(False,),
        norm_num_groups=4,
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    )
    with pytest.raises(DataError, match=r"a\.pt: is a 2-D network"):
        read_autoencoder(flat.state_dict(), GROUPS, "a.pt")
