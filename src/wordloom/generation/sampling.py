"""From logits to a token. The order is fixed: temperature, top-k, top-p, draw."""

import torch
from torch import Tensor

from wordloom.generation.request import GenerationRequest


def keep_top_k(logits_BV: Tensor, k: int) -> Tensor:
    """All but the k largest logits of every row become -inf (Fan et al. 2018)."""
    lowest_kept = logits_BV.topk(min(k, logits_BV.shape[-1]), dim=-1).values[:, -1:]
    return logits_BV.masked_fill(logits_BV < lowest_kept, -torch.inf)


def keep_top_p(logits_BV: Tensor, p: float) -> Tensor:
    """Only the smallest set of tokens with total probability of at least p survives (Holtzman et al. 2020)."""
    ordered, order = logits_BV.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities  # the best token has nothing before it and always stays
    return torch.empty_like(logits_BV).scatter_(-1, order, ordered.masked_fill(before >= p, -torch.inf))


def processed(logits_BV: Tensor, request: GenerationRequest) -> Tensor:
    """The logits that are drawn from, float32."""
    logits_BV = logits_BV.float() / request.temperature
    if request.top_k is not None:
        logits_BV = keep_top_k(logits_BV, request.top_k)
    if request.top_p is not None and request.top_p < 1:
        logits_BV = keep_top_p(logits_BV, request.top_p)
    return logits_BV


def choose(logits_BV: Tensor, request: GenerationRequest, generators: list[torch.Generator]) -> Tensor:
    """One token per row, shape (B,).

    Args:
        generators: one per row, so that a row's draws do not depend on what else is in the batch.
    """
    if not request.do_sample:
        return logits_BV.argmax(-1)
    probabilities_BV = processed(logits_BV, request).softmax(-1).cpu()
    drawn = [torch.multinomial(row, 1, generator=each) for row, each in zip(probabilities_BV, generators, strict=True)]
    return torch.cat(drawn).to(logits_BV.device)
