"""The steps `memory_to_labels` and `profile` of gpu.py: arrays in memory to label maps on the host.

The candidates make the label maps of 20 words at the images' own size, from photographs that are resized to the model's
square ("squash"). Each is compared with the encoder alone, in turns with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_encoder import Graph, batches, model_folder
from gpu_session import Session, ratio, setting
from numpy.typing import NDArray
from speed import CLASS_NAMES, photo
from timing import spread
from torch import Tensor
from torch.autograd import DeviceType

import fgseg
from fgseg.encoders.base import normalised
from fgseg.encoders.encoder import normalized_pixels
from fgseg.encoders.pixels import Resizing, pixel_batch
from fgseg.similarity import cosines
from fgseg.upsample.argmax import compare_stacks
from fgseg.upsample.tensors import to_host

PHOTO_HW, TINY_HW = (480, 640), (60, 80)
WORDS = 20
STREAMED = 6  # batches one after the other
TARGETS = {64: 0.9, 1: 0.6}  # of the encoder alone, for the best candidate
PROFILED = 3  # runs
LARGEST = 10  # rows of the table of a profile
MICROSECOND = 1e-6

Images = Sequence[NDArray[np.uint8]]


@dataclass
class Flow:
    """A model, its words, and the ways from images to labels."""

    session: Session
    seg: fgseg.Segmenter
    words: Sequence[str] = tuple(CLASS_NAMES[:WORDS])

    def __post_init__(self) -> None:
        """Encode the words."""
        self.text = self.seg.encoder.encode_texts(self.words)
        self.options: dict[str, Any] = {"background": (), "templates": "none", "refine": "none"}

    def segment(self, images: Images, **sizes: int) -> list[NDArray[np.int32]]:
        """The labels of `Segmenter.segment` on views that were encoded together."""
        views = self.seg.encode_batch(images, resolution="squash")
        return [self.seg.segment(view, self.words, **self.options, **sizes).labels for view in views]

    def views(self, images: Images, resizing: Resizing) -> list[NDArray[np.int32]]:
        """A label map for one view after the other."""
        with setting(self.seg.encoder, "resizing", resizing):
            return [view.label_map(self.text)[0] for view in self.seg.encode_batch(images, resolution="squash")]

    def pixels(self, images: Images, resizing: Resizing) -> Tensor:
        """(B, 3, side, side) normalised pixels on the device."""
        encoder = self.seg.encoder
        size = encoder.side, encoder.side
        made = pixel_batch(images, size, filter="bicubic", resizing=resizing, device=encoder.device)
        return normalized_pixels(made).to(encoder.dtype)

    @torch.inference_mode()
    def labels_on_device(self, pixels: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """(B, H, W) labels of a batch, compared together."""
        dense = normalised(encode(pixels))
        scores = cosines(dense.flatten(0, 1), self.text).unflatten(1, dense.shape[:2])
        return compare_stacks(scores, photo_hw(self.session))[0]

    def together(self, images: Images, resizing: Resizing, encode: Callable[[Tensor], Tensor]) -> NDArray[np.int32]:
        """The label maps of a batch, which reach the host together."""
        return to_host(self.labels_on_device(self.pixels(images, resizing), encode))[0]

    def streamed(self, images: Images, resizing: Resizing, encode: Callable[[Tensor], Tensor]) -> None:
        """Batches one after the other; the labels of one are fetched when the next is on its way."""
        fetch: Callable[[], Any] = tuple
        for _ in range(STREAMED):
            following = self._fetch_later(self.labels_on_device(self.pixels(images, resizing), encode))
            fetch()
            fetch = following
        fetch()

    def ahead(self, images: Images, encode: Callable[[Tensor], Tensor]) -> None:
        """As `streamed`, with Pillow's resize of the next batch in threads while the device works."""
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self.pixels, images, "threads")
            fetch: Callable[[], Any] = tuple
            for left in reversed(range(STREAMED)):
                pixels = coming.result()
                if left:
                    coming = reader.submit(self.pixels, images, "threads")
                following = self._fetch_later(self.labels_on_device(pixels, encode))
                fetch()
                fetch = following
            fetch()

    def _fetch_later(self, labels: Tensor) -> Callable[[], NDArray[np.int32]]:
        """Start to copy labels to the host; the function that is returned waits for them."""
        if not self.session.on_gpu:
            return labels.numpy
        copied, event = labels.to("cpu", non_blocking=True), torch.cuda.Event()
        event.record()

        def wait() -> NDArray[np.int32]:
            event.synchronize()
            return copied.numpy()

        return wait


def memory_to_labels(session: Session, place: Path) -> None:
    """Time all ways for base and large in bfloat16, at three sizes of batches."""
    for size in ("base", "large"):
        flow = loaded(session, place, size)
        for batch in batches(session):
            is_compiled = session.compiled and size == "base" and batch == batches(session)[0]
            work = partial(_timed, flow, batch, compiled=is_compiled)
            session.part("memory_to_labels", f"{size}, batch {batch}", work, seconds=25)


def loaded(session: Session, place: Path, size: str) -> Flow:
    """A random model of a size in bfloat16, or in float32 for a dry run."""
    dtype = "float32" if session.tiny else "bfloat16"
    folder = model_folder(place, size, tiny=session.tiny)
    return Flow(session, fgseg.load(str(folder), device=session.device, dtype=dtype))


def photo_hw(session: Session) -> tuple[int, int]:
    """(height, width) of a photograph."""
    return TINY_HW if session.tiny else PHOTO_HW


def pictures(session: Session, count: int) -> list[NDArray[np.uint8]]:
    """Photographs in memory; after the fourth they repeat."""
    drawn = [photo(*photo_hw(session), seed) for seed in range(min(count, 4))]
    return [drawn[index % len(drawn)] for index in range(count)]


def ways(flow: Flow, images: Images, *, compiled: bool) -> dict[str, tuple[Callable[[], Any], int]]:
    """The candidates, and how many batches each works through; the first is the encoder alone."""
    encode = flow.seg.encoder.model.dense_features
    pixels = flow.pixels(images, "pillow")
    made: dict[str, tuple[Callable[[], Any], int]] = {
        "encoder": (torch.inference_mode()(lambda: encode(pixels)), 1),
        "segment": (lambda: flow.segment(images), 1),
        "segment, specks kept": (lambda: flow.segment(images, min_area=0, max_hole=0), 1),
    }
    for resizing in ("pillow", "threads", "device"):
        made[f"views, {resizing}"] = (partial(flow.views, images, resizing), 1)
        made[f"together, {resizing}"] = (partial(flow.together, images, resizing, encode), 1)
    made["streamed, device"] = (partial(flow.streamed, images, "device", encode), STREAMED)
    made["streamed, threads ahead"] = (partial(flow.ahead, images, encode), STREAMED)
    for name, faster in _faster(flow.session, encode, pixels, compiled=compiled).items():
        made[f"together, device, {name}"] = (partial(flow.together, images, "device", faster), 1)
        made[f"streamed, device, {name}"] = (partial(flow.streamed, images, "device", faster), STREAMED)
    return made


def _faster(
    session: Session, encode: Callable[[Tensor], Tensor], pixels: Tensor, *, compiled: bool
) -> dict[str, Callable[[Tensor], Tensor]]:
    """The tower as a CUDA graph, and compiled."""
    graph = {"graph": Graph(encode, pixels).replay} if session.on_gpu else {}
    return {**graph, "compiled": torch.compile(encode, dynamic=False)} if compiled else graph


def _timed(flow: Flow, batch: int, *, compiled: bool) -> dict[str, Any]:
    images = pictures(flow.session, batch)
    candidates = ways(flow, images, compiled=compiled)
    times = flow.session.turns({name: run for name, (run, _) in candidates.items()}, repeats=12, seconds=15)
    rows = {}
    for name, values in times.items():
        batches = candidates[name][1]
        rows[name] = {
            "images_a_second": round(batches * batch / spread(values)["median"], 1),
            "share_of_encoder": round(ratio(times, "encoder", name, scale=batches), 3),
            "quartiles": [spread(values)[key] for key in ("q1", "q3")],
        }
    best = max((name for name in rows if name != "encoder"), key=lambda name: rows[name]["share_of_encoder"])
    row = {"best": best, "candidates": rows, "labels_equal": _equal_labels(flow, images)}
    for name in ("views, device", "together, device"):
        row[f"waits, {name}"] = flow.session.waits(candidates[name][0])
    if batch in TARGETS:
        holds = rows[best]["share_of_encoder"] >= TARGETS[batch]
        row |= {"target": f">= {TARGETS[batch]}", "verdict": "pass" if holds else "short"}
    return row


def _equal_labels(flow: Flow, images: Images) -> dict[str, float]:
    """Share of labels that equal those of views resized by Pillow; larger products round in another way."""
    expected = np.stack(flow.views(images, "pillow"))
    encode = flow.seg.encoder.model.dense_features
    found = {
        "views, device": np.stack(flow.views(images, "device")),
        "together, device": flow.together(images, "device", encode),
    }
    return {name: float((labels == expected).mean()) for name, labels in found.items()}


def profiles(session: Session, place: Path) -> None:
    """What the time goes into, with batches of 64 and with single images."""
    flow = loaded(session, place, "base")
    for batch in batches(session)[:2]:
        images = pictures(session, batch)
        encode = flow.seg.encoder.model.dense_features
        for name, run in {
            "together, device": partial(flow.together, images, "device", encode),
            "views, pillow": partial(flow.views, images, "pillow"),
        }.items():
            session.part("profile", f"{name}, batch {batch}", partial(profiled, session, run), seconds=15)


def profiled(session: Session, run: Callable[[], Any]) -> dict[str, Any]:
    """The ten largest operations, the calls of the driver, and the share of the time in which the device works."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if session.on_gpu else []
    (seconds,) = [spread(values)["median"] for values in session.turns({"run": run}, repeats=10, seconds=2).values()]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(PROFILED):
            run()
        session.wait()
    events = profile.key_averages()
    # The time of a kernel also counts as that of the operation which started it.
    working = [event for event in events if event.device_type == DeviceType.CUDA] if session.on_gpu else events
    kind = "device" if session.on_gpu else "cpu"
    spent = {event.key: getattr(event, f"self_{kind}_time_total") * MICROSECOND / PROFILED for event in working}
    counts = {event.key: event.count / PROFILED for event in events}
    largest = sorted(spent, key=lambda key: -spent[key])[:LARGEST]
    driver = {key: count for key, count in counts.items() if key.startswith(("cuda", "Memcpy", "Memset"))}
    return {
        "seconds": seconds,
        "largest": {key[:80]: {"seconds": float(f"{spent[key]:.3g}"), "count": counts[key]} for key in largest},
        "driver": driver,
        "share_of_time_at_work": round(sum(spent.values()) / seconds, 3),
        "waits": session.waits(run),
    }
