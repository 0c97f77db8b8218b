"""What the loss of a U-Net is of: patches by their weight."""

from contextlib import nullcontext
from types import SimpleNamespace

import torch
from monai.losses import DiceCELoss
from torch.nn.functional import one_hot

from tests.conftest import SEGMENTER
from tests.tasks.test_job import job_of
from vol3d.tasks.job import Batch
from vol3d.trained.target import WEIGHT


def test_a_patch_counts_by_its_weight():
    logits = torch.randn(2, 3, 4, 4, 4)
    target = one_hot(torch.randint(3, (2, 4, 4, 4)), 3).movedim(-1, 1).float()
    engine = SimpleNamespace(
        device=torch.device("cpu"), autocast=nullcontext, call=lambda name, x: logits
    )
    drawn = [
        {"x": torch.zeros(1, 4, 4, 4), "target": t, WEIGHT: torch.tensor(w)}
        for t, w in zip(target, (1.0, 3.0), strict=True)
    ]
    batch = Batch(0, ["a", "b"], [{}, {}], [], drawn, ["a", "b"])
    ((_, terms),) = job_of(*SEGMENTER, "data.kind=bids").losses(engine, batch)
    loss = DiceCELoss(softmax=True, include_background=False)
    one, other = (loss(logits[i : i + 1], target[i : i + 1]) for i in range(2))
    torch.testing.assert_close(terms["dice_ce"], (one + 3 * other) / 2)
