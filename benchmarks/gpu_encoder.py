"""The step `encoder` of gpu.py: image towers alone, beside the rate of a matrix product on the same device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_session import Session
from random_model import Sizes, make_model
from speed import CLASS_NAMES, vision_operations
from timing import spread
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import fgseg

TINY = Sizes(64, 3, 2, 32, 16, 32, 2, 32)
BATCHES, TINY_BATCHES = (64, 1, 8), (4, 1, 2)  # in order of worth
SHARE_OF_MATMUL = 0.5  # of the measured rate, for base in bfloat16 at batch 64
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}


def model_folder(place: Path, size: str, *, tiny: bool) -> Path:
    """The folder of a random model of a size, which is made at the first call."""
    folder = place / size
    if not (folder / "tokenizer.json").is_file():
        words = {word for name in CLASS_NAMES for word in name.split()}
        make_model(folder, words, size=TINY if tiny else size)
    return folder


def batches(session: Session) -> tuple[int, ...]:
    """Numbers of images in a batch, in order of worth."""
    return TINY_BATCHES if session.tiny else BATCHES


def encoder_alone(session: Session, place: Path) -> None:
    """Time the towers of base and large in each dtype and batch size."""
    for dtype, sizes in (("bfloat16", ("base", "large")), ("float16", ("base",)), ("float32", ("base",))):
        for size in sizes:
            seg = fgseg.load(str(model_folder(place, size, tiny=session.tiny)), device=session.device, dtype=dtype)
            for batch in batches(session) if dtype == "bfloat16" else batches(session)[:1]:
                work = partial(_timed, session, seg, dtype, batch, is_base=size == "base")
                session.part("encoder", f"{size}, {dtype}, batch {batch}", work, seconds=15)
            del seg


@torch.inference_mode()
def _timed(session: Session, seg: fgseg.Segmenter, dtype: str, batch: int, *, is_base: bool) -> dict[str, Any]:
    side = seg.encoder.side
    pixels = torch.randn(batch, 3, side, side, device=session.device).to(seg.encoder.dtype)
    is_compiled = session.compiled and is_base and dtype == "bfloat16" and batch in batches(session)[:2]
    candidates = ways(session, seg.encoder.model.dense_features, pixels, compiled=is_compiled)
    times = session.turns(candidates, repeats=20, seconds=5)
    operations = vision_operations(seg.encoder, batch)
    rows = {
        name: {
            **spread(values),
            "images_a_second": round(batch / spread(values)["median"], 1),
            "share_of_matmul": round(operations / spread(values)["median"] / session.matmul_rates[dtype], 3),
        }
        for name, values in times.items()
    }
    row: dict[str, Any] = {"candidates": rows, "teraflops_of_matmul": round(session.matmul_rates[dtype] / 1e12, 1)}
    if is_base and dtype == "bfloat16" and batch == BATCHES[0]:
        share = rows["fgseg"]["share_of_matmul"]
        row |= {"target": f">= {SHARE_OF_MATMUL}", "verdict": "pass" if share >= SHARE_OF_MATMUL else "short"}
    return row


def ways(
    session: Session, encode: Callable[[Tensor], Tensor], pixels: Tensor, *, compiled: bool
) -> dict[str, Callable[[], Any]]:
    """The tower as fgseg runs it, with each kernel of attention, another layout, CUDA graphs, and compiled."""

    def with_backend(backend: SDPBackend) -> Tensor:
        with sdpa_kernel(backend):
            return encode(pixels)

    last = pixels.contiguous(memory_format=torch.channels_last)
    candidates: dict[str, Callable[[], Any]] = {
        "fgseg": lambda: encode(pixels),
        **{f"attention {name}": partial(with_backend, backend) for name, backend in BACKENDS.items()},
        "channels_last": lambda: encode(last),
    }
    if session.on_gpu:
        candidates["graph"] = Graph(encode, pixels).replay
    if compiled:
        candidates["compiled"] = partial(torch.compile(encode, dynamic=False), pixels)
    return candidates


class Graph:
    """A function of one tensor, recorded as a CUDA graph at the first call. Calls belong into inference mode."""

    def __init__(self, function: Callable[[Tensor], Tensor], example: Tensor) -> None:
        """Take a function, and a tensor like those that it will be given."""
        self._function, self._example = function, example
        self._graph: torch.cuda.CUDAGraph | None = None

    def _record(self) -> None:
        self._given = self._example.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # torch asks for runs on another stream before a recording
            for _ in range(3):
                self._function(self._given)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._result = self._function(self._given)
        self._graph = graph

    def replay(self, values: Tensor | None = None) -> Tensor:
        """The result for other values, or for the last ones; the next replay overwrites it."""
        if self._graph is None:
            self._record()
        if values is not None:
            self._given.copy_(values)
        self._graph.replay()
        return self._result
