"""Decoding strategies that follow one text: greedy, sampling, guessing ahead, contrastive search, guidance, DoLa.

Beam search, which weighs several texts against each other, is in `beam.py`.
"""

import copy
import math
import secrets
from collections.abc import Generator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wordloom.core.errors import InputError, WordloomError
from wordloom.core.randomness import derive_seed
from wordloom.generation.beam import beam_search
from wordloom.generation.engine import Engine, Lane
from wordloom.generation.jobs import Continuation, Job, Read, Reading, Strategy, Text, TokenScore
from wordloom.generation.processors import Processors
from wordloom.generation.reader import Reader
from wordloom.generation.request import GenerationRequest
from wordloom.generation.sampling import Mirostat, draw
from wordloom.generation.window import view_of

_PROMPT_CHUNK = 128
"""Tokens of a prompt that are scored at a time: their scores take vocabulary x 4 bytes each."""


class Chooser:
    """Chooses the tokens of one continuation: the processors with their state in this text, then the draw."""

    def __init__(self, engine: Engine, job: Job, room: int, key: int):
        r = self.request = job.request
        self.endings = engine.endings(r)
        self.room, self.n_prompt, self._key = room, len(job.prompt), key
        words = [*r.bad_words_ids]
        if r.bad_words:
            words += [ids for word in r.bad_words for ids in engine.needed_tokenizer("bad_words").spellings(word)]
        breakers = engine.breakers(r.dry_sequence_breakers) if r.dry_multiplier and engine.tokenizer else frozenset()
        self.processors = Processors(r, engine.decoder.config.vocab_size, self.endings, words, breakers)
        self.matcher = engine.forms(self.endings).matcher(*r.form) if r.form else None
        self.mirostat = None if r.mirostat_tau is None else Mirostat(2 * r.mirostat_tau)

    def fork(self) -> "Chooser":
        """Another one in the same state, for another text."""
        twin = copy.copy(self)
        twin.matcher = self.matcher.copy() if self.matcher else None
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
            raise WordloomError("the model gave scores that are not numbers; its weights are damaged or overflow.")
        if not self.request.do_sample:
            return (
                best if self.request.watermark_key is None else int(self.processors.mark(scores_V, tokens[-1]).argmax())
            )
        return draw(self.processors.mark(scores_V, tokens[-1]), self.request, self._key, len(tokens), self.mirostat)

    def advance(self, token: int) -> None:
        """The text goes on with this token."""
        if self.matcher is not None and token not in self.endings:
            self.matcher.advance(token)


def lanes_for(engine: Engine, job: Job, room: int, seed_index: int) -> list[Lane]:
    """The strategies that a request takes, ready to run.

    Raises:
        InputError: an option does not fit this engine's models or vocabulary.
    """
    r = job.request
    seed = secrets.randbits(62) if r.seed is None else r.seed
    keys = [derive_seed(seed, "text", seed_index, n) for n in range(r.num_return_sequences)]
    companions = len(engine.models) - 1
    for name in ("num_assistant_tokens", "contrastive_beta"):
        if getattr(r, name) and not companions:
            raise InputError(f"{name} needs a second, smaller model beside this one.")
    layers = _dola_layers(r, engine.decoder.config.n_layers)
    if r.num_beams > 1:
        lane = Lane(engine, job, 0, (r.num_beams, 0))
        words = [[list(ids)] for ids in r.force_words_ids]
        words += [engine.needed_tokenizer("force_words").spellings(word) for word in r.force_words]
        chooser = Chooser(engine, job, room, keys[0])
        lane.strategy = beam_search(lane, chooser, chooser.endings, words, keys[0])
        return [lane]
    lanes = []
    for index, key in enumerate(keys):
        chooser = Chooser(engine, job, room, key)
        width = (1, 0)
        if r.penalty_alpha is not None:
            width = (r.top_k or 1, 0)
        elif r.guidance_scale != 1:
            width = (2, 0)
        elif r.num_assistant_tokens or r.contrastive_beta is not None:
            width = (1, 1)
        lane = Lane(engine, job, index, width)
        if r.penalty_alpha is not None:
            lane.strategy = _contrastive_search(lane, chooser)
        elif r.prompt_lookup_num_tokens or r.num_assistant_tokens:
            lane.strategy = _guess_ahead(lane, chooser)
        else:
            lane.strategy = _one_by_one(lane, chooser, layers)
        lanes.append(lane)
    return lanes


def begin(lane: Lane, tokens: Sequence[int]) -> Generator[list[Read], list[Reading], Text]:
    """Open the prompt's text; where its own scores are asked for, read it by pieces and note them."""
    n_top = lane.job.request.prompt_logprobs
    if n_top is None or lane.index > 0:
        return lane.open(tokens)
    text = lane.open(tokens[:1])
    lane.job.prompt_scores.append(None)
    config = lane.engine.decoder.config
    while (start := len(text.tokens)) < len(tokens):
        view, piece = view_of(config, start), list(tokens[start : start + _PROMPT_CHUNK])
        piece = piece[: next((i for i in range(len(piece)) if view_of(config, start + i) != view), None)]
        text.tokens += piece[:-1]
        (reading,) = yield [Read(text, len(piece))]
        lane.job.prompt_scores += [token_score(row, t, n_top) for row, t in zip(reading.logits, piece, strict=True)]
        text.tokens.append(piece[-1])
    return text


def token_score(logits_V: Tensor, token: int, n_top: int) -> TokenScore:
    """The model's own log-probability of a token, and of the best ones."""
    logprobs_V = logits_V.double().log_softmax(-1)
    best = logprobs_V.topk(min(n_top, len(logprobs_V)))
    pairs = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    return TokenScore(token, float(logprobs_V[token]), pairs)


def add(lane: Lane, chooser: Chooser, token: int | None, logits_V: Tensor) -> bool:
    """Write a token to the lane's continuation; True when that was its last."""
    out = lane.job.continuations[lane.index]
    if token is None:
        out.finish_reason = "dead end"
    else:
        out.tokens.append(token)
        if lane.job.request.logprobs is not None:
            out.scores.append(token_score(logits_V, token, lane.job.request.logprobs))
        chooser.advance(token)
        if out.stream is not None:
            out.text += out.stream.push(token)
        out.finish_reason = end_of(out, chooser, token)
    if out.finish_reason is None:
        return False
    if out.stream is not None and not out.stream.stopped:
        out.text += out.stream.finish()
    return True


def end_of(out: Continuation, chooser: Chooser, token: int) -> str | None:
    """Why a continuation ends with this token, or None."""
    if token in chooser.endings:
        return "end"
    if out.stream is not None and out.stream.stopped:
        return "stop"
    if chooser.matcher is not None and chooser.matcher.complete:
        return "form"
    return "length" if len(out.tokens) == chooser.room else None


# --- token by token, with or without a second opinion ---


def _one_by_one(lane: Lane, chooser: Chooser, layers: tuple[int, ...]) -> Strategy:
    r = lane.job.request
    text = yield from begin(lane, lane.job.prompt)
    texts = [text]
    if r.guidance_scale != 1:
        texts.append(lane.open(_negative_prompt(lane)))
    elif r.contrastive_beta is not None:
        texts.append(lane.open(lane.job.prompt, model=1))
    while True:
        readings = yield [Read(each, layers=layers) for each in texts]
        logits_V = readings[0].logits[-1]
        scores_V = logits_V
        if r.guidance_scale != 1:
            scores_V = guided(logits_V, readings[1].logits[-1], r.guidance_scale)
        elif r.contrastive_beta is not None:
            scores_V = contrasted(logits_V, readings[1].logits[-1], r.contrastive_beta, r.contrastive_alpha)
        elif layers:
            scores_V = dola(logits_V, [readings[0].early[layer][-1] for layer in layers])
        token = chooser.choose(scores_V, text.tokens)
        if add(lane, chooser, token, logits_V) or token is None:
            return
        for each in texts:
            each.tokens.append(token)


def _negative_prompt(lane: Lane) -> list[int]:
    negative = lane.job.request.negative_prompt
    if negative is None:
        return lane.job.prompt[-1:]
    return lane.engine.needed_tokenizer("negative_prompt").prompt_ids(negative)


def guided(with_V: Tensor, without_V: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: log p' = log p(x|without) + scale * (log p(x|prompt) - log p(x|without)).

    Sanchez et al. 2023, eq. 7.
    """
    with_V, without_V = with_V.log_softmax(-1), without_V.log_softmax(-1)
    return without_V + scale * (with_V - without_V)


def contrasted(expert_V: Tensor, amateur_V: Tensor, beta: float, alpha: float) -> Tensor:
    """Contrastive decoding: (1 + beta) * expert - beta * amateur where the expert finds a token plausible.

    O'Brien & Lewis 2023, eq. 2; plausible is p >= alpha * max p (Li et al. 2022, eq. 3).
    """
    plausible = expert_V >= expert_V.max() + np.log(alpha)
    return ((1 + beta) * expert_V - beta * amateur_V).masked_fill(~plausible, -torch.inf)


_RELATIVE_TOP = 0.1


def dola(last_V: Tensor, early: Sequence[Tensor]) -> Tensor:
    """Decoding by contrasting layers: log p of the last layer minus log p of the one that differs most from it.

    Chuang et al. 2023, eq. 3 to 6: "most" by Jensen-Shannon divergence; only tokens of at least 0.1 max p count.
    """
    last = last_V.log_softmax(-1)
    others = torch.stack([each.log_softmax(-1) for each in early])
    middle = torch.logaddexp(last, others) - np.log(2)
    divergence = ((last.exp() * (last - middle)).sum(-1) + (others.exp() * (others - middle)).sum(-1)) / 2
    contrast = last - others[int(divergence.argmax())]
    return contrast.masked_fill(last < last.max() + np.log(_RELATIVE_TOP), -torch.inf)


def _dola_layers(request: GenerationRequest, n_layers: int) -> tuple[int, ...]:
    """Even layers of the lower or upper half, as the paper's buckets; or those named."""
    wanted = request.dola_layers
    if wanted is None:
        return ()
    if isinstance(wanted, str):
        half = n_layers // 2
        found = range(0, half, 2) if wanted == "low" else range(half, n_layers - 1, 2)
        wanted = tuple(found) or (0,)
    if n_layers < 2 or any(not 0 <= layer < n_layers - 1 for layer in wanted):
        raise InputError(f"dola_layers {wanted}: this model has early layers 0 to {n_layers - 2}.")
    return tuple(dict.fromkeys(wanted))


def _contrastive_search(lane: Lane, chooser: Chooser) -> Strategy:
    """Of the k most probable tokens, the one with the largest (1 - alpha) p - alpha max cos(h, h_j).

    Su et al. 2022, eq. 5: h is the last hidden state with the token, h_j those of the text before it.
    """
    r = lane.job.request
    assert r.penalty_alpha is not None and r.top_k is not None
    text = lane.open(lane.job.prompt)
    visible = len(text.tokens) - view_of(lane.engine.decoder.config, len(text.tokens)).first
    (reading,) = yield [Read(text, visible, hidden=True)]
    assert reading.hidden is not None
    past_ND, logits_V = F.normalize(reading.hidden, dim=-1), reading.logits[-1]
    candidates = [text]
    while True:
        scores_V = chooser.process(logits_V, text.tokens)
        best = scores_V.softmax(-1).topk(min(r.top_k, int(scores_V.isfinite().sum())))
        if not len(best.indices):
            add(lane, chooser, None, logits_V)
            return
        tokens = best.indices.tolist()
        while len(candidates) < len(tokens):
            candidates.append(lane.fork(text))
        for candidate in candidates[: len(tokens)]:
            if candidate is not text:
                lane.assign(candidate, text)
        for candidate, token in zip(candidates, tokens, strict=False):
            candidate.tokens.append(token)
        readings = yield [Read(each, hidden=True) for each in candidates[: len(tokens)]]
        hidden_KD = F.normalize(torch.cat([each.hidden for each in readings if each.hidden is not None]), dim=-1)
        likeness_K = (hidden_KD @ past_ND.T).amax(-1).float().cpu()
        winner = int(((1 - r.penalty_alpha) * best.values - r.penalty_alpha * likeness_K).argmax())
        if add(lane, chooser, tokens[winner], logits_V):
            return
        text = candidates[winner]
        past_ND, logits_V = torch.cat((past_ND, hidden_KD[winner : winner + 1])), readings[winner].logits[-1]


# --- guessing ahead ---


def _guess_ahead(lane: Lane, chooser: Chooser) -> Strategy:
    """Speculative decoding (Leviathan et al. 2023) that gives the very tokens it would give without.

    Each position's token is chosen by its own scores and its own random numbers, exactly as without guesses; a
    guess only lets several positions be read at once. It holds as far as it agrees. Since the draft model draws
    with the same random numbers (`sampling.gumbel`), it agrees as often as the two distributions overlap.
    """
    text = yield from begin(lane, lane.job.prompt)
    draft = lane.open(lane.job.prompt, model=1) if lane.job.request.num_assistant_tokens else None
    worth = _Worth(*lane.readers[: 1 + (draft is not None)])
    config = lane.engine.decoder.config
    out = lane.job.continuations[lane.index]
    while True:
        r = lane.job.request
        limit = min(r.num_assistant_tokens or r.prompt_lookup_num_tokens, chooser.room - len(out.tokens) - 1)
        view, n = view_of(config, len(text.tokens)), len(text.tokens)
        limit = next((i for i in range(limit) if view_of(config, n + i + 1) != view), limit)
        guess: list[int] = []
        if limit > 0 and worth.trying(limit):
            if draft is None:
                guess = looked_up(text.tokens, limit)
            else:
                guess = yield from _drafted(lane, chooser, draft, text.tokens, limit)
        text.tokens += guess
        (reading,) = yield [Read(text, 1 + len(guess))]
        del text.tokens[n:]
        agreed = 0
        for index in range(1 + len(guess)):
            token = chooser.choose(reading.logits[index], text.tokens)
            if add(lane, chooser, token, reading.logits[index]) or token is None:
                return
            text.tokens.append(token)
            if index < len(guess) and token != guess[index]:
                break
            agreed += index < len(guess)
        # what was read beyond the tokens that hold is forgotten by counting it as unknown
        text.known = min(text.known, len(text.tokens) - 1 - text.view.first)
        if guess:
            worth.learn(len(guess), agreed)


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


def _drafted(
    lane: Lane, chooser: Chooser, draft: Text, tokens: Sequence[int], limit: int
) -> Generator[list[Read], list[Reading], list[int]]:
    """What the companion model would write."""
    same = next((i for i, (a, b) in enumerate(zip(draft.tokens, tokens, strict=False)) if a != b), len(draft.tokens))
    draft.known = max(0, min(draft.known, same - draft.view.first))
    draft.tokens = list(tokens)
    twin, guess = chooser.fork(), []
    twin.mirostat = copy.copy(chooser.mirostat)
    while len(guess) < limit:
        (reading,) = yield [Read(draft)]
        token = twin.choose(reading.logits[-1], draft.tokens)
        if token is None:
            break
        guess.append(token)
        twin.advance(token)
        draft.tokens.append(token)
        if token in chooser.endings:
            break
    return guess


class _Worth:
    """Whether guessing gains time here, by what was agreed on lately and by what steps cost.

    With guesses a step gives 1 + agreed tokens for a longer read (and the draft's steps); without, one. Where
    that loses, guessing rests for ever longer, and is then tried again.
    """

    def __init__(self, main: Reader, draft: Reader | None = None):
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
