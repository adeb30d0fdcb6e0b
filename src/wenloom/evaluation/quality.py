"""The quality of free text without references: variety, repetition, word frequencies, distance to human text, copying,
and facts that the prompt does not support."""

import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from wenloom.core.errors import InputError
from wenloom.evaluation.words import words_of
from wenloom.model.decoder import Decoder
from wenloom.tokens.shards import Dataset
from wenloom.tokens.tokenizer import TextTokenizer


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Different n-grams per n-gram over all texts (Li et al. 2016); falls with the amount of text, so compare equal amounts.

    >>> distinct_n(["a b a b"], 2)
    0.6666666666666666
    """
    grams = [gram for text in texts for gram in _grams(words_of(text, stemming=False), n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def self_bleu(texts: Sequence[str], most: int = 100) -> float:
    """Mean BLEU of each text against all others (Zhu et al. 2018): high where they are alike. Of the first `most` texts.

    Raises:
        InputError: fewer than two texts.
    """
    texts = list(texts)[:most]
    if len(texts) < 2:
        raise InputError("self-BLEU needs at least two texts.")
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(tokenize="none", effective_order=True)
    spaced = [" ".join(words_of(text, stemming=False)) for text in texts]
    scores = []
    for index, text in enumerate(spaced):
        others = [other for place, other in enumerate(spaced) if place != index]
        scores.append(metric.sentence_score(text, others).score)
    return float(np.mean(scores))


def repetition(text: str, n: int = 4) -> float:
    """Share of n-grams that stood before in the same text (rep-n, Welleck et al. 2020).

    >>> round(repetition("a b c d a b c d"), 6)
    0.2
    """
    grams = _grams(words_of(text, stemming=False), n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


@dataclass(frozen=True)
class Loop:
    """A text that ends by saying the same again and again."""

    phrase: str
    times: int


def ending_loop(text: str, least: int = 3) -> Loop | None:
    """What a text repeats until its end, at least `least` times in a row; None if it does not.

    >>> ending_loop("And then they went home. home. home. home.")
    Loop(phrase='home', times=4)
    """
    words = words_of(text, stemming=False)[::-1]
    for length, agreeing in enumerate(_agreeing(words)[1 : len(words) // least + 1], 1):
        times = 1 + agreeing // length
        if times >= least and (length > 1 or times > least):
            return Loop(" ".join(words[:length][::-1]), times)
    return None


def _agreeing(words: Sequence[str]) -> list[int]:
    """For every place how many words from there on equal the first ones (Z-function; Gusfield 1997, section 1.4), in
    linear time."""
    found, left, right = [0] * len(words), 0, 0
    for place in range(1, len(words)):
        if place < right:
            found[place] = min(right - place, found[place - left])
        while place + found[place] < len(words) and words[found[place]] == words[place + found[place]]:
            found[place] += 1
        if place + found[place] > right:
            left, right = place, place + found[place]
    return found


def zipf_exponent(texts: Iterable[str]) -> tuple[float, float]:
    """s of frequency ~ rank^-s over the words that come at least five times, and R² of the fit in log-log; human text of
    natural languages has s near 1.

    Raises:
        InputError: too few words to fit.
    """
    counts = Counter(word for text in texts for word in words_of(text, stemming=False))
    frequencies = np.array(sorted((count for count in counts.values() if count >= 5), reverse=True), float)
    if len(frequencies) < 10:
        raise InputError("a fit of word frequencies needs at least ten words that come five times or more.")
    x, y = np.log(np.arange(1, len(frequencies) + 1)), np.log(frequencies)
    slope, intercept = np.polyfit(x, y, 1)
    residual = ((y - slope * x - intercept) ** 2).sum() / ((y - y.mean()) ** 2).sum() if y.std() else 0.0
    return float(-slope), float(1 - residual)


# --- distance to human text ---


def features(decoder: Decoder, tokenizer: TextTokenizer, texts: Sequence[str]) -> np.ndarray:
    """For `mauve`: a model's last residual stream after the last token of each text, shape (texts, d_model).

    Raises:
        InputError: an empty text.
    """
    rows = []
    with torch.inference_mode():
        for number, text in enumerate(texts, 1):
            ids = tokenizer.encode(text)[-decoder.config.context_length :]
            if not ids:
                raise InputError(f"text {number} is empty; MAUVE has no features for it.")
            rows.append(
                decoder.hidden(torch.tensor([ids], device=decoder.embed.weight.device))[0, -1].float().cpu().numpy()
            )
    return np.array(rows)


def mauve(
    human: np.ndarray, machine: np.ndarray, clusters: int | None = None, scale: float = 5.0, seed: int = 0
) -> float:
    """The area under the divergence curve between two sets of texts (Pillutla et al. 2021): 1 where they are alike.

    Texts are given by features of any model, which are reduced by PCA and quantised together by k-means; compare only
    figures of the same features and amount of text (the paper: 5,000 each).

    Args:
        human, machine: features, shape (texts, dimensions).
        clusters: default: a tenth of the smaller set, at most 500.

    Raises:
        InputError: fewer than 20 texts on a side.
    """
    if min(len(human), len(machine)) < 20:
        raise InputError(f"MAUVE needs at least 20 texts of each kind; there are {len(human)} and {len(machine)}.")
    clusters = clusters or max(2, min(500, min(len(human), len(machine)) // 10))
    both = np.concatenate([human, machine]).astype(float)
    both /= np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-12)
    both -= both.mean(0)
    _, values, axes = np.linalg.svd(both, full_matrices=False)
    kept = int(np.searchsorted(np.cumsum(values**2) / max(float((values**2).sum()), 1e-12), 0.9)) + 1
    labels = _k_means(both @ axes[:kept].T, clusters, seed)
    p, q = (np.bincount(part, minlength=clusters) / len(part) for part in (labels[: len(human)], labels[len(human) :]))
    points = [(0.0, 1.0)]
    for weight in np.linspace(1e-6, 1 - 1e-6, 25)[::-1]:
        mixture = weight * p + (1 - weight) * q
        points.append((math.exp(-scale * _divergence(q, mixture)), math.exp(-scale * _divergence(p, mixture))))
    points.append((1.0, 0.0))
    x, y = np.array(sorted(points)).T
    one = float(np.trapezoid(y, x)) if hasattr(np, "trapezoid") else float(np.trapz(y, x))  # pyright: ignore
    return min(1.0, one)


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Kullback-Leibler, nats; q is positive wherever p is."""
    there = p > 0
    return float((p[there] * np.log(p[there] / q[there])).sum())


def _k_means(points: np.ndarray, clusters: int, seed: int, rounds: int = 50) -> np.ndarray:
    """Labels by Lloyd's algorithm from a k-means++ start (Arthur and Vassilvitskii 2007)."""
    draw = np.random.default_rng(seed)
    centres = [points[draw.integers(len(points))]]
    nearest = ((points - centres[0]) ** 2).sum(1)
    for _ in range(clusters - 1):
        total = nearest.sum()
        place = draw.choice(len(points), p=nearest / total) if total > 0 else draw.integers(len(points))
        centres.append(points[place])
        nearest = np.minimum(nearest, ((points - points[place]) ** 2).sum(1))
    means, labels = np.array(centres), np.zeros(len(points), int)
    for number in range(rounds):
        found = (-2 * points @ means.T + (means**2).sum(1)).argmin(1)
        if number and (found == labels).all():
            break
        labels = found
        for label in range(clusters):
            if (labels == label).any():
                means[label] = points[labels == label].mean(0)
    return labels


# --- copying and facts ---


@dataclass(frozen=True)
class Copied:
    """A stretch of a text that stands in the training text word for word."""

    text: str
    words: int


class CopyDetector:
    """Finds what stands in a training text word for word, by hashes of its n-grams (8 bytes a word of the text)."""

    def __init__(self, training: Iterable[str], n: int = 8):
        self.n = n
        hashes = [_hashes(words_of(text, stemming=False), n) for text in training]
        self._known = np.unique(np.concatenate(hashes)) if hashes else np.zeros(0, np.uint64)

    @classmethod
    def of_corpus(cls, dataset: Dataset, n: int = 8, size: int = 200_000) -> "CopyDetector":
        """From the training shards of a prepared corpus; pieces of `size` tokens overlap, so that nothing is cut apart."""
        stream, tokenizer = dataset.stream("train"), dataset.tokenizer()
        starts = range(0, max(1, len(stream)), size)
        pieces = (stream.window(start, min(size + 64 * n, len(stream) - start)).tolist() for start in starts)
        return cls((tokenizer.decode(piece, skip_special_tokens=True) for piece in pieces), n)

    def copies(self, text: str) -> list[Copied]:
        """Stretches of at least n words, longest first."""
        words = words_of(text, stemming=False)
        known = np.isin(_hashes(words, self.n), self._known)
        found, start = [], None
        for place in range(len(known) + 1):
            if place < len(known) and known[place]:
                start = place if start is None else start
            elif start is not None:
                piece = words[start : place - 1 + self.n]
                found.append(Copied(" ".join(piece), len(piece)))
                start = None
        return sorted(found, key=lambda each: -each.words)

    def share(self, text: str) -> float:
        """Share of a text's words inside such stretches."""
        words = len(words_of(text, stemming=False))
        return min(1.0, sum(each.words for each in self.copies(text)) / words) if words else 0.0


_ENTITY = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][\w'-]+(?:\s+[A-Z][\w'-]+)*", re.MULTILINE)
_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")


def unsupported(prompt: str, text: str) -> list[str]:
    """Names and numbers of a text that its prompt does not have: candidates for invented facts in a summary or answer.

    Names are words with a capital inside a sentence, so this serves Latin scripts; numbers serve all.

    >>> unsupported("Anna met Bob in 2019.", "In 2020 Anna saw Carl Meyer.")
    ['Carl Meyer', '2020']
    """
    known_words = {word.lower() for word in re.findall(r"[\w'-]+", prompt)}
    names = [name for name in dict.fromkeys(_ENTITY.findall(text))
             if not all(word.lower() in known_words for word in name.split())]  # fmt: skip
    numbers = set(_FIGURE.findall(prompt))
    return [*names, *(each for each in dict.fromkeys(_FIGURE.findall(text)) if each not in numbers)]


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _hashes(words: Sequence[str], n: int) -> np.ndarray:
    """64-bit hashes of all n-grams: a polynomial of the words' hashes."""
    if len(words) < n:
        return np.zeros(0, np.uint64)
    single = np.array([zlib.crc32(word.encode()) | zlib.adler32(word.encode()) << 32 for word in words], np.uint64)
    total = np.zeros(len(words) - n + 1, np.uint64)
    for offset in range(n):
        total = total * np.uint64(0x9E3779B97F4A7C15) + single[offset : len(words) - n + 1 + offset]
    return total


@dataclass(frozen=True)
class Quality:
    """What `describe` finds about a set of texts."""

    texts: int
    distinct_1: float
    distinct_2: float
    distinct_3: float
    self_bleu: float | None
    repetition_4: float
    """Mean over texts."""
    loops: int
    """Texts that end in a loop."""
    zipf: float | None
    zipf_fit: float | None
    empty: int


def describe(texts: Sequence[str]) -> Quality:
    """Variety and repetition of a set of texts.

    Raises:
        InputError: no texts.
    """
    if not texts:
        raise InputError("there are no texts.")
    try:
        zipf, fit = zipf_exponent(texts)
    except InputError:
        zipf, fit = None, None
    return Quality(
        len(texts), distinct_n(texts, 1), distinct_n(texts, 2), distinct_n(texts, 3),
        self_bleu(texts) if len(texts) > 1 else None, float(np.mean([repetition(each) for each in texts])),
        sum(ending_loop(each) is not None for each in texts), zipf, fit, sum(not each.strip() for each in texts),
    )  # fmt: skip
