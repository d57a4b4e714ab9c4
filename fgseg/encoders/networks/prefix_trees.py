"""Texts as trees of their beginnings.

In a causal tower the state of a token depends on what stands before it and on nothing else, so texts that begin alike
share the states of what they share: of a thousand names in eighty templates, a fifth of the tokens or a third are left.
A tree goes through the tower as one sequence in which every token sees its ancestors.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["PrefixTrees", "plant", "tree_runs"]

TOKENS_A_TREE = 256  # each token is compared with all of its tree: a larger one costs more than its texts share


class PrefixTrees(NamedTuple):
    """Trees side by side, the smaller ones filled up with tokens that nobody sees.

    Attributes:
        tokens: (B, N) int64.
        depths: (B, N) int64, the place of each token in its text.
        seen: (B, N, N) bool, whether the first token sees the second: its ancestors and itself.
        ends: (T, 2) int64, the tree and the token where each text ends, in the texts' order.
    """

    tokens: Tensor
    depths: Tensor
    seen: Tensor
    ends: Tensor

    def to(self, device: torch.device) -> "PrefixTrees":
        """The same on a device."""
        return PrefixTrees(*(part.to(device) for part in self))


def tree_runs(rows: Sequence[Sequence[int]], *, budget: int = TOKENS_A_TREE) -> Iterator[list[int]]:
    """Texts that share a tree: indices of `rows` in the order of their tokens, as many as `budget` tokens hold.

    Examples:
        >>> list(tree_runs([[1, 2, 9], [3, 9], [1, 2, 4, 9]], budget=5))
        [[2, 0], [1]]
    """
    run: list[int] = []
    size = 0
    before: Sequence[int] = ()
    for index in sorted(range(len(rows)), key=lambda index: tuple(rows[index])):
        fresh = len(rows[index]) - _shared(before, rows[index])
        if run and size + fresh > budget:
            yield run
            run, size, fresh = [], 0, len(rows[index])
        run.append(index)
        size, before = size + fresh, rows[index]
    if run:
        yield run


def plant(groups: Sequence[Sequence[Sequence[int]]]) -> PrefixTrees:
    """A tree of each group of token rows.

    Examples:
        >>> trees = plant([[[5, 6, 9], [5, 7, 9]]])
        >>> trees.tokens.tolist(), trees.depths.tolist(), trees.ends.tolist()
        ([[5, 6, 9, 7, 9]], [[0, 1, 2, 1, 2]], [[0, 2], [0, 4]])
        >>> trees.seen[0, 4].int().tolist()
        [1, 0, 0, 1, 1]
    """
    made = [_tree(rows) for rows in groups]
    shape = len(made), max(len(tokens) for tokens, _, _ in made)
    tokens, depths, seen = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros((*shape, shape[1]), np.bool_)
    for tree, (letters, parents, _) in enumerate(made):
        tokens[tree, : len(letters)] = letters
        for node, parent in enumerate(parents):
            if parent is not None:
                seen[tree, node], depths[tree, node] = seen[tree, parent], depths[tree, parent] + 1
            seen[tree, node, node] = True
        seen[tree, len(letters) :, 0] = True  # a filler has to see something
    ends = [(tree, stop) for tree, (_, _, stops) in enumerate(made) for stop in stops]
    arrays = torch.from_numpy(tokens), torch.from_numpy(depths), torch.from_numpy(seen)
    return PrefixTrees(*arrays, torch.tensor(ends))


def _tree(rows: Sequence[Sequence[int]]) -> tuple[list[int], list[int | None], list[int]]:
    """The token of every node, the node before it, and the node where each row ends; a parent before its children."""
    nodes: dict[tuple[int | None, int], int] = {}
    tokens: list[int] = []
    parents: list[int | None] = []
    stops: list[int] = []
    for row in rows:
        node: int | None = None
        for token in row:
            if (node, token) not in nodes:
                nodes[node, token] = len(tokens)
                tokens.append(token)
                parents.append(node)
            node = nodes[node, token]
        assert node is not None  # no row is empty: each has its end token
        stops.append(node)
    return tokens, parents, stops


def _shared(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two rows have in common before they differ."""
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return place
    return min(len(first), len(second))
