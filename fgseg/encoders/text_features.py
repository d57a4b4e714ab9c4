"""Text features of one encoder, through the cache on disk."""

import logging
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from fgseg.encoders.base import Encoder, check_texts
from fgseg.encoders.checkpoint import Checkpoint
from fgseg.encoders.networks.clip import Route
from fgseg.encoders.text_cache import CACHE_FILE, TextCache, cache_folder, cache_key
from fgseg.similarity import ensemble

__all__ = ["StoredTexts"]

WORTHWHILE_BYTES = 2**26
"""Models with smaller tensor files do without the cache: the embedded model (10 MB) encodes a text in milliseconds."""
TEXTS_PER_TRANSACTION = 16384
"""More than the encoder's own batches hold. A long list that is interrupted keeps the transactions that are done."""

_SETTLED_NS = 2 * 10**9  # some file systems count time in steps of two seconds: a younger file may change unnoticed

log = logging.getLogger("fgseg")

TextOrGroup = TypeVar("TextOrGroup", str, tuple[str, ...])


class StoredTexts:
    """Text features of an encoder, each read from the cache where it is known.

    Small models, and encoders that have no `Checkpoint` as their `checkpoint`, do without the cache. The cache
    identifies weights by their files: code that changes weights in memory must turn it off (`FGSEG_CACHE=off`).
    """

    def __init__(self, encoder: Encoder) -> None:
        """Take the encoder; the cache is the one of `cache_folder`."""
        self._encoder = encoder
        self._cache: TextCache | None = None
        checkpoint = getattr(encoder, "checkpoint", None)
        if isinstance(checkpoint, Checkpoint) and checkpoint.size_bytes() >= WORTHWHILE_BYTES:
            self._checkpoint = checkpoint
            folder = cache_folder()
            self._cache = TextCache(folder / CACHE_FILE) if folder else None

    def encode(self, texts: Sequence[str], *, route: Route) -> Tensor:
        """(T, D) float32 unit-length features.

        Raises:
            PromptError, OptionError, ModelNotFoundError, WeightsError: as the encoder's `encode_texts`.
        """
        return self._rows(check_texts(texts), route, lambda new: self._encoder.encode_texts(new, route=route))

    def ensembles(self, groups: Sequence[tuple[str, ...]], *, route: Route) -> Tensor:
        """(G, D) float32 unit-length rows, each the ensemble of a group of texts (`fgseg.similarity.ensemble`).

        They are kept beside the texts, since a word in 80 templates would otherwise take 80 reads.

        Raises:
            PromptError: the texts of a group cancel out; this and other errors also as in `encode`.
        """

        def ensembled(new: Sequence[tuple[str, ...]]) -> Tensor:
            rows = self.encode([text for group in new for text in group], route=route)
            return ensemble(rows, [index for index, group in enumerate(new) for _ in group])

        return self._rows(groups, f"{route} ensemble", ensembled)

    def digest(self) -> str:
        """The encoder's `digest`, remembered for files that have not changed."""
        if self._cache is None:
            return self._encoder.digest()
        return self._remembered(self._cache, self._checkpoint.tensor_files, self._encoder.digest)

    def _rows(
        self, items: Sequence[TextOrGroup], route: str, make: Callable[[Sequence[TextOrGroup]], Tensor]
    ) -> Tensor:
        """(N, D) rows of texts or groups: read from the cache, or made and written to it."""
        cache = self._cache
        try:
            keys = {item: cache_key(*self._space, route, item) for item in items} if cache else {}
        except OSError as error:  # a model folder that was removed after it was loaded
            log.warning("text cache: %s; texts are encoded again", error)
            cache = self._cache = None
        if cache is None:
            return make(items)
        known = cache.read(keys.values())
        rows = {item: np.frombuffer(known[key], "<f4") for item, key in keys.items() if key in known}
        new = [item for item in keys if item not in rows]
        for start in range(0, len(new), TEXTS_PER_TRANSACTION):
            some = new[start : start + TEXTS_PER_TRANSACTION]
            made = dict(zip(some, make(some).cpu().numpy(), strict=True))
            cache.write({keys[item]: row.astype("<f4").tobytes() for item, row in made.items()})
            rows |= made
        return torch.from_numpy(np.stack([rows[item] for item in items])).to(self._encoder.device)

    @cached_property
    def _space(self) -> tuple[str, ...]:
        """What a feature depends on besides its route and text; kinds of devices round differently."""
        assert self._cache is not None  # called only with a cache
        files = self._checkpoint.config_files()
        config = self._remembered(self._cache, files, self._checkpoint.config_digest)
        return self.digest(), config, self._encoder.device.type, str(self._encoder.dtype)

    def _remembered(self, cache: TextCache, files: Sequence[Path], compute: Callable[[], str]) -> str:
        """What `compute` gives for files, remembered until the place, size or time of one changes.

        The change time counts too, since copying tools restore the modification time.
        """
        stats = [(str(path.resolve()), path.stat()) for path in files]
        state = [[path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] for path, stat in stats]
        key = cache_key("files", state)
        if known := cache.read([key]):
            return known[key].decode()
        newest = max((max(stat.st_mtime_ns, stat.st_ctime_ns) for _, stat in stats), default=0)
        is_settled = newest + _SETTLED_NS < time.time_ns()
        digest = compute()
        if is_settled:
            cache.write({key: digest.encode()})
        return digest
