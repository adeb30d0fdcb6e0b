"""Which documents share a number in a column, directly or through others."""

import numpy as np

from wenloom.core.mapped import let_go


def clusters_of(table: np.ndarray) -> list[list[int]]:
    """Rows that are connected by an equal value in the same column, in lists of two or more, by their first row.

    >>> clusters_of(np.array([[1, 5], [2, 6], [1, 7], [9, 7]], np.uint64))
    [[0, 2, 3]]
    """
    parents = np.arange(len(table))
    for number in range(table.shape[1]):
        column = np.array(table[:, number])
        let_go(table)
        order = np.argsort(column, kind="stable")
        equal = np.flatnonzero(column[order][1:] == column[order][:-1])
        _join(parents, order[equal], order[equal + 1])
    roots, counts = np.unique(parents, return_counts=True)
    large = roots[counts > 1]
    members = np.flatnonzero(np.isin(parents, large))
    members = members[np.argsort(parents[members], kind="stable")]
    cuts = np.flatnonzero(np.diff(parents[members])) + 1
    return [part.tolist() for part in np.split(members, cuts) if len(part)]


def _join(parents: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    """Give the parts that pairs connect the smallest of their numbers."""
    while len(left):
        low, high = np.minimum(parents[left], parents[right]), np.maximum(parents[left], parents[right])
        differ = low != high
        if not differ.any():
            return
        left, right, low, high = left[differ], right[differ], low[differ], high[differ]
        np.minimum.at(parents, high, low)
        while True:  # to the root
            above = parents[parents]
            if np.array_equal(above, parents):
                break
            parents[:] = above
