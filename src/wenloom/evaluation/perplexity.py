"""The log-probability of a text by the chain rule, and the figures it gives.

The same model on the same text has been published with perplexities from 21 to 48: it depends on how the text is cut,
what stands before each token, and by what is divided. A `Convention` names these choices and a signature records them.
"""

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch

from wenloom.core.errors import InputError
from wenloom.evaluation.options import Convention
from wenloom.evaluation.scorer import Score, Scorer, Windows, bounded_exp, kind_field
from wenloom.evaluation.signature import Signature
from wenloom.model.decoder import Decoder
from wenloom.tokens.tokenizer import TextTokenizer


class Window(NamedTuple):
    """Tokens begin .. end - 1 are read; targets first .. last are scored."""

    begin: int
    end: int
    first: int
    last: int


def windows(n_tokens: int, limit: int, stride: int, kind: str) -> Iterator[Window]:
    """How a text longer than the context is read.

    >>> [*windows(8, 4, 2, "rolling")]
    [Window(begin=0, end=4, first=1, last=4), Window(begin=2, end=6, first=5, last=6), Window(begin=3, end=7, first=7, last=7)]
    >>> [*windows(8, 4, 4, "blocks")]
    [Window(begin=0, end=3, first=1, last=3), Window(begin=4, end=7, first=5, last=7)]
    """
    done = 0 if kind == "rolling" else 1
    begin = 0
    while kind == "rolling" and done < n_tokens - 1:
        last = min(n_tokens - 1, done + (limit if done == 0 else stride))
        yield Window(max(0, last - limit), last, done + 1, last)
        done = last
    while kind == "blocks" and done < n_tokens:
        end = min(begin + limit, n_tokens)
        if (first := max(done, begin + 1)) < end:
            yield Window(begin, end - 1, first, end - 1)
        done, begin = end, begin + stride


def score(
    decoder: Decoder,
    tokenizer: TextTokenizer,
    text: str,
    stride: int | None = None,
    bos: bool = True,
    on_tokens: Callable[[int], None] = lambda n: None,
    context: int | None = None,
    kind: Literal["rolling", "blocks"] = "rolling",
) -> Score:
    """Score a text, in windows that overlap where it is longer than the context.

    Args:
        decoder: in evaluation mode.
        stride: from 1 (most context, slowest) to the context length; default: half the context.
        bos: let the text follow the BOS token, so that its first token is scored too. Without it, or where
            the tokenizer has none, the first token only serves as context.
        on_tokens: told how many tokens each window scored.
        context: tokens seen at once, at most the model's context length (the default).
        kind: see `Convention.windows`.

    Raises:
        InputError: an empty text, a context or stride that does not fit, or a single token without BOS.
    """
    most = decoder.config.context_length
    limit = most if context is None else context
    if not 2 <= limit <= most:
        raise InputError(f"--context {limit}: must be between 2 and the model's context length ({most}).")
    stride = max(1, limit // 2) if stride is None else stride
    if not 1 <= stride <= limit:
        raise InputError(f"--stride {stride}: must be between 1 and the context length ({limit}).")
    bos = bos and tokenizer.bos_token_id is not None
    encoding = tokenizer.encoding(text, add_special_tokens=False)
    tokens = [tokenizer.bos_token_id, *encoding.ids] if bos else encoding.ids
    if len(tokens) < 2:
        raise InputError(
            "the text is empty."
            if not text
            else "a single token without a BOS token has nothing before it to be scored by."
        )
    device = next(decoder.parameters()).device
    stream = torch.tensor(tokens)
    scored: list[int] = []
    found: list[float] = []
    with torch.inference_mode():
        for begin, end, first, last in windows(len(tokens), limit, stride, kind):
            logits_TV = decoder(stream[None, begin:end].to(device))[0, first - 1 - begin :].cpu().double()
            targets = stream[first : last + 1]
            picked = logits_TV.gather(1, targets[:, None])[:, 0] - logits_TV.logsumexp(-1)
            found += picked.tolist()
            scored += range(first, last + 1)
            on_tokens(last + 1 - first)
    left_out = sorted(set(range(bos, len(tokens))) - set(scored))
    offsets = encoding.offsets  # a new list at every access
    unscored = sum(len(text[slice(*offsets[place - bos])].encode()) for place in left_out)
    ids = [tokens[place] for place in scored]
    begins = [offsets[place - bos][0] for place in scored]
    return Score(text, ids, found, len(text.encode()) - unscored, limit, stride, bos, begins)


def pieces(tokenizer: TextTokenizer, result: Score) -> list[tuple[str, float]]:
    """The scored text cut into pieces that can be shown, each with its surprise in bits; tokens that hold only a part of
    a character are joined until it is whole."""
    found: list[tuple[str, float]] = []
    waiting, bits = [], 0.0
    for token, value in zip(result.token_ids, result.log_probabilities, strict=True):
        waiting.append(token)
        bits -= value / math.log(2)
        text = tokenizer.decode(waiting)
        if not text.endswith("\ufffd") or len(waiting) >= 4:
            found.append((text, bits))
            waiting, bits = [], 0.0
    return [*found, (tokenizer.decode(waiting), bits)] if waiting else found


@dataclass(frozen=True)
class Perplexity:
    """A model's figures on some data, by a convention."""

    scores: list[Score] = field(repr=False)
    """One per text."""
    words: int
    """Words by white space; bytes and characters likewise, by the convention's denominator."""
    bytes: int
    characters: int
    signature: Signature

    @property
    def log_probability(self) -> float:
        """Of all texts together, nats."""
        return math.fsum(each.log_probability for each in self.scores)

    @property
    def tokens(self) -> int:
        """Tokens that were scored."""
        return sum(len(each.log_probabilities) for each in self.scores)

    def bits_by_stretch(self, most: int = 200) -> np.ndarray:
        """Bits per byte that each of some stretches of equally many characters adds, their mean being that of all.

        They depend on the texts alone, so that two models are compared on the same ones, whatever their tokens are.

        Args:
            most: stretches, of at least 20 characters each.
        """
        total = sum(len(each.text) for each in self.scores)
        bits, offset = np.zeros(max(1, min(most, total // 20))), 0
        for each in self.scores:
            places = (np.array(each.begins, np.int64) + offset) * len(bits) // total
            np.add.at(bits, np.minimum(places, len(bits) - 1), np.array(each.log_probabilities) / -math.log(2))
            offset += len(each.text)
        return bits * len(bits) / self.bytes

    def figures(self) -> dict[str, float]:
        """All figures that the log-probability gives."""
        nats = -self.log_probability
        return {
            "perplexity": bounded_exp(nats / self.tokens),
            "nats_per_token": nats / self.tokens,
            "word_perplexity": bounded_exp(nats / self.words) if self.words else math.inf,
            "bits_per_byte": nats / math.log(2) / self.bytes,
            "bits_per_character": nats / math.log(2) / self.characters,
            "log_probability": -nats,
            "tokens": self.tokens,
            "words": self.words,
            "bytes": self.bytes,
            "characters": self.characters,
        }


def measure(
    scorer: Scorer,
    data: str,
    convention: Convention,
    on_tokens: Callable[[int], None] = lambda n: None,
) -> Perplexity:
    """Score data by a convention.

    Raises:
        InputError: no text in the data, or see `score`.
    """
    originals = [each for each in _cut(data, convention.join) if each.strip()]
    if not originals:
        raise InputError("the data hold no text.")
    texts = [detokenized(each) for each in originals] if convention.detokenize == "wikitext" else originals
    how = Windows(convention.stride, convention.bos, convention.context, convention.windows)
    scores = [scorer.text(text, how, on_tokens) for text in texts]
    counted = texts if convention.denominator == "scored" else originals
    words = sum(
        len(re.split(r"\s+", each) if convention.denominator == "harness" else each.split()) for each in counted
    )
    n_bytes = sum(
        each.scored_bytes if convention.denominator == "scored" else len(text.encode())
        for each, text in zip(scores, counted, strict=True)
    )
    first = scores[0]
    signature = Signature.of(
        "ppl", join=convention.join, detok=convention.detokenize, ctx=first.context_length, stride=first.stride,
        bos=first.bos, window=convention.windows, denominator=convention.denominator,
        dtype=scorer.dtype, **kind_field(scorer), data=data_hash(data), version=1,
    )  # fmt: skip
    return Perplexity(scores, words, n_bytes, sum(map(len, counted)), signature)


def data_hash(data: str | bytes) -> str:
    """The first 12 digits of SHA-256, for signatures."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:12]


def detokenized(text: str) -> str:
    """Text as it was before WikiText (Merity et al. 2016) put spaces around punctuation, as far as rules tell.

    Equal to what lm-evaluation-harness scores, so that its word perplexity can be reproduced.

    >>> detokenized("It cost @,@ 1 @.@ 5 ( about ) , he said ; well @-@ known .")
    'It cost,1.5 (about), he said; well-known .'
    """
    for before, after in _WIKITEXT_BEFORE_PAIRS:
        text = text.replace(before, after)
    for opening, closing in ("()", "[]", "{}", '""', "''"):
        text = _tightened(text, opening, closing)
    for before, after in _WIKITEXT_AFTER_PAIRS:
        text = text.replace(before, after)
    return text


def _tightened(text: str, opening: str, closing: str) -> str:
    """White space taken off inside pairs of marks; each is looked for once, so that marks without partner cost nothing."""
    parts, at = [], 0
    while (begin := text.find(opening, at)) >= 0 and (end := text.find(closing, begin + 1)) >= 0:
        parts += [text[at : begin + 1], text[begin + 1 : end].strip(), closing]
        at = end + 1
    return "".join([*parts, text[at:]])


_WIKITEXT_BEFORE_PAIRS = [
    ("s '", "s'"), *((f" @{mark}@ ", mark) for mark in "-,."), *((f" {mark} ", f"{mark} ") for mark in ":;.!?,"),
]  # fmt: skip
_WIKITEXT_AFTER_PAIRS = [
    *((" ".join("=" * n), "=" * n) for n in (4, 3, 2)), (" ° ", "°"), (" \n", "\n"), ("\n ", "\n"), (" N ", " 1 "),
    (" 's", "'s"),
]  # fmt: skip


def _cut(data: str, join: str) -> list[str]:
    if join == "lines":
        return data.splitlines()
    if join == "articles":
        return re.split(r"(?m)^(?= = [^=\n].* = $)", data)
    return [data]
