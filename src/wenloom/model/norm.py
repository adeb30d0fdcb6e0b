"""The two normalisations of the Transformer."""

from torch import Tensor, nn
from torch.nn import functional as F

from wenloom.model.config import ModelConfig


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x²) + eps) * weight (Zhang & Sennrich 2019, eq. 4), over the last dimension.

    The mean square is taken in float32 whatever the dtype of `x`.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.normalized_shape, self.weight.float(), self.eps).to(x.dtype)


def make_norm(config: ModelConfig, width: int | None = None) -> nn.Module:
    """The normalisation that `config` asks for, over the residual stream, or over vectors of another width."""
    width = width or config.d_model
    if config.norm == "rmsnorm":
        return RMSNorm(width, eps=config.norm_eps)
    return nn.LayerNorm(width, eps=config.norm_eps, bias=config.norm_bias)


def make_head_norm(config: ModelConfig, n_heads: int) -> RMSNorm | None:
    """The normalisation of queries or keys, where `config` asks for one: of every head, or of all heads at once."""
    width = n_heads * config.d_head if config.qk_norm_whole else config.d_head
    return RMSNorm(width, eps=config.norm_eps) if config.qk_norm else None
