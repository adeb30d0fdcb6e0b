"""What the model expects next."""

from dataclasses import dataclass

import torch

from wenloom.core.errors import InputError
from wenloom.model.decoder import Decoder
from wenloom.runtime.window import view_of


@dataclass(frozen=True)
class Candidate:
    """A possible next token."""

    token: int
    probability: float


@torch.inference_mode()
def most_probable(decoder: Decoder, prompt: list[int], count: int) -> list[Candidate]:
    """The most probable tokens after a prompt, best first, from the softmax over the whole vocabulary.

    Of a prompt longer than the context, the part that `Engine` would see.

    Raises:
        InputError: fewer than one are asked for.
    """
    if count < 1:
        raise InputError(f"count must be at least 1, got {count}.")
    visible = prompt[view_of(decoder.config, len(prompt)).first :]
    tokens = torch.tensor([visible], device=next(decoder.parameters()).device)
    probabilities = decoder.unembed(decoder.hidden(tokens)[:, -1])[0].cpu().double().softmax(-1)
    top = probabilities.topk(min(count, len(probabilities)))
    return [Candidate(token, value) for value, token in zip(top.values.tolist(), top.indices.tolist(), strict=True)]
