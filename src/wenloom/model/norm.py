"""The two normalisations of the Transformer."""

from torch import Tensor, nn
from torch.nn import functional as F

from wenloom.model.config import ModelConfig
from wenloom.model.parts import NormShape


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x²) + eps) * weight (Zhang & Sennrich 2019, eq. 4), over the last dimension.

    The mean square is taken in float32 whatever the dtype of `x`.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.normalized_shape, self.weight.float(), self.eps).to(x.dtype)


def make_norm(norms: NormShape, width: int) -> nn.Module:
    """The normalisation that a model has, over vectors of a width."""
    if norms.kind == "rmsnorm":
        return RMSNorm(width, eps=norms.eps)
    return nn.LayerNorm(width, eps=norms.eps, bias=norms.bias)


def make_head_norm(config: ModelConfig, n_heads: int) -> RMSNorm | None:
    """The normalisation of queries or keys, where `config` asks for one: of every head, or of all heads at once."""
    if not config.attention.qk_norm:
        return None
    return RMSNorm(n_heads * config.d_head if config.attention.qk_norm_whole else config.d_head, eps=config.norms.eps)
