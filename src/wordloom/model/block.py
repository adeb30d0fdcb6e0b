"""One Transformer block."""

from torch import Tensor, nn

from wordloom.model.attention import Attention
from wordloom.model.cache import KVCache, SlotBatch
from wordloom.model.config import ModelConfig
from wordloom.model.dropout import Dropout
from wordloom.model.feedforward import FeedForward
from wordloom.model.norm import make_norm


class Block(nn.Module):
    """Attention then feed-forward, each on the normalised stream and added to it (pre-norm)."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, layer)
        self.mlp_norm = make_norm(config)
        self.mlp = FeedForward(config)
        self.attention_dropout = Dropout(config.residual_dropout, site=1)
        self.mlp_dropout = Dropout(config.residual_dropout, site=2)
        self.parallel = config.parallel_residual

    def forward(
        self,
        x_BTD: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        cache: KVCache | SlotBatch | None,
        keys_B: Tensor | None = None,
    ) -> Tensor:
        heads_BTD = self.attention(self.attention_norm(x_BTD), rotary, mask, cache)
        after_attention = x_BTD + self.attention_dropout(heads_BTD, keys_B)
        mlp_input = x_BTD if self.parallel else after_attention
        return after_attention + self.mlp_dropout(self.mlp(self.mlp_norm(mlp_input)), keys_B)
