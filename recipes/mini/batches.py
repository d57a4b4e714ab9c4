"""The training batches of the embedded model: views of scenes, phrases and captions, and the truth of the phrases."""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from fgseg.encoders.networks.clip import Route
from fgseg.scenes.captions import change_phrase, long_caption, random_phrase, short_caption
from fgseg.scenes.composition import Kind, Scene, Thing, is_held_out_phrase, phrase_truth, scene
from fgseg.scenes.vocabulary import (
    ANY_SHAPE,
    BACKGROUND,
    BASIC_COLORS,
    CLUTTER,
    MATERIALS,
    PATTERNS,
    RIVAL,
    SHAPES,
    Phrase,
)
from fgseg.training.samples import own_numbers, padded_ids

__all__ = ["ATTRIBUTE_PHRASES", "PATCH", "SIDE", "STRIDE", "Batch", "BatchSpec", "Schedule", "Tokenized", "loader"]

SIDE, PATCH = 224, 8
KindAndSize = tuple[Kind | None, tuple[int, int]]  # of the scenes of a batch; None draws a kind per scene
SMALL, NATIVE = (112, 112), (SIDE, SIDE)
# The batches of each stage, in turn. Sheets teach shapes, and outdoor scenes teach materials.
SMALL_STAGE: tuple[KindAndSize, ...] = (("sheet", SMALL), (None, SMALL))
LARGE_STAGE: tuple[KindAndSize, ...] = (("sheet", NATIVE), (None, NATIVE), ("sheet", SMALL), (None, NATIVE))
LAST_STAGE: tuple[KindAndSize, ...] = (("sheet", NATIVE), (None, NATIVE), ("outdoors", NATIVE), (None, NATIVE))
ATTENTION_STAGE: tuple[KindAndSize, ...] = ((None, NATIVE), (None, (192, 256)), (None, (256, 192)))
SMALL_SHARE, LAST_SHARE = 0.25, 0.4  # share of the first and last stage in the steps with shifts
LARGE_SHARE = 0.5  # batch size of large pictures relative to that of small ones
MAX_SHIFT = 12  # pixels along each axis, for views from 2 on
PHRASES = 20  # per image: the names of its things, then narrowed, changed and random phrases
CHANGED_PHRASES = 8  # minimum number of changed phrases among them
FALSE_PHRASES = 10  # changed phrases per shape, as hard negatives of its box
SHEET_CHANGED_PHRASES, SHEET_FALSE_PHRASES = 2, 0  # on a sheet, the other things provide the negatives
# The words for one attribute. Training also chooses among these for each point and box.
ATTRIBUTE_PHRASES: dict[str, tuple[Phrase, ...]] = {
    "shape": tuple(Phrase(noun=shape) for shape in SHAPES),
    "pattern": tuple(Phrase(pattern=pattern) for pattern in PATTERNS),
    "color": tuple(Phrase(color=color) for color in BASIC_COLORS),
}
UNNAMED_SHARE = 0.12  # share of things without their name among the phrases of the image; the rival is true of them
STRIDE = 4  # pixels between the points at which the per-pixel losses are computed


@dataclass(frozen=True)
class Batch:
    """Input of the model: B scenes of one size with N things and P phrases.

    Attributes:
        pixels: (B, H, W, 3) uint8 RGB.
        labels: (B, H/STRIDE * W/STRIDE) int64, the thing at each sampled point, from 0 to N - 1.
        pooling: (B, K, Gh*Gw) float32, weights of the patches in the box of each thing of an image, or in the mask of
            a background or material; 0 where an image has fewer than K things.
        things: (B, K) int64, the things of each image, from 0 to N - 1; -1 where an image has fewer than K.
        phrases: P unique texts: the rival, those of ATTRIBUTE_PHRASES, and the phrases of the images.
        phrase_rows: (B, PHRASES) int64, rows of `phrases` for each image.
        truth: (N, P) int8, as `phrase_truth`.
        name_rows: (N,) int64, row of `phrases` with the name of each thing.
        captions: B captions, short or long; empty for sheets, which have too many things.
        route: "short" or "long".
    """

    pixels: Tensor
    labels: Tensor
    pooling: Tensor
    things: Tensor
    phrases: tuple[str, ...]
    phrase_rows: Tensor
    truth: Tensor
    name_rows: Tensor
    captions: tuple[str, ...]
    route: Route


@dataclass(frozen=True)
class BatchSpec:
    """The scenes of a batch.

    Attributes:
        seeds: of the scenes.
        image_hw: (height, width) in pixels, multiples of PATCH.
        view: odd views are mirrored; views from 2 on are also moved by up to MAX_SHIFT pixels.
        kind: of all scenes; None draws a kind per scene.
    """

    seeds: range
    image_hw: tuple[int, int]
    view: int = 0
    kind: Kind | None = None


@lru_cache(maxsize=2)
def _scenes(seeds: range, image_hw: tuple[int, int], kind: Kind | None) -> tuple[Scene, ...]:
    return tuple(scene(seed, image_hw, kind=kind) for seed in seeds)


def make_batch(spec: BatchSpec) -> Batch:
    """Draw the scenes of a batch with their phrases and captions."""
    rng = np.random.default_rng([17, spec.seeds[0], spec.view])
    is_sheet = spec.kind == "sheet"
    scenes = [_view(rng, drawn, spec.view) for drawn in _scenes(spec.seeds, spec.image_hw, spec.kind)]
    is_long = bool(rng.random() < 0.5)  # one of the two routes per batch, which halves the cost
    things = [thing for drawn in scenes for thing in drawn.things]
    offsets = np.cumsum([0, *(len(drawn.things) for drawn in scenes)])
    rows = {phrase: row for row, phrase in enumerate(chain(*ATTRIBUTE_PHRASES.values()))}
    of_scenes = [_phrases(rng, drawn, SHEET_CHANGED_PHRASES if is_sheet else CHANGED_PHRASES) for drawn in scenes]
    phrase_rows = [[rows.setdefault(phrase, len(rows)) for phrase in phrases] for phrases in of_scenes]
    name_rows = [rows.setdefault(thing.phrase, len(rows)) for thing in things]
    for name in (thing.phrase for thing in things if thing.shape in SHAPES):
        for _ in range(SHEET_FALSE_PHRASES if is_sheet else FALSE_PHRASES):
            rows.setdefault(_not_held_out(partial(change_phrase, rng, name)), len(rows))
    most = max(len(drawn.things) for drawn in scenes)
    members = offsets[:-1, None] + np.arange(most)
    labels = [_sample_labels(rng, drawn) + first for drawn, first in zip(scenes, offsets, strict=False)]
    return Batch(
        pixels=torch.from_numpy(np.stack([drawn.image for drawn in scenes])),
        labels=torch.from_numpy(np.stack(labels)),
        pooling=torch.from_numpy(np.stack([_pooling_weights(drawn, most) for drawn in scenes])),
        things=torch.from_numpy(np.where(members < offsets[1:, None], members, -1)),
        phrases=(RIVAL, *(phrase.text for phrase in rows)),
        phrase_rows=torch.tensor(phrase_rows) + 1,
        truth=torch.from_numpy(np.pad(phrase_truth(things, list(rows)), ((0, 0), (1, 0)), constant_values=-1)),
        name_rows=torch.tensor(name_rows) + 1,
        captions=() if is_sheet else tuple((long_caption if is_long else short_caption)(drawn) for drawn in scenes),
        route="long" if is_long else "short",
    )


def _view(rng: np.random.Generator, drawn: Scene, view: int) -> Scene:
    image, labels, things = drawn.image, drawn.labels, drawn.things
    if view % 2:
        image, labels = image[:, ::-1], labels[:, ::-1]
    if view > 1:
        y, x = (_shifted_index(rng, side) for side in labels.shape)
        image, (labels, things) = image[y][:, x], _visible(labels[y][:, x], things)
    return Scene(image, labels, things)


def _shifted_index(rng: np.random.Generator, side: int) -> NDArray[np.int64]:
    """(side,) index of the source pixels of a picture that is shifted along an axis and mirrored beyond its edge."""
    first = MAX_SHIFT + rng.integers(-MAX_SHIFT, MAX_SHIFT + 1)
    return np.pad(np.arange(side), MAX_SHIFT, "symmetric")[first : first + side]


def _visible(labels: NDArray[np.int32], things: tuple[Thing, ...]) -> tuple[NDArray[np.int32], tuple[Thing, ...]]:
    """Labels and things without the things that have no pixel. All are kept if only clutter would remain."""
    visible = np.bincount(labels.ravel(), minlength=len(things)) > 0
    kept = tuple(thing for thing, is_visible in zip(things, visible, strict=True) if is_visible)
    if all(thing.shape == CLUTTER for thing in kept):
        return labels, things
    return (np.cumsum(visible, dtype=np.int32) - 1)[labels], kept


def _sample_labels(rng: np.random.Generator, drawn: Scene) -> NDArray[np.int64]:
    """The label at every STRIDE-th pixel. A sampled point lies between two pixels, one of which is drawn."""
    top, left = rng.integers(STRIDE // 2 - 1, STRIDE // 2 + 1, 2)
    return drawn.labels[top::STRIDE, left::STRIDE].ravel().astype(np.int64)


def _pooling_weights(drawn: Scene, most: int) -> NDArray[np.float32]:
    """(most, Gh*Gw): the weight of each patch in the feature of each thing."""
    height, width = drawn.labels.shape
    weights = np.zeros((most, height // PATCH, width // PATCH), np.float32)
    for index, thing in enumerate(drawn.things):
        mask = drawn.labels == index
        if thing.shape in SHAPES and mask.any():
            rows, columns = (_span(mask.any(axis)).reshape(-1, PATCH).mean(1) for axis in (1, 0))
            shares = rows[:, None] * columns
        else:
            shares = mask.reshape(height // PATCH, PATCH, width // PATCH, PATCH).mean((1, 3))
        weights[index] = shares / max(float(shares.sum()), 1e-6)
    return weights.reshape(most, -1)


def _span(occupied: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True from the first true value to the last."""
    return np.logical_or.accumulate(occupied) & np.logical_or.accumulate(occupied[::-1])[::-1]


def _phrases(rng: np.random.Generator, drawn: Scene, changes: int) -> list[Phrase]:
    named = [thing for thing in drawn.things if thing.shape != CLUTTER]
    phrases = [thing.phrase for thing in named if rng.random() >= UNNAMED_SHARE]
    phrases += [narrow_phrase(rng, named[rng.integers(len(named))]) for _ in range(2)]
    for _ in range(changes):
        phrases.append(_not_held_out(lambda: change_phrase(rng, named[rng.integers(len(named))].phrase)))
    phrases += [_not_held_out(lambda: random_phrase(rng)) for _ in range(PHRASES - len(phrases))]
    return phrases[:PHRASES]


def narrow_phrase(rng: np.random.Generator, thing: Thing) -> Phrase:
    """A shorter phrase that is still true of the thing: one or two of its colour, pattern and noun."""
    full = thing.phrase
    if thing.shape in MATERIALS:
        names = MATERIALS[thing.shape]
        return Phrase(noun=names[rng.integers(len(names))])
    noun = ANY_SHAPE[rng.integers(len(ANY_SHAPE))] if thing.shape != BACKGROUND else BACKGROUND
    choices = [
        Phrase(color=full.color),
        Phrase(color=full.color),
        Phrase(noun=thing.shape),
        Phrase(color=full.color, noun=noun),
        Phrase(color=full.color, noun=thing.shape),
        Phrase(pattern=thing.pattern, noun=thing.shape),
        Phrase(color=full.color, pattern=thing.pattern),
    ]
    if thing.pattern != "plain":
        choices += [Phrase(pattern=thing.pattern), Phrase(pattern=thing.pattern, noun=noun)]
    return choices[rng.integers(len(choices))]


def _not_held_out(make: Callable[[], Phrase]) -> Phrase:
    """A phrase that is not a held-out combination. As a false phrase only, one would be learned as never true."""
    while is_held_out_phrase(phrase := make()):
        pass
    return phrase


@dataclass(frozen=True)
class Schedule:
    """The scenes and the learning rate of each step.

    Attributes:
        shifts: steps with fixed shifts (`recipes.mini.shifts`), in SMALL_STAGE, LARGE_STAGE and LAST_STAGE.
        attention: further steps with the model's own attention, in ATTENTION_STAGE.
        batch_size: scenes per step of small pictures; a step of large pictures has LARGE_SHARE of it.
        rate: peak learning rate.
        workers: processes that draw scenes, each for a batch of its own; 0 draws them in the training process.
        views: number of views of each scene, which are shown in close succession.
        first_seed: seed of the first scene.
    """

    shifts: int
    attention: int
    batch_size: int
    rate: float
    workers: int = 2
    views: int = 3
    first_seed: int = 0

    @property
    def steps(self) -> int:
        """Number of all steps."""
        return self.shifts + self.attention

    def spec(self, step: int) -> BatchSpec:
        """The scenes of a step: the workers' scenes in turn, first in one view, then in the next."""
        workers = max(1, self.workers)
        round_length = workers * self.views
        first_step = step - step % round_length
        index, view = first_step // self.views + step % workers, step % round_length // workers
        stage = self._stage(first_step)
        kind, image_hw = stage[index % len(stage)]
        count = self.batch_size if image_hw == SMALL else max(1, int(self.batch_size * LARGE_SHARE))
        first = self.first_seed + index * self.batch_size
        return BatchSpec(range(first, first + count), image_hw, view, kind)

    def _stage(self, step: int) -> tuple[KindAndSize, ...]:
        if step < SMALL_SHARE * self.shifts:
            return SMALL_STAGE
        if step < (1 - LAST_SHARE) * self.shifts:
            return LARGE_STAGE
        return LAST_STAGE if step < self.shifts else ATTENTION_STAGE

    def rate_at(self, step: int, *, done: float = 0.0, warmup: int = 100) -> float:
        """The learning rate of a step: linear warm-up, then a cosine decay to 2 % of the peak.

        Args:
            step: the step, from 0.
            done: fraction of the time limit that has passed. The rate follows the time or the steps, whichever is
                further.
            warmup: number of steps of warm-up.
        """
        if step < warmup:
            return self.rate * (step + 1) / warmup
        done = min(1.0, max(done, (step - warmup) / max(1, self.steps - warmup)))
        return self.rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


Tokenized = tuple[Batch, Tensor, Tensor]


@dataclass(eq=False)
class _Stream(IterableDataset[Tokenized]):
    """The batches from step `first` on, with the token ids of their phrases and captions."""

    first: int
    schedule: Schedule
    tokenizer: Tokenizer

    def __iter__(self) -> Iterator[Tokenized]:
        for number in own_numbers(self.schedule.steps - self.first):
            batch = make_batch(self.schedule.spec(self.first + number))
            yield batch, self._ids(batch.phrases), self._ids(batch.captions)

    def _ids(self, texts: tuple[str, ...]) -> Tensor:
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        return padded_ids(ids, self.tokenizer.get_vocab()["<end>"])


def _init_worker(worker: int) -> None:
    """Restrict a worker to one thread, as torch does, with a lower priority than the training process."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    cv2.setNumThreads(1)
    if hasattr(os, "nice"):  # not on Windows
        os.nice(5)


def loader(first: int, schedule: Schedule, tokenizer: Tokenizer) -> DataLoader[Tokenized]:
    """The batches from step `first` on; workers, if any, draw them in advance."""
    return DataLoader(
        _Stream(first, schedule, tokenizer), batch_size=None, num_workers=schedule.workers,
        worker_init_fn=_init_worker, prefetch_factor=2 * schedule.views if schedule.workers else None,
    )  # fmt: skip
