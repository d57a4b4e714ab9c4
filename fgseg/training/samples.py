"""From records to batches: which records a step takes, what is said of their boxes, pixels and token ids.

What a record becomes depends on the seed, the epoch and its index alone: not on who prepares it, nor on how many
processes train. That is what makes a resumed run the same run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from fgseg._files import one_line
from fgseg.encoders.networks.fgclip import LONG_POSITIONS
from fgseg.encoders.tokenizer import Tokenizer
from fgseg.errors import ImageError, PromptError
from fgseg.images.resizing import resize_bicubic
from fgseg.training.records import BadRecord, Source

__all__ = ["FALSE_CAPTIONS", "MAX_BOXES", "PREFIX", "Batch", "Batches", "Preparation", "make_batch", "step_records"]

MAX_BOXES = 4  # the first of an image; this and the two below are the published training's
FALSE_CAPTIONS = 10
PREFIX = "a photo of "  # before short captions alone


@dataclass(frozen=True)
class Preparation:
    """How records become samples.

    Attributes:
        source: the records.
        tokenizer: the model's.
        end_token: what ends a text and pads it.
        side: pixels of the square that images are resized to.
        short_limit: tokens of the short route.
        seed: of the choices among captions.
        with_boxes: whether boxes are prepared, which the second stage needs.
    """

    source: Source
    tokenizer: Tokenizer
    end_token: int
    side: int
    short_limit: int
    seed: int
    with_boxes: bool


@dataclass(frozen=True)
class Batch:
    """Records ready for the model: B images, N boxes, M of them with false captions.

    Attributes:
        pixels: (B, side, side, 3) uint8 RGB.
        short_ids: (B, L) int64 tokens of "a photo of" and the short captions.
        long_ids: (B, L) int64 tokens of the long captions.
        boxes: (N, 4) float32 left, top, right, bottom, as fractions of the sides.
        owner: (N,) int64, the image of each box.
        box_ids: (N, L) int64 tokens of what is said of each box.
        hard_rows: (M,) int64, the boxes that have false captions.
        hard_ids: (M * 11, L) int64 tokens, of each of them the true caption and then the false ones.
        is_text: (M, 11) bool, False where a box has fewer.
        cut: texts that were longer than their route, and lost their end.
        bad: index and reason of records that turned out to be bad.
    """

    pixels: Tensor
    short_ids: Tensor
    long_ids: Tensor
    boxes: Tensor
    owner: Tensor
    box_ids: Tensor
    hard_rows: Tensor
    hard_ids: Tensor
    is_text: Tensor
    cut: int
    bad: tuple[tuple[int, BadRecord], ...]


def step_records(count: int, *, step: int, global_batch: int, seed: int) -> tuple[int, NDArray[np.int64]]:
    """The records of a step: a new order each epoch, what does not fill a batch at its end left out.

    Args:
        count: records there are, at least `global_batch`.
        step: from 0.
        global_batch: records a step takes, of all processes together.
        seed: of the orders.

    Returns:
        the epoch, and (global_batch,) indices.

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


class Batches(IterableDataset[Batch]):
    """The micro-batches of one process from a step on; in the same order however many workers prepare them."""

    def __init__(
        self, preparation: Preparation, *, steps: range, batch_size: int, accumulate: int, rank: int, world: int
    ) -> None:
        """Take what is to be prepared.

        Args:
            preparation: how.
            steps: those still to be done.
            batch_size: images of one micro-batch.
            accumulate: micro-batches a step and process.
            rank: which process this is.
            world: how many there are.
        """
        self.preparation, self.steps = preparation, steps
        self.batch_size, self.accumulate, self.rank, self.world = batch_size, accumulate, rank, world

    def __iter__(self) -> Iterator[Batch]:
        """Micro-batch after micro-batch; a worker takes every W-th, as the loader puts them together again."""
        worker = get_worker_info()
        start, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        if worker:
            torch.set_num_threads(1)
        for number in range(start, len(self.steps) * self.accumulate, stride):
            step, micro = divmod(number, self.accumulate)
            yield self._batch(self.steps[step], micro)

    def _batch(self, step: int, micro: int) -> Batch:
        own = self.batch_size * self.accumulate
        count, seed = len(self.preparation.source), self.preparation.seed
        epoch, indices = step_records(count, step=step, global_batch=own * self.world, seed=seed)
        first = own * self.rank + self.batch_size * micro
        return make_batch(self.preparation, indices[first : first + self.batch_size].tolist(), epoch)


@dataclass(frozen=True)
class _Sample:
    """One record: square pixels; token ids of its captions; of each box its corners, caption, and hard captions."""

    pixels: NDArray[np.uint8]
    short: list[int]
    long: list[int]
    boxes: list[tuple[float, float, float, float]]
    box_texts: list[list[int]]
    hard_texts: list[list[list[int]]]
    cut: int


def make_batch(preparation: Preparation, indices: Sequence[int], epoch: int) -> Batch:
    """Prepare these records; those that cannot be are left out and named."""
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
    regions = record.regions[:MAX_BOXES] if preparation.with_boxes else ()
    rng = np.random.default_rng([preparation.seed, epoch, index])
    said = [region.long if rng.random() < 0.5 else region.short for region in regions]
    hard = [[region.short, *region.negatives[:FALSE_CAPTIONS]] if region.negatives else [] for region in regions]
    texts = _Texts(preparation)
    return _Sample(
        pixels=resize_bicubic(image, (preparation.side, preparation.side)),
        short=texts.ids([PREFIX + record.short_caption])[0],
        long=texts.ids([record.caption], limit=LONG_POSITIONS)[0],
        boxes=[region.box_xyxy for region in regions],
        box_texts=texts.ids(said),
        hard_texts=[texts.ids(captions) for captions in hard],
        cut=texts.cut,
    )


class _Texts:
    """Token ids within a route's limit; counts what it cuts."""

    def __init__(self, preparation: Preparation) -> None:
        self.tokenizer, self.end, self.limit = preparation.tokenizer, preparation.end_token, preparation.short_limit
        self.cut = 0

    def ids(self, texts: Sequence[str], *, limit: int | None = None) -> list[list[int]]:
        """Of each text; one over the limit ends there, with the end token, as the published training has it."""
        if not texts:
            return []
        limit = limit or self.limit
        rows = self.tokenizer.encode(texts)
        self.cut += sum(len(row) > limit for row in rows)
        return [row if len(row) <= limit else [*row[: limit - 1], self.end] for row in rows]


def _collated(samples: list[_Sample], preparation: Preparation, bad: tuple[tuple[int, BadRecord], ...]) -> Batch:
    side, end = preparation.side, preparation.end_token
    box_count = [len(sample.boxes) for sample in samples]
    hard = [texts for sample in samples for texts in sample.hard_texts]
    rows = [row for row, texts in enumerate(hard) if texts]
    missing = [1 + FALSE_CAPTIONS - len(hard[row]) for row in rows]
    pixels = np.stack([s.pixels for s in samples]) if samples else np.zeros((0, side, side, 3), np.uint8)
    return Batch(
        pixels=torch.from_numpy(pixels),
        short_ids=_padded([sample.short for sample in samples], end),
        long_ids=_padded([sample.long for sample in samples], end),
        boxes=torch.tensor([box for sample in samples for box in sample.boxes], dtype=torch.float32).reshape(-1, 4),
        owner=torch.repeat_interleave(torch.tensor(box_count, dtype=torch.long)),
        box_ids=_padded([ids for sample in samples for ids in sample.box_texts], end),
        hard_rows=torch.tensor(rows, dtype=torch.long),
        hard_ids=_padded(
            [ids for row, m in zip(rows, missing, strict=True) for ids in [*hard[row], *[[end]] * m]], end
        ),
        is_text=torch.tensor([[k <= FALSE_CAPTIONS - m for k in range(1 + FALSE_CAPTIONS)] for m in missing])
        .reshape(-1, 1 + FALSE_CAPTIONS)
        .bool(),
        cut=sum(sample.cut for sample in samples),
        bad=bad,
    )


def _padded(rows: list[list[int]], end: int) -> Tensor:
    """(T, longest) token ids; what stands after a text's end token changes nothing."""
    longest = max(map(len, rows), default=1)
    padded = [row + [end] * (longest - len(row)) for row in rows]
    return torch.tensor(padded, dtype=torch.long).reshape(-1, longest)
