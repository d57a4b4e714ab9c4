"""Scores of patches against words: cosines and template ensembles.

Every function takes torch tensors or numpy arrays of any float dtype. It returns float32 of the same kind, on the
device of its first argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from fgseg._checks import check_array, describe
from fgseg.errors import OptionError, PromptError, ShapeError
from fgseg.types import DenseFeatures, check_unit, has_unit_length
from fgseg.upsample.tensors import Values, float32_tensor, full_precision, like

__all__ = ["cosines", "ensemble", "patch_scores", "unit"]

# Half the float32 rounding of a sum over a thousand channels of unit vectors: a shorter vector has no
# reliable direction.
_SHORTEST = 1e-6
# The squared length of a bfloat16 row of unit length is off by at most 1e-2; the same bound as in DenseFeatures.
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
        features: patch features of one image, or their grid: (Gh, Gw, D), unit length along D, any float
            dtype.
        text: (T, D), unit length along D, one row per prompt, any float dtype; moved to the grid's device.

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
    grid = float32_tensor(source)
    rows = float32_tensor(text).to(grid.device)
    if not isinstance(features, DenseFeatures):  # they check themselves, except on a GPU
        _check_unit("features", grid)
    elif grid.device.type != "cpu":
        check_unit(bool(has_unit_length(grid)))
    _check_unit("text", rows)
    scores = cosines(grid, rows)
    return scores if isinstance(source, torch.Tensor) else scores.numpy()


@full_precision
def cosines(grid: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """`patch_scores` without its checks, for float32 features and texts of an encoder, on one device."""
    scores = (text @ grid.reshape(-1, grid.shape[-1]).T).reshape(len(text), *grid.shape[:2])
    return scores.clamp_(-1, 1)


def unit(rows: Values) -> Values:
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
    vectors = float32_tensor(rows)
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    good = (length > _SHORTEST) & length.isfinite()
    if not bool(good.all()):
        row = tuple((~good[..., 0]).nonzero()[0].tolist())
        raise ShapeError(
            f"rows: expected vectors with a length above {_SHORTEST:g}, got {float(length[row]):g} at "
            f"row {row[0] if len(row) == 1 else row}; a vector without length has no direction"
        )
    return like(vectors / length, rows)


def ensemble(rows: Values, groups: Sequence[int]) -> Values:
    """One unit vector per query word, from the vectors of its templates.

    Rows are scaled to unit length, averaged over the word, and scaled to unit length again, as OpenAI CLIP and the
    segmentation methods do. Averaging rows of different lengths would give more weight to longer ones.

    Args:
        rows: (R, D) features of template texts, any float dtype, any length but zero.
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
    vectors = unit(float32_tensor(rows))
    index = _checked_groups(groups, len(vectors)).to(vectors.device)
    counts = torch.bincount(index)
    mean = vectors.new_zeros(len(counts), vectors.shape[1]).index_add_(0, index, vectors) / counts[:, None]
    length = torch.linalg.vector_norm(mean, dim=-1)
    if bool((length < _SHORTEST).any()):
        raise PromptError(
            "rows: expected templates that agree on a direction, but those of query word "
            f"{int(length.argmin())} cancel out; use other templates for it"
        )
    return like(mean / length[:, None], rows)


def _check_unit(name: str, vectors: torch.Tensor) -> None:
    # NaN compares false, so this refuses NaN as well.
    good = (vectors.square().sum(-1) - 1).abs() < _UNIT_TOLERANCE
    if not (good.numel() and bool(good.all())):
        raise ShapeError(
            f"{name}: expected at least one row and unit length along D, got {describe(vectors)} with "
            f"{int((~good).sum())} rows that are not; normalise them with fgseg.similarity.unit"
        )


def _checked_groups(groups: Sequence[int], length: int) -> torch.Tensor:
    """(length,) int64 groups, each of 0 to the largest at least once."""
    index = np.asarray(groups)
    is_index = index.shape == (length,) and index.dtype.kind in "iu" and length > 0
    if not is_index or index.min() < 0:
        raise OptionError(f"groups: expected {length} indexes from 0, one per row, got {groups!r:.200}")
    # There cannot be more groups than rows, so memory does not depend on the largest index.
    missing = np.setdiff1d(np.arange(min(int(index.max()) + 1, length + 1)), index)
    if len(missing):
        raise OptionError(f"groups: expected a row for each query word, got none for query word {missing[0]}")
    return torch.from_numpy(index.astype(np.int64))
