"""What is minimised: the negative log-probability of the next token, and its measures."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from wordloom.model.decoder import Decoder
from wordloom.tokens.shards import Split, TokenStream

IGNORED = -100
"""A target that does not count: padding, or what the model is not to learn."""


def causal_loss(decoder: Decoder, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
    """-Σ log P(target | inputs up to it) in nats, summed over all targets that count.

    A sum, not a mean: the caller divides by the number of valid tokens of the whole optimizer step, so that
    splitting a batch changes nothing (a mean per part would weigh parts of unequal size wrongly).
    """
    logits_NV = decoder(inputs_BT).flatten(0, 1).float()
    return F.cross_entropy(logits_NV, targets_BT.flatten(), ignore_index=IGNORED, reduction="sum")


@dataclass(frozen=True)
class Loss:
    """A total over a text, and the figures it gives."""

    nats: float
    """-log P of all tokens."""
    tokens: int
    bytes: int
    """UTF-8 bytes of the text."""
    characters: int

    @property
    def nats_per_token(self) -> float:
        """Comparable only between models with one tokenizer."""
        return self.nats / max(1, self.tokens)

    @property
    def bits_per_byte(self) -> float:
        """log2 units per UTF-8 byte: comparable between tokenizers."""
        return self.nats / math.log(2) / max(1, self.bytes)

    @property
    def nats_per_character(self) -> float:
        """Comparable between tokenizers; the unit of character-level results."""
        return self.nats / max(1, self.characters)

    def figures(self) -> dict[str, float]:
        """All three, for logs."""
        return {
            "nats_per_token": self.nats_per_token,
            "bits_per_byte": self.bits_per_byte,
            "nats_per_character": self.nats_per_character,
        }


@torch.inference_mode()
def evaluate(
    decoder: Decoder,
    stream: TokenStream,
    split: Split,
    context_length: int,
    batch_tokens: int = 2048,
    device: str = "cpu",
    on_tokens: Callable[[int], None] = lambda n: None,
) -> Loss:
    """The loss over a whole split: consecutive windows, every token but the first predicted exactly once.

    Tokens that close documents are predicted and counted in the nats but not in bytes and characters, so
    the figures err on the high side by a separator a document.
    """
    n_targets = len(stream) - 1
    rows = max(1, batch_tokens // context_length)
    nats = 0.0
    for start in range(0, n_targets, rows * context_length):
        count = min(rows * context_length, n_targets - start)
        tokens = torch.from_numpy(stream.window(start, count + 1)).to(device)
        whole = count // context_length * context_length
        for begin, end in ((0, whole), (whole, count)):  # full windows together, the last short one alone
            if begin == end:
                continue
            width = min(context_length, end - begin)
            inputs, targets = tokens[begin:end].view(-1, width), tokens[begin + 1 : end + 1].view(-1, width)
            nats += causal_loss(decoder, inputs, targets).item()
        on_tokens(count)
    return Loss(nats, n_targets, split.bytes, split.characters)
