"""Which vector makes a model write more like some texts than like others: the difference of their means in the residual stream.

d = mean of the stream over the tokens of the one kind - mean over those of the other (Turner et al. 2023; Rimsky et al. 2024).
After which block it is added, and how strongly, is measured: in every candidate block it gets the strength at which the model's
perplexity of its own texts rises by the same part, and the block counts whose vector then changes most what the model thinks
of texts that the means have not seen.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wenloom.checkpoint.steering import SteeringVector
from wenloom.core.errors import InputError
from wenloom.evaluation.likelihood import scored_targets, tokens_before
from wenloom.explanation.interventions import added
from wenloom.explanation.subject import Subject
from wenloom.generation.engine import Engine
from wenloom.generation.request import GenerationRequest
from wenloom.model.decoder import Decoder
from wenloom.model.taps import Tap, Taps

FOR_WRITERS = "steering is for models that continue their prompt: decoders without an encoder or classes."
"""What is said of others."""
COST = 0.1
"""Part by which perplexity may rise, unless something else is asked for."""
MOST_TEXTS = 400
"""Of a kind that are read; more change a mean little."""
_MOST_TOKENS = 96
_MOST_MEASURED = 32
"""Texts of a kind by which blocks are compared, and as many by which the chosen one is measured."""
_FEWEST = 8
"""Texts of a kind from which on some are held out."""
_MOST_BLOCKS = 12
_OWN_TEXTS, _OWN_TOKENS = 48, 48
_BATCH_TOKENS = 2048
_TRIES = 5
_NEAR = 1.15
"""A cost within this factor of the one allowed is near enough."""


class Figure(NamedTuple):
    """A mean and its standard error."""

    value: float
    error: float


class Trial(NamedTuple):
    """A vector after a block, and what it does."""

    layer: int
    strength: float
    effect: Figure
    """Nats per token by which log P of held-out texts of the wanted kind rises above that of the other kind."""
    cost: Figure
    """Nats per token by which log P of neutral texts falls; perplexity rises by the factor exp(cost)."""


@dataclass(frozen=True)
class SteeringStudy:
    """A steering vector, and how it was found."""

    vector: SteeringVector
    trials: list[Trial]
    """One for each block that was tried, at equal cost, on the texts by which the block was chosen."""
    chosen: Trial
    """The block's, on other texts than those by which it was chosen (where there are enough)."""
    is_held_out: bool
    """False: there were too few texts, and what is measured is what was learned from."""
    n_texts: tuple[int, int]
    """Texts of both kinds."""
    perplexity: float
    """Of the neutral texts, without the vector."""


class _Rows(NamedTuple):
    toward: list[list[int]]
    away: list[list[int]]
    neutral: list[list[int]]


def find_steering(
    subject: Subject,
    toward: Sequence[str],
    away: Sequence[str],
    neutral: Sequence[str] = (),
    cost: float = COST,
    layer: int | None = None,
    seed: int = 0,
    on_texts: Callable[[int], None] = lambda n: None,
) -> SteeringStudy:
    """The vector from one kind of texts to another.

    Args:
        toward, away: texts of the kind that is wanted, and of the other; 8 or more of each let some be held out.
        neutral: texts by which the cost is measured; none: the model writes 48 of its own.
        cost: part by which perplexity of these may rise.
        layer: the block after which it is added; None: the one of most effect.
        seed: of the model's own texts.
        on_texts: told how many texts were read.

    Raises:
        InputError: a model that does not write on, no texts of a kind, no such block, or texts that do not differ.
    """
    decoder = subject.writer(FOR_WRITERS)
    _check_cost(cost)
    rows = [rows_of(subject, texts[:MOST_TEXTS]) for texts in (toward, away)]
    if not all(rows):
        raise InputError(f"no text {'away from' if rows[0] else 'toward'} which to steer.")
    own = rows_of(subject, neutral) if neutral else _own_texts(subject, seed)
    is_held_out = min(map(len, rows)) >= _FEWEST
    learned, compared, measured = zip(*(_parts(each, is_held_out) for each in rows), strict=True)
    directions_LD = stream_mean(decoder, learned[0], on_texts) - stream_mean(decoder, learned[1], on_texts)
    if not bool(directions_LD.any()):
        raise InputError("the texts toward which and away from which to steer are the same.")
    half = len(own) // 2 if len(own) > 1 else 1
    choosing = _Measure(decoder, _Rows(compared[0], compared[1], own[:half]), on_texts)
    trials = [choosing.at_cost(each, directions_LD[each], cost) for each in _candidates(decoder, layer)]
    best = max(trials, key=lambda trial: trial.effect.value)
    last = _Measure(decoder, _Rows(measured[0], measured[1], own[half:] or own), on_texts)
    direction_D = directions_LD[best.layer].float().cpu()
    chosen = last.trial(best.layer, direction_D, best.strength)
    vector = SteeringVector(best.layer, direction_D, best.strength)
    perplexity = math.exp(-_mean(last.plain.neutral).value)
    return SteeringStudy(vector, trials, chosen, is_held_out, (len(rows[0]), len(rows[1])), perplexity)


def strengthen(
    subject: Subject,
    layer: int,
    direction_D: Tensor,
    neutral: Sequence[str] = (),
    cost: float = COST,
    seed: int = 0,
    on_texts: Callable[[int], None] = lambda n: None,
) -> SteeringStudy:
    """A direction that is known, such as a feature's, at the strength that costs so much perplexity.

    Args:
        neutral, cost, seed, on_texts: see `find_steering`. There are no texts of two kinds, so no effect is measured (NaN).

    Raises:
        InputError: see `find_steering`.
    """
    decoder = subject.writer(FOR_WRITERS)
    _check_cost(cost)
    _candidates(decoder, layer)
    own = rows_of(subject, neutral) if neutral else _own_texts(subject, seed)
    half = len(own) // 2 if len(own) > 1 else 1
    choosing, last = (_Measure(decoder, _Rows([], [], rows), on_texts) for rows in (own[:half], own[half:] or own))
    trial = choosing.at_cost(layer, direction_D, cost)
    chosen = last.trial(layer, direction_D, trial.strength)
    vector = SteeringVector(layer, direction_D.float().cpu(), trial.strength)
    return SteeringStudy(vector, [trial], chosen, True, (0, 0), math.exp(-_mean(last.plain.neutral).value))


def _check_cost(cost: float) -> None:
    if not cost > 0 or not math.isfinite(cost):
        raise InputError(f"cost {cost:g}: must be above 0.")


def rows_of(subject: Subject, texts: Sequence[str]) -> list[list[int]]:
    """Tokens of texts after the one that stands before all texts; empty texts are left out."""
    before = tokens_before(subject.tokenizer, is_empty=True)
    most = min(_MOST_TOKENS, subject.stack.config.context_length)
    rows = [[*before, *subject.tokenizer.encode(text, False)][:most] for text in texts if text.strip()]
    return [row for row in rows if len(row) > len(before)]


@torch.no_grad()
def stream_mean(decoder: Decoder, rows: Sequence[list[int]], on_texts: Callable[[int], None]) -> Tensor:
    """The residual stream after every block, mean over the tokens of a text, then over texts, shape (L, D), float64.

    A row's first token is left out where there are others: attention rests there, and its stream is like no other's.
    """
    total_LD = torch.zeros(decoder.config.n_layers, decoder.config.d_model, dtype=torch.float64)
    for numbers, tokens_BT in _batches(decoder, rows):
        lengths_B = torch.tensor([len(rows[number]) for number in numbers], device=tokens_BT.device)
        place_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        counts_BT = (place_T < lengths_B[:, None]) & ((place_T > 0) | (lengths_B[:, None] == 1))
        weight_BT = counts_BT / counts_BT.sum(1, keepdim=True)

        def keep(layer: int, weight_BT: Tensor = weight_BT) -> Tap:
            def tap(x_BTD: Tensor) -> None:
                total_LD[layer] += torch.einsum("btd,bt->d", x_BTD.float(), weight_BT).cpu()

            return tap

        taps = {f"blocks.{layer}.resid_post": keep(layer) for layer in range(decoder.config.n_layers)}
        decoder.hidden(tokens_BT, taps=Taps(taps, decoder.places))
        on_texts(len(numbers))
    return total_LD / len(rows)


@torch.no_grad()
def mean_log_probabilities(
    decoder: Decoder,
    rows: Sequence[list[int]],
    vector: SteeringVector | None = None,
    on_texts: Callable[[int], None] = lambda n: None,
) -> list[float]:
    """log P per token of every row, but for its first token, in nats; of rows of one token NaN.

    Args:
        vector: what is added meanwhile, at its strength.
    """
    taps = None
    if vector is not None:
        change = added(f"blocks.{vector.layer}.resid_post", vector.direction, vector.strength, None)
        taps = Taps({change.place: change.tap}, decoder.places)
    found = [math.nan] * len(rows)
    for numbers, tokens_BT in _batches(decoder, rows):
        hidden_BTD = decoder.hidden(tokens_BT, taps=taps)[:, :-1]
        lengths = [len(rows[number]) - 1 for number in numbers]
        is_real_BT = torch.arange(hidden_BTD.shape[1]) < torch.tensor(lengths)[:, None]
        is_real_BT = is_real_BT.to(tokens_BT.device)
        logs_N, _ = scored_targets(decoder, hidden_BTD[is_real_BT], tokens_BT[:, 1:][is_real_BT])
        for number, logs in zip(numbers, logs_N.split(lengths), strict=True):
            found[number] = float(logs.mean())
        on_texts(len(numbers))
    return found


def _batches(decoder: Decoder, rows: Sequence[list[int]]) -> Iterator[tuple[list[int], Tensor]]:
    """Numbers of rows of similar length, and their tokens, shape (B, T), filled up behind, where no earlier token sees it."""
    ordered = sorted(range(len(rows)), key=lambda number: -len(rows[number]))
    while ordered:
        longest = len(rows[ordered[0]])
        n = max(1, _BATCH_TOKENS // longest)
        numbers, ordered = ordered[:n], ordered[n:]
        filled = [[*rows[number], *[0] * (longest - len(rows[number]))] for number in numbers]
        yield numbers, torch.tensor(filled, device=decoder.embed.weight.device)


class _Measure:
    """What vectors do to some texts."""

    def __init__(self, decoder: Decoder, rows: _Rows, on_texts: Callable[[int], None]):
        self._decoder, self._rows, self._on_texts = decoder, rows, on_texts
        self.plain = _Scores(*(mean_log_probabilities(decoder, each, None, on_texts) for each in rows))

    def trial(self, layer: int, direction_D: Tensor, strength: float) -> Trial:
        """What a vector does."""
        vector = SteeringVector(layer, direction_D, strength)
        toward, away = (
            mean_of_changes(mean_log_probabilities(self._decoder, rows, vector, self._on_texts), plain)
            for rows, plain in ((self._rows.toward, self.plain.toward), (self._rows.away, self.plain.away))
        )
        effect = Figure(toward.value - away.value, math.hypot(toward.error, away.error))
        return Trial(layer, strength, effect, self._cost(layer, direction_D, strength))

    def at_cost(self, layer: int, direction_D: Tensor, cost: float) -> Trial:
        """What a vector does at the strength at which perplexity rises by a part.

        Near no strength the cost is its square, which tells the next strength to try.
        """
        wanted, strength = math.log1p(cost), 1.0
        low, high = 0.0, math.inf
        for _ in range(_TRIES):
            found = self._cost(layer, direction_D, strength).value
            if wanted / _NEAR <= found <= wanted:
                break
            low, high = (strength, high) if found < wanted else (low, strength)
            guess = strength * math.sqrt(0.95 * wanted / max(found, wanted / 64))
            strength = guess if low < guess < high else (low + min(high, 4 * max(low, strength))) / 2
        else:
            strength = low or strength
        return self.trial(layer, direction_D, strength)

    def _cost(self, layer: int, direction_D: Tensor, strength: float) -> Figure:
        vector = SteeringVector(layer, direction_D, strength)
        steered = mean_log_probabilities(self._decoder, self._rows.neutral, vector, self._on_texts)
        return mean_of_changes(self.plain.neutral, steered)


class _Scores(NamedTuple):
    """log P per token, by row."""

    toward: list[float]
    away: list[float]
    neutral: list[float]


def mean_of_changes(after: Sequence[float], before: Sequence[float]) -> Figure:
    """The mean difference over texts."""
    return _mean([a - b for a, b in zip(after, before, strict=True)])


def _mean(values: Sequence[float]) -> Figure:
    known = torch.tensor([each for each in values if not math.isnan(each)], dtype=torch.float64)
    if not len(known):
        return Figure(math.nan, math.nan)
    error = float(known.std() / math.sqrt(len(known))) if len(known) > 1 else math.nan
    return Figure(float(known.mean()), error)


def _parts(rows: list[list[int]], is_held_out: bool) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
    """Rows for the mean, to compare blocks by, and to measure the chosen one by: a half, a quarter and a quarter."""
    if not is_held_out:
        return rows, rows[:_MOST_MEASURED], rows[:_MOST_MEASURED]
    learned = [row for place, row in enumerate(rows) if place % 2 == 0]
    return learned, rows[1::4][:_MOST_MEASURED], rows[3::4][:_MOST_MEASURED]


def _candidates(decoder: Decoder, layer: int | None) -> list[int]:
    n_layers = decoder.config.n_layers
    if layer is not None:
        if not 0 <= layer < n_layers:
            raise InputError(f"layer {layer}: this model has blocks 0 to {n_layers - 1}.")
        return [layer]
    n = min(n_layers, _MOST_BLOCKS)
    return sorted({round((place + 0.5) * n_layers / n - 0.5) for place in range(n)})


def _own_texts(subject: Subject, seed: int) -> list[list[int]]:
    """What the model writes of itself, drawn from its own distribution."""
    decoder = subject.writer(FOR_WRITERS)
    engine = Engine(decoder, subject.tokenizer)
    before = tokens_before(subject.tokenizer, is_empty=True)
    n_tokens = min(_OWN_TOKENS, decoder.config.context_length - len(before))
    request = GenerationRequest(
        max_new_tokens=n_tokens, num_return_sequences=_OWN_TEXTS, temperature=1.0, top_p=1.0, seed=seed
    )
    job = engine.submit(before or subject.tokenizer.prompt_ids(""), request)
    engine.run([job])
    return [[*job.prompt, *each.tokens] for each in job.result() if len(each.tokens) > 1]
