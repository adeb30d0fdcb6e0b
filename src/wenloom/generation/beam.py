"""Beam search: the most probable whole continuations, followed side by side.

Plain beams are those of transformers (its `_beam_search`, with all three meanings of `early_stopping`), token by
token. Diverse beams keep groups apart (Vijayakumar et al. 2018); forced words fill the beam from banks of equal
progress (Post & Vilar 2018, after Hokamp & Liu 2017).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wenloom.core.errors import InputError
from wenloom.generation.jobs import Continuation, EndedBy, ForwardRequest, Strategy, Text, TokenScore
from wenloom.generation.sampling import candidates, gumbel
from wenloom.generation.sequence_group import SequenceGroup
from wenloom.generation.stream import TextStream
from wenloom.generation.token_selection import TokenSelector, begin, token_score

Words = Sequence[Sequence[list[int]]]
"""For every word that must be written, its spellings as tokens."""


@dataclass(eq=False)
class Beam:
    """One continuation in the making."""

    text: Text
    selector: TokenSelector
    score: float = 0.0
    """Sum of its tokens' processed log-probabilities."""
    scores: tuple[TokenScore, ...] = ()
    stream: TextStream | None = None
    """Looks for stop texts, where there are any."""


@dataclass
class Extension:
    """A beam and a token that may follow it."""

    beam: Beam
    token: int
    score: float
    logits_V: Tensor
    stream: TextStream | None = None


@dataclass
class Ended:
    """A continuation that has ended."""

    score: float
    """With the length penalty."""
    sum_logprobs: float
    tokens: list[int]
    ended_by: EndedBy
    scores: tuple[TokenScore, ...]


@dataclass
class Group:
    """Beams that compete with each other."""

    size: int
    beams: list[Beam]
    ended: list[Ended] = field(default_factory=list)
    open: bool = True
    """Whether it goes on."""
    improvable: bool = True
    """Whether a running beam may still beat the ended ones, as far as the heuristic tells."""


def beam_search(
    sequences: SequenceGroup, selector: TokenSelector, endings: frozenset[int], words: Words, key: int
) -> Strategy:
    """Follow `num_beams` continuations and return the best of those that ended."""
    r, n_prompt = sequences.job.request, len(sequences.job.prompt)
    if sum(min(map(len, spellings)) for spellings in words) > selector.room:
        raise InputError(f"the words to be written take more than the {selector.room} tokens there is room for.")
    text = yield from begin(sequences, sequences.job.prompt)
    (reading,) = yield [ForwardRequest(text)]
    size = r.num_beams // r.num_beam_groups
    stream = sequences.job.continuations[0].stream
    stream = stream.fork() if stream is not None and r.stop_strings else None
    first = Beam(text, selector, stream=stream)
    groups = [Group(size, [first])]
    groups += [
        Group(size, [Beam(sequences.fork(text), selector.fork(), stream=stream)]) for _ in range(r.num_beam_groups - 1)
    ]
    logits = [reading.logits[-1]] * len(groups)
    for length in range(1, selector.room + 1):
        chosen_before: list[int] = []
        for group in groups:
            mine, logits = logits[: len(group.beams)], logits[len(group.beams) :]
            if not group.open:
                continue
            extensions = _extensions(group, mine, sequences, chosen_before, words, endings, key)
            _step(group, extensions, sequences, length, words, n_prompt)
            chosen_before += [beam.text.tokens[-1] for beam in group.beams]
        beams = [beam for group in groups for beam in group.beams]
        if not any(group.open for group in groups):
            break
        readings = yield [ForwardRequest(beam.text) for beam in beams]
        logits = [each.logits[-1] for each in readings]
    ended = sorted((each for group in groups for each in group.ended), key=lambda each: -each.score)
    for out, each in zip(sequences.job.continuations, ended, strict=False):
        _hand_over(out, each)
    for out in sequences.job.continuations[len(ended) :]:
        out.end("dead end")


def _extensions(
    group: Group,
    logits: Sequence[Tensor],
    sequences: SequenceGroup,
    chosen_before: list[int],
    words: Words,
    endings: frozenset[int],
    key: int,
) -> list[Extension]:
    """The best continuations of a group by one token, best first: (end tokens + 1) x beams of them, at least two."""
    r, n_prompt = sequences.job.request, len(sequences.job.prompt)
    rows = []
    for beam, logits_V in zip(group.beams, logits, strict=True):
        scores_V = beam.selector.process(logits_V.log_softmax(-1), beam.text.tokens)
        if words and endings and _unmet(beam.text.tokens[n_prompt:], words):
            scores_V = scores_V.index_fill(0, torch.tensor(sorted(endings)), -torch.inf)
        scores_V = beam.selector.processors.mark(scores_V, beam.text.tokens[-1])
        if r.do_sample:
            some = candidates(scores_V, r)
            scores_V = torch.full_like(scores_V, -torch.inf)
            scores_V[torch.from_numpy(some.tokens)] = torch.from_numpy(some.logits).float()
        if chosen_before and r.diversity_penalty:
            counts = torch.bincount(torch.tensor(chosen_before), minlength=len(scores_V))
            scores_V = scores_V - r.diversity_penalty * counts
        rows.append(scores_V + beam.score)
    all_scores = torch.stack(rows)
    vocab_size = all_scores.shape[1]
    wanted = min(max(2, 1 + len(endings)) * group.size, all_scores.numel())
    order = all_scores.flatten()
    if r.do_sample:  # without replacement, by the largest of score + noise (Kool et al. 2019)
        position = len(group.beams[0].text.tokens)
        noise = gumbel(key, position, torch.arange(order.numel()).numpy())
        picked = (order.double() + torch.from_numpy(noise)).topk(wanted).indices
    else:
        picked = order.topk(wanted).indices
    found = [
        Extension(
            group.beams[index // vocab_size], index % vocab_size, float(order[index]), logits[index // vocab_size]
        )
        for index in picked.tolist()
        if torch.isfinite(order[index])
    ]
    for number, beam in enumerate(group.beams):
        taken = {each.token for each in found if each.beam is beam}
        for token in sorted(_next_of_words(beam.text.tokens[n_prompt:], words) - taken):
            if torch.isfinite(rows[number][token]):
                found.append(Extension(beam, token, float(rows[number][token]), logits[number]))
    return found


def _step(
    group: Group, extensions: list[Extension], sequences: SequenceGroup, length: int, words: Words, n_prompt: int
) -> None:
    """Sort extensions into ended and running ones, and decide whether the group goes on."""
    r, room = sequences.job.request, group.beams[0].selector.room
    running: list[Extension] = []
    new: list[Ended] = []
    for rank, each in enumerate(extensions):
        reason = _end(each, length)
        if reason is None:
            running.append(each)
        elif (words or rank < group.size) and not _unmet([*each.beam.text.tokens[n_prompt:], each.token], words):
            new.append(Ended(each.score / _weight(length, r.length_penalty), each.score,
                             [*each.beam.text.tokens[n_prompt:], each.token], reason, _scores_of(each, r.logprobs)))  # fmt: skip
    full = len(group.ended) == group.size
    if group.improvable and not (full and r.early_stopping is True):
        group.ended = sorted([*group.ended, *new], key=lambda each: -each.score)[: group.size]
    full = len(group.ended) == group.size
    chosen = _by_banks(running, group.size, words, n_prompt) if words else running[: group.size]
    if chosen:
        reach = room if r.early_stopping == "never" and r.length_penalty > 0 else length
        best = max(each.score for each in chosen) / _weight(reach, r.length_penalty)
        group.improvable = group.improvable and not (full and best <= group.ended[-1].score)
    group.open = bool(chosen) and group.improvable and not (full and r.early_stopping is True)
    if not group.open:
        for beam in group.beams:
            sequences.close(beam.text)
        group.beams = []
    else:
        group.beams = _grown(group.beams, chosen, sequences, r.logprobs)


def _weight(length: int, penalty: float) -> float:
    """length^penalty, within the range of float64."""
    exponent = penalty * math.log(length)
    return (
        length**penalty if abs(exponent) < _LARGEST_EXPONENT else math.exp(math.copysign(_LARGEST_EXPONENT, exponent))
    )


_LARGEST_EXPONENT = 700
"""e^700 is 1e304."""


def _end(extension: Extension, length: int) -> EndedBy | None:
    selector, token = extension.beam.selector, extension.token
    if token in selector.endings:
        return "end token"
    if extension.beam.stream is not None:
        extension.stream = extension.beam.stream.fork()
        extension.stream.push(token)
        if extension.stream.stopped:
            return "stop string"
    return "length" if length == selector.room else None


def _grown(beams: list[Beam], chosen: list[Extension], sequences: SequenceGroup, n_top: int | None) -> list[Beam]:
    """The beams after a step. A beam that goes on once keeps its text; others take over those that do not go on."""
    parents = {id(each.beam) for each in chosen}
    spare = [beam.text for beam in beams if id(beam) not in parents]
    grown, kept = [], set()
    for each in chosen:
        selector = each.beam.selector.fork()
        selector.advance(each.token)
        if id(each.beam) not in kept:
            kept.add(id(each.beam))
            text = each.beam.text
        elif spare:
            sequences.assign(text := spare.pop(), each.beam.text)
        else:
            text = sequences.fork(each.beam.text)
        grown.append(Beam(text, selector, each.score, _scores_of(each, n_top), each.stream))
    for beam, each in zip(grown, chosen, strict=True):  # only now, as several copy from one
        beam.text.tokens.append(each.token)
    for text in spare:
        sequences.close(text)
    return grown


def _scores_of(extension: Extension, n_top: int | None) -> tuple[TokenScore, ...]:
    if n_top is None:
        return ()
    return (*extension.beam.scores, token_score(extension.logits_V, extension.token, n_top))


def _hand_over(out: Continuation, ended: Ended) -> None:
    out.tokens, out.sum_logprobs, out.scores = ended.tokens, ended.sum_logprobs, list(ended.scores)
    if out.stream is not None:
        out.text += "".join(out.stream.push(token) for token in ended.tokens)
    out.end(ended.ended_by)


# --- words that must be written ---


def _contains(tokens: Sequence[int], word: Sequence[int]) -> bool:
    n = len(word)
    return any(list(tokens[i : i + n]) == list(word) for i in range(len(tokens) - n + 1))


def _unmet(tokens: Sequence[int], words: Words) -> list[Sequence[list[int]]]:
    return [spellings for spellings in words if not any(_contains(tokens, each) for each in spellings)]


def _begun(tokens: Sequence[int], word: Sequence[int]) -> int:
    """How many tokens of a word the text ends with."""
    return next((n for n in range(min(len(word) - 1, len(tokens)), 0, -1) if list(tokens[-n:]) == list(word[:n])), 0)


def _next_of_words(tokens: Sequence[int], words: Words) -> set[int]:
    """Tokens that begin a missing word or go on with it."""
    return {word[n] for spellings in _unmet(tokens, words) for word in spellings for n in {0, _begun(tokens, word)}}


def _progress(tokens: Sequence[int], words: Words) -> int:
    """How many tokens of the words are written."""
    missing = _unmet(tokens, words)
    total = sum(max(map(len, spellings)) for spellings in words)
    total -= sum(max(map(len, spellings)) for spellings in missing)
    return total + max((_begun(tokens, word) for spellings in missing for word in spellings), default=0)


def _by_banks(running: list[Extension], size: int, words: Words, n_prompt: int) -> list[Extension]:
    """The beam filled from banks of equal progress in turn, the most advanced first, the best of each first."""
    banks: dict[int, list[Extension]] = {}
    for each in sorted(running, key=lambda each: -each.score):
        progress = _progress([*each.beam.text.tokens[n_prompt:], each.token], words)
        banks.setdefault(progress, []).append(each)
    chosen: list[Extension] = []
    while len(chosen) < size and any(banks.values()):
        for progress in sorted(banks, reverse=True):
            if banks[progress] and len(chosen) < size:
                chosen.append(banks[progress].pop(0))
    return sorted(chosen, key=lambda each: -each.score)
