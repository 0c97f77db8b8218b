"""A network's call on a GPU, recorded once and then played back.

On the small grid of a latent a GPU does a call of the diffusion U-Net in less time than Python takes to
launch its thousand kernels. A CUDA graph launches them all at once: the same kernels, the same numbers.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Call = Callable[..., Tensor]


@dataclass
class Recording:
    """A CUDA graph, and the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    given: list[Tensor]
    made: Tensor


class Replayed(nn.Module):
    """A network, or a method of one, for calls without gradients.

    On a GPU the first call of each size goes as usual, which compiles and chooses kernels; the second is
    recorded, and all others are played back. Elsewhere every call goes as usual, as it does where a call
    cannot be recorded, for want of memory, say. Weights must stay where they are.

    Args:
        f: of tensors, by position or by name, and of what can be a key of a dict; gives a tensor.
    """

    def __init__(self, f: Call) -> None:
        super().__init__()
        self.f = f
        self.calls: dict[Hashable, Recording | None] = {}
        """What is known of each size: None if its calls go as usual."""
        self.seen: set[Hashable] = set()

    def forward(self, *args, **named) -> Tensor:
        """What `f` gives; in memory of its own."""
        given = tensors(args, named)
        if not any(x.is_cuda for x in given) or torch.is_grad_enabled():
            return self.f(*args, **named)
        key = tuple(map(key_of, args)), tuple((name, key_of(x)) for name, x in named.items())
        if key not in self.seen:
            self.seen.add(key)
            return self.f(*args, **named)
        if key not in self.calls:
            with torch.cuda.device_of(given[0]):
                self.calls[key] = record(self.f, args, named)
        recording = self.calls[key]
        if recording is None:
            return self.f(*args, **named)
        with torch.cuda.device_of(given[0]):
            for mine, theirs in zip(recording.given, given, strict=True):
                mine.copy_(theirs)
            recording.graph.replay()
            return recording.made.clone()


def record(f: Call, args: tuple, named: dict) -> Recording | None:
    """A call on the current GPU as a CUDA graph; None where it cannot be had."""
    args = tuple(copied(x) for x in args)
    named = {name: copied(x) for name, x in named.items()}
    graph = torch.cuda.CUDAGraph()
    low = torch.is_autocast_enabled("cuda")
    kind = torch.get_autocast_dtype("cuda")
    stream = torch.cuda.Stream()  # torch's own is one GPU's for good
    try:
        # Without its cache, whose weights are gone when the caller leaves autocast.
        off = torch.autocast("cuda", kind, enabled=low, cache_enabled=False)
        with off, torch.cuda.graph(graph, stream=stream):
            made = f(*args, **named)
    except RuntimeError:  # memory that runs out among them
        return None
    return Recording(graph, tensors(args, named), made)


def tensors(args: tuple, named: dict) -> list[Tensor]:
    """All tensors of a call."""
    return [x for x in (*args, *named.values()) if isinstance(x, Tensor)]


def copied(x: object) -> object:
    """A tensor in memory of its own, in its layout."""
    return x.clone(memory_format=torch.preserve_format) if isinstance(x, Tensor) else x


def key_of(x: object) -> Hashable:
    """What a recording depends on: of a tensor, all but its numbers and its place."""
    return (x.shape, x.stride(), x.dtype, x.device) if isinstance(x, Tensor) else x
