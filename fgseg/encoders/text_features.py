"""An encoder's texts through the cache on disk: which texts belong to which weights, and when a look-up pays."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fgseg.encoders.base import Encoder, check_texts
from fgseg.encoders.checkpoint import Checkpoint
from fgseg.encoders.networks.clip import Route
from fgseg.encoders.networks.config import ClipConfig
from fgseg.encoders.text_cache import CACHE_FILE, FeatureSpace, TextCache, cache_folder
from fgseg.similarity import ensemble

__all__ = ["StoredTexts", "files_digest", "reading_files"]

WORTHWHILE_BYTES = 2**26
"""Tensor files smaller than this have their texts encoded anew: the embedded model's (10 MB) take milliseconds."""
TEXTS_A_TRANSACTION = 16384
"""So a long list that is interrupted keeps what it has; more than the encoder's own batches hold."""

log = logging.getLogger("fgseg")


class StoredTexts:
    """An encoder's texts through the cache.

    Without a cache everything goes to the encoder: where the cache is off, where the encoder has no checkpoint whose
    files tell what it is, and where the model is so small that looking a text up takes as long as encoding it.
    """

    def __init__(self, encoder: Encoder) -> None:
        """Take the encoder; the cache is the one of `cache_folder`."""
        self._encoder = encoder
        self._cache: TextCache | None = None
        self._identity: tuple[object, str] = (None, "")
        checkpoint = getattr(encoder, "checkpoint", None)
        if isinstance(checkpoint, Checkpoint) and _size(checkpoint) >= WORTHWHILE_BYTES:
            self._checkpoint = checkpoint
            folder = cache_folder()
            self._cache = TextCache(folder / CACHE_FILE) if folder else None

    def encode(self, texts: Sequence[str], *, route: Route) -> Tensor:
        """(T, D) float32 unit-length features, those known from the cache and the others from the encoder.

        Raises:
            PromptError, OptionError, ModelNotFoundError, WeightsError: as the encoder's `encode_texts`.
        """
        return self._encoded(texts, route, self._space(route))

    def _encoded(self, texts: Sequence[str], route: Route, space: FeatureSpace | None) -> Tensor:
        if self._cache is None or space is None:
            return self._encoder.encode_texts(texts, route=route)
        listed = check_texts(texts)
        rows = self._cache.features(space, listed)
        new = [text for text in dict.fromkeys(listed) if text not in rows]
        for start in range(0, len(new), TEXTS_A_TRANSACTION):
            some = new[start : start + TEXTS_A_TRANSACTION]
            fresh = self._encoder.encode_texts(some, route=route).cpu().numpy()
            made = dict(zip(some, fresh, strict=True))
            self._cache.add(space, made)
            rows.update(made)
        return torch.from_numpy(np.stack([rows[text] for text in listed])).to(self._encoder.device)

    def ensembles(self, groups: Sequence[tuple[str, ...]], *, route: Route) -> Tensor:
        """(G, D) float32 unit-length rows, each the ensemble of a group of texts (`fgseg.similarity.ensemble`).

        They are kept beside the texts: 80 templates a word would otherwise be 80 reads a word, for ever.

        Raises:
            PromptError: the texts of a group cancel out; or as `encode`, as the other errors.
        """
        space = self._space(route)
        if self._cache is None or space is None:
            return self._ensembled(groups, route, None)
        kept = replace(space, route=f"{route} ensemble")
        names = {group: json.dumps(group) for group in groups if len(group) > 1}
        known = self._cache.features(kept, list(names.values()))
        new = [group for group in dict.fromkeys(groups) if names.get(group) not in known]
        rows = {group: known[name] for group, name in names.items() if name in known}
        if new:
            made = self._ensembled(new, route, space).cpu().numpy()
            rows.update(zip(new, made, strict=True))
            self._cache.add(kept, {names[group]: rows[group] for group in new if group in names})
        return torch.from_numpy(np.stack([rows[group] for group in groups])).to(self._encoder.device)

    def _ensembled(self, groups: Sequence[tuple[str, ...]], route: Route, space: FeatureSpace | None) -> Tensor:
        rows = self._encoded([text for group in groups for text in group], route, space)
        return ensemble(rows, [index for index, group in enumerate(groups) for _ in group])

    def digest(self) -> str:
        """The encoder's `digest`, remembered for files that have not changed."""
        if self._cache is None:
            return self._encoder.digest()
        return self._cache.digest(self._checkpoint.tensor_files, self._encoder.digest)

    def _space(self, route: Route) -> FeatureSpace | None:
        """Where this encoder's features belong; None where that cannot be told."""
        if self._cache is None:
            return None
        try:
            weights = self._weights()
        except OSError as error:  # a model folder that was removed after it was loaded
            log.warning("text cache: %s; texts are encoded anew", error)
            return None
        encoder = self._encoder
        config = encoder.model.config
        return FeatureSpace(
            weights=weights,
            device=encoder.device.type,
            dtype=str(encoder.dtype),
            route=route,
            width=config.width if isinstance(config, ClipConfig) else config.vision.width,
        )

    def _weights(self) -> str:
        """Identity of all that makes features of texts: files, and the numbers that run.

        The files alone would not do: weights changed in memory, by training or an adapter, would leave their features
        under the name of the published ones.
        """
        modules = _text_modules(self._encoder.model)
        tensors, structure = _tensors(modules), _structure(modules)
        # cheap to ask, and changed by nearly all that changes weights
        seen = (
            structure,
            [
                (name, tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
                for name, tensor in tensors.items()
            ],
        )
        if self._identity[0] != seen:
            parts = [self.digest(), self._words_digest(), structure, _sums(tensors)]
            self._identity = (seen, hashlib.sha256(json.dumps(parts).encode()).hexdigest())
        return self._identity[1]

    def _words_digest(self) -> str:
        """SHA-256 of the config and of what a tokenizer may read."""
        files = reading_files(self._checkpoint.folder)
        assert self._cache is not None  # `encode` has asked
        return self._cache.digest(files, lambda: files_digest(files))


def reading_files(folder: Path) -> list[Path]:
    """What says how a checkpoint's tensors are read: its config and whatever a tokenizer may read."""
    return sorted(path for path in folder.iterdir() if path.suffix in (".json", ".txt", ".model") and path.is_file())


def files_digest(files: Sequence[Path]) -> str:
    """SHA-256 over names and contents of small files."""
    total = hashlib.sha256()
    for path in files:
        total.update(path.name.encode("utf-8", errors="surrogatepass") + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _size(checkpoint: Checkpoint) -> int:
    """Bytes of the tensor files that are still there."""
    return sum(path.stat().st_size for path in checkpoint.tensor_files if path.is_file())


def _text_modules(model: nn.Module) -> dict[str, nn.Module]:
    """By name, all modules but those of the vision tower: going through it would take as long again."""
    towers = [(name, child) for name, child in model.named_children() if not name.startswith("vision")]
    return {"": model} | {
        name: module for prefix, child in towers for name, module in child.named_modules(prefix=prefix)
    }


def _tensors(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": tensor
        for name, module in modules.items()
        for key, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    }


def _structure(modules: Mapping[str, nn.Module]) -> str:
    """Names, kinds and settings of modules."""
    return repr([(name, type(module).__qualname__, module.extra_repr()) for name, module in modules.items()])


def _sums(tensors: Mapping[str, Tensor]) -> list[tuple[str, int]]:
    """The sum of each tensor's bits, eight bytes at a time: exact, the same on all devices, as fast as memory."""
    sums = []
    for tensor in tensors.values():
        raw = tensor.detach().contiguous().view(-1).view(torch.uint8)
        whole = len(raw) // 8 * 8
        eights = raw[:whole] if raw.storage_offset() % 8 == 0 else raw[:whole].clone()
        sums.append(eights.view(torch.int64).sum() + raw[whole:].sum(dtype=torch.int64))
    return list(zip(tensors, torch.stack(sums).tolist(), strict=True)) if sums else []
