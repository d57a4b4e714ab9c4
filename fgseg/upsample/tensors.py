"""Conversion between numpy arrays and torch tensors.

It lives in `upsample` because that is the lowest package that works on tensors, so `similarity`, `scoring` and
`regions` may all import it.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Values", "as_tensor", "float32_tensor", "full_precision", "like", "stream_of", "to_device", "to_host"]

P = ParamSpec("P")
T = TypeVar("T")

Values = TypeVar("Values", torch.Tensor, NDArray[Any])
"""Numbers of one of two kinds; the result of a function has the kind of its argument."""


def as_tensor(values: torch.Tensor | NDArray[Any]) -> torch.Tensor:
    """A tensor unchanged, or a tensor with a copy of an array: torch warns about read-only arrays."""
    return values if isinstance(values, torch.Tensor) else torch.from_numpy(np.array(values))


def float32_tensor(values: torch.Tensor | NDArray[Any]) -> torch.Tensor:
    """The values as a detached float32 tensor; an array is copied."""
    if isinstance(values, torch.Tensor):
        return values.detach().float()
    return torch.from_numpy(np.array(values, dtype=np.float32))


def to_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU on a device. CUDA copies it from pinned memory, so that the host does not wait."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def stream_of(device: torch.device) -> int:
    """The number of the stream that works are queued in, 0 where a device has none.

    Copies by `to_device` are finished only for work of their stream, so tensors that are kept belong to one.
    """
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0


def to_host(*values: torch.Tensor) -> list[NDArray[Any]]:
    """Tensors of one device as arrays; the host waits once for all of them."""
    device = values[0].device
    if device.type != "cuda":
        return [one.cpu().numpy() for one in values]
    copies = [one.to("cpu", non_blocking=True) for one in values]  # torch pins their memory
    torch.cuda.current_stream(device).synchronize()
    return [one.numpy() for one in copies]


def full_precision(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function whose products keep the dtype of its tensors, also inside a caller's `torch.autocast`."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if not any(map(torch.is_autocast_enabled, ("cpu", "cuda"))):  # entering the block below takes 6 us
            return function(*args, **kwargs)
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return function(*args, **kwargs)

    return run


def like(result: torch.Tensor, example: Values) -> Values:
    """A tensor of the CPU as an array where the example is one."""
    return result if isinstance(example, torch.Tensor) else result.numpy()
