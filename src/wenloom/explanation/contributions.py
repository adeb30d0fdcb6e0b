"""Direct logit attribution: what the embedding, each head and each feed-forward layer adds to a logit (Elhage et al. 2021).

The residual stream is a sum: the embedding, what every head has gathered times its part of the output matrix, and what every
feed-forward layer adds. A normalisation is linear once its divisor is fixed at what it was: of every part its mean is taken
away (LayerNorm) and it is divided by the deviation of the whole. So the parts of the stream are carried to the logits, and add up
to them exactly.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wenloom.core.errors import InputError
from wenloom.explanation.trace import Trace
from wenloom.model.block import Block
from wenloom.model.decoder import Decoder
from wenloom.model.encoder import Encoder
from wenloom.model.norm import RMSNorm

BIASES = "biases"
"""The part of what no text decides: biases of norms, of attention's output, and of the logits."""


@dataclass(frozen=True)
class StreamParts:
    """What the normalised last residual stream of one token is the sum of."""

    names: list[str]
    """`embed`, `blocks.0.attention.3` (a head), `blocks.0.cross.3`, `blocks.0.mlp`, ..., `biases`."""
    vectors: Tensor
    """Shape (parts, D), float64."""


@torch.no_grad()
def stream_parts(trace: Trace, position: int = -1) -> StreamParts:
    """The parts of one token's stream; their sum is `final_norm` of that token.

    Args:
        position: of the token whose logits are looked at (of the decoder's, where there are two stacks).
    """
    stack, prefix = trace.subject.stack, trace.subject.prefix
    found: dict[str, Tensor] = {"embed": trace[f"{prefix}embed"][0, position].double()}
    found[BIASES] = torch.zeros_like(found["embed"])
    for layer, block in enumerate(stack.layers):
        name = f"blocks.{layer}"
        _add_heads(found, trace, f"{name}.attention", block.attention.output, block, position, block.attention_out_norm)
        if block.post_norm:
            _carry(found, block.attention_norm)
        if stack.config.encoder is not None:
            _add_heads(found, trace, f"{name}.cross", block.cross.output, block, position)
            if block.post_norm:
                _carry(found, block.cross_norm)
        found[f"{name}.mlp"] = trace[f"{prefix}{name}.mlp.out"][0, position].double()
        if block.post_norm and block.mlp_norm is not None:
            _carry(found, block.mlp_norm)
    if stack.config.norms.final:
        _carry(found, stack.final_norm)
    found[BIASES] = found.pop(BIASES)  # comes last
    return StreamParts(list(found), torch.stack(list(found.values())))


def _add_heads(
    found: dict[str, Tensor],
    trace: Trace,
    name: str,
    output: nn.Module,
    block: Block,
    position: int,
    norm: nn.Module | None = None,
) -> None:
    """What each head adds: the output layer of its part alone. The layer is asked as it is, quantized or adapted.

    Args:
        norm: of what the layer gives, before it is added.
    """
    gathered_HK = trace[f"{trace.subject.prefix}{name}.heads"][0, :, position]
    H = len(gathered_HK)
    rows = torch.zeros(H + 1, *gathered_HK.shape, dtype=gathered_HK.dtype, device=gathered_HK.device)
    rows[range(H), range(H)] = gathered_HK
    *each, bias = output(rows.flatten(1)).double()
    added = {f"{name}.{head}": x - bias for head, x in enumerate(each)} | {BIASES: bias}
    if norm is not None:
        _carry(added, norm)
    added = {part: x * block.multiplier for part, x in added.items()}
    found[BIASES] = found[BIASES] + added.pop(BIASES)
    found.update(added)


def _carry(found: dict[str, Tensor], norm: nn.Module) -> None:
    """All parts through a norm whose divisor is that of their sum."""
    assert isinstance(norm, RMSNorm | nn.LayerNorm)
    whole, weight = torch.stack(list(found.values())).sum(0), norm.weight.double()
    if isinstance(norm, RMSNorm):
        assert norm.eps is not None
        scale = (whole.square().mean() + norm.eps).rsqrt() * weight
        found.update({name: x * scale for name, x in found.items()})
        return
    scale = (whole.var(correction=0) + norm.eps).rsqrt() * weight
    found.update({name: (x - x.mean()) * scale for name, x in found.items()})
    if norm.bias is not None:
        found[BIASES] = found[BIASES] + norm.bias.double()


@dataclass(frozen=True)
class Contributions:
    """What each part adds to a logit, or to the difference of two."""

    names: list[str]
    """As in `StreamParts`."""
    values: list[float]
    total: float
    """Their sum: the logit of the target (minus that of the other) as the parts give it."""
    logit: float
    """The same as the model gives it."""


@torch.no_grad()
def contributions(trace: Trace, target: int, against: int | None = None, position: int = -1) -> Contributions:
    """What each part of the stream adds to the logit of a token after `position`.

    Without another token to compare with, much of a logit is what all tokens have in common, which changes no probability.

    Args:
        target, against: tokens.

    Raises:
        InputError: a model without logits of tokens, or one with a non-linear layer between stream and logits (BERT's
            head, Gemma 2's bound), through which parts have no sum.
    """
    subject, stack = trace.subject, trace.subject.stack
    is_bounded = stack.config.logits.cap is not None
    if subject.predicts == "nothing" or subject.classifier is not None or isinstance(stack, Encoder) or is_bounded:
        raise InputError(
            "direct logit attribution needs a linear way from the stream to the logits of tokens: a decoder has it, the "
            "head of this model has not."
        )
    assert isinstance(stack, Decoder)
    parts = stream_parts(trace, position)
    direction, logit = stack.output_weight[target].double(), trace.logits[0, position, target].double()
    bias = torch.zeros(()) if stack.output_bias is None else stack.output_bias[target]
    if against is not None:
        direction = direction - stack.output_weight[against].double()
        logit = logit - trace.logits[0, position, against].double()
        bias = torch.zeros(()) if stack.output_bias is None else bias - stack.output_bias[against]
    values = stack.transformed(parts.vectors) @ direction
    values[parts.names.index(BIASES)] += bias.double()
    return Contributions(parts.names, values.tolist(), float(values.sum()), float(logit))
