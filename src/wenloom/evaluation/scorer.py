"""log P(text) behind one protocol, whatever computes it: a decoder by the chain rule, an encoder by masking, a decoder with
an encoder given its source.

Who reads log-probabilities asks a `Scorer` and knows no model.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from wenloom.core.errors import InputError
from wenloom.tokens.tokenizer import TextTokenizer

Advance = Callable[[int], None]
Span = tuple[int, int]
"""Where something begins in a text and where it ends, in characters."""


class TextInContext(NamedTuple):
    """A text and what is known before it is read."""

    context: str
    """What stands before it; of a scorer of pairs, the source."""
    text: str
    is_whole: bool = False
    """Score what ends a text too, where the tokenizer has that."""


class ContinuationScore(NamedTuple):
    """What a model makes of a text in its context."""

    token_ids: list[int]
    """The tokens that were scored, in order."""
    log_probabilities: list[float]
    """log P of each, nats."""
    log_probability: float
    """Their sum; 0 of a text without tokens."""
    is_greedy: bool
    """Whether each token was the most probable one."""
    cut_off: int
    """Tokens of the context that did not fit."""
    n_bytes: int
    """UTF-8 bytes of the text, less those of a first token that nothing stands before, which is not scored."""
    n_characters: int
    """Characters of the same."""
    spans: Sequence[Span] = ()
    """Characters of the text that each scored token holds."""
    begin: int = 0
    """Character of the text at which what is scored begins."""


@dataclass(frozen=True)
class Windows:
    """How a text longer than the context is read."""

    stride: int | None = None
    """Tokens that each further window scores, from 1 (most context, slowest) to the context; default: half of it."""
    bos: bool = True
    """Let the text follow the BOS token, so that its first token is scored too."""
    context: int | None = None
    """Context length in tokens; default: all that the model takes."""
    kind: Literal["rolling", "blocks"] = "rolling"
    """See `options.Convention.windows`."""


@dataclass(frozen=True)
class Score:
    """What a model makes of one text."""

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
    begins: list[int] = field(repr=False)
    """The character at which each scored token begins."""

    @property
    def log_probability(self) -> float:
        """log P(text) = Σ log P(x_i | x_<i), nats."""
        return math.fsum(self.log_probabilities)

    @property
    def perplexity(self) -> float:
        """exp(-log P / tokens): the number of equally likely tokens the model wavers between."""
        return bounded_exp(-self.log_probability / len(self.log_probabilities))

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


def bounded_exp(nats: float) -> float:
    """exp, as far as float64 reaches."""
    return math.exp(min(nats, 700))


class Scorer(Protocol):
    """What gives texts log-probabilities."""

    @property
    def kind(self) -> Literal["causal", "masked", "pairs"]:
        """What log P means: of each token from those before it, from all others, or from those before and a source."""
        ...

    @property
    def tokenizer(self) -> TextTokenizer: ...

    @property
    def dtype(self) -> str:
        """Number type of the weights, for signatures."""
        ...

    @property
    def takes_texts(self) -> bool:
        """Whether `text` can be asked."""
        ...

    def n_tokens(self, text: str) -> int | None:
        """About how many tokens a text has, for progress; None where only a server knows."""
        ...

    def opens(self, is_empty: bool) -> bool:
        """Whether something stands before a context, so that its first token can be scored.

        Args:
            is_empty: of an empty context.
        """
        ...

    def continuations(
        self, groups: Sequence[Sequence[TextInContext]], on_rows: Advance = lambda n: None
    ) -> list[list[ContinuationScore]]:
        """Score many texts in their contexts, in batches; those of one group should begin alike, which is then read once.

        Args:
            on_rows: told how many texts were scored.

        Returns:
            Per group, the scores of its texts in order.
        """
        ...

    def text(self, text: str, windows: Windows | None = None, on_tokens: Advance = lambda n: None) -> Score:
        """Score a text of any length by itself.

        Args:
            on_tokens: told how many tokens each window scored.

        Raises:
            InputError: an empty text; windows that do not fit; a scorer of pairs.
        """
        ...


def kind_field(scorer: Scorer) -> dict[str, str]:
    """What a signature says of figures whose log P is no chain rule: they compare among themselves only."""
    return {} if scorer.kind == "causal" else {"scores": scorer.kind}


def counted(
    each: TextInContext, token_ids: list[int], logs: list[float], total: float, is_greedy: bool, cut_off: int,
    spans: Sequence[Span] = (), begin: int = 0,
) -> ContinuationScore:  # fmt: skip
    """A score with the measures of its text."""
    scored = each.text[begin:]
    return ContinuationScore(
        token_ids, logs, total, is_greedy, cut_off, len(scored.encode()), len(scored), spans, begin
    )


def no_windows(windows: Windows | None, why: str) -> None:
    """
    Raises:
        InputError: a stride, a context or no BOS was asked for.
    """
    if windows not in (None, Windows()):
        raise InputError(f"--stride, --context and --no-bos are for models that read from left to right; {why}.")
