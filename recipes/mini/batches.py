"""What a training step of the embedded model sees: scenes, ways of looking at them, and what is said of them."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from fgseg.encoders.networks.clip import Route
from fgseg.scenes.captions import changed, long_caption, narrowed, random_phrase, short_caption
from fgseg.scenes.composition import Kind, Scene, Thing, is_held_out_phrase, phrase_truth, scene
from fgseg.scenes.vocabulary import BASIC_COLORS, CLUTTER, PATTERNS, RIVAL, SHAPES, Phrase

__all__ = ["PATCH", "SAMPLE", "SIDE", "WORDS", "Batch", "Lot", "Schedule", "Texts", "Tokenized", "loader", "make_batch"]

SIDE, PATCH = 224, 8
Look = tuple[Kind | None, tuple[int, int]]  # the kind of a lot's scenes, None for each its own, and their size
SMALL, NATIVE = (112, 112), (SIDE, SIDE)
# What the lots of the shifts' stage are in turn: sheets teach shapes, scenes all there is, outdoors its materials.
SMALL_LOTS: tuple[Look, ...] = (("sheet", SMALL), (None, SMALL))
LARGE_LOTS: tuple[Look, ...] = (
    ("sheet", NATIVE), (None, NATIVE), ("sheet", SMALL), (None, NATIVE),
)  # fmt: skip
LAST_LOTS: tuple[Look, ...] = (
    ("sheet", NATIVE), (None, NATIVE), ("outdoors", NATIVE), (None, NATIVE),
)  # fmt: skip
SMALL_SHARE, LAST_SHARE = 0.25, 0.4  # of that stage's steps, the first ones, half the cost of others, and the last ones
# Then the native side among others: positions are interpolated.
ATTENTION_LOTS: tuple[Look, ...] = ((None, NATIVE), (None, (192, 256)), (None, (256, 192)))
LARGE_SHARE = 0.5  # scenes in a step of large pictures, beside one of small ones
MOVED = 12  # pixels each way, in views from 2 up
PHRASES = 20  # an image: the full names of its things, then narrowed, changed and random ones
CHANGED = 8  # of them, beside what chance adds
FALSE = 10  # captions of each shape with one attribute changed, against which its box is held
SHEET_CHANGED, SHEET_FALSE = 2, 0  # of a sheet, where the other things are wrong enough
# What is asked of every place and box, beside whole phrases: which word of each kind is true of it.
WORDS: dict[str, tuple[Phrase, ...]] = {
    "shape": tuple(Phrase(noun=shape) for shape in SHAPES),
    "pattern": tuple(Phrase(pattern=pattern) for pattern in PATTERNS),
    "color": tuple(Phrase(color=color) for color in BASIC_COLORS),
}
UNSAID = 0.12  # share of things whose full name is not among them: there the rival is right
SAMPLE = 4  # pixels between the places that the per-pixel losses look at


@dataclass(frozen=True)
class Batch:
    """Scenes of one size, ready for the model.

    Attributes:
        pixels: (B, H, W, 3) uint8.
        owner: (B, H/SAMPLE * W/SAMPLE) int64, index into the batch's things of the thing at each place.
        pooling: (B, K, Gh*Gw) float32, of each thing of an image the weights of the patches in its box (of a
            background the patches it owns); zero rows where an image has fewer than K.
        things: (B, K) int64, index into the batch's things, -1 where an image has fewer.
        phrases: unique phrase texts of the batch: the rival, those of WORDS, and what is said of the images.
        own: (B, PHRASES) int64, rows of `phrases` said about each image.
        truth: (N, B's phrases) int8, of every thing and every phrase.
        full: (N,) int64, row of `phrases` that names each thing in full.
        captions: B captions, short ones and long ones in turn; none of sheets, which have too many things.
        route: "short" or "long".
    """

    pixels: Tensor
    owner: Tensor
    pooling: Tensor
    things: Tensor
    phrases: tuple[str, ...]
    own: Tensor
    truth: Tensor
    full: Tensor
    captions: tuple[str, ...]
    route: Route


@dataclass(frozen=True)
class Lot:
    """Scenes that a step shows.

    Attributes:
        seeds: of the scenes.
        image_hw: (height, width) in pixels, multiples of PATCH.
        view: odd ones are mirrored, those from 2 up are moved by up to MOVED pixels, each view otherwise.
        kind: of all scenes, or None for one of its own each.
    """

    seeds: range
    image_hw: tuple[int, int]
    view: int = 0
    kind: Kind | None = None


@lru_cache(maxsize=2)
def _drawn(seeds: range, image_hw: tuple[int, int], kind: Kind | None) -> tuple[Scene, ...]:
    return tuple(scene(seed, image_hw, kind=kind) for seed in seeds)


def make_batch(lot: Lot) -> Batch:
    """Draw the scenes of a lot, look at them, and say things about them."""
    rng = np.random.default_rng([17, lot.seeds[0], lot.view])
    is_sheet = lot.kind == "sheet"
    scenes = [_looked_at(rng, drawn, lot.view) for drawn in _drawn(lot.seeds, lot.image_hw, lot.kind)]
    is_long = bool(rng.random() < 0.5)  # by turns: half the cost of both at once
    things = [thing for drawn in scenes for thing in drawn.things]
    offsets = np.cumsum([0, *(len(drawn.things) for drawn in scenes)])
    rows = {phrase: row for row, phrase in enumerate(phrase for asked in WORDS.values() for phrase in asked)}
    said = [_said_about(rng, drawn, SHEET_CHANGED if is_sheet else CHANGED) for drawn in scenes]
    own = [[rows.setdefault(phrase, len(rows)) for phrase in phrases] for phrases in said]
    full = [rows.setdefault(thing.phrase, len(rows)) for thing in things]
    for shape in (thing.phrase for thing in things if thing.shape in SHAPES):
        for _ in range(SHEET_FALSE if is_sheet else FALSE):
            rows.setdefault(_trained(partial(changed, rng, shape)), len(rows))
    most = max(len(drawn.things) for drawn in scenes)
    members = [np.arange(most) + first for first in offsets[:-1]]
    return Batch(
        pixels=torch.from_numpy(np.stack([drawn.image for drawn in scenes])),
        owner=torch.from_numpy(np.stack([_sampled(rng, drawn) + k for drawn, k in zip(scenes, offsets, strict=False)])),
        pooling=torch.from_numpy(np.stack([_pooling(drawn, most) for drawn in scenes])),
        things=torch.from_numpy(
            np.stack([np.where(row < stop, row, -1) for row, stop in zip(members, offsets[1:], strict=True)])
        ),
        phrases=(RIVAL, *(phrase.text for phrase in rows)),
        own=torch.tensor(own) + 1,
        truth=torch.from_numpy(np.pad(phrase_truth(things, list(rows)), ((0, 0), (1, 0)), constant_values=-1)),
        full=torch.tensor(full) + 1,
        captions=() if is_sheet else tuple((long_caption if is_long else short_caption)(drawn) for drawn in scenes),
        route="long" if is_long else "short",
    )


def _looked_at(rng: np.random.Generator, drawn: Scene, view: int) -> Scene:
    image, owners, things = drawn.image, drawn.owners, drawn.things
    if view % 2:
        image, owners = image[:, ::-1], owners[:, ::-1]
    if view > 1:
        y, x = (_moved(rng, side) for side in owners.shape)
        image, (owners, things) = image[y][:, x], _shown(owners[y][:, x], things)
    return Scene(image, owners, things)


def _moved(rng: np.random.Generator, side: int) -> NDArray[np.int64]:
    """Which pixel each of `side` shows when the picture moves a little along an axis, mirrored beyond its edge."""
    index = np.arange(side) + rng.integers(-MOVED, MOVED + 1)
    inside = np.where(index < 0, -1 - index, index)
    return np.where(inside >= side, 2 * side - 1 - inside, inside)


def _shown(owners: NDArray[np.int32], things: tuple[Thing, ...]) -> tuple[NDArray[np.int32], tuple[Thing, ...]]:
    """Without the things that own no pixel; with all where nothing but clutter would be left."""
    shown = np.bincount(owners.ravel(), minlength=len(things)) > 0
    kept = tuple(thing for thing, is_shown in zip(things, shown, strict=True) if is_shown)
    if all(thing.shape == CLUTTER for thing in kept):
        return owners, things
    return (np.cumsum(shown, dtype=np.int32) - 1)[owners], kept


def _sampled(rng: np.random.Generator, drawn: Scene) -> NDArray[np.int64]:
    """The owner at every SAMPLE-th pixel. A place lies between two pixels; which of them it takes is a throw."""
    top, left = rng.integers(SAMPLE // 2 - 1, SAMPLE // 2 + 1, 2)
    return drawn.owners[top::SAMPLE, left::SAMPLE].ravel().astype(np.int64)


def _pooling(drawn: Scene, most: int) -> NDArray[np.float32]:
    """(most, Gh*Gw): how much each patch counts in the feature of each thing."""
    height, width = drawn.owners.shape
    weights = np.zeros((most, height // PATCH, width // PATCH), np.float32)
    for index, thing in enumerate(drawn.things):
        mask = drawn.owners == index
        if thing.shape in SHAPES and mask.any():
            rows, columns = (_span(mask.any(axis)).reshape(-1, PATCH).mean(1) for axis in (1, 0))
            shares = rows[:, None] * columns
        else:
            shares = mask.reshape(height // PATCH, PATCH, width // PATCH, PATCH).mean((1, 3))
        weights[index] = shares / max(float(shares.sum()), 1e-6)
    return weights.reshape(most, -1)


def _span(occupied: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """All from the first true to the last."""
    spanned = occupied.copy()
    spanned[occupied.argmax() : len(occupied) - occupied[::-1].argmax()] = True
    return spanned


def _said_about(rng: np.random.Generator, drawn: Scene, changes: int) -> list[Phrase]:
    phrases = [thing.phrase for thing in drawn.things if thing.shape != CLUTTER and rng.random() >= UNSAID]
    named = [thing for thing in drawn.things if thing.shape != CLUTTER]
    for make in (narrowed, narrowed):
        phrases.append(make(rng, named[rng.integers(len(named))]))
    for _ in range(changes):
        phrases.append(_trained(lambda: changed(rng, named[rng.integers(len(named))].phrase)))
    phrases += [_trained(lambda: random_phrase(rng)) for _ in range(PHRASES - len(phrases))]
    return phrases[:PHRASES]


def _trained(make: Callable[[], Phrase]) -> Phrase:
    """A phrase that is no held-out combination: said only where it is false, one would be learned to be never true."""
    while is_held_out_phrase(phrase := make()):
        pass
    return phrase


@dataclass(frozen=True)
class Schedule:
    """Which scenes a step sees, and at which rate.

    Attributes:
        shifts: steps through fixed shifts (`recipes.mini.shifts`), of SMALL_LOTS, LARGE_LOTS and LAST_LOTS.
        attention: steps of ATTENTION_LOTS through the model's own attention, after them.
        batch_size: scenes a step of small pictures; a step of large ones takes LARGE_SHARE of it.
        rate: peak learning rate.
        workers: processes that draw scenes, each with a lot of them in hand; 0: the training's own.
        views: times a scene is shown, one soon after the other, in views 0 and up of `Lot`.
        first_seed: of the scenes.
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
        """All steps."""
        return self.shifts + self.attention

    def lot(self, step: int) -> Lot:
        """What a step shows: a lot for each worker in turn, then the next view of each."""
        lots = max(1, self.workers)
        round_length = lots * self.views
        start = step - step % round_length
        index, view = start // self.views + step % lots, step % round_length // lots
        kinds = self._kinds(start)
        kind, image_hw = kinds[index % len(kinds)]
        count = self.batch_size if image_hw == SMALL else max(1, int(self.batch_size * LARGE_SHARE))
        first = self.first_seed + index * self.batch_size
        return Lot(range(first, first + count), image_hw, view, kind)

    def _kinds(self, step: int) -> tuple[Look, ...]:
        """The lots in turn of the stage that a step belongs to."""
        if step < SMALL_SHARE * self.shifts:
            return SMALL_LOTS
        if step < (1 - LAST_SHARE) * self.shifts:
            return LARGE_LOTS
        return LAST_LOTS if step < self.shifts else ATTENTION_LOTS

    def rate_at(self, step: int, *, done: float = 0.0, warmup: int = 100) -> float:
        """Linear warm-up, then a cosine to 2 % of the peak.

        Args:
            step: the step, from 0.
            done: share of the time that has passed, where a run has a limit; the later of the two counts.
            warmup: steps.
        """
        if step < warmup:
            return self.rate * (step + 1) / warmup
        done = min(1.0, max(done, (step - warmup) / max(1, self.steps - warmup)))
        return self.rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


class Texts:
    """Token ids for texts, padded to the longest."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.end = tokenizer.token_to_id("<end>")

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(T, L) int64."""
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        longest = max(map(len, ids), default=0)
        return torch.tensor([row + [self.end] * (longest - len(row)) for row in ids], dtype=torch.int64).view(
            len(ids), longest
        )


Tokenized = tuple[Batch, Tensor, Tensor]


class _Stream(IterableDataset[Tokenized]):
    """Batches from `first` on with the token ids of their phrases and captions, drawn in worker processes.

    Batch k is the same whoever draws it.
    """

    def __init__(self, first: int, schedule: Schedule, texts: Texts) -> None:
        self.first, self.schedule, self.texts = first, schedule, texts

    def __iter__(self) -> Iterator[Tokenized]:
        worker = torch.utils.data.get_worker_info()
        start, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for index in range(self.first + start, self.schedule.steps, step):
            batch = make_batch(self.schedule.lot(index))
            yield batch, self.texts(batch.phrases), self.texts(batch.captions)


def _alone(worker: int) -> None:
    """One thread a process, and the training itself goes first."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if hasattr(os, "nice"):  # Windows has other means
        os.nice(5)


def loader(first: int, schedule: Schedule, texts: Texts) -> DataLoader[Tokenized]:
    """Batches from step `first` on, drawn ahead of the training where there are workers."""
    return DataLoader(
        _Stream(first, schedule, texts), batch_size=None, num_workers=schedule.workers, worker_init_fn=_alone,
        prefetch_factor=2 * schedule.views if schedule.workers else None,
    )  # fmt: skip
