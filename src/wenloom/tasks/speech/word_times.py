"""When every word was said: by the decoder's attention to the sound, made monotonic by dynamic time warping, or by CTC.

Some heads of the cross-attention follow the sound. The mean of their weights is taken for the probability of a frame given a
token; wanted is the most probable path from the first token to the last and from the first frame to the last. Whisper's authors
(`timing.py`) take the weights normalised over tokens and smoothed by a median over time instead, which makes the error twice as
large, and leave the places as they are, which is `_LATE` behind the sound (`docs/experiments.md`). A CTC head gives every token its places on the most
probable path that spells the text.
"""

import string
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wenloom.audio.activity import MOMENT, active_moments
from wenloom.audio.log_mel import FRAMES_PER_SECOND, HOP
from wenloom.audio.reading import RATE
from wenloom.model.cache import EncoderKV
from wenloom.model.decoder import Decoder
from wenloom.model.taps import Taps, keep
from wenloom.tasks.speech.ctc import aligned
from wenloom.tasks.speech.transcript import Word
from wenloom.tasks.speech.vocabulary import SECONDS_PER_STAMP, SpeechTokens
from wenloom.tokens.tokenizer import TextTokenizer

_LATE = 0.09
"""Seconds by which the attention is behind the words: the median over both ends of 133 words of 22 recordings that an aligner with
hidden Markov models placed (0.10), and over 101 words of a synthesizer that tells where it says them (0.085); of tiny.en."""
_LEAST_WEIGHT = 1e-3
"""Added to the mean weight of a place: a place that no head looks at is improbable, not impossible."""
_PAUSE = 0.1
"""Seconds of quiet at a word's edge from which on they are no part of it."""
_SHORTEST = SECONDS_PER_STAMP
"""Seconds of a word, at least: a segment that takes no time would be left out."""
_UNSPACED = frozenset("zh ja th lo my yue".split())
"""Languages written without blanks: every character is a word."""
_BEFORE_PEAK = 0.2
"""Seconds of a word before the place where CTC is sure of it, at most."""
_BEFORE = "\"'“¿([{-"
_BEHIND = "\"'.。,，!！?？:：”)]}、"
_ENDS = frozenset(".。!！?？")


@torch.inference_mode()
def word_times(
    decoder: Decoder, tokens: SpeechTokens, tokenizer: TextTokenizer, encoder_kv: EncoderKV, opening: Sequence[int],
    segments: Sequence[Sequence[int]], offset: float, samples: np.ndarray, language: str,
) -> list[list[Word]]:  # fmt: skip
    """The words of a window's segments.

    Args:
        encoder_kv: of the window.
        opening: how its transcript begins, without times.
        segments: their tokens of text.
        offset: second at which the window begins.
        samples: of it, as far as it is sound.
    """
    n_frames = len(samples) // HOP
    ids = [token for segment in segments for token in segment]
    ids = ids[: decoder.config.context_length - len(opening) - 1]
    matrix, probabilities = _attention(decoder, tokens, encoder_kv, opening, ids, n_frames // 2)
    rows, columns = warped(-matrix)
    starts = np.concatenate(([True], np.diff(rows) > 0))
    times = columns[starts] * SECONDS_PER_STAMP
    words: list[list[Word]] = []
    place = 0
    for segment in segments:
        texts, counts = _split(tokenizer, segment[: max(0, len(ids) - place)], language)
        found: list[Word] = []
        for text, count in zip(texts, counts, strict=True):
            end = place + count
            found.append(Word(text, float(times[place]), float(times[end]), float(np.mean(probabilities[place:end]))))
            place = end
        words.append(found)
    active, last = active_moments(samples), n_frames / FRAMES_PER_SECOND
    made: list[list[Word]] = []
    for segment in _within_reason(words):
        made.append([])
        for word in _merged(segment):
            start, end = _without_pauses(max(0.0, word.start - _LATE), min(last, max(0.0, word.end - _LATE)), active)
            start = max(0.0, min(start, last - _SHORTEST))
            end = max(end, start + _SHORTEST)
            made[-1].append(
                Word(word.word, round(offset + start, 2), round(offset + end, 2), round(word.probability, 4))
            )
    return made


def _without_pauses(start: float, end: float, active: np.ndarray) -> tuple[float, float]:
    """A word's times without the quiet at its edges, where that lasts.

    Args:
        active: whether each moment of the window stands out.
    """
    moment = MOMENT / RATE
    begin = round(start / moment)
    loud = np.flatnonzero(active[begin : round(end / moment)])
    if not len(loud):
        return start, end
    first, last = (begin + loud[0]) * moment, (begin + loud[-1] + 1) * moment
    return float(first if first - start >= _PAUSE else start), float(last if end - last >= _PAUSE else end)


def ctc_word_times(
    logprobs_SV: Tensor,
    blank: int,
    tokenizer: TextTokenizer,
    segments: Sequence[Sequence[int]],
    offset: float,
    language: str,
) -> list[list[Word]]:
    """The words of a window's segments by its CTC head.

    A head says a token where it is sure of it, mostly at one place and late; so a word begins where half of the blanks since
    the word before are over, at most `_BEFORE_PEAK` before its first token.

    Args:
        logprobs_SV: of the places that are sound.
    """
    ids = [token for segment in segments for token in segment]
    spans = aligned(logprobs_SV, ids, blank)
    words: list[list[Word]] = []
    place, before = 0, 0.0
    for segment in segments:
        found: list[Word] = []
        for text, count in zip(*_split(tokenizer, segment, language), strict=True):
            its = spans[place : place + count]
            first, last = its[0][0] * SECONDS_PER_STAMP, its[-1][1] * SECONDS_PER_STAMP
            start = max(first - _BEFORE_PEAK, (before + first) / 2)
            sure = [float(logprobs_SV[begin:end, token].max().exp())
                    for (begin, end), token in zip(its, ids[place : place + count], strict=True)]  # fmt: skip
            found.append(Word(text, start, last, float(np.mean(sure))))
            place, before = place + count, last
        words.append(found)
    return [[Word(each.word, round(offset + each.start, 2), round(offset + each.end, 2), round(each.probability, 4))
             for each in _merged(segment)] for segment in words]  # fmt: skip


def _attention(
    decoder: Decoder, tokens: SpeechTokens, encoder_kv: EncoderKV, opening: Sequence[int], ids: Sequence[int], n_places: int
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Log of the weights (tokens + 1, places) of the heads that follow the sound, and the probability of every token.

    The last row is that of the end, which says when the last word ends.
    """
    heads = tokens.alignment_heads
    names = {layer: f"blocks.{layer}.cross.pattern" for layer, _ in heads}
    kept: dict[str, Tensor] = {}
    taps = Taps({name: keep(name, kept) for name in names.values()}, decoder.places)
    line = torch.tensor([[*opening, tokens.no_times, *ids, tokens.end]], device=encoder_kv.keys[0].device)
    x_1TD = decoder.hidden(line, encoder_kv=encoder_kv, taps=taps)
    begin = len(opening)
    logits_TV = decoder.unembed(x_1TD[0, begin : begin + len(ids)])[:, : tokens.end].float()
    asked = torch.tensor(ids, device=logits_TV.device)
    probabilities = logits_TV.softmax(-1).gather(1, asked[:, None])[:, 0].cpu().numpy()
    weights_HTS = torch.stack([kept[names[layer]][0, head] for layer, head in heads])[:, :, : max(1, n_places)].float()
    weights_TS = (weights_HTS / weights_HTS.sum(-1, keepdim=True)).mean(0)
    return (weights_TS[begin:-1] + _LEAST_WEIGHT).log().cpu().numpy().astype(np.float64), probabilities


def warped(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest path through a matrix from its first corner to its last, by steps to the right, down or both.

    Of equal steps the one to the right is taken. Each diagonal is computed at once.

    Args:
        costs: shape (rows, columns).

    Returns:
        Row and column of every step.
    """
    n_rows, n_columns = costs.shape
    came = np.full((n_rows + 1, n_columns + 1), 2, np.int8)
    came[:, 0] = 1
    before = np.full(n_rows + 1, np.inf)  # the diagonal of sum s - 2, by row
    before[0] = 0
    last = np.full(n_rows + 1, np.inf)
    for total in range(2, n_rows + n_columns + 1):
        rows = np.arange(max(1, total - n_columns), min(n_rows, total - 1) + 1)
        both, down, right = before[rows - 1], last[rows - 1], last[rows]
        is_both = (both < down) & (both < right)
        is_down = (down < both) & (down < right)
        came[rows, total - rows] = np.where(is_both, 0, np.where(is_down, 1, 2))
        line = np.full(n_rows + 1, np.inf)
        line[rows] = costs[rows - 1, total - rows - 1] + np.where(is_both, both, np.where(is_down, down, right))
        before, last = last, line
    row, column, path = n_rows, n_columns, []
    while row > 0 or column > 0:
        path.append((row - 1, column - 1))
        step = came[row, column] if row else 2
        row -= step in (0, 1)
        column -= step in (0, 2)
    steps = np.array(path[::-1])
    return steps[:, 0], steps[:, 1]


def _split(tokenizer: TextTokenizer, ids: Sequence[int], language: str) -> tuple[list[str], list[int]]:
    """Words of a segment, and how many tokens each has; marks are words of their own."""
    texts: list[str] = []
    counts: list[int] = []
    part: list[int] = []
    for token in ids:
        part.append(token)
        text = tokenizer.decode(part)
        if "\ufffd" in text:  # half a character
            continue
        begins = not texts or text.startswith(" ") or text.strip() in string.punctuation or language in _UNSPACED
        if begins:
            texts.append(text)
            counts.append(len(part))
        else:
            texts[-1] += text
            counts[-1] += len(part)
        part = []
    if part and texts:
        texts[-1] += tokenizer.decode(part)
        counts[-1] += len(part)
    return texts, counts


def _within_reason(words: list[list[Word]]) -> list[list[Word]]:
    """Words next to a pause, which swallow it, cut to twice the median length of a word (at most 0.7 s) at a sentence's end
    or beginning."""
    lengths = [word.end - word.start for segment in words for word in segment if word.end > word.start]
    if not lengths:
        return words
    most = 2 * min(0.7, float(np.median(lengths)))
    made: list[list[Word]] = []
    behind_end = True
    for segment in words:
        its: list[Word] = []
        for place, word in enumerate(segment):
            if word.end - word.start > most:
                if word.word.strip() in _ENDS:
                    word = Word(word.word, word.start, word.start + most, word.probability)
                elif behind_end or place == 0:
                    word = Word(word.word, word.end - most, word.end, word.probability)
            behind_end = word.word.strip() in _ENDS
            its.append(word)
        made.append(its)
    return made


def _merged(words: Sequence[Word]) -> list[Word]:
    """Words with the marks before and behind them."""
    made: list[Word] = []
    opening = ""
    for word in words:
        text = word.word.strip()
        if text and all(char in _BEFORE for char in text) and word.word.startswith(" "):
            opening += word.word
        elif made and text and all(char in _BEHIND for char in text) and not word.word.startswith(" "):
            made[-1] = Word(made[-1].word + word.word, made[-1].start, made[-1].end, made[-1].probability)
        else:
            made.append(Word(opening + (text if opening else word.word), word.start, word.end, word.probability))
            opening = ""
    if opening and made:
        made[-1] = Word(made[-1].word + opening, made[-1].start, made[-1].end, made[-1].probability)
    return made
