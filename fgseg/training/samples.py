"""Batches of records: the records of each step, the captions of their boxes, pixels and token ids.

The sample of a record depends only on the seed, the epoch and its index, not on the process that prepares it or on the
number of processes. A resumed run therefore takes the same samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from fgseg._files.names import one_line
from fgseg.encoders.networks.config import ClipConfig
from fgseg.encoders.networks.fgclip import LONG_POSITIONS
from fgseg.encoders.tokenizer import Tokenizer
from fgseg.errors import ImageError, PromptError
from fgseg.images.resizing import resize_bicubic
from fgseg.training.distributed import ProcessGroup
from fgseg.training.options import TrainingOptions
from fgseg.training.records import BadRecord, Source

__all__ = [
    "FALSE_CAPTIONS",
    "MAX_BOXES",
    "PREFIX",
    "Batch",
    "Batches",
    "Preparation",
    "make_batch",
    "own_numbers",
    "padded_ids",
    "step_records",
]

# Of the published training: boxes per image, false captions per box, and the prefix of short captions.
MAX_BOXES = 4
FALSE_CAPTIONS = 10
PREFIX = "a photo of "


@dataclass(frozen=True)
class Preparation:
    """How records become samples.

    Attributes:
        source: the records.
        tokenizer: of the model.
        config: sizes of the model.
        options: of the run.
    """

    source: Source
    tokenizer: Tokenizer
    config: ClipConfig
    options: TrainingOptions


@dataclass(frozen=True)
class Batch:
    """Input of the model: B images and N boxes, M of which have false captions.

    Attributes:
        pixels: (B, side, side, 3) uint8 RGB.
        short_ids: (B, L) int64 tokens of the short captions after "a photo of".
        long_ids: (B, L) int64 tokens of the long captions.
        boxes: (N, 4) float32 left, top, right, bottom, as fractions of the sides.
        image_index: (N,) int64, the image of each box.
        box_ids: (N, L) int64 tokens of the caption of each box.
        hard_rows: (M,) int64, the boxes that have false captions.
        hard_ids: (M * 11, L) int64 tokens of the true caption and then the false captions of each of them.
        is_text: (M, 11) bool, False where a box has fewer captions.
        cut: number of texts that were cut at the limit of their route.
        bad: index and reason of records that could not be prepared.
    """

    pixels: Tensor
    short_ids: Tensor
    long_ids: Tensor
    boxes: Tensor
    image_index: Tensor
    box_ids: Tensor
    hard_rows: Tensor
    hard_ids: Tensor
    is_text: Tensor
    cut: int
    bad: tuple[tuple[int, BadRecord], ...]


def step_records(count: int, *, step: int, global_batch: int, seed: int) -> tuple[int, NDArray[np.int64]]:
    """The records of a step. Every epoch has a new order, and its last incomplete batch is dropped.

    Args:
        count: number of records, at least `global_batch`.
        step: the step, from 0.
        global_batch: records per step of all processes together.
        seed: of the orders.

    Returns:
        the epoch, and (global_batch,) int64 indices.

    Examples:
        >>> epoch, first = step_records(5, step=0, global_batch=2, seed=0)
        >>> epoch, second = step_records(5, step=1, global_batch=2, seed=0)
        >>> epoch, len({*first, *second}), step_records(5, step=2, global_batch=2, seed=0)[0]
        (0, 4, 1)
    """
    epoch, place = divmod(step, count // global_batch)
    return epoch, _order(count, seed, epoch)[place * global_batch : (place + 1) * global_batch]


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)


@dataclass(eq=False)
class Batches(IterableDataset[Batch]):
    """The micro-batches of one process, in an order that does not depend on the number of workers.

    Attributes:
        preparation: how records become samples.
        steps: the steps to prepare.
        processes: of the run.
    """

    preparation: Preparation
    steps: range
    processes: ProcessGroup

    def __iter__(self) -> Iterator[Batch]:
        """Yield the micro-batches of this worker."""
        accumulate = self.preparation.options.accumulate
        for number in own_numbers(len(self.steps) * accumulate):
            step, micro = divmod(number, accumulate)
            yield self._batch(self.steps[step], micro)

    def _batch(self, step: int, micro: int) -> Batch:
        options, count = self.preparation.options, len(self.preparation.source)
        own = options.batch_size * options.accumulate
        global_batch = own * self.processes.world_size
        epoch, indices = step_records(count, step=step, global_batch=global_batch, seed=options.seed)
        first = own * self.processes.rank + options.batch_size * micro
        return make_batch(self.preparation, indices[first : first + options.batch_size].tolist(), epoch)


def own_numbers(count: int) -> range:
    """The numbers below `count` that are this worker's: of W workers each takes every W-th, as a loader expects."""
    worker = get_worker_info()
    return range(worker.id, count, worker.num_workers) if worker else range(count)


@dataclass(frozen=True)
class _Sample:
    """One record: square pixels, token ids of its captions, and the corners and token ids of its boxes."""

    pixels: NDArray[np.uint8]
    short: list[int]
    long: list[int]
    boxes: list[tuple[float, float, float, float]]
    box_texts: list[list[int]]
    hard_texts: list[list[list[int]]]


def make_batch(preparation: Preparation, indices: Sequence[int], epoch: int) -> Batch:
    """Prepare records. Those that cannot be prepared are left out and listed in `Batch.bad`."""
    samples, bad = [], []
    for index in indices:
        try:
            samples.append(_sample(preparation, index, epoch))
        except (ImageError, PromptError) as error:
            kind = "unreadable image" if isinstance(error, ImageError) else "unknown word"
            bad.append((index, BadRecord(preparation.source.name(index), f"{kind}: {one_line(error)}")))
    return _collated(samples, preparation, tuple(bad))


def _sample(preparation: Preparation, index: int, epoch: int) -> _Sample:
    record, image = preparation.source.sample(index)
    regions = record.regions[:MAX_BOXES] if preparation.options.stage == 2 else ()
    rng = np.random.default_rng([preparation.options.seed, epoch, index])
    captions = [region.long if rng.random() < 0.5 else region.short for region in regions]
    hard = [[region.short, *region.negatives[:FALSE_CAPTIONS]] if region.negatives else [] for region in regions]
    encode = preparation.tokenizer.encode
    return _Sample(
        pixels=resize_bicubic(image, (preparation.config.side, preparation.config.side)),
        short=encode([PREFIX + record.short_caption])[0],
        long=encode([record.caption])[0],
        boxes=[region.box_xyxy for region in regions],
        box_texts=encode(captions),
        hard_texts=[encode(texts) for texts in hard],
    )


def _collated(samples: list[_Sample], preparation: Preparation, bad: tuple[tuple[int, BadRecord], ...]) -> Batch:
    config = preparation.config
    side, end, short_limit = config.side, config.end_token, config.positions
    captions_of_box = [texts for sample in samples for texts in sample.hard_texts]
    hard = [texts for texts in captions_of_box if texts]
    count = 1 + FALSE_CAPTIONS
    texts_of_route = {
        "short_ids": ([sample.short for sample in samples], short_limit),
        "long_ids": ([sample.long for sample in samples], LONG_POSITIONS),
        "box_ids": ([ids for sample in samples for ids in sample.box_texts], short_limit),
        "hard_ids": ([ids for texts in hard for ids in texts + [[end]] * (count - len(texts))], short_limit),
    }
    return Batch(
        pixels=torch.from_numpy(np.array([sample.pixels for sample in samples], np.uint8).reshape(-1, side, side, 3)),
        boxes=torch.tensor([box for sample in samples for box in sample.boxes], dtype=torch.float32).reshape(-1, 4),
        image_index=torch.repeat_interleave(torch.tensor([len(sample.boxes) for sample in samples], dtype=torch.long)),
        hard_rows=torch.tensor([row for row, texts in enumerate(captions_of_box) if texts], dtype=torch.long),
        is_text=torch.arange(count) < torch.tensor([len(texts) for texts in hard], dtype=torch.long)[:, None],
        cut=sum(len(ids) > limit for texts, limit in texts_of_route.values() for ids in texts),
        bad=bad,
        **{name: padded_ids(texts, end, limit=limit) for name, (texts, limit) in texts_of_route.items()},
    )


def padded_ids(texts: Sequence[list[int]], end: int, *, limit: int = LONG_POSITIONS) -> Tensor:
    """(T, longest) int64 token ids, padded with the end token; tokens after the first one have no effect.

    Args:
        texts: the token ids of each text.
        end: the token that ends and pads a text.
        limit: maximum length. A longer text is cut, and the end token is its last, as in the published training.
    """
    cut = [ids if len(ids) <= limit else [*ids[: limit - 1], end] for ids in texts]
    longest = max(map(len, cut), default=1)
    return torch.tensor([ids + [end] * (longest - len(ids)) for ids in cut], dtype=torch.long).reshape(-1, longest)
