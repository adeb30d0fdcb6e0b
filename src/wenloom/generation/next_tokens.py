"""What the model expects next."""

from dataclasses import dataclass

import torch

from wenloom.model.decoder import Decoder


@dataclass(frozen=True)
class Candidate:
    """A possible next token."""

    token: int
    probability: float


@torch.inference_mode()
def most_probable(decoder: Decoder, prompt: list[int], count: int) -> list[Candidate]:
    """The most probable tokens after a prompt, best first, from the softmax over the whole vocabulary."""
    limit = decoder.config.context_length
    tokens = torch.tensor([prompt[-limit:]], device=next(decoder.parameters()).device)
    probabilities = decoder.unembed(decoder.hidden(tokens)[:, -1])[0].cpu().double().softmax(-1)
    top = probabilities.topk(min(count, len(probabilities)))
    return [Candidate(token, value) for value, token in zip(top.values.tolist(), top.indices.tolist(), strict=True)]
