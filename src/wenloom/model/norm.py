"""The two normalisations of the Transformer."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wenloom.model.config import ModelConfig
from wenloom.model.parts import NormShape


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x²) + eps) * weight (Zhang & Sennrich 2019, eq. 4), over the last dimension.

    The mean square is taken in float32 whatever the dtype of `x`.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and _is_mixed(x) and x.device.type == "cpu" and not torch.compiler.is_compiling():
            return _KeptNorm.apply(x, self.weight, self.eps)  # pyright: ignore
        return F.rms_norm(x.float(), self.normalized_shape, self.weight.float(), self.eps).to(x.dtype)


class _KeptNorm(torch.autograd.Function):
    """RMSNorm that keeps what it reads for the backward pass in the dtype of products: half of the memory.

    With r = 1 / sqrt(mean(x²) + eps), n = x r, g = dL/dy: dL/dx = r (g w - n mean(g w n)), dL/dw = Σ g n.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        precise = x.to(torch.promote_types(x.dtype, torch.float32))
        scale = precise.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(x.to(torch.get_autocast_dtype("cpu")) if _is_mixed(x) else x, scale, weight)
        return (precise * scale).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, scale, weight = ctx.saved_tensors
        grad, normed = grad_outputs[0].to(scale.dtype), x * scale
        grad_weight = (grad * normed).flatten(0, -2).sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, grad_weight, None
        weighed = grad * weight
        mean = (weighed * normed).mean(-1, keepdim=True)
        grad_x = weighed.sub_(normed.mul_(mean)).mul_(scale)
        return grad_x.to(grad_outputs[0].dtype), grad_weight, None


def _is_mixed(x: Tensor) -> bool:
    return torch.is_autocast_enabled(x.device.type)


def in_autocast(x: Tensor) -> Tensor:
    """What linear layers read, in the dtype of their products: converted once, not by each of them, which each keep it."""
    return x.to(torch.get_autocast_dtype(x.device.type)) if _is_mixed(x) else x


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
