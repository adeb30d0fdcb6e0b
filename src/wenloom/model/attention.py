"""Self-attention with grouped queries, rotary positions and sliding windows; attention to an encoded text."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wenloom.model.cache import EncoderKV, KVCache, SlotBatch
from wenloom.model.config import ModelConfig
from wenloom.model.dropout import Dropout, keys_of_patterns
from wenloom.model.norm import in_autocast, make_head_norm
from wenloom.model.position import rotate
from wenloom.model.taps import Taps, tapped


class Attention(nn.Module):
    """softmax(Q Kᵀ * scale + mask) V, several heads at once (Vaswani et al. 2017, eq. 1 and section 3.2.2)."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        shape, self.layer, self.d_head = config.attention, layer, config.d_head
        self.scale = config.attention_scale(layer)
        self.pattern_dropout = Dropout(config.dropout.attention, site=4)
        self.score_cap = shape.score_cap
        self.sinks = nn.Parameter(torch.empty(config.n_heads)) if shape.sinks else None
        self.written_out = shape.score_cap is not None or shape.sinks
        self.window = shape.window(layer)
        self.causal = config.causal
        self.grouped = config.n_kv_heads != config.n_heads
        d_query, d_kv = config.n_heads * config.d_head, config.n_kv_heads * config.d_head
        self.query = nn.Linear(config.d_model, d_query, bias=shape.qkv_bias)
        self.key = nn.Linear(config.d_model, d_kv, bias=shape.qkv_bias and shape.key_bias)
        self.value = nn.Linear(config.d_model, d_kv, bias=shape.qkv_bias)
        self.output = nn.Linear(d_query, config.d_model, bias=shape.output_bias)
        self.query_norm = make_head_norm(config, config.n_heads)
        self.key_norm = make_head_norm(config, config.n_kv_heads)
        self.norm_whole = shape.qk_norm_whole

    def forward(
        self,
        x_BTD: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        cache: KVCache | SlotBatch | None,
        keys_B: Tensor | None = None,
        taps: Taps | None = None,
        distances: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """
        Args:
            x_BTD: normalised residual stream.
            rotary: cosines and sines of `position.rotary_table`, broadcastable to (B, H, T, d_rotary).
            mask: True where a query (row) may see a key (column), broadcastable to (B, H, T, all tokens), or what
                is added to the scores there; None is plain causal attention (of an encoder: everything is seen).
            cache: earlier keys and values, extended in place. With a `SlotBatch` the one row holds the tokens of
                several texts, each of which sees its own; no mask then.
            keys_B: what dropout is decided by.
            taps: those of this layer.
            distances: what a `DisentangledAttention` reads.
        """
        x_BTD = in_autocast(x_BTD)
        q_BHTK, k_BGTK = (
            self._projected(x_BTD, self.query, self.query_norm),
            self._projected(x_BTD, self.key, self.key_norm),
        )
        v_BGTK = self._heads(self.value(x_BTD))
        if rotary is not None:
            q_BHTK, k_BGTK = rotate(q_BHTK, *rotary), rotate(k_BGTK, *rotary)
        if taps is not None:
            q_BHTK, k_BGTK, v_BGTK = taps.at("query", q_BHTK), taps.at("key", k_BGTK), taps.at("value", v_BGTK)
        if isinstance(cache, SlotBatch):
            attend = self._attend if taps is None else partial(self._attend, taps=taps)
            y_BHTK = cache.attend(self.layer, q_BHTK, k_BGTK, v_BGTK, self.window, attend)
        else:
            if cache is not None:
                k_BGTK, v_BGTK = cache.append(self.layer, k_BGTK, v_BGTK)
            if distances is not None:
                mask = self.with_distances(q_BHTK, k_BGTK, mask, *distances)
            y_BHTK = self._attend(q_BHTK, k_BGTK, v_BGTK, mask, taps, keys_B)
        return self._joined(y_BHTK, taps)

    def with_distances(
        self, q_BHTK: Tensor, k_BGTK: Tensor, mask: Tensor | None, vectors_RD: Tensor, which_TS: Tensor
    ) -> Tensor | None:
        """What is added to scores where distances count: here as without them."""
        return mask

    def _projected(self, x_BTD: Tensor, project: nn.Linear, norm: nn.Module | None) -> Tensor:
        if norm is None:
            return self._heads(project(x_BTD))
        return self._heads(norm(project(x_BTD))) if self.norm_whole else norm(self._heads(project(x_BTD)))

    def _heads(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (-1, self.d_head)).transpose(1, 2)

    def _joined(self, y_BHTK: Tensor, taps: Taps | None) -> Tensor:
        return self.output(tapped(taps, "heads", y_BHTK).transpose(1, 2).flatten(2))

    def _attend(
        self, q_BHTK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor, mask: Tensor | None, taps: Taps | None = None,
        keys_B: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        drops = self.training and self.pattern_dropout.rate > 0
        if drops or self.written_out or (taps is not None and "pattern" in taps):
            weights_BHTS = self.pattern(q_BHTK, k_BGTK, mask)
            given_BHTS = weights_BHTS if taps is None else taps.at("pattern", weights_BHTS)
            if drops or self.written_out or given_BHTS is not weights_BHTS:
                if drops:
                    keys_N = None if keys_B is None else keys_of_patterns(keys_B, *given_BHTS.shape[1:3])
                    given_BHTS = self.pattern_dropout(given_BHTS.flatten(0, 2), keys_N).view_as(given_BHTS)
                v_BHSK = v_BGTK.repeat_interleave(q_BHTK.shape[1] // v_BGTK.shape[1], 1)
                return (given_BHTS @ v_BHSK.float()).to(q_BHTK.dtype)
        T = q_BHTK.shape[-2]
        if q_BHTK.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            is_bias = mask is not None and mask.dtype != torch.bool
            if torch.is_grad_enabled() and T <= _WRITTEN_OUT_UP_TO and not is_bias:
                dtype, repeats = torch.get_autocast_dtype("cpu"), q_BHTK.shape[1] // k_BGTK.shape[1]
                q_BHTK, k_BGTK, v_BGTK = q_BHTK.to(dtype), k_BGTK.to(dtype), v_BGTK.to(dtype)
                if T > WEIGHTS_KEPT_UP_TO:
                    return _AttentionInParts.apply(q_BHTK, k_BGTK, v_BGTK, mask, self.scale, self.causal)
                if mask is None and self.causal:
                    mask = torch.ones(T, T, dtype=torch.bool, device=q_BHTK.device).tril()
                k_BHTK, v_BHTK = (x.repeat_interleave(repeats, 1) if repeats > 1 else x for x in (k_BGTK, v_BGTK))
                return _WrittenOutAttention.apply(q_BHTK, k_BHTK, v_BHTK, mask, self.scale)
            with torch.autocast("cpu", enabled=False):
                return self._fused(q_BHTK, k_BGTK, v_BGTK, mask)
        return self._fused(q_BHTK, k_BGTK, v_BGTK, mask)

    def pattern(self, q_BHTK: Tensor, k_BGTK: Tensor, mask: Tensor | None) -> Tensor:
        """The weights softmax(cap(Q Kᵀ * scale) + mask) in float32, shape (B, H, T, S), which `_fused` does not keep.

        With sinks s the softmax is over a further score s_h in every row, whose weight is left out: rows sum to less than 1
        (Xiao et al. 2024, "Efficient streaming language models with attention sinks", section 3.3; gpt-oss).
        """
        k_BHSK = k_BGTK.repeat_interleave(q_BHTK.shape[1] // k_BGTK.shape[1], 1)
        with torch.autocast(q_BHTK.device.type, enabled=False):
            scores_BHTS = (q_BHTK.float() * self.scale) @ k_BHSK.float().mT
            if self.score_cap is not None:
                scores_BHTS = self.score_cap * (scores_BHTS / self.score_cap).tanh()
            T, S = scores_BHTS.shape[-2:]
            if mask is None and self.causal and T > 1:
                mask = torch.ones(T, S, dtype=torch.bool, device=q_BHTK.device).tril(S - T)
            if mask is not None:
                scores_BHTS = (
                    scores_BHTS.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores_BHTS + mask
                )
            if self.sinks is None:
                return scores_BHTS.softmax(-1)
            sinks_BHT1 = self.sinks.float()[:, None, None].expand(*scores_BHTS.shape[:-1], 1)
            return torch.cat((scores_BHTS, sinks_BHT1), -1).softmax(-1)[..., :-1]

    def _fused(self, q_BHTK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor, mask: Tensor | None) -> Tensor:
        return F.scaled_dot_product_attention(
            q_BHTK,
            k_BGTK,
            v_BGTK.to(q_BHTK.dtype),
            attn_mask=mask if mask is None or mask.dtype == torch.bool else mask.to(q_BHTK.dtype),
            is_causal=self.causal and mask is None and q_BHTK.shape[-2] > 1,
            scale=self.scale,
            enable_gqa=self.grouped,
        )


class DisentangledAttention(Attention):
    """Scores (q_i k_j + q_i p_ij + k_j r_ij) * scale, p and r made of the vector of the distance of i from j (DeBERTa, He et al.
    2021, eq. 4). Each term can be missing; `scale` is the model's."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        assert config.positions.disentangled is not None
        self.kind, width = config.positions.disentangled, config.n_heads * config.d_head
        has_own = not self.kind.shared
        self.position_key = self.position_query = None
        if has_own and self.kind.content_to_position:
            self.position_key = nn.Linear(config.d_model, width)
        if has_own and self.kind.position_to_content:
            self.position_query = nn.Linear(config.d_model, width)

    def with_distances(
        self, q_BHTK: Tensor, k_BGTK: Tensor, mask: Tensor | None, vectors_RD: Tensor, which_TS: Tensor
    ) -> Tensor | None:
        added_BHTS, index = None, which_TS.expand(*q_BHTK.shape[:2], *which_TS.shape)
        if self.kind.content_to_position:
            keys_1HRK = self._heads((self.position_key or self.key)(vectors_RD[None]))
            added_BHTS = (q_BHTK @ keys_1HRK.mT).gather(-1, index)
        if self.kind.position_to_content:
            queries_1HRK = self._heads((self.position_query or self.query)(vectors_RD[None]))
            of_keys_BHTS = (k_BGTK @ queries_1HRK.mT).gather(-1, index.mT).mT
            added_BHTS = of_keys_BHTS if added_BHTS is None else added_BHTS + of_keys_BHTS
        if added_BHTS is None:
            return mask
        added_BHTS = added_BHTS.float() * self.scale
        return added_BHTS if mask is None else added_BHTS.masked_fill(~mask, -torch.inf)


class CrossAttention(Attention):
    """Attention of a decoder's tokens to an encoded text (Vaswani et al. 2017, section 3.2.3)."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        self.causal = False
        self.pattern_dropout.site = 5

    def project(self, encoded_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of an encoded text, made once."""
        return self._heads(self.key(encoded_BSD)), self._heads(self.value(encoded_BSD))

    def forward(
        self, x_BTD: Tensor, encoder_kv: EncoderKV | SlotBatch, keys_B: Tensor | None = None, taps: Taps | None = None
    ) -> Tensor:
        """
        Args:
            x_BTD: normalised residual stream.
            encoder_kv: of a batch of texts, of which each may have several rows (beams), or of the texts whose tokens
                stand in one row.
            keys_B: what dropout is decided by.
            taps: those of this layer.
        """
        q_BHTK = self._heads(self.query(x_BTD))
        if isinstance(encoder_kv, SlotBatch):
            attend = self._attend if taps is None else partial(self._attend, taps=taps)
            return self._joined(encoder_kv.attend_to_source(self.layer, q_BHTK, attend), taps)
        mask = None if encoder_kv.present_BS is None else encoder_kv.present_BS[:, None, None]
        keys, values = encoder_kv.keys[self.layer], encoder_kv.values[self.layer]
        n_rows, n_texts = len(q_BHTK), len(keys)
        if n_rows > n_texts:  # beams of a text stand side by side: all their queries read its keys at once
            q_BHTK = q_BHTK.unflatten(0, (n_texts, -1)).transpose(1, 2).flatten(2, 3)
        y_BHTK = self._attend(q_BHTK, keys, values, mask, taps, keys_B)
        if n_rows > n_texts:
            y_BHTK = y_BHTK.unflatten(2, (n_rows // n_texts, -1)).transpose(1, 2).flatten(0, 1)
        return self._joined(y_BHTK, taps)


_WRITTEN_OUT_UP_TO = 1024
"""Tokens up to which training in bf16 on a CPU writes attention out; beyond, the fused kernel is as fast."""
WEIGHTS_KEPT_UP_TO = 256
"""Tokens up to which the (tokens x tokens) weights are kept for the backward pass: at 1,024 tokens and 9 heads they would
be half of all that a block keeps."""
_PART, _QUERIES = 2**20, 64
"""Attention weights and queries that are computed at once, where weights are not kept: they stay in a processor's cache, and
few keys are read that only some of the queries see."""


class _WrittenOutAttention(torch.autograd.Function):
    """Attention as three plain products, for training in bf16 on a CPU.

    There the fused kernel's backward pass is slow: at (batch 8, 4 heads, 128 tokens, d_head 32), forward + backward,
    fused bf16 1.2 + 6.8 ms, fused float32 1.0 + 2.5 ms, this 1.0 + 1.3 ms.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        scores = (q * scale) @ k.mT
        weights = (scores if mask is None else scores.masked_fill_(~mask, -torch.inf)).softmax(-1)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scale = scale
        return weights @ v

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, k, v, weights = ctx.saved_tensors
        grad_weights = grad_outputs[0] @ v.mT
        grad_scores = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, weights.dtype).mul_(ctx.scale)
        return grad_scores @ k, grad_scores.mT @ q, weights.mT @ grad_outputs[0], None, None


class _AttentionInParts(torch.autograd.Function):
    """Attention, some queries at a time; the weights are computed again for the backward pass, not kept.

    Where a mask is given, such as that of documents, a part is of one row, and reads the keys from the first to the last that
    one of its queries sees.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, is_causal: bool
    ) -> Tensor:
        y = torch.empty_like(q, memory_format=torch.contiguous_format)
        ctx.parts, ctx.scale = _parts(q, k, mask, is_causal), scale
        if mask is None and is_causal:
            mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
        mask = mask if mask is None else mask[(None,) * (4 - mask.dim())]
        for part in ctx.parts:
            rows, queries, keys = part
            _of_groups(y, k, rows, queries).copy_(_weights(q, k, mask, scale, part) @ v[rows, :, None, keys])
        ctx.save_for_backward(q, k, v, mask)
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        q, k, v, mask = ctx.saved_tensors
        grad_q = torch.empty_like(q, memory_format=torch.contiguous_format)
        precise = torch.promote_types(q.dtype, torch.float32)
        grad_k, grad_v = (torch.zeros_like(each, dtype=precise) for each in (k, v))
        for part in ctx.parts:
            rows, queries, keys = part
            weights, grad_y = _weights(q, k, mask, ctx.scale, part), _of_groups(grad_outputs[0], k, rows, queries)
            grad_weights = grad_y @ v[rows, :, None, keys].mT
            grad_scores = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            grad_scores.mul_(ctx.scale)
            _of_groups(grad_q, k, rows, queries).copy_(grad_scores @ k[rows, :, None, keys])
            grad_k[rows, :, keys] += grad_scores.flatten(2, 3).mT @ _of_groups(q, k, rows, queries).flatten(2, 3)
            grad_v[rows, :, keys] += weights.flatten(2, 3).mT @ grad_y.flatten(2, 3)
        return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), None, None, None


_Part = tuple[slice, slice, slice]
"""Rows, queries that are computed together, and the keys that they may see."""


def _parts(q: Tensor, k: Tensor, mask: Tensor | None, is_causal: bool) -> list[_Part]:
    n_rows, n_queries, n_keys = len(q), q.shape[2], k.shape[2]
    alike = mask is None or torch.compiler.is_compiling()  # what is compiled depends on no values
    length = max(1, _PART // (q.shape[1] * n_keys * (n_rows if alike else 1)))
    if not alike:
        length = min(length, _QUERIES)
    pieces = [slice(start, min(start + length, n_queries)) for start in range(0, n_queries, length)]
    if mask is None or alike:
        return [(slice(0, n_rows), piece, slice(0, piece.stop + n_keys - n_queries if is_causal else n_keys))
                for piece in pieces]  # fmt: skip
    found, mask = list[_Part](), mask[(None,) * (4 - mask.dim())]
    for row in range(n_rows):
        seen_TS = mask[row % len(mask), 0].expand(n_queries, n_keys)
        for piece in pieces:
            places = seen_TS[piece].any(0).nonzero()
            keys = slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, n_keys)
            found.append((slice(row, row + 1), piece, keys))
    return found


def _of_groups(x_BHTK: Tensor, k_BGSK: Tensor, rows: slice, queries: slice) -> Tensor:
    """Some of the rows and places, shape (rows, groups, heads of a group, queries, K)."""
    return x_BHTK[rows, :, queries].unflatten(1, (k_BGSK.shape[1], -1))


def _weights(q: Tensor, k: Tensor, mask: Tensor | None, scale: float, part: _Part) -> Tensor:
    rows, queries, keys = part
    scores_BGRTS = (_of_groups(q, k, rows, queries) * scale) @ k[rows, :, None, keys].mT
    if mask is not None:
        seen = mask if len(mask) == 1 else mask[rows]
        seen = seen[..., keys] if seen.shape[-2] == 1 else seen[..., queries, keys]
        scores_BGRTS.masked_fill_(~seen[:, :, None], -torch.inf)
    return scores_BGRTS.softmax(-1)


def visible_keys(
    n_queries: int,
    n_keys: int,
    window: int | None,
    present_BS: Tensor | None,
    device: torch.device,
    documents_BT: Tensor | None = None,
    causal: bool = True,
) -> Tensor | None:
    """Which keys each query may see, or None where plain causal attention (or, of an encoder, all) says it all.

    Args:
        n_queries: new tokens; they are the last of the `n_keys` tokens.
        window: sliding window in tokens, the query itself counted.
        present_BS: True for real tokens and False for padding, shape (batch, n_keys).
        documents_BT: a number per document in rows that hold several; without cached tokens.

    Returns:
        Boolean tensor that broadcasts to (batch, 1, n_queries, n_keys). A query always sees itself, padding included:
        a row without any key would be 0/0 and poison later layers.
    """
    if not causal:
        same = None if documents_BT is None else documents_BT[:, None, :, None] == documents_BT[:, None, None, :]
        if window is not None and n_keys > window:
            places = torch.arange(n_keys, device=device)
            near = (places[:, None] - places).abs() < window
            same = near if same is None else near & same
        present = None if present_BS is None else present_BS[:, None, None, :]
        both = present if same is None else same if present is None else same & present
        return None if both is None else both | torch.eye(n_keys, dtype=torch.bool, device=device)
    past = n_keys - n_queries
    cut_off = window if window is not None and n_keys > window else None
    if present_BS is None and cut_off is None and documents_BT is None and (past == 0 or n_queries == 1):
        return None
    query = torch.arange(past, n_keys, device=device)[:, None]
    key = torch.arange(n_keys, device=device)
    seen = key <= query
    if cut_off is not None:
        seen = seen & (key > query - cut_off)
    if documents_BT is not None:
        seen = seen & (documents_BT[:, None, :, None] == documents_BT[:, None, None, :])
    if present_BS is None:
        return seen
    return (seen & present_BS[:, None, None, :]) | (key == query)
