"""Adversarial losses against MONAI's where they are the same, and closed forms."""

import pytest
import torch
from monai.losses import PatchAdversarialLoss

from vol3d.nn.adversarial import Balance, feature_matching, fool, judge


def scales(seed: int, layers: int = 3) -> list[list[torch.Tensor]]:
    """What a discriminator of two scales may give."""
    rng = torch.Generator().manual_seed(seed)
    return [[torch.randn(2, 4, n, n + 1, n, generator=rng) for _ in range(layers)] for n in (6, 3)]


def test_closed_forms():
    real, fake = [[torch.tensor([2.0, 0.5])]], [[torch.tensor([-3.0, 0.0])]]
    assert judge(real, fake, "hinge").item() == pytest.approx((0.25 + 0.5) / 2)
    assert judge(real, fake, "least_squares").item() == pytest.approx(((1 + 0.25) / 2 + 4.5) / 2)
    assert fool(fake, "hinge").item() == pytest.approx(1.5)
    assert fool(fake, "least_squares").item() == pytest.approx((16 + 1) / 2)


def verdicts(outputs: list) -> list[torch.Tensor]:
    return [features[-1] for features in outputs]


def test_least_squares_is_monai_s():
    real, fake = scales(0), scales(1)
    theirs = PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True)
    expected = theirs(verdicts(fake), target_is_real=True, for_discriminator=False)
    torch.testing.assert_close(fool(fake, "least_squares"), expected)
    expected = theirs(verdicts(real), True, True) + theirs(verdicts(fake), False, True)
    torch.testing.assert_close(judge(real, fake, "least_squares"), expected / 2)


def test_hinge_is_monai_s_on_the_logits_that_it_squashes():
    real, fake = scales(0), scales(1)
    theirs = PatchAdversarialLoss(criterion="hinge")  # takes tanh of the logits first
    squashed = [[[f.tanh() for f in at] for at in outputs] for outputs in (real, fake)]
    expected = theirs(verdicts(real), True, True) + theirs(verdicts(fake), False, True)
    torch.testing.assert_close(judge(*squashed, "hinge"), expected / 2)
    # Theirs is 1 - tanh(d) for the generator: the same but for the 1.
    expected = theirs(verdicts(fake), True, False)
    torch.testing.assert_close(fool(squashed[1], "hinge") + 1, expected)


def test_feature_matching_is_the_mean_difference_before_the_verdict():
    real, fake = scales(0), scales(0)
    fake[0][-1] += 7  # the verdict is no feature
    assert feature_matching(real, fake) == 0
    fake[0][0] += 3  # one of four: two layers at each of two scales
    assert feature_matching(real, fake).item() == pytest.approx(3 / 4)


def test_features_of_the_real_scan_are_the_aim():
    real, fake = scales(0), scales(1)
    for features in [f for at in (*real, *fake) for f in at]:
        features.requires_grad_(True)
    feature_matching(real, fake).backward()
    assert all(f.grad is None for at in real for f in at)
    assert all(f.grad.any() for at in fake for f in at[:-1])


def test_balance_is_the_ratio_of_the_gradients_of_the_whole_update_before():
    w, ok = torch.ones(3, requires_grad=True), torch.tensor(True)
    balance = Balance(w)
    balance.add_up((6 * w).sum(), (2 * w).sum(), w, share=1.0)
    assert balance.weight == 0  # there was none before
    balance.settle(ok)
    assert balance.weight.item() == pytest.approx(3, rel=1e-3)

    # What the batch is cut into makes no difference: 3/4 of (1, 0, 0) and 1/4 of (0, 4, 0).
    balance.add_up(w[0], w[2], w, share=0.75)
    balance.add_up(4 * w[1], w[2], w, share=0.25)
    balance.settle(ok)
    assert balance.weight.item() == pytest.approx((0.75**2 + 1) ** 0.5, rel=1e-3)


@pytest.mark.parametrize("ok", [True, False])
def test_balance_keeps_what_it_had_when_the_update_is_dropped(ok: bool):
    w = torch.ones(3, requires_grad=True)
    balance = Balance(w)
    balance.add_up((6 * w).sum(), (2 * w).sum(), w, share=1.0)
    balance.settle(torch.tensor(True))
    balance.add_up((w * (torch.nan if ok else 5)).sum(), w.sum(), w, share=1.0)
    balance.settle(torch.tensor(ok))
    assert balance.weight.item() == pytest.approx(3, rel=1e-3)
