"""One Transformer block."""

from functools import partial

from torch import Tensor, nn

from wenloom.model.attention import Attention, CrossAttention, DisentangledAttention
from wenloom.model.cache import EncoderKV, KVCache, SlotBatch
from wenloom.model.config import ModelConfig
from wenloom.model.dropout import Dropout
from wenloom.model.experts import make_feed_forward
from wenloom.model.norm import make_norm
from wenloom.model.taps import Taps, tapped, within


class Block(nn.Module):
    """Attention, in a decoder with an encoder attention to its text, then feed-forward: each added to the stream.

    Each reads the normalised stream (pre-norm), or what it adds is normalised, or both, or the sum is (post-norm).
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        norms, residual, dropout = config.norms, config.residual, config.dropout.residual
        norm = partial(make_norm, norms, config.d_model)
        self.parallel, self.post_norm, self.multiplier = residual.parallel, norms.place == "post", residual.multiplier
        has_norm, norms_out = norms.place != "inner", norms.place in ("inner", "both")
        self.attention_norm = norm() if has_norm and (norms.first or layer) else nn.Identity()
        self.attention = (Attention if config.positions.disentangled is None else DisentangledAttention)(config, layer)
        self.attention_out_norm = norm() if norms_out else None
        self.mlp_norm = None if residual.shared_norm else norm() if has_norm else nn.Identity()
        self.mlp = make_feed_forward(config, layer)
        self.mlp_out_norm = norm() if norms_out else None
        self.attention_dropout, self.mlp_dropout = Dropout(dropout, site=1), Dropout(dropout, site=2)
        if config.encoder is not None:
            self.cross_norm = norm()
            self.cross = CrossAttention(config, layer)
            self.cross_dropout = Dropout(dropout, site=3)

    def forward(
        self,
        x_BTD: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        cache: KVCache | SlotBatch | None,
        keys_B: Tensor | None = None,
        encoder_kv: EncoderKV | SlotBatch | None = None,
        taps: Taps | None = None,
        distances: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """
        Args:
            keys_B: what dropout is decided by.
            encoder_kv: the encoded texts, in a decoder that has an encoder.
            taps: those of this block.
            distances: what `DistanceVectors` gives, where attention reads it.
            others: as in `Attention`.
        """
        x_BTD = tapped(taps, "resid_pre", x_BTD)
        read_BTD = x_BTD if self.post_norm else self.attention_norm(x_BTD)
        attended = self.attention(read_BTD, rotary, mask, cache, keys_B, within(taps, "attention"), distances)
        attended = self._added(attended, self.attention_out_norm, within(taps, "attention"))
        mid_BTD = x_BTD + self.attention_dropout(attended, keys_B)
        if self.post_norm:
            mid_BTD = self.attention_norm(mid_BTD)
        if encoder_kv is not None:
            read_BTD = mid_BTD if self.post_norm else self.cross_norm(mid_BTD)
            attended = self.cross(read_BTD, encoder_kv, keys_B, within(taps, "cross"))
            mid_BTD = mid_BTD + self.cross_dropout(self._added(attended, None, within(taps, "cross")), keys_B)
            if self.post_norm:
                mid_BTD = self.cross_norm(mid_BTD)
        mid_BTD = tapped(taps, "resid_mid", mid_BTD)
        if self.mlp_norm is not None:
            read_BTD = mid_BTD if self.post_norm else self.mlp_norm(x_BTD if self.parallel else mid_BTD)
        mlp_taps = within(taps, "mlp")
        mlp_out = self._added(self.mlp(tapped(mlp_taps, "in", read_BTD), mlp_taps), self.mlp_out_norm, mlp_taps)
        out_BTD = mid_BTD + self.mlp_dropout(mlp_out, keys_B)
        if self.post_norm and self.mlp_norm is not None:
            out_BTD = self.mlp_norm(out_BTD)
        return tapped(taps, "resid_post", out_BTD)

    def _added(self, out_BTD: Tensor, norm: nn.Module | None, taps: Taps | None) -> Tensor:
        """What a sub-layer adds to the stream."""
        if norm is not None:
            out_BTD = norm(out_BTD)
        return tapped(taps, "out", out_BTD if self.multiplier == 1 else out_BTD * self.multiplier)
