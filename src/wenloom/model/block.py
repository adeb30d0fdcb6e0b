"""One Transformer block."""

from torch import Tensor, nn

from wenloom.model.attention import Attention, CrossAttention
from wenloom.model.cache import KVCache, Memory, SlotBatch
from wenloom.model.config import ModelConfig
from wenloom.model.dropout import Dropout
from wenloom.model.feedforward import FeedForward
from wenloom.model.norm import make_norm


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
        memory: Memory | SlotBatch | None = None,
    ) -> Tensor:
        """
        Args:
            keys_B: what dropout is decided by.
            memory: the encoded texts, in a decoder that has an encoder.
            others: as in `Attention`.
        """
        if self.post_norm:
            x_BTD = self.attention_norm(
                x_BTD + self.attention_dropout(self.attention(x_BTD, rotary, mask, cache), keys_B)
            )
            if memory is not None:
                x_BTD = self.cross_norm(x_BTD + self.cross_dropout(self.cross.look(x_BTD, memory), keys_B))
            return self.mlp_norm(x_BTD + self.mlp_dropout(self.mlp(x_BTD), keys_B))
        heads_BTD = self.attention(self.attention_norm(x_BTD), rotary, mask, cache)
        after_attention = x_BTD + self.attention_dropout(heads_BTD, keys_B)
        if memory is not None:
            looked_BTD = self.cross.look(self.cross_norm(after_attention), memory)
            after_attention = after_attention + self.cross_dropout(looked_BTD, keys_B)
        mlp_input = x_BTD if self.parallel else after_attention
        return after_attention + self.mlp_dropout(self.mlp(self.mlp_norm(mlp_input)), keys_B)
