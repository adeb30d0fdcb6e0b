"""One Transformer block."""

from torch import Tensor, nn

from wenloom.model.attention import Attention, CrossAttention
from wenloom.model.cache import EncoderKV, KVCache, SlotBatch
from wenloom.model.config import ModelConfig
from wenloom.model.dropout import Dropout
from wenloom.model.feedforward import FeedForward
from wenloom.model.norm import make_norm
from wenloom.model.taps import Taps, tapped, within


class Block(nn.Module):
    """Attention, in a decoder with an encoder attention to its text, then feed-forward: each added to the stream.

    Each reads the normalised stream (pre-norm), or the sum is normalised (post-norm).
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, layer)
        self.mlp_norm = make_norm(config)
        self.mlp = FeedForward(config)
        self.attention_dropout = Dropout(config.residual_dropout, site=1)
        self.mlp_dropout = Dropout(config.residual_dropout, site=2)
        self.parallel, self.post_norm = config.parallel_residual, config.post_norm
        if config.encoder is not None:
            self.cross_norm = make_norm(config)
            self.cross = CrossAttention(config, layer)
            self.cross_dropout = Dropout(config.residual_dropout, site=3)

    def forward(
        self,
        x_BTD: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        cache: KVCache | SlotBatch | None,
        keys_B: Tensor | None = None,
        encoder_kv: EncoderKV | SlotBatch | None = None,
        taps: Taps | None = None,
    ) -> Tensor:
        """
        Args:
            keys_B: what dropout is decided by.
            encoder_kv: the encoded texts, in a decoder that has an encoder.
            taps: those of this block.
            others: as in `Attention`.
        """
        x_BTD = tapped(taps, "resid_pre", x_BTD)
        if self.post_norm:
            attended = self.attention(x_BTD, rotary, mask, cache, keys_B, within(taps, "attention"))
            mid_BTD = self.attention_norm(x_BTD + self.attention_dropout(attended, keys_B))
            if encoder_kv is not None:
                attended = self.cross(mid_BTD, encoder_kv, keys_B, within(taps, "cross"))
                mid_BTD = self.cross_norm(mid_BTD + self.cross_dropout(attended, keys_B))
            mid_BTD = tapped(taps, "resid_mid", mid_BTD)
            mlp_out = self.mlp(mid_BTD, within(taps, "mlp"))
            return tapped(taps, "resid_post", self.mlp_norm(mid_BTD + self.mlp_dropout(mlp_out, keys_B)))
        attended = self.attention(self.attention_norm(x_BTD), rotary, mask, cache, keys_B, within(taps, "attention"))
        mid_BTD = x_BTD + self.attention_dropout(attended, keys_B)
        if encoder_kv is not None:
            attended = self.cross(self.cross_norm(mid_BTD), encoder_kv, keys_B, within(taps, "cross"))
            mid_BTD = mid_BTD + self.cross_dropout(attended, keys_B)
        mid_BTD = tapped(taps, "resid_mid", mid_BTD)
        mlp_out = self.mlp(self.mlp_norm(x_BTD if self.parallel else mid_BTD), within(taps, "mlp"))
        return tapped(taps, "resid_post", mid_BTD + self.mlp_dropout(mlp_out, keys_B))
