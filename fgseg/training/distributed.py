"""The processes that `torchrun` starts, and the rows and sums that they exchange.

No exchange carries a gradient. A training step exchanges features, computes its share of the loss from the features of
all processes, and sums the gradients of these features (`fgseg.training.stages`).
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

__all__ = ["SINGLE", "ProcessGroup", "join_processes"]


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together, as one of them sees it.

    Attributes:
        rank: index of this process, from 0.
        world_size: number of processes.

    Examples:
        >>> rows, own = SINGLE.gather(torch.zeros(3, 2))
        >>> tuple(rows.shape), own
        ((3, 2), slice(0, 3, None))
    """

    rank: int = 0
    world_size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def gather(self, rows: Tensor) -> tuple[Tensor, slice]:
        """The rows of all processes in the order of rank, and the slice of this process.

        Args:
            rows: (n, D); n may differ between processes and may be 0.

        Returns:
            (N, D) rows of all processes, and the slice of it that holds `rows`.
        """
        if self.world_size == 1:
            return rows, slice(0, len(rows))
        counts = self.collect([len(rows)])
        padded = rows.new_zeros(max(counts), *rows.shape[1:])  # a collective needs equal sizes
        padded[: len(rows)] = rows
        gathered = [torch.empty_like(padded) for _ in counts]
        if len(padded):
            dist.all_gather(gathered, padded)
        first = sum(counts[: self.rank])
        everyone = torch.cat([padded_rows[:count] for padded_rows, count in zip(gathered, counts, strict=True)])
        return everyone, slice(first, first + len(rows))

    def add(self, tensor: Tensor) -> Tensor:
        """Sum the tensor over all processes, in place, and return it."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def collect(self, items: list[Any]) -> list[Any]:
        """The items of all processes in the order of rank. They are pickled, so they should be small."""
        if self.world_size == 1:
            return items
        lists: list[Any] = [None] * self.world_size
        dist.all_gather_object(lists, items)
        return [item for sent in lists for item in sent]


SINGLE = ProcessGroup()


@contextmanager
def join_processes(device: str) -> Iterator[tuple[ProcessGroup, torch.device]]:
    """Join the processes that `torchrun` started, if any, for the duration of the block.

    Args:
        device: as `fgseg.load`; with `auto` or `cuda`, each process of a machine uses its own GPU.

    Raises:
        DeviceError: the device does not exist, or there are fewer GPUs than processes.
    """
    picked = pick_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield SINGLE, picked
        return
    if picked.type == "cuda":
        own = int(os.environ["LOCAL_RANK"])
        if own >= torch.cuda.device_count():
            raise DeviceError(
                f"device: process {own} of this machine has no GPU of its own, since there are "
                f"{torch.cuda.device_count()}; start no more processes than that (torchrun --nproc-per-node)"
            )
        picked = torch.device("cuda", own)
        torch.cuda.set_device(picked)
    # The defaults of this module's functions are the process group at its import, and an optimizer imports it. Imported
    # after the next line, it would keep the group and its threads alive until Python exits, which sometimes aborts.
    importlib.import_module("torch.distributed.nn")
    dist.init_process_group("nccl" if picked.type == "cuda" else "gloo")
    try:
        yield ProcessGroup(dist.get_rank(), dist.get_world_size()), picked
    finally:
        dist.destroy_process_group()
