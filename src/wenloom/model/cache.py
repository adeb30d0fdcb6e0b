"""The key-value caches: what attention remembers of the tokens already read."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class KVCache:
    """Keys and values of every layer, one pair of tensors per layer.

    Per-layer tensors rather than one stacked tensor: a compiled step would copy a stacked one whole in
    every layer. Room grows by doubling, so that appending a token is amortised constant time.

    Keys are kept rotated. With length-dependent rotary kinds they are valid only while
    `Decoder.frequency_epoch` stays the same; clear the cache when it changes.
    """

    def __init__(self, n_layers: int):
        self.length = 0
        """Tokens that every layer has seen."""
        self._keys: list[Tensor | None] = [None] * n_layers
        self._values: list[Tensor | None] = [None] * n_layers

    def append(self, layer: int, keys_BGTK: Tensor, values_BGTK: Tensor) -> tuple[Tensor, Tensor]:
        """Remember new keys and values of one layer.

        Args:
            keys_BGTK, values_BGTK: shape (batch, kv heads, new tokens, d_head).

        Returns:
            All keys and values of that layer, shape (batch, kv heads, all tokens, d_head).
        """
        end = self.length + keys_BGTK.shape[2]
        self._keys[layer] = keys = _with_room(self._keys[layer], keys_BGTK, self.length, end)
        self._values[layer] = values = _with_room(self._values[layer], values_BGTK, self.length, end)
        keys[:, :, self.length : end] = keys_BGTK
        values[:, :, self.length : end] = values_BGTK
        return keys[:, :, :end], values[:, :, :end]

    def advance(self, n_tokens: int) -> None:
        """Called once a forward pass has appended to every layer."""
        self.length += n_tokens

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows of the batch only."""
        self._keys, self._values = (
            [None if each is None else each[:, :, : self.length].index_select(0, rows) for each in stores]
            for stores in (self._keys, self._values)
        )

    def of_rows(self, rows: Tensor) -> "KVCache":
        """Another cache that goes on from some rows of this one, which stays as it is; a row may come several times."""
        other = KVCache(len(self._keys))
        other.length, other._keys, other._values = self.length, self._keys, self._values
        other.keep(rows)
        return other

    def clear(self) -> None:
        """Forget everything but keep the room."""
        self.length = 0


def _with_room(store: Tensor | None, like: Tensor, used: int, needed: int) -> Tensor:
    if store is not None and store.shape[2] >= needed:
        return store
    batch, heads, _, d_head = like.shape
    grown = like.new_empty(batch, heads, max(needed, 2 * used, 64), d_head)
    if store is not None:
        grown[:, :, :used] = store[:, :, :used]
    return grown


class EncoderKV(NamedTuple):
    """Keys and values of encoded texts, for a decoder's cross-attention: per layer (B, heads, S, d_head)."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    present_BS: Tensor | None = None
    """True for tokens, False for padding; None: no padding."""


class Segment(NamedTuple):
    """Tokens of one text that are read in one step."""

    slot: int
    start: int
    """Position of the first of them: so many tokens of the text are in the slot."""
    count: int
    length: int
    """Tokens of the text once all that wait are read (matters to rotary kinds that depend on length)."""
    encoder_kv: EncoderKV | None = None
    """The encoded text that it is written from."""


class SlotStore(Protocol):
    """Where keys and values of many texts are kept, each in a slot of its own; see `runtime.slots`."""

    device: torch.device

    def prepare(self, segments: Iterable[Segment]) -> None:
        """Make room for tokens that are about to be read."""
        ...

    def rows(self, segments: Sequence[Segment]) -> Tensor:
        """Where every token of these segments is kept."""
        ...

    def where(self, slots: Sequence[int], n_tokens: int) -> slice | Tensor:
        """Where the first tokens of these slots are kept: a slice, or what has to be gathered."""
        ...

    def write(self, layer: int, rows_N: Tensor, k_GNK: Tensor, v_GNK: Tensor) -> None:
        """Remember one layer's new keys and values."""
        ...

    def read(self, layer: int, where: slice | Tensor, n_tokens: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values of positions 0 .. n_tokens - 1, shape (slots, kv heads, n_tokens, d_head)."""
        ...


class _SegmentGroup(NamedTuple):
    """Segments whose attention is computed at once."""

    indices: list[int]
    where: slice | Tensor
    end: int
    """Tokens that the longest of them sees."""


_GATHERED_TOGETHER = 32
"""Tokens up to which, on a CPU, keys and values of several texts are copied side by side: that costs less than calls."""


class SlotBatch:
    """One step over several texts at once: their new tokens stand one after the other, without padding."""

    def __init__(self, slots: SlotStore, segments: Sequence[Segment]):
        slots.prepare(segments)
        self.slots, self.segments, device = slots, segments, slots.device
        positions = [position for s in segments for position in range(s.start, s.start + s.count)]
        self.position_N = torch.tensor(positions, device=device)
        """Position of every token."""
        self.ends = list(itertools.accumulate(s.count for s in segments))
        """Where each segment ends in the row of tokens."""
        self.bias: Callable[[Tensor, int], Tensor] | None = None
        """What is added to attention scores by (query positions, number of keys), shape (heads, queries, keys)."""
        self._groups = [self._group(indices) for indices in self._together(device)]
        self._rows_N = slots.rows(segments)  # after `where`, which may move texts

    def _together(self, device: torch.device) -> Iterator[list[int]]:
        """Which segments to compute at once: single tokens of texts of about one length."""
        singles = sorted((s.start, index) for index, s in enumerate(self.segments) if s.count == 1)
        yield from ([index] for index, s in enumerate(self.segments) if s.count > 1)
        on_cpu, group = device.type == "cpu", []
        for start, index in singles:
            if group and (start > 2 * self.segments[group[0]].start + 64 or (on_cpu and start >= _GATHERED_TOGETHER)):
                yield group
                group = []
            group.append(index)
        if group:
            yield group

    def _group(self, indices: list[int]) -> _SegmentGroup:
        end = max(self.segments[index].start + self.segments[index].count for index in indices)
        return _SegmentGroup(indices, self.slots.where([self.segments[index].slot for index in indices], end), end)

    def attend(
        self,
        layer: int,
        q_1HNK: Tensor,
        k_1GNK: Tensor,
        v_1GNK: Tensor,
        window: int | None,
        attention: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor],
    ) -> Tensor:
        """Remember new keys and values, then let every text attend to itself.

        Args:
            window: sliding window in tokens.
            attention: softmax(Q Kᵀ * scale + mask) V for (queries, keys, values, mask) of several heads.
        """
        self.slots.write(layer, self._rows_N, k_1GNK[0], v_1GNK[0])
        y_1HNK = torch.empty_like(q_1HNK)
        for group, where, end in self._groups:
            first = self.segments[group[0]]
            k, v = self.slots.read(layer, where, end, q_1HNK.dtype)
            if len(group) == 1:
                rows = slice(self.ends[group[0]] - first.count, self.ends[group[0]])
                mask = self._biased(self._mask(rows, first, end, window), self.position_N[rows], end)
                y_1HNK[:, :, rows] = attention(q_1HNK[:, :, rows], k, v, mask)
            else:
                rows = torch.tensor([self.ends[index] - 1 for index in group], device=q_1HNK.device)
                key, query = torch.arange(end, device=q_1HNK.device), self.position_N[rows][:, None]
                seen = key <= query if window is None else (key <= query) & (key > query - window)
                mask = seen[:, None, None]
                if (bias := self.bias) is not None:  # (heads, texts, keys) to (texts, heads, 1, keys)
                    bias_HBS = bias(self.position_N[rows], end)
                    mask = bias_HBS.transpose(0, 1)[:, :, None].masked_fill(~mask, -torch.inf)
                y_BH1K = attention(q_1HNK[0, :, rows].transpose(0, 1)[:, :, None], k, v, mask)
                y_1HNK[0, :, rows] = y_BH1K[:, :, 0].transpose(0, 1)
        return y_1HNK

    def attend_to_source(
        self, layer: int, q_1HNK: Tensor, attention: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
    ) -> Tensor:
        """Let every text attend to what it is written from; neighbours that share an `EncoderKV` (beams) do so at once."""
        y_1HNK = torch.empty_like(q_1HNK)
        start = 0
        for _, run in itertools.groupby(range(len(self.segments)), lambda index: id(self.segments[index].encoder_kv)):
            *_, last = indices = list(run)
            encoder_kv, rows = self.segments[indices[0]].encoder_kv, slice(start, self.ends[last])
            assert encoder_kv is not None
            keys, values = encoder_kv.keys[layer].to(q_1HNK.dtype), encoder_kv.values[layer].to(q_1HNK.dtype)
            y_1HNK[:, :, rows] = attention(q_1HNK[:, :, rows], keys, values, None)
            start = rows.stop
        return y_1HNK

    def _biased(self, mask: Tensor | None, positions_N: Tensor, end: int) -> Tensor | None:
        if self.bias is None:
            return mask
        bias_HNS = self.bias(positions_N, end)
        seen = torch.arange(end, device=positions_N.device) <= positions_N[:, None] if mask is None else mask
        return bias_HNS.masked_fill(~seen, -torch.inf)

    def _mask(self, rows: slice, segment: Segment, end: int, window: int | None) -> Tensor | None:
        """None where plain causal attention (or a single query) says it all."""
        cut_off = window is not None and end > window
        if not cut_off and (segment.start == 0 or segment.count == 1):
            return None
        query = self.position_N[rows][:, None]
        key = torch.arange(end, device=query.device)
        return (key <= query) & (key > query - window) if cut_off and window is not None else key <= query
