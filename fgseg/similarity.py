"""Scores of patches against words: cosines, template ensembles, synonyms and their probabilities.

Every function takes torch tensors or numpy arrays and returns the same kind, float32 whatever came in, on the
device of its first argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray

from fgseg._checks import check_array, check_number, check_whole, describe
from fgseg.errors import OptionError, PromptError, ShapeError
from fgseg.types import DenseFeatures

__all__ = ["class_probabilities", "ensemble", "patch_scores", "synonym_max", "unit"]

Rows = TypeVar("Rows", torch.Tensor, NDArray[Any])

# Half the float32 rounding of a sum over a thousand channels of unit vectors: nothing shorter has a
# direction.
_SHORTEST = 1e-6
# A bfloat16 row of unit length is off by at most 1e-2 in its square; the same bound as DenseFeatures.
_UNIT_TOLERANCE = 2e-2


@overload
def patch_scores(features: DenseFeatures | torch.Tensor, text: torch.Tensor | NDArray[Any]) -> torch.Tensor: ...
@overload
def patch_scores(features: NDArray[Any], text: torch.Tensor | NDArray[Any]) -> NDArray[np.float32]: ...
def patch_scores(
    features: DenseFeatures | torch.Tensor | NDArray[Any], text: torch.Tensor | NDArray[Any]
) -> torch.Tensor | NDArray[np.float32]:
    """Cosine similarity of every patch with every prompt.

    Args:
        features: patch features of one picture, or their grid: (Gh, Gw, D), unit length along D, any float
            dtype.
        text: (T, D), unit length along D, one row a prompt, any float dtype; moved to the grid's device.

    Returns:
        (T, Gh, Gw) float32 in [-1, 1], row t belonging to text[t]; a tensor on the grid's device, or a numpy
        array when `features` is one.

    Raises:
        ShapeError: other axes, no prompt or patch, `text` not as wide as the grid, or rows not of unit
            length.

    Example:
        >>> grid = np.array([[[1.0, 0.0], [0.6, 0.8]]])
        >>> patch_scores(grid, np.array([[0.0, 1.0]]))
        array([[[0. , 0.8]]], dtype=float32)
    """
    source = features.grid if isinstance(features, DenseFeatures) else features
    check_array("features", source, ("Gh", "Gw", "D"))
    width = source.shape[-1]
    check_array("text", text, ("T", width), hint="encode prompts and image with the same model")
    grid = _tensor(source)
    rows = _tensor(text).to(grid.device)
    if not isinstance(features, DenseFeatures):  # which have been looked at: on a GPU each look waits for all before it
        _check_unit("features", grid)
    _check_unit("text", rows)
    scores = (rows @ grid.reshape(-1, width).T).reshape(len(rows), *grid.shape[:2])
    return scores.clamp_(-1, 1) if isinstance(source, torch.Tensor) else scores.clamp_(-1, 1).numpy()


def unit(rows: Rows) -> Rows:
    """Scale vectors along the last axis to length 1.

    Args:
        rows: (..., D), any float dtype.

    Returns:
        (..., D) float32, unit length along D.

    Raises:
        ShapeError: no axis, or a vector of length zero (it has no direction) or with NaN or infinity.

    Example:
        >>> unit(np.array([[3.0, 4.0]]))
        array([[0.6, 0.8]], dtype=float32)
    """
    if getattr(rows, "ndim", 0) < 1:
        raise ShapeError(f"rows: expected an array of shape (..., D), got {describe(rows)}")
    vectors = _tensor(rows)
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    good = (length > _SHORTEST) & length.isfinite()
    if not bool(good.all()):
        row = tuple((~good[..., 0]).nonzero()[0].tolist())
        raise ShapeError(
            f"rows: expected vectors with a length above {_SHORTEST:g}, got {float(length[row]):g} at "
            f"row {row[0] if len(row) == 1 else row}; a vector without length has no direction"
        )
    return _like(vectors / length, rows)


def ensemble(rows: Rows, groups: Sequence[int]) -> Rows:
    """One unit vector a query word from the vectors of its templates.

    Each row to unit length, mean over the word's rows, unit length again (PROTOCOL: OpenAI CLIP and the
    segmentation methods agree; averaging rows of their own lengths would weight loud templates).

    Args:
        rows: (R, D) template texts, any float dtype, any length but zero.
        groups: R indexes: row r is a template of query word groups[r]; every index 0..T-1 occurs.

    Returns:
        (T, D) float32, unit length along D.

    Raises:
        ShapeError: `rows` has other axes, or a row without length.
        OptionError: `groups` has another length than `rows`, or leaves a word without a row.
        PromptError: the templates of a word cancel out.

    Example:
        >>> ensemble(np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 5.0]]), [0, 1, 1])
        array([[1., 0.],
               [0., 1.]], dtype=float32)
    """
    check_array("rows", rows, ("R", "D"))
    vectors = _tensor(unit(rows))
    index = _index("groups", groups, len(vectors))
    _check_filled("groups", index, 1 + int(index.max()), "query word")
    index = index.to(vectors.device)
    counts = torch.bincount(index)
    mean = vectors.new_zeros(len(counts), vectors.shape[1]).index_add_(0, index, vectors) / counts[:, None]
    length = torch.linalg.vector_norm(mean, dim=-1)
    if bool((length < _SHORTEST).any()):
        raise PromptError(
            "rows: expected templates that agree on a direction, but those of query word "
            f"{int(length.argmin())} cancel out; use other templates for it"
        )
    return _like(mean / length[:, None], rows)


def synonym_max(scores: Rows, query_to_class: Sequence[int], num_classes: int) -> Rows:
    """The best score of a class's words.

    Args:
        scores: (Q, ...), one entry a query word; any trailing shape.
        query_to_class: Q class indexes in 0..num_classes-1.
        num_classes: C, at least 1.

    Returns:
        (C, ...) float32, the maximum over the class's words.

    Raises:
        ShapeError: `scores` has no axis.
        OptionError: `query_to_class` has another length than `scores`, an index out of range, or leaves a
            class without words.

    Example:
        >>> synonym_max(np.array([0.1, 0.7, 0.3]), [0, 1, 0], 2)
        array([0.3, 0.7], dtype=float32)
    """
    values: torch.Tensor = _prompt_encoder(scores)
    num_classes = check_whole("num_classes", num_classes, low=1, high=2**62)
    index = _index("query_to_class", query_to_class, len(values), below=num_classes)
    _check_filled("query_to_class", index, num_classes, "class")
    index = index.to(values.device)
    best = values.new_full((num_classes, *values.shape[1:]), -torch.inf)
    spread = index.reshape(-1, *[1] * (values.ndim - 1)).expand_as(values)
    return _like(best.scatter_reduce_(0, spread, values, "amax"), scores)


def class_probabilities(scores: Rows, query_to_class: Sequence[int], *, logit_scale: float) -> Rows:
    """Probability of each class: softmax over all query words, then the maximum over the class's words.

    Step 5 of the evaluation protocol of SCLIP, NACLIP, ClearCLIP and ProxyCLIP. The values of a pixel need
    not add to 1: only one word of each class is kept.

    Args:
        scores: (Q, ...), one entry a query word; any trailing shape. Holds two more arrays of this size.
        query_to_class: Q class indexes; every index 0..C-1 occurs.
        logit_scale: factor on the scores before the softmax, above 0.

    Returns:
        (C, ...) float32 in [0, 1].

    Raises:
        ShapeError: `scores` has no axis.
        OptionError: as `synonym_max`, or `logit_scale` out of range.

    Example:
        >>> class_probabilities(np.array([0.0, 0.0, 0.0, 0.0]), [0, 1, 1, 1], logit_scale=40)
        array([0.25, 0.25], dtype=float32)
    """
    check_number("logit_scale", logit_scale, low=1e-6, high=1e6)
    values: torch.Tensor = _prompt_encoder(scores)
    num_classes = 1 + int(_index("query_to_class", query_to_class, len(values)).max())
    return _like(synonym_max((logit_scale * values).softmax(0), query_to_class, num_classes), scores)


def _tensor(array: torch.Tensor | NDArray[Any]) -> torch.Tensor:
    """A detached float32 tensor; an array is copied, since torch warns of read-only ones."""
    if isinstance(array, torch.Tensor):
        return array.detach().float()
    return torch.from_numpy(np.array(array, dtype=np.float32))


def _like(result: torch.Tensor, example: Rows) -> Rows:
    return result if isinstance(example, torch.Tensor) else result.numpy()


def _prompt_encoder(scores: torch.Tensor | NDArray[Any]) -> torch.Tensor:
    if getattr(scores, "ndim", 0) < 1 or not len(scores):
        raise ShapeError(f"scores: expected an array of shape (Q, ...) with at least one word, got {describe(scores)}")
    return _tensor(scores)


def _check_unit(name: str, vectors: torch.Tensor) -> None:
    # NaN compares false, so this refuses NaN as well.
    good = (vectors.square().sum(-1) - 1).abs() < _UNIT_TOLERANCE
    if not (good.numel() and bool(good.all())):
        raise ShapeError(
            f"{name}: expected at least one row and unit length along D, got {describe(vectors)} with "
            f"{int((~good).sum())} rows that are not; normalise them with fgseg.similarity.unit"
        )


def _index(name: str, indexes: Sequence[int], length: int, *, below: int | None = None) -> torch.Tensor:
    index = np.asarray(indexes)
    is_index = index.shape == (length,) and index.dtype.kind in "iu" and length > 0
    if not is_index or index.min() < 0 or (below is not None and index.max() >= below):
        bound = "" if below is None else f" below {below}"
        raise OptionError(f"{name}: expected {length} indexes from 0{bound}, one a row, got {indexes!r:.200}")
    return torch.from_numpy(index.astype(np.int64))


def _check_filled(name: str, index: torch.Tensor, count: int, what: str) -> None:
    # Of more than there are rows one of the first is missing; memory is that of the rows, whatever the index.
    missing = np.setdiff1d(np.arange(min(count, len(index) + 1)), index.numpy())
    if len(missing):
        raise OptionError(f"{name}: expected a row for each {what}, got none for {what} {missing[0]}")
