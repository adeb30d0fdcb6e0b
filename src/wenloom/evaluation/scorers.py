"""The scorers of our own models."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Literal

import torch

from wenloom.core.errors import InputError
from wenloom.evaluation.likelihood import Likelihood, ScoredRow, continuation_row, likelihoods, tokens_before
from wenloom.evaluation.perplexity import score
from wenloom.evaluation.pseudo import pseudo_continuation, pseudo_score, stretch
from wenloom.evaluation.scorer import (
    Advance,
    ContinuationScore,
    Score,
    Scorer,
    Span,
    TextInContext,
    Windows,
    counted,
    no_windows,
)
from wenloom.model.build import Model
from wenloom.model.decoder import Decoder
from wenloom.model.encoder import Encoder
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.tokens.tokenizer import TextTokenizer

_BATCH_TOKENS = 2048


def scorer_of(model: Model, tokenizer: TextTokenizer) -> Scorer:
    """The scorer of a model.

    Args:
        model: in evaluation mode; for much text see `model.packed.packed`.

    Raises:
        InputError: an encoder that cannot fill in masks.
    """
    if isinstance(model, Encoder):
        return EncoderScorer(model, tokenizer)
    return DecoderScorer(model, tokenizer) if isinstance(model, Decoder) else PairScorer(model, tokenizer)


class _ModelScorer:
    """What our scorers share; each spells out the signatures of `Scorer`, as a protocol asks."""

    def __init__(self, model: Model, tokenizer: TextTokenizer):
        self._model, self.tokenizer = model, tokenizer

    @property
    def dtype(self) -> str:
        return str(next(self._model.parameters()).dtype).removeprefix("torch.")

    def n_tokens(self, text: str) -> int | None:
        return len(self.tokenizer.encode(text))


class DecoderScorer(_ModelScorer):
    """log P(text | context) = Σ log P(token | all tokens before it)."""

    kind: Literal["causal"] = "causal"
    takes_texts = True

    def __init__(self, decoder: Decoder, tokenizer: TextTokenizer):
        super().__init__(decoder, tokenizer)
        self.decoder = decoder

    def opens(self, is_empty: bool) -> bool:
        return bool(tokens_before(self.tokenizer, is_empty))

    def continuations(
        self, groups: Sequence[Sequence[TextInContext]], on_rows: Advance = lambda n: None
    ) -> list[list[ContinuationScore]]:
        before = {empty: tokens_before(self.tokenizer, empty) for empty in (False, True)}
        ends = [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]
        rows = [[self._row(each, before[not each.context], ends) for each in group] for group in groups]
        found = iter(self.rows([[row for row in group if row.start < len(row.tokens)] for group in rows], on_rows))
        return [
            [_decoded(each, row, scores) for each, row in zip(group, made, strict=True)]
            for group, made, scores in zip(groups, rows, map(iter, found), strict=True)
        ]

    def _row(self, each: TextInContext, before: list[int], ends: list[int]) -> ScoredRow:
        row = continuation_row(self.tokenizer, each.context, each.text, before)
        if not each.is_whole:
            return row
        return ScoredRow([*row.tokens, *ends], row.start, [*row.spans, *[(len(each.text), len(each.text))] * len(ends)])

    def rows(self, groups: Sequence[Sequence[ScoredRow]], on_rows: Advance = lambda n: None) -> list[list[Likelihood]]:
        """Log-probabilities of tokens, each row after those before its start."""
        return likelihoods(self.decoder, groups, on_rows)

    def text(self, text: str, windows: Windows | None = None, on_tokens: Advance = lambda n: None) -> Score:
        how = windows or Windows()
        return score(self.decoder, self.tokenizer, text, how.stride, how.bos, on_tokens, how.context, how.kind)


def _decoded(each: TextInContext, row: ScoredRow, scores: Iterator[Likelihood]) -> ContinuationScore:
    if row.start >= len(row.tokens):
        return counted(each, [], [], 0.0, True, 0)
    found, begin = next(scores), max(0, row.spans[row.start - 1][1])
    return counted(each, row.tokens[row.start :], found.log_probabilities, found.total, found.is_greedy, found.cut_off,
                   row.spans[row.start :], begin)  # fmt: skip


class EncoderScorer(_ModelScorer):
    """log P(text | context) = Σ log P(token | all others), each hidden alone (Salazar et al. 2020): a pseudo-log-likelihood."""

    kind: Literal["masked"] = "masked"
    takes_texts = True

    def __init__(self, encoder: Encoder, tokenizer: TextTokenizer):
        super().__init__(encoder, tokenizer)
        self._encoder = encoder

    def opens(self, is_empty: bool) -> bool:
        return True

    def continuations(
        self, groups: Sequence[Sequence[TextInContext]], on_rows: Advance = lambda n: None
    ) -> list[list[ContinuationScore]]:
        """A text has no end of its own here: `is_whole` adds nothing. What is longer than the model reads at once is read in
        stretches that do not see each other; `cut_off` counts the tokens behind the first."""
        found = []
        for group in groups:
            found.append([self._continuation(each) for each in group])
            on_rows(len(group))
        return found

    def _continuation(self, each: TextInContext) -> ContinuationScore:
        row = continuation_row(self.tokenizer, each.context, each.text, [])
        first = row.start if each.context else 0
        logs, is_greedy = pseudo_continuation(self._encoder, self.tokenizer, row.tokens, first)
        cut_off = max(0, len(row.tokens) - stretch(self._encoder, self.tokenizer))
        return counted(each, row.tokens[first:], logs, math.fsum(logs), is_greedy, cut_off, row.spans[first:])

    def text(self, text: str, windows: Windows | None = None, on_tokens: Advance = lambda n: None) -> Score:
        no_windows(windows, "this one is an encoder")
        return pseudo_score(self._encoder, self.tokenizer, text, on_tokens)


class PairScorer(_ModelScorer):
    """log P(text | source) of a decoder that reads an encoder."""

    kind: Literal["pairs"] = "pairs"
    takes_texts = False

    def __init__(self, model: EncoderDecoder, tokenizer: TextTokenizer):
        super().__init__(model, tokenizer)
        self._pairs = model

    def opens(self, is_empty: bool) -> bool:
        return not is_empty or bool(self.tokenizer.encode("", add_special_tokens=True))

    def continuations(
        self, groups: Sequence[Sequence[TextInContext]], on_rows: Advance = lambda n: None
    ) -> list[list[ContinuationScore]]:
        """A source longer than the encoder's context loses its end."""
        flat = [each for group in groups for each in group]
        sources = [self._source(each.context) for each in flat]
        encoded = [self._target(each) for each in flat]
        targets = [tokens for tokens, _ in encoded]
        found: dict[int, ContinuationScore] = {}
        order = sorted(range(len(flat)), key=lambda place: (len(sources[place][0]), len(targets[place])))
        for _, alike in groupby(order, lambda place: len(sources[place][0])):  # no source is padded
            for places in _in_batches(list(alike), lambda place: len(sources[place][0]) + len(targets[place])):
                rows = self._log_probs([sources[place][0] for place in places], [targets[place] for place in places])
                for place, (logs, is_greedy) in zip(places, rows, strict=True):
                    found[place] = counted(
                        flat[place],
                        targets[place],
                        logs,
                        math.fsum(logs),
                        is_greedy,
                        sources[place][1],
                        encoded[place][1],
                    )
                on_rows(len(places))
        ordered = iter([found[place] for place in range(len(flat))])
        return [[next(ordered) for _ in group] for group in groups]

    def _source(self, text: str) -> tuple[list[int], int]:
        """Tokens, and how many of them did not fit."""
        tokens, encoder = self.tokenizer.encode(text, add_special_tokens=True), self._pairs.config.encoder
        assert encoder is not None
        if not tokens:
            raise InputError("the source is empty.")
        if encoder.n_positions is None or len(tokens) <= encoder.n_positions:
            return tokens, 0
        last = tokens[-1:] if tokens[-1] in self._pairs.config.eos_token_ids else []
        return tokens[: encoder.n_positions - len(last)] + last, len(tokens) - encoder.n_positions

    def _target(self, each: TextInContext) -> tuple[list[int], list[Span]]:
        """Tokens, and the characters that each holds."""
        encoding, config = self.tokenizer.encoding(each.text, add_special_tokens=False), self._pairs.config
        end = config.eos_token_ids[:1] if each.is_whole else ()
        tokens, spans = [*encoding.ids, *end], [*encoding.offsets, *[(len(each.text), len(each.text))] * len(end)]
        if config.n_positions is not None and len(tokens) > config.n_positions:
            raise InputError(f"the text has {len(tokens):,} tokens; this model writes at most {config.n_positions:,}.")
        return tokens, spans

    @torch.inference_mode()
    def _log_probs(self, sources: list[list[int]], targets: list[list[int]]) -> list[tuple[list[float], bool]]:
        """log P of the tokens of each target, whether each is the most probable one."""
        start, device = self._pairs.config.decoder_start_token_id, self._pairs.embed.weight.device
        longest = max(map(len, targets))
        if not longest:
            return [([], True)] * len(targets)
        inputs_BT = torch.tensor([[start, *target, *[0] * (longest - len(target))][:longest] for target in targets])
        logits_BTV = self._pairs(torch.tensor(sources, device=device), inputs_BT.to(device)).cpu().double()
        found = []
        for logits_TV, target in zip(logits_BTV, targets, strict=True):
            own_TV, wanted_T = logits_TV[: len(target)], torch.tensor(target, dtype=torch.long)
            picked_T = own_TV.gather(1, wanted_T[:, None])[:, 0]
            logs = (picked_T - own_TV.logsumexp(-1)).tolist()
            found.append((logs, bool((picked_T >= own_TV.amax(-1)).all())))
        return found

    def text(self, text: str, windows: Windows | None = None, on_tokens: Advance = lambda n: None) -> Score:
        raise InputError("a model with an encoder and a decoder scores a text given its source, not one text alone.")


def _in_batches(places: list[int], size: Callable[[int], int]) -> Iterator[list[int]]:
    batch: list[int] = []
    for place in places:
        if batch and (len(batch) + 1) * max(size(place), size(batch[-1])) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    yield batch
