"""What all strategies share: begin a text, choose its next token, and record that."""

import copy
import math
from collections.abc import Generator, Sequence

from torch import Tensor

from wenloom.core.errors import WenloomError
from wenloom.generation.closing import Closing
from wenloom.generation.jobs import Continuation, EndedBy, ForwardRequest, ForwardResult, Text, TokenScore
from wenloom.generation.processors import Processors
from wenloom.generation.request import GenerationRequest
from wenloom.generation.sampling import Mirostat, draw
from wenloom.generation.sequence_group import SequenceGroup
from wenloom.generation.vocabulary import Vocabulary
from wenloom.runtime.window import view_of

_PROMPT_CHUNK = 128
"""Tokens of a prompt that are scored at a time: their scores take vocabulary x 4 bytes each."""


class TokenSelector:
    """Chooses the tokens of one continuation: the processors with their state in this text, then the draw.

    Args:
        n_prompt: tokens of the prompt.
        room: tokens that may follow it.
        key: of its random numbers.
    """

    def __init__(self, request: GenerationRequest, vocabulary: Vocabulary, n_prompt: int, room: int, key: int):
        r = self.request = request
        self.endings = vocabulary.endings(r)
        self.room, self.n_prompt, self._key = room, n_prompt, key
        words = [*r.bad_words_ids]
        if r.bad_words:
            words += [ids for word in r.bad_words for ids in vocabulary.tokenizer_for("bad_words").spellings(word)]
        breakers = frozenset()
        if r.dry_multiplier and vocabulary.tokenizer:
            breakers = vocabulary.breakers(r.dry_sequence_breakers)
        self.processors = Processors(r, vocabulary.config.vocab_size, self.endings, words, breakers)
        self.matcher = vocabulary.grammars(self.endings).matcher(*r.constraint) if r.constraint else None
        # not of a pattern: what is tried ahead counts toward the bounds that llguidance sets to its work
        self._closing = Closing() if r.constraint and r.constraint[0] != "regex" else None
        self.mirostat = None if r.mirostat_tau is None else Mirostat(2 * r.mirostat_tau)

    def fork(self) -> "TokenSelector":
        """Another one in the same state, for another text."""
        twin = copy.copy(self)
        twin.matcher = self.matcher.copy() if self.matcher else None
        twin._closing = copy.copy(self._closing)
        return twin

    def process(self, scores_V: Tensor, tokens: Sequence[int]) -> Tensor:
        """Scores after all processors but the draw's own cut-offs."""
        return self.processors.apply(scores_V, tokens, self.n_prompt, self.room, self.matcher)

    def choose(self, scores_V: Tensor, tokens: Sequence[int]) -> int | None:
        """The next token, or None where nothing is allowed."""
        scores_V = self.process(scores_V, tokens)
        scores = scores_V.numpy()
        best = int(scores.argmax())  # a tenth of the time of PyTorch's
        if not math.isfinite(scores[best]):
            if scores[best] < 0:
                return None
            raise WenloomError("the model gave scores that are not numbers; its weights are damaged or overflow.")
        marked_V = scores_V if self.request.watermark_key is None else self.processors.mark(scores_V, tokens[-1])
        if self.request.do_sample:
            best = draw(marked_V, self.request, self._key, len(tokens), self.mirostat)
        elif marked_V is not scores_V:
            best = int(marked_V.argmax())
        if self.matcher is None or self._closing is None or best in self.endings:
            return best
        left = self.room - (len(tokens) - self.n_prompt)
        return self._closing.chosen(self.matcher, best, left, self.endings, lambda token: math.isfinite(scores[token]))

    def advance(self, token: int) -> None:
        """The text goes on with this token."""
        if self.matcher is not None and token not in self.endings:
            self.matcher.advance(token)
            if self._closing is not None:
                self._closing.advance(token)


def begin(
    sequences: SequenceGroup, tokens: Sequence[int]
) -> Generator[list[ForwardRequest], list[ForwardResult], Text]:
    """Open the prompt's text; where the request wants its scores, read it in pieces and note them."""
    n_top = sequences.job.request.prompt_logprobs
    if n_top is None or sequences.index > 0:
        return sequences.open(tokens)
    text = sequences.open(tokens[:1])
    sequences.job.prompt_scores.append(None)
    config = sequences.config
    while (start := len(text.tokens)) < len(tokens):
        view, piece = view_of(config, start), list(tokens[start : start + _PROMPT_CHUNK])
        piece = piece[: next((i for i in range(len(piece)) if view_of(config, start + i) != view), None)]
        text.tokens += piece[:-1]
        (reading,) = yield [ForwardRequest(text, len(piece))]
        sequences.job.prompt_scores += [
            token_score(row, t, n_top) for row, t in zip(reading.logits, piece, strict=True)
        ]
        text.tokens.append(piece[-1])
    return text


def token_score(logits_V: Tensor, token: int, n_top: int) -> TokenScore:
    """The model's own log-probability of a token, and of the best ones."""
    logprobs_V = logits_V.double().log_softmax(-1)
    best = logprobs_V.topk(min(n_top, len(logprobs_V)))
    pairs = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    return TokenScore(token, float(logprobs_V[token]), pairs)


def add(sequences: SequenceGroup, selector: TokenSelector, token: int | None, logits_V: Tensor) -> bool:
    """Write a token to the group's continuation; True when that was its last."""
    out = sequences.job.continuations[sequences.index]
    ended_by: EndedBy | None = "dead end"
    if token is not None:
        out.tokens.append(token)
        if sequences.job.request.logprobs is not None:
            out.scores.append(token_score(logits_V, token, sequences.job.request.logprobs))
        selector.advance(token)
        if out.stream is not None:
            out.text += out.stream.push(token)
        ended_by = end_of(out, selector, token)
    if ended_by is None:
        return False
    out.end(ended_by)
    return True


def end_of(out: Continuation, selector: TokenSelector, token: int) -> EndedBy | None:
    """What ends a continuation with this token, or None."""
    if token in selector.endings:
        return "end token"
    if out.stream is not None and out.stream.stopped:
        return "stop string"
    if selector.matcher is not None and selector.matcher.complete:
        return "grammar"
    return "length" if len(out.tokens) == selector.room else None
