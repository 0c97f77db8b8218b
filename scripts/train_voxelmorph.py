"""Train MONAI's VoxelMorph on pairs of people, for compare_registrations.py --voxelmorph.

python scripts/train_voxelmorph.py --data ixi2mm --seconds 3600 runs/voxelmorph.safetensors

The people, images and loss are those of vol3d's registrar: squared local correlation, and the evenness
of the field with the weight 1, as published for it (Balakrishnan et al. 2019, IEEE TMI 38:1788). It ends
after so many seconds of the processor, so that both can be given the same.
"""

import argparse
import time
from pathlib import Path

import torch
from registration_peers import voxelmorph_net
from safetensors.torch import save_file

from vol3d.data.datasets import Bids
from vol3d.data.network_images import as_seen
from vol3d.io.files import make_folder, whole
from vol3d.nn.registration_losses import local_ncc, unevenness
from vol3d.volume import Volume

EVERY = 50
"""Steps between two lines and two copies of the weights."""


def main() -> None:
    """Train, and keep the weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="a BIDS folder, desc-brain")
    parser.add_argument("--seconds", type=float, required=True, help="of the processor")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    visits = Bids(path=asked.data, entities={"desc": "brain"}).scans()
    images = [
        torch.from_numpy(as_seen(Volume.read(v.image)).data)[None, None]
        for v in visits
        if v.split == "train"
    ]
    net = voxelmorph_net().to(asked.device).train()
    optim = torch.optim.Adam(net.parameters(), 3e-4)
    start, step, losses = time.process_time(), 0, []
    make_folder(asked.out.parent)
    while time.process_time() - start < asked.seconds:
        i, j = torch.randperm(len(images))[:2].tolist()
        moving, fixed = images[i].to(asked.device), images[j].to(asked.device)
        moved, u = net(moving, fixed)
        loss = 1 - local_ncc(moved, fixed).mean() + unevenness(u)
        optim.zero_grad()
        loss.backward()
        optim.step()
        losses.append(loss.item())
        step += 1
        if step % EVERY == 0:
            print(f"{step}\t{sum(losses[-EVERY:]) / EVERY:.4f}", flush=True)
            keep(net, asked.out)
    keep(net, asked.out)


def keep(net: torch.nn.Module, path: Path) -> None:
    """Write the weights, whole or not at all."""
    with whole(path) as part:
        save_file({k: v.contiguous().cpu() for k, v in net.state_dict().items()}, part)


if __name__ == "__main__":
    main()
