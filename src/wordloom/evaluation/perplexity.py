"""The log-probability of a text by the chain rule, and the figures it gives."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from wordloom.core.errors import InputError
from wordloom.model.decoder import Decoder
from wordloom.tokens.tokenizer import TextTokenizer


@dataclass(frozen=True)
class Score:
    """What a model makes of a text."""

    text: str
    token_ids: list[int]
    """The tokens that were scored, in order."""
    log_probabilities: list[float]
    """log P(token | tokens before it), natural logarithm, one per scored token."""
    scored_bytes: int
    """UTF-8 bytes of the scored tokens."""
    context_length: int
    """Tokens seen at once."""
    stride: int
    """Tokens that each further window scores; the rest of the window is context."""
    bos: bool
    """Whether the first token was scored too, as what follows the BOS token."""

    @property
    def log_probability(self) -> float:
        """log P(text) = Σ log P(x_i | x_<i), nats."""
        return math.fsum(self.log_probabilities)

    @property
    def perplexity(self) -> float:
        """exp(-log P / tokens): the number of equally likely tokens the model wavers between."""
        return math.exp(min(-self.log_probability / len(self.log_probabilities), 700))

    @property
    def bits_per_byte(self) -> float:
        """-log2 P per UTF-8 byte: comparable between tokenizers."""
        return -self.log_probability / math.log(2) / self.scored_bytes

    def figures(self) -> dict[str, object]:
        """The totals, for logs and machines."""
        return {
            "log_probability": self.log_probability,
            "tokens": len(self.log_probabilities),
            "bytes": self.scored_bytes,
            "nats_per_token": -self.log_probability / len(self.log_probabilities),
            "perplexity": self.perplexity,
            "bits_per_byte": self.bits_per_byte,
            "context_length": self.context_length,
            "stride": self.stride,
            "bos": self.bos,
        }


def score(
    decoder: Decoder,
    tokenizer: TextTokenizer,
    text: str,
    stride: int | None = None,
    bos: bool = True,
    on_tokens: Callable[[int], None] = lambda n: None,
) -> Score:
    """Score a text.

    A text longer than the context is read in windows that overlap: the first scores all its tokens, each
    further one moves on by `stride` tokens and scores only those, with at least context - stride tokens
    before them.

    Args:
        decoder: in evaluation mode.
        stride: from 1 (most context, slowest) to the context length; default: half the context.
        bos: let the text follow the BOS token, so that its first token is scored too. Without it, or where
            the tokenizer has none, the first token only serves as context.
        on_tokens: told how many tokens each window scored.

    Raises:
        InputError: an empty text, a stride that does not fit, or a single token without BOS.
    """
    limit = decoder.config.context_length
    stride = max(1, limit // 2) if stride is None else stride
    if not 1 <= stride <= limit:
        raise InputError(f"--stride {stride}: must be between 1 and the context length ({limit}).")
    bos = bos and tokenizer.bos_token_id is not None
    encoding = tokenizer.backend.encode(text, add_special_tokens=False)
    tokens = [tokenizer.bos_token_id, *encoding.ids] if bos else encoding.ids
    if len(tokens) < 2:
        raise InputError(
            "the text is empty."
            if not text
            else "a single token without a BOS token has nothing before it to be scored by."
        )
    unscored = 0 if bos else len(text[: encoding.offsets[0][1]].encode())
    device = next(decoder.parameters()).device
    stream = torch.tensor(tokens)
    found: list[float] = []
    with torch.inference_mode():
        while len(found) < len(tokens) - 1:
            done = len(found)
            end = min(len(tokens) - 1, done + (limit if done == 0 else stride))  # scored: targets done+1 .. end
            begin = max(0, end - limit)
            logits_TV = decoder(stream[None, begin:end].to(device))[0, done - begin :].cpu().double()
            targets = stream[done + 1 : end + 1]
            picked = logits_TV.gather(1, targets[:, None])[:, 0] - logits_TV.logsumexp(-1)
            found += picked.tolist()
            on_tokens(end - done)
    return Score(text, tokens[1:], found, len(text.encode()) - unscored, limit, stride, bos)
