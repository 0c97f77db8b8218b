"""Vector quantisation: every latent vector becomes the nearest of a few learnt ones.

van den Oord et al. 2017 (arXiv:1711.00937): z_e(x) is the encoder's output, e_i the codes. The codes
are running means of the vectors that choose them (appendix A.1), so no gradient moves them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vol3d.distributed.ranks import launched


@dataclass(frozen=True)
class Quantised:
    """What comes of quantisation in training.

    Attributes:
        z: the codes in place of the vectors, [B, C, x, y, z]; gradients pass straight through.
        commitment: mean squared distance of the vectors from their codes, which pulls on the vectors.
        perplexity: how many codes are in use: exp of the entropy, at most their number.
    """

    z: Tensor
    commitment: Tensor
    perplexity: Tensor


class Quantiser(nn.Module):
    """A codebook that moves once an update, by `settle`, and never in a forward pass.

    A forward pass only adds up what the update needs, so that micro-batches and ranks count as one
    batch and an update that is dropped leaves the codes alone. A code that is seldom used is
    restarted at a latent vector of the batch (Dhariwal et al. 2020, arXiv:2005.00341, section 3.1).
    No code is in use when training begins, so the first batch makes the codebook.

    Args:
        num_codes: K.
        dim: C, of each code.
        decay: gamma, of the running means.
        restart_below: in uses per update, on a running mean; within (0, 1).
    """

    def __init__(self, num_codes: int, dim: int, *, decay: float, restart_below: float) -> None:
        super().__init__()
        self.decay, self.restart_below = decay, restart_below
        self.register_buffer("codes", torch.zeros(num_codes, dim))  # e
        self.register_buffer("uses", torch.zeros(num_codes))  # N
        self.register_buffer("sums", torch.zeros(num_codes, dim))  # m
        # Of the update under way. Between updates they are empty, so no checkpoint needs them.
        for name, empty in self.nothing().items():
            self.register_buffer(name, empty, persistent=False)

    def nothing(self) -> dict[str, Tensor]:
        """The counts, sums and spare vectors of an update before its first forward pass."""
        return {
            "new_uses": torch.zeros_like(self.uses),
            "new_sums": torch.zeros_like(self.sums),
            "spare": torch.zeros_like(self.codes),
            "spare_rank": torch.full_like(self.uses, -torch.inf),
        }

    def choose(self, vectors: Tensor) -> Tensor:
        """The index of the nearest code of each vector [..., C] -> [...]."""
        # |z - e|^2 less |z|^2, which is the same for every code: no [..., K, C] is made.
        return (self.codes.square().sum(1) - 2 * vectors @ self.codes.T).argmin(-1)

    def nearest(self, z: Tensor) -> Tensor:
        """The codes in place of the vectors of z [B, C, x, y, z], float32."""
        with torch.autocast(z.device.type, enabled=False):
            return self.codes[self.choose(z.float().movedim(1, -1))].movedim(-1, 1)

    def forward(self, z: Tensor, noise: Tensor) -> Quantised:
        """z_e [B, C, x, y, z] -> its codes; in training, their uses are added up.

        Args:
            z: the encoder's output.
            noise: normal, of z's shape, drawn per image; the vectors with the highest are those that
                codes restart at.
        """
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            vectors = z.detach().movedim(1, -1)  # [B, x, y, z, C]
            index = self.choose(vectors)
            q = self.codes[index].movedim(-1, 1)
            one = torch.ones_like(index.flatten(), dtype=z.dtype)
            uses = torch.zeros_like(self.uses).index_add_(0, index.flatten(), one)
            if self.training:
                self.add_up(vectors.flatten(0, -2), index.flatten(), uses, noise[:, 0].flatten())
            return Quantised(
                z=z + (q - z).detach(),  # section 3.2: the gradient is copied past the choice
                commitment=functional.mse_loss(z, q),  # eq. 3, third term
                perplexity=torch.special.entr(uses / uses.sum()).sum().exp(),
            )

    def add_up(self, flat: Tensor, index: Tensor, uses: Tensor, rank: Tensor) -> None:
        """Add the vectors [N, C] to their codes' counts and sums; keep the K first by rank."""
        self.new_uses.add_(uses)
        self.new_sums.index_add_(0, index, flat)  # on CUDA in any order: the last bits may differ
        self.keep_first(torch.cat([self.spare, flat]), torch.cat([self.spare_rank, rank]))

    def keep_first(self, spare: Tensor, rank: Tensor) -> None:
        """Of the vectors, keep the K of the highest rank, in order."""
        first = rank.float().topk(len(self.codes))
        self.spare.copy_(spare[first.indices])
        self.spare_rank.copy_(first.values)

    @torch.no_grad()
    def settle(self, ok: Tensor) -> None:
        """Move the codes by what was added up since the last time; nothing moves where not `ok`.

        That is a bool on the device, the same on every rank; it is not looked at here.
        """
        ranks = launched()
        if ranks.world > 1:  # what was added up becomes that of all ranks
            ranks.add_up([self.new_uses, self.new_sums])
            self.keep_first(ranks.gather(self.spare), ranks.gather(self.spare_rank))
        uses = self.uses.lerp(self.new_uses, 1 - self.decay)  # appendix A.1, eq. 6
        sums = self.sums.lerp(self.new_sums, 1 - self.decay)  # eq. 7

        # The i-th code that is seldom used restarts at the i-th spare vector, if there are as many.
        seldom = uses < self.restart_below
        turn = (seldom.cumsum(0) - 1).clamp(min=0)
        restart = seldom & self.spare_rank[turn].isfinite()
        uses = torch.where(restart, 1.0, uses)
        sums = torch.where(restart[:, None], self.spare[turn], sums)

        in_use = (uses >= self.restart_below)[:, None]
        codes = torch.where(in_use, sums / uses[:, None], self.codes)  # eq. 8
        for old, new in ((self.codes, codes), (self.uses, uses), (self.sums, sums)):
            old.copy_(torch.where(ok, new, old))
        for name, empty in self.nothing().items():
            getattr(self, name).copy_(empty)
