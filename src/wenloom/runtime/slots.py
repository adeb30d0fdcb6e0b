"""Keys and values of many texts, each in a slot of its own, in pages from one pool that texts may share.

A text takes a page for every 32 of its tokens, when it gets there; a page goes back to the pool when nobody holds it any
more. Texts that begin alike hold the same pages. What is shared is never written to: who is about to write in a shared
page gets a copy of its own (copy on write).
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from wenloom.core.memory import LargePages
from wenloom.model.cache import Segment
from wenloom.model.config import ModelConfig

PAGE = 32
"""Tokens of a page."""
_FEWEST = 16
"""Pages of the smallest pool."""
_SCALE_BYTES = 4


class Slots:
    """Page tables of texts, and per layer the pool of keys and that of values, of shape (kv heads, tokens, d_head).

    Page p is tokens 32 p .. 32 p + 31 of every layer's pools, so that a text whose pages follow each other lies in one
    piece. In int8 every key and value is quantized to 127ths of its largest entry; a row is d_head whole numbers and the
    bytes of that scale (a float32).
    """

    def __init__(self, config: ModelConfig, device: torch.device, dtype: torch.dtype):
        shape = (config.n_kv_heads, 0, config.d_head + (_SCALE_BYTES if dtype == torch.int8 else 0))
        self.keys = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.n_layers)]
        self.values = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.n_layers)]
        self.device = device
        self.page_bytes = 2 * config.n_layers * PAGE * shape[0] * shape[2] * dtype.itemsize
        """Memory of a page, of all layers."""
        self.tables = np.zeros((0, 0), np.int32)
        """Pages of every slot's text, shape (slots, most pages of a text)."""
        self._n_pages: list[int] = []
        """How many of them there are, by slot."""
        self._holders = np.zeros(0, np.int32)
        """How many hold each page of the pool."""
        self._n_used = 0
        self.n_copied = 0
        """Pages copied so far, because somebody was about to write in one that others hold."""
        self.version = 0
        """Of the pools' tensors: other ones whenever the pool has grown."""

    @property
    def n_used(self) -> int:
        """Pages that somebody holds."""
        return self._n_used

    @property
    def bytes(self) -> int:
        """Memory of the pool."""
        return sum(each.nbytes for each in (*self.keys, *self.values))

    def pages(self, slot: int) -> list[int]:
        """The pages of a slot's text."""
        return self.tables[slot, : self._n_pages[slot]].tolist() if slot < len(self._n_pages) else []

    # --- who holds what ---

    def prepare(self, segments: Iterable[Segment]) -> None:
        """Give every text pages of its own for the tokens that it is about to read.

        Raises:
            MemoryError: the pool cannot grow.
        """
        for slot, start, count, *_ in segments:
            first, end = start // PAGE, (start + count - 1) // PAGE + 1
            is_there = slot < len(self._n_pages) and end <= self._n_pages[slot]
            if count == 1 and is_there and self._holders[self.tables[slot, first]] == 1:  # what most steps find
                continue
            self._make_room(slot, end)
            for index in range(first, end):
                if index >= self._n_pages[slot]:
                    assert index == self._n_pages[slot]
                    self.tables[slot, index] = self._take(int(self.tables[slot, index - 1]) + 1 if index else None)
                    self._n_pages[slot] += 1
                elif self._holders[page := int(self.tables[slot, index])] > 1:
                    own = self._take(int(self.tables[slot, index - 1]) + 1 if index else None)
                    if index == first and start % PAGE:
                        self._copy(page, own)
                    self._holders[page] -= 1
                    self.tables[slot, index] = own

    def share(self, slot: int, pages: Sequence[int] | np.ndarray) -> None:
        """Let a slot's text begin with these pages, instead of what it had."""
        self._make_room(slot, len(pages))
        held = np.asarray(pages, np.int32)
        self._holders[held] += 1
        self.release(slot)
        self.tables[slot, : len(held)], self._n_pages[slot] = held, len(held)

    def fork(self, source: int, target: int, n_tokens: int) -> None:
        """Let a slot's text begin with so many tokens of another's; nothing is copied."""
        n_pages = -(-n_tokens // PAGE)
        self.share(target, self.tables[source, :n_pages].copy() if n_pages else ())

    def release(self, slot: int) -> None:
        """A text is over: its pages go, but for those that others hold."""
        if slot < len(self._n_pages):
            held = self.tables[slot, : self._n_pages[slot]]
            self._holders[held] -= 1
            self._n_used -= int((self._holders[held] == 0).sum())
            self._n_pages[slot] = 0

    def hold(self, page: int) -> None:
        """Keep a page, also when its text is over."""
        self._holders[page] += 1

    def let_go(self, page: int) -> None:
        """The opposite of `hold`."""
        self._holders[page] -= 1
        self._n_used -= int(self._holders[page] == 0)

    def _take(self, wanted: int | None) -> int:
        """A free page: the wanted one, or one in the midst of the longest free run, so that texts can grow in one piece."""
        if self._n_used == len(self._holders):
            self._grow()
        if wanted is None or wanted >= len(self._holders) or self._holders[wanted]:
            begin, end = self._longest_run()
            wanted = begin if begin == 0 else (begin + end) // 2
        self._holders[wanted] = 1
        self._n_used += 1
        return wanted

    def _longest_run(self) -> tuple[int, int]:
        """Of free pages: begin and end."""
        edges = np.flatnonzero(np.diff(np.concatenate(([False], self._holders == 0, [False])).astype(np.int8)))
        if not len(edges):
            return 0, 0
        longest = int((edges[1::2] - edges[::2]).argmax())
        return int(edges[2 * longest]), int(edges[2 * longest + 1])

    def _grow(self, n_pages: int = 0) -> None:
        """A pool larger by a quarter; where memory does not suffice, some layers' are, which does no harm."""
        n_pages, pools = max(_FEWEST, n_pages, len(self._holders) * 5 // 4 + 1), LargePages()
        for layer, pair in enumerate(zip(self.keys, self.values, strict=True)):
            if pair[0].shape[1] < n_pages * PAGE:
                self.version += 1
                self.keys[layer], self.values[layer] = (_longer(pool, n_pages * PAGE, pools) for pool in pair)
        self._holders = np.concatenate((self._holders, np.zeros(n_pages - len(self._holders), np.int32)))

    def _gather(self, slot: int) -> None:
        """Move a text whose pages are scattered, and held by nobody else, into one piece, with room to grow by half.

        PyTorch reads such a text where it stands, instead of copying it together in every layer and step. The pool
        stays below twice what is held.
        """
        held = self.tables[slot, : self._n_pages[slot]].copy()
        if (self._holders[held] > 1).any():
            return
        count = len(held)
        for wanted in (count * 3 // 2 + 1, count):
            begin, end = self._longest_run()
            if end - begin < wanted and len(self._holders) + wanted <= 2 * self._n_used + _FEWEST:
                self._grow(len(self._holders) + wanted)
                begin, end = self._longest_run()
        if end - begin < count:
            return
        own = np.arange(count, dtype=np.int32) + (begin + (end - begin - count) // 2 if begin else 0)
        rows, at = torch.from_numpy(held).to(self.device), int(own[0])
        for pool in (*self.keys, *self.values):
            pages = pool.unflatten(1, (-1, PAGE))
            pages[:, at : at + count] = pages.index_select(1, rows)
        self._holders[held], self._holders[own] = 0, 1
        self.tables[slot, :count] = own

    def _make_room(self, slot: int, n_pages: int) -> None:
        """In the tables."""
        slots, most = self.tables.shape
        if slot >= slots or n_pages > most:
            larger = np.zeros((max(slots, 1 << slot.bit_length()), max(most, 1 << n_pages.bit_length())), np.int32)
            larger[:slots, :most] = self.tables
            self.tables = larger
            self._n_pages += [0] * (len(larger) - slots)

    def _copy(self, source: int, target: int) -> None:
        self.n_copied += 1
        here, there = (slice(page * PAGE, (page + 1) * PAGE) for page in (source, target))
        for pool in (*self.keys, *self.values):
            pool[:, there] = pool[:, here]

    # --- what stands there ---

    def rows(self, segments: Sequence[Segment]) -> Tensor:
        """Where in the pools every token of these segments stands, shape (tokens,)."""
        found = []
        for slot, start, count, *_ in segments:
            positions = np.arange(start, start + count)
            found.append(self.tables[slot, positions // PAGE] * np.int64(PAGE) + positions % PAGE)
        return torch.from_numpy(np.concatenate(found)).to(self.device)

    def where(self, slots: Sequence[int], n_tokens: int) -> slice | Tensor:
        """Where in the pools the first tokens of these slots stand: a slice, or pages (slots, pages) to be gathered.

        A text of scattered pages may be moved into one piece for it.
        """
        n_pages = -(-n_tokens // PAGE)
        if len(slots) == 1 and (np.diff(self.tables[slots[0], :n_pages]) != 1).any():
            self._gather(slots[0])
        tables = self.tables[list(slots), :n_pages]
        if len(slots) == 1 and (np.diff(tables[0]) == 1).all():
            start = int(tables[0, 0]) * PAGE
            return slice(start, start + n_tokens)
        for row, slot in zip(tables, slots, strict=True):
            row[self._n_pages[slot] :] = row[0]  # shorter than the longest: anything, it is masked
        return torch.from_numpy(tables).to(self.device)

    def write(self, layer: int, rows_N: Tensor, k_GNK: Tensor, v_GNK: Tensor) -> None:
        """Remember one layer's new keys and values."""
        for pool, new_GNK in ((self.keys[layer], k_GNK), (self.values[layer], v_GNK)):
            pool.index_copy_(1, rows_N, _quantized(new_GNK) if pool.dtype == torch.int8 else new_GNK.to(pool.dtype))

    def read(self, layer: int, where: slice | Tensor, n_tokens: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values of what `where` found, shape (slots, kv heads, n_tokens, d_head)."""
        keys, values = (_gathered(pools[layer], where)[:, :, :n_tokens] for pools in (self.keys, self.values))
        if keys.dtype == torch.int8:
            return _dequantized(keys, dtype), _dequantized(values, dtype)
        return keys.to(dtype), values.to(dtype)


def _longer(pool: Tensor, n_tokens: int, pools: LargePages) -> Tensor:
    longer = pools.zeros((pool.shape[0], n_tokens, pool.shape[2]), pool.dtype, pool.device)
    longer[:, : pool.shape[1]] = pool
    return longer


def _gathered(pool: Tensor, where: slice | Tensor) -> Tensor:
    if isinstance(where, slice):
        return pool[None, :, where]
    found = pool.unflatten(1, (-1, PAGE)).index_select(1, where.flatten())
    return found.view(pool.shape[0], len(where), -1, pool.shape[2]).transpose(0, 1)


def _quantized(x: Tensor) -> Tensor:
    x = x.float()
    scale = x.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
    return torch.cat([(x / scale).round().to(torch.int8), scale.view(torch.int8)], -1)


def _dequantized(rows: Tensor, dtype: torch.dtype) -> Tensor:
    scale = rows[..., -_SCALE_BYTES:].contiguous().view(torch.float32)
    return (rows[..., :-_SCALE_BYTES] * scale).to(dtype)
