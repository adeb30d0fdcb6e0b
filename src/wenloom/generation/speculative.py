"""Speculative decoding: tokens guessed by a smaller model, or by what the text said before, and read all at once."""

import copy
from collections.abc import Generator, Sequence

import numpy as np

from wenloom.generation.jobs import ForwardRequest, ForwardResult, Strategy, Text
from wenloom.generation.sequence_group import SequenceGroup
from wenloom.generation.token_selection import TokenSelector, add, begin
from wenloom.runtime.runner import ModelRunner
from wenloom.runtime.window import view_of


def guess_ahead(sequences: SequenceGroup, selector: TokenSelector, predicted: Sequence[int] = ()) -> Strategy:
    """Speculative decoding (Leviathan et al. 2023) that gives the very tokens it would give without.

    Each position's token is chosen by its own scores and its own random numbers, exactly as without guesses; a
    guess only lets several positions be read at once. It holds as far as it agrees. Since the draft model draws
    with the same random numbers (`sampling.gumbel`), it agrees as often as the two distributions overlap.

    Args:
        predicted: tokens that the continuation is expected to resemble; empty: the draft model guesses, or what the text
            said before.
    """
    text = yield from begin(sequences, sequences.job.prompt)
    draft = sequences.open(sequences.job.prompt, model=1) if sequences.job.request.num_assistant_tokens else None
    worth = _Worth(*sequences.runners[: 1 + (draft is not None)])
    config = sequences.config
    out = sequences.job.continuations[sequences.index]
    r, place = sequences.job.request, 0
    while True:
        limit = r.num_assistant_tokens or r.prompt_lookup_num_tokens or _PREDICTED
        limit = min(limit, selector.room - len(out.tokens) - 1)
        view, n = view_of(config, len(text.tokens)), len(text.tokens)
        limit = next((i for i in range(limit) if view_of(config, n + i + 1) != view), limit)
        guess: list[int] = []
        if limit > 0 and worth.trying(limit):
            if predicted:
                place = predicted_place(predicted, out.tokens, place)
                guess = list(predicted[place : place + limit])
            elif draft is None:
                guess = looked_up(text.tokens, limit)
            else:
                guess = yield from _drafted(sequences, selector, draft, text.tokens, limit)
        text.tokens += guess
        (reading,) = yield [ForwardRequest(text, 1 + len(guess))]
        del text.tokens[n:]
        agreed = 0
        for index in range(1 + len(guess)):
            token = selector.choose(reading.logits[index], text.tokens)
            if add(sequences, selector, token, reading.logits[index]) or token is None:
                return
            text.tokens.append(token)
            if index < len(guess) and token != guess[index]:
                break
            agreed += index < len(guess)
        # what was read beyond the tokens that hold is forgotten by counting it as unknown
        text.known = min(text.known, len(text.tokens) - 1 - text.view.first)
        if guess:
            worth.learn(len(guess), agreed)
            sequences.job.n_guessed += len(guess)
            sequences.job.n_agreed += agreed


def looked_up(tokens: Sequence[int], limit: int, longest: int = 3) -> list[int]:
    """What followed the last time that the text ended as it does now (prompt lookup, Saxena 2023).

    >>> looked_up([1, 2, 3, 4, 9, 1, 2, 3], 2)
    [4, 9]
    """
    history = np.asarray(tokens)
    for n in range(min(longest, len(tokens) - 1), 0, -1):
        windows = np.lib.stride_tricks.sliding_window_view(history[:-1], n)
        found = np.flatnonzero((windows == history[-n:]).all(1))
        if len(found):
            begins = int(found[-1]) + n
            return list(tokens[begins : begins + limit])
    return []


def predicted_place(predicted: Sequence[int], written: Sequence[int], place: int, longest: int = 3) -> int:
    """Where a prediction goes on after what has been written: behind the next place (or else the first of all) that holds the
    last tokens written, as many of them as it holds at most; its end where it holds none.

    >>> predicted_place([1, 2, 3, 9, 2, 3, 7], [5, 2, 3], 4)
    6
    """
    history = np.asarray(predicted)
    if not written:
        return 0
    for n in range(min(longest, len(written), len(history)), 0, -1):
        windows = np.lib.stride_tricks.sliding_window_view(history, n)
        found = np.flatnonzero((windows == np.asarray(written[-n:])).all(1)) + n
        if len(found):
            return int(next((each for each in found if each >= place), found[0]))
    return len(history)


def _drafted(
    sequences: SequenceGroup, selector: TokenSelector, draft: Text, tokens: Sequence[int], limit: int
) -> Generator[list[ForwardRequest], list[ForwardResult], list[int]]:
    """What the draft model would write."""
    same = next((i for i, (a, b) in enumerate(zip(draft.tokens, tokens, strict=False)) if a != b), len(draft.tokens))
    draft.known = max(0, min(draft.known, same - draft.view.first))
    draft.tokens = list(tokens)
    twin, guess = selector.fork(), []
    twin.mirostat = copy.copy(selector.mirostat)
    while len(guess) < limit:
        (reading,) = yield [ForwardRequest(draft)]
        token = twin.choose(reading.logits[-1], draft.tokens)
        if token is None:
            break
        guess.append(token)
        twin.advance(token)
        draft.tokens.append(token)
        if token in selector.endings:
            break
    return guess


_PREDICTED = 16
"""Tokens of a prediction that are proposed at a time."""


class _Worth:
    """Whether guessing gains time here, by what was agreed on lately and by what steps cost.

    With guesses a step gives 1 + agreed tokens for a longer read (and the draft's steps); without, one. Where
    that loses, guessing rests for ever longer, and is then tried again.
    """

    def __init__(self, main: ModelRunner, draft: ModelRunner | None = None):
        self._main, self._draft = main, draft
        self._agreed, self._rest, self._pause = 0.7, 0, 8
        """Share of guesses agreed on, steps still to rest, and the next rest."""

    def trying(self, n: int) -> bool:
        if self._rest > 0:
            self._rest -= 1
            return False
        beside = max(1, self._main.in_use)
        plain, checked = self._main.cost(beside), self._main.cost(beside + n)
        if plain is None or checked is None:
            return True
        if self._draft is not None:
            checked += n * (self._draft.cost(beside) or 0.0)
        if self._agreed * n * plain < checked - plain:
            self._rest, self._pause = self._pause, min(512, 2 * self._pause)
            self._agreed = max(self._agreed, 0.5)  # a fresh chance after the rest
            return False
        return True

    def learn(self, guessed: int, agreed: int) -> None:
        self._agreed += 0.2 * (agreed / guessed - self._agreed)
        if agreed == guessed:
            self._pause = 8
