"""Causal self-attention with grouped queries, rotary positions and sliding windows."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wordloom.model.cache import KVCache
from wordloom.model.config import ModelConfig
from wordloom.model.norm import RMSNorm
from wordloom.model.position import rotate


class Attention(nn.Module):
    """softmax(Q Kᵀ * scale + mask) V, several heads at once (Vaswani et al. 2017, eq. 1 and section 3.2.2)."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.layer, self.d_head = layer, config.d_head
        self.scale, self.dropout = config.attention_scale(layer), config.attention_dropout
        self.grouped = config.n_kv_heads != config.n_heads
        d_query, d_kv = config.n_heads * config.d_head, config.n_kv_heads * config.d_head
        self.query = nn.Linear(config.d_model, d_query, bias=config.qkv_bias)
        self.key = nn.Linear(config.d_model, d_kv, bias=config.qkv_bias)
        self.value = nn.Linear(config.d_model, d_kv, bias=config.qkv_bias)
        self.output = nn.Linear(d_query, config.d_model, bias=config.attention_output_bias)
        self.query_norm = RMSNorm(config.d_head, eps=config.norm_eps) if config.qk_norm else None
        self.key_norm = RMSNorm(config.d_head, eps=config.norm_eps) if config.qk_norm else None

    def forward(
        self, x_BTD: Tensor, rotary: tuple[Tensor, Tensor] | None, mask: Tensor | None, cache: KVCache | None
    ) -> Tensor:
        """
        Args:
            x_BTD: normalised residual stream.
            rotary: cosines and sines of `position.rotary_table`, broadcastable to (B, H, T, d_rotary).
            mask: True where a query (row) may see a key (column), broadcastable to (B, H, T, all tokens);
                None is plain causal attention.
            cache: earlier keys and values, extended in place.
        """
        B, T, _ = x_BTD.shape
        q_BHTK = self.query(x_BTD).view(B, T, -1, self.d_head).transpose(1, 2)
        k_BGTK = self.key(x_BTD).view(B, T, -1, self.d_head).transpose(1, 2)
        v_BGTK = self.value(x_BTD).view(B, T, -1, self.d_head).transpose(1, 2)
        if self.query_norm is not None and self.key_norm is not None:
            q_BHTK, k_BGTK = self.query_norm(q_BHTK), self.key_norm(k_BGTK)
        if rotary is not None:
            q_BHTK, k_BGTK = rotate(q_BHTK, *rotary), rotate(k_BGTK, *rotary)
        if cache is not None:
            k_BGTK, v_BGTK = cache.append(self.layer, k_BGTK, v_BGTK)
        with _float32_on_cpu(q_BHTK):
            y_BHTK = F.scaled_dot_product_attention(
                q_BHTK,
                k_BGTK,
                v_BGTK.to(q_BHTK.dtype),
                attn_mask=mask,
                is_causal=mask is None and T > 1,
                dropout_p=self.dropout if self.training else 0.0,
                scale=self.scale,
                enable_gqa=self.grouped,
            )
        return self.output(y_BHTK.transpose(1, 2).reshape(B, T, -1))


def _float32_on_cpu(queries: Tensor) -> AbstractContextManager[object]:
    """Keep autocast from turning attention into bf16 on a CPU, where the fused kernel's backward pass is slow in it.

    Measured at (batch 8, 4 heads, 128 tokens, d_head 32), forward + backward: float32 1.0 + 2.5 ms, bf16 1.2 + 6.8 ms.
    """
    is_cpu = queries.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return torch.autocast("cpu", enabled=False) if is_cpu else nullcontext()


def visible_keys(
    n_queries: int, n_keys: int, window: int | None, present_BS: Tensor | None, device: torch.device
) -> Tensor | None:
    """Which keys each query may see, or None where plain causal attention says it all.

    Args:
        n_queries: new tokens; they are the last of the `n_keys` tokens.
        window: sliding window in tokens, the query itself counted.
        present_BS: True for real tokens and False for padding, shape (batch, n_keys).

    Returns:
        Boolean tensor of shape (n_queries, n_keys) or (batch, 1, n_queries, n_keys). A query always sees
        itself, padding included: a row without any key would be 0/0 and poison later layers.
    """
    past = n_keys - n_queries
    cut_off = window if window is not None and n_keys > window else None
    if present_BS is None and cut_off is None and (past == 0 or n_queries == 1):
        return None
    query = torch.arange(past, n_keys, device=device)[:, None]
    key = torch.arange(n_keys, device=device)
    seen = key <= query
    if cut_off is not None:
        seen = seen & (key > query - cut_off)
    if present_BS is None:
        return seen
    return (seen & present_BS[:, None, None, :]) | (key == query)
