"""From encoded windows to tokens: greedy, drawn, or by beams (Whisper's `decoding.py`), many windows side by side."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wenloom.model.cache import EncoderKV, KVCache
from wenloom.model.decoder import Decoder
from wenloom.tasks.speech.ctc import Guide
from wenloom.tasks.speech.rules import TokenRules
from wenloom.tasks.speech.vocabulary import SpeechTokens


class Decoded(NamedTuple):
    """What one window was heard as."""

    tokens: list[int]
    """Text and times, without the end."""
    logprob: float
    """The sum over its tokens and the end."""
    no_speech_prob: float
    others: tuple[tuple[list[int], float], ...] = ()
    """All texts that were found with their log-probabilities, this one among them."""

    @property
    def avg_logprob(self) -> float:
        """Per token, the end counted."""
        return self.logprob / (len(self.tokens) + 1)


def rows_of(encoder_kv: EncoderKV, rows: Sequence[int]) -> EncoderKV:
    """Some windows of several."""
    index = torch.tensor(rows, device=encoder_kv.keys[0].device)
    keys, values = ([each.index_select(0, index) for each in part] for part in encoder_kv[:2])
    return EncoderKV(tuple(keys), tuple(values))


def joined(parts: Sequence[EncoderKV]) -> EncoderKV:
    """Windows of several batches as one."""
    if len(parts) == 1:
        return parts[0]
    keys, values = (
        [torch.cat(layer) for layer in zip(*(part[side] for part in parts), strict=True)] for side in (0, 1)
    )
    return EncoderKV(tuple(keys), tuple(values))


class _Steps:
    """Reads prompts of several lengths, then a token per row and step."""

    def __init__(self, decoder: Decoder, encoder_kv: EncoderKV, prompts: Sequence[Sequence[int]], start: int):
        self._decoder, self._kv = decoder, encoder_kv
        self._cache = KVCache(decoder.config.n_layers)
        device = encoder_kv.keys[0].device
        longest = max(map(len, prompts))
        padded = [[start] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        tokens_RT = torch.tensor(padded, device=device)
        lengths_R = torch.tensor([len(prompt) for prompt in prompts], device=device)
        self._mask: Tensor | None = None
        positions: Tensor | None = None
        if len(set(map(len, prompts))) > 1:
            places_T = torch.arange(longest, device=device) - (longest - lengths_R)[:, None]
            self._mask, positions = (places_T >= 0).long(), places_T.clamp(min=0)
        self._next_R = lengths_R
        x_RTD = decoder.hidden(tokens_RT, self._mask, positions, self._cache, encoder_kv=encoder_kv)
        starts = [len(each) - 1 - list(reversed(each)).index(start) for each in padded]
        self.at_start_RV = decoder.unembed(x_RTD[range(len(padded)), starts]).float()
        """Logits behind the token that opens the transcript."""
        self.logits_RV = decoder.unembed(x_RTD[:, -1]).float()
        """Logits of the next token."""

    def read(self, tokens: Sequence[int]) -> None:
        """Go on with a token in every row."""
        tokens_R1 = torch.tensor(tokens, device=self._next_R.device)[:, None]
        positions = None
        if self._mask is not None:
            self._mask = torch.cat((self._mask, self._mask.new_ones(len(tokens), 1)), 1)
            positions = self._next_R[:, None]
        x_R1D = self._decoder.hidden(tokens_R1, self._mask, positions, self._cache, encoder_kv=self._kv)
        self._next_R = self._next_R + 1
        self.logits_RV = self._decoder.unembed(x_R1D[:, -1]).float()

    def keep(self, rows: Sequence[int], windows: Sequence[int] | None = None) -> None:
        """Go on from some rows, in this order; of so many windows where some of these are done."""
        index = torch.tensor(rows, device=self._next_R.device)
        if rows != list(range(len(self._next_R))):
            self._cache.keep(index)
            self._next_R = self._next_R[index]
            self.logits_RV = self.logits_RV[index]
            self._mask = None if self._mask is None else self._mask[index]
        if windows is not None:
            self._kv = rows_of(self._kv, windows)


@torch.inference_mode()
def decode(
    decoder: Decoder,
    tokens: SpeechTokens,
    rules: TokenRules,
    encoder_kv: EncoderKV,
    prompts: Sequence[Sequence[int]],
    most: int,
    temperature: float = 0.0,
    count: int = 1,
    generators: Sequence[torch.Generator] | None = None,
    guide: Guide | None = None,
) -> list[Decoded]:
    """What every window is heard as.

    Args:
        encoder_kv: of so many windows as there are prompts.
        prompts: what stands before each transcript, its opening at the end.
        most: tokens of a transcript at most.
        temperature: 0 takes the most probable token, or with `count` beams the most probable of them.
        count: beams at temperature 0, draws above it.
        generators: of the draws, one per window.
        guide: what a language model adds to every token at temperature 0, counted among the log-probabilities.
    """
    spread = count if temperature > 0 else 1
    many = [prompt for prompt in prompts for _ in range(spread)]
    steps = _Steps(decoder, encoder_kv, many, tokens.start)
    silence = steps.at_start_RV[::spread].softmax(-1)[:, tokens.no_speech].tolist()
    most = min(most, decoder.config.context_length - max(map(len, prompts)))
    if temperature == 0 and (count > 1 or guide is not None):
        finished = _beams(steps, tokens, rules, len(prompts), count, most, guide)
    else:
        finished = _draws(steps, tokens, rules, len(prompts), spread, most, temperature, generators)
    best = [max(each, key=_rank) for each in finished]
    return [Decoded(ids, total, quiet, tuple(each))
            for (ids, total), quiet, each in zip(best, silence, finished, strict=True)]  # fmt: skip


def _rank(written: tuple[Sequence[int], float]) -> float:
    """By which beams and draws are compared: the log-probability per token, the end counted (as transformers counts)."""
    return written[1] / (len(written[0]) + 1)


def _draws(
    steps: _Steps, tokens: SpeechTokens, rules: TokenRules, n_windows: int, spread: int, most: int, temperature: float,
    generators: Sequence[torch.Generator] | None,
) -> list[list[tuple[list[int], float]]]:  # fmt: skip
    """All draws of every window. Rows that have ended are read on, unheard, until all of their window have."""
    written: list[list[int]] = [[] for _ in range(n_windows * spread)]
    totals, is_done = [0.0] * len(written), [False] * len(written)
    windows = list(range(n_windows))
    for step in range(most):
        rows = [window * spread + each for window in windows for each in range(spread)]
        logits_RV = steps.logits_RV
        rules.apply(logits_RV, [written[row] for row in rows], step == 0)
        if temperature == 0:
            chosen_R = logits_RV.argmax(-1)
        else:
            shares_RV = (logits_RV / temperature).softmax(-1)
            drawn = [
                torch.multinomial(shares, 1, generator=generators[row // spread] if generators else None)
                for row, shares in zip(rows, shares_RV, strict=True)
            ]
            chosen_R = torch.cat(drawn)
        logprobs_R = logits_RV.gather(1, chosen_R[:, None])[:, 0] - logits_RV.logsumexp(-1)
        chosen = chosen_R.tolist()
        for row, token, logprob in zip(rows, chosen, logprobs_R.tolist(), strict=True):
            if not is_done[row]:
                totals[row] += logprob
                is_done[row] = token == tokens.end
                if token != tokens.end:
                    written[row].append(token)
        left = [place for place, window in enumerate(windows)
                if not all(is_done[window * spread : (window + 1) * spread])]  # fmt: skip
        if not left or step == most - 1:
            break
        if len(left) < len(windows):
            kept = [place * spread + each for place in left for each in range(spread)]
            steps.keep(kept, left)
            chosen, windows = [chosen[place] for place in kept], [windows[place] for place in left]
        steps.read(chosen)
    return [list(zip(written[start : start + spread], totals[start : start + spread], strict=True))
            for start in range(0, n_windows * spread, spread)]  # fmt: skip


def _beams(
    steps: _Steps, tokens: SpeechTokens, rules: TokenRules, n_windows: int, count: int, most: int, guide: Guide | None
) -> list[list[tuple[list[int], float]]]:
    """The transcripts that beam search finds in every window, `count` of each, as transformers searches.

    Of each beam `count` + 1 tokens go on; all are ordered by their sum of log-probabilities; those of the first `count` that
    end are set aside, the best `count` others are the next beams. A window is done once `count` have ended and no beam ranks
    above the last of these.
    """
    finished: list[dict[tuple[int, ...], float]] = [{} for _ in range(n_windows)]
    windows = list(range(n_windows))
    beams: list[list[tuple[list[int], float]]] = [[([], 0.0)] for _ in windows]
    for step in range(most):
        logits_RV = steps.logits_RV
        so_far = [ids for each in beams for ids, _ in each]
        rules.apply(logits_RV, so_far, step == 0)
        logprobs_RV = logits_RV.log_softmax(-1)
        if guide is not None:
            logprobs_RV = logprobs_RV + guide(so_far)
        top = logprobs_RV.topk(count + 1)
        values, choices = top.values.tolist(), top.indices.tolist()
        chosen: list[int] = []
        kept: list[int] = []
        left: list[int] = []
        start = 0
        for place, window in enumerate(windows):
            more = sorted(
                ((total + value, row, token)
                 for row, (_, total) in enumerate(beams[place], start)
                 for value, token in zip(values[row], choices[row], strict=True)
                 if value > -torch.inf),
                key=lambda each: -each[0],
            )  # fmt: skip
            going: list[tuple[list[int], float]] = []
            rows: list[tuple[int, int]] = []
            ended: dict[tuple[int, ...], float] = {}
            for rank, (total, row, token) in enumerate(more):
                ids = beams[place][row - start][0]
                if token == tokens.end:
                    if rank < count:
                        ended[tuple(ids)] = total
                elif len(going) < count:
                    going.append(([*ids, token], total))
                    rows.append((row, token))
                if len(going) == count:
                    break
            while going and len(going) < count:  # rows of a window share its sound, so there are as many everywhere
                going.append((going[-1][0], -torch.inf))
                rows.append(rows[-1])
            start += len(beams[place])
            ranked = sorted((finished[window] | ended).items(), key=lambda each: -_rank(each))[:count]
            finished[window] = dict(ranked)
            beams[place] = going
            is_open = len(ranked) < count or _rank(going[0]) > _rank(ranked[-1]) if going else False
            if is_open:
                left.append(place)
                kept += [row for row, _ in rows]
                chosen += [token for _, token in rows]
        if step == most - 1:
            break
        dropped = [place for place in range(len(windows)) if place not in left]
        for place in dropped:
            _fill(finished[windows[place]], beams[place], count)
        if not left:
            windows, beams = [], []
            break
        steps.keep(kept, left if dropped else None)
        windows, beams = [windows[place] for place in left], [beams[place] for place in left]
        steps.read(chosen)
    for window, going in zip(windows, beams, strict=True):
        _fill(finished[window], going, count)
    return [[(list(ids), total) for ids, total in each.items()] for each in finished]


def _fill(finished: dict[tuple[int, ...], float], beams: list[tuple[list[int], float]], count: int) -> None:
    """Take beams that have not ended where too few have."""
    for ids, total in beams:
        if len(finished) < count and total > -torch.inf:
            finished.setdefault(tuple(ids), total)
