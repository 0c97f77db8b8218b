"""At which noise a diffusion segmenter looks at the image: Dice of one estimate from noisy true labels.

python scripts/dice_by_noise.py RUN TABLE [people]

TABLE has the columns subject, image, labels and split; people held out are looked at (8). Where the Dice
is high although there is nearly nothing but noise, the network finds the structures in the image. Where
it is low there, and high in less noise, it reads them in the noisy labels, and samples will be poor:
train at noisier levels (task.schedule.logit_mean), and sample along such (task.schedule.shift).
"""

import sys
from pathlib import Path

import numpy as np
import torch

from vol3d.data.datasets import Table
from vol3d.data.dice import dice
from vol3d.data.rng import randn, torch_rng
from vol3d.trained.generator import DiffusionBundle, TrainedGenerator
from vol3d.trained.sampling import Guides, conditions
from vol3d.verbs.train import generator_at

LEVELS = (0.3, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
"""Noise levels of a rectified flow: sigma, of 1."""


@torch.inference_mode()
def main(run: Path, table: Path, people: int = 8) -> None:
    """Print the mean Dice of the structures at each level."""
    model = TrainedGenerator(generator_at(run), sampler={"micro_batch": 1})
    target = DiffusionBundle.parse(bundle_of(model)).target
    samples = target.samples(Table(path=table, grid="own"), list(model.channels))
    codec, denoiser = model.codec, model.net.denoiser
    found: dict[float, list[float]] = {level: [] for level in LEVELS}
    for i, visit in enumerate(samples.val[:people]):
        sample = samples.sample(visit, list(model.channels), None)
        x0 = sample["x0"][None]
        given = Guides(model.channels, model.scales, [sample])
        shape = tuple(x0.shape[2:])
        cond, _ = conditions(model.net, model.schema, [{}], model.sampler, shape, given)
        noise = randn(tuple(x0.shape[1:]), [torch_rng("dice by noise", i)])
        truth = codec.probabilities(x0).argmax(1)
        for level in LEVELS:
            sigma = torch.tensor(level, dtype=torch.float64)
            x = float(denoiser.schedule.alpha(sigma)) * x0 + level * noise
            guess = codec.probabilities(denoiser(x, sigma, cond)).argmax(1)
            pairs = [(guess == k, truth == k) for k in range(1, len(codec.values))]
            found[level].append(np.mean([dice(a, b) for a, b in pairs]))
    for level, dices in found.items():
        print(f"sigma {level:<6g} Dice {np.mean(dices):.3f}")


def bundle_of(model: TrainedGenerator) -> dict:
    """The config of a model's bundle."""
    from vol3d.bundle import Bundle

    return Bundle(model.path, "diffusion").config


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:4]))
