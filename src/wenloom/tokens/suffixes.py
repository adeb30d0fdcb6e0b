"""The suffix array of a row of tokens (Manber & Myers 1993): every place of the row, in the order of what is read from there on.

Whatever text is looked for, the places where it stands are then neighbours, and are found by halving.
"""

from collections.abc import Callable

import numpy as np


def suffix_order(
    tokens: np.ndarray, count: int, vocab_size: int, depth: int, on_sorted: Callable[[int], None] = lambda n: None
) -> np.ndarray:
    """Places of a row in the order of what is read from each on; what ends comes before what goes on.

    The first tokens, as many as fit into 64 bits, are sorted as one number. Places that are alike so far are then told apart
    by what stands behind, whose order is known already: every round doubles the tokens that have been compared (Larsson &
    Sadakane 2007), and only what is still undecided takes part.

    Args:
        tokens: the row, shape (n,).
        count: how many places, from the first on, are wanted; what comes behind them is read along.
        depth: tokens by which places are told apart, at least; places that agree in more are in any order.
        on_sorted: told how many places have been decided.

    Returns:
        Places below `count`, shape (count,), uint32.

    >>> suffix_order(np.array([1, 0, 1, 0, 2]), 5, 3, 5).tolist()
    [1, 3, 0, 2, 4]
    """
    n = len(tokens)
    assert n < 2**32, "places are kept in 32 bits"
    length, keys = _packed(tokens, vocab_size)
    order = np.argsort(keys).astype(np.uint32)
    keys = keys[order]
    is_first = np.ones(n + 1, dtype=bool)  # of its group of places that are alike so far
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:n])
    del keys
    rank = np.empty(n, dtype=np.uint32)
    rank[order] = _group_of(is_first[:n], np.arange(n, dtype=np.uint32))
    undecided = np.flatnonzero(~(is_first[:-1] & is_first[1:])).astype(np.uint32)
    on_sorted(n - len(undecided))
    while length < depth and len(undecided):
        places = order[undecided]
        behind = places.astype(np.int64) + length
        is_inside = behind < n
        key = rank[places].astype(np.uint64) << np.uint64(32)
        key[is_inside] |= rank[behind[is_inside]].astype(np.uint64) + np.uint64(1)
        by_key = np.argsort(key)
        order[undecided], key = places[by_key], key[by_key]
        is_first[undecided[1:]] |= key[1:] != key[:-1]
        rank[order[undecided]] = _group_of(is_first[undecided], undecided)
        is_left = ~(is_first[undecided] & is_first[undecided + np.uint32(1)])
        on_sorted(int(len(undecided) - is_left.sum()))
        undecided = undecided[is_left]
        length *= 2
    on_sorted(len(undecided))
    return order if count == n else order[order < count]


def _packed(tokens: np.ndarray, vocab_size: int) -> tuple[int, np.ndarray]:
    """How many tokens are packed, and those from each place on as one number; 0 stands for the end."""
    bits = max(1, int(vocab_size).bit_length())
    length = max(1, 64 // bits)
    keys = np.zeros(len(tokens), dtype=np.uint64)
    for step in range(min(length, len(tokens))):
        part = tokens[step:].astype(np.uint64)
        part += np.uint64(1)
        part <<= np.uint64(bits * (length - 1 - step))
        keys[: len(part)] |= part
    return length, keys


def _group_of(is_first: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Where in the order the group begins to which each belongs."""
    return np.maximum.accumulate(np.where(is_first, at, np.uint32(0)))
