"""Processes that train together under `torchrun`: which one this is, and the rows and sums they exchange.

Nothing here carries a gradient. A step exchanges features, computes its share of the loss from everybody's, and sends
the gradients of everybody's features back (`fgseg.training.stages`), so every exchange stands in plain sight.
"""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fgseg.encoders.devices import pick_device
from fgseg.errors import DeviceError

__all__ = ["ALONE", "Ranks", "joined"]


@dataclass(frozen=True)
class Ranks:
    """One process among those that train together.

    Attributes:
        rank: which one this is, from 0.
        world: how many there are.

    Examples:
        >>> everyone, own = ALONE.gather(torch.zeros(3, 2))
        >>> tuple(everyone.shape), own
        ((3, 2), slice(0, 3, None))
    """

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def gather(self, rows: Tensor) -> tuple[Tensor, slice]:
        """Everybody's rows in the order of ranks, and which of them are one's own.

        Args:
            rows: (n, D), n differing between ranks, 0 allowed.

        Returns:
            (N, D) the n of all ranks together; own rows are `[slice]` of it.
        """
        if self.world == 1:
            return rows, slice(0, len(rows))
        counts = self._counts(rows)
        padded = rows.new_zeros(max(counts), *rows.shape[1:])  # a collective takes equal sizes
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        if len(padded):
            dist.all_gather(parts, padded)
        first = sum(counts[: self.rank])
        everyone = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
        return everyone, slice(first, first + len(rows))

    def _counts(self, rows: Tensor) -> list[int]:
        own = torch.tensor([len(rows)], device=rows.device)
        counts = [torch.empty_like(own) for _ in range(self.world)]
        dist.all_gather(counts, own)
        return [int(count) for count in counts]

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, in place; returns it."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def collect(self, items: list[Any]) -> list[Any]:
        """Everybody's items in the order of ranks; small ones, they travel pickled between these processes."""
        if self.world == 1:
            return items
        lists: list[Any] = [None] * self.world
        dist.all_gather_object(lists, items)
        return [item for part in lists for item in part]


ALONE = Ranks()


@contextmanager
def joined(device: str) -> Iterator[tuple[Ranks, torch.device]]:
    """Join the processes that `torchrun` started, if it did, for as long as the block lasts.

    Args:
        device: as `fgseg.load` takes it; `auto` and `cuda` give each process of a machine a GPU of its own.

    Raises:
        DeviceError: no such device, or fewer GPUs than processes.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield ALONE, pick_device(device)
        return
    picked = pick_device(device)
    if picked.type == "cuda":
        own = int(os.environ["LOCAL_RANK"])
        if own >= torch.cuda.device_count():
            raise DeviceError(
                f"device: process {own} of this machine has no GPU of its own, there are "
                f"{torch.cuda.device_count()}; start as many processes (torchrun --nproc-per-node)"
            )
        picked = torch.device("cuda", own)
        torch.cuda.set_device(picked)
    # Its functions default to the group there is when it is imported, and an optimizer imports it: after the next line
    # it would hold the group, and the group its threads, until Python is half torn down, which aborts at times.
    importlib.import_module("torch.distributed.nn")
    dist.init_process_group("nccl" if picked.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size()), picked
    finally:
        dist.destroy_process_group()
