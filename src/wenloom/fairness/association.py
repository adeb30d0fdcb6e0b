"""Associations of words (WEAT, Caliskan et al. 2017) and of words in plain sentences (SEAT, May et al. 2019) in a model's vectors."""

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wenloom.core.errors import InputError
from wenloom.core.foreign import reading
from wenloom.evaluation.perplexity import data_hash
from wenloom.evaluation.rows import read_text
from wenloom.evaluation.signature import Signature
from wenloom.fairness.audit import VERSION, Audit, Audited, AuditFigure, spread
from wenloom.fairness.audited_model import AskedModel
from wenloom.text.lexicon import Association, lexicon

_EXACT = 100_000
"""Ways to divide the targets up to which all are tried."""
_DRAWN = 100_000
_RESAMPLES = 2000
_SETS = ("targ1", "targ2", "attr1", "attr2")


@dataclass(frozen=True)
class WordTest:
    """Four sets of texts."""

    name: str
    convention: str
    """word or sentence."""
    names: tuple[str, str, str, str]
    targets: tuple[tuple[str, ...], tuple[str, ...]]
    attributes: tuple[tuple[str, ...], tuple[str, ...]]

    @property
    def texts(self) -> list[str]:
        """All of them, one after the other."""
        return [text for each in (*self.targets, *self.attributes) for text in each]


class Associations(Audit):
    """Whether vectors of one group's words lie nearer to one set of attributes.

    Args:
        language: lexicon with the sets, or its file.
    """

    name = "seat"
    about = "which attributes lie near words of which group, in the model's vectors (word: WEAT; sentence: SEAT)"
    caveat = (
        "an effect near 0 does not show that there is no bias: in models with context many effects that are known do "
        "not show (May et al. 2019); compare with flowers and insects"
    )
    source = "github.com/W4ngatang/sent-bias"
    files = ("*weat*.jsonl", "project_implicit*.jsonl")

    def __init__(self, language: str = "en"):
        self.language, self.headline = language, ("effect size", "sentence")

    def samples(self, data: Path, limit: int | None = None) -> list[WordTest]:
        """The lexicon's tests, and those published that lie below the folder."""
        known = lexicon(self.language)
        own = [_in_sentences(each, templates, convention)
               for each in known.associations
               for convention, templates in (("word", ("{}",)), ("sentence", known.templates))]  # fmt: skip
        published = [_published(path) for path in self.located(data)] if self.is_below(data) else []
        if not own and not published:
            raise InputError(f"the lexicon {self.language} has no associations.")
        return spread([*own, *published], limit)

    def why_not(self, model: AskedModel) -> str | None:
        return f"it compares vectors of texts, and {why}" if (why := model.why_no_vectors) else None

    def ask(self, model: AskedModel, data: Path, limit: int | None, on_samples: Callable[[int], None]) -> Audited:
        figures = []
        for test in self.samples(data, limit):
            vectors = np.asarray(model.embedder.embed(test.texts, normalize=False), np.float64)
            if not np.isfinite(vectors).all():
                raise InputError(f"{self.name}: the model gives vectors that hold no numbers; its weights are damaged.")
            sizes = np.cumsum([len(each) for each in (*test.targets, *test.attributes)])[:-1]
            x_ND, y_ND, a_ND, b_ND = np.split(vectors, sizes)
            found = effect(x_ND, y_ND, a_ND, b_ND)
            signature = Signature.of(
                f"{self.name}.effect_size", convention=test.convention, pooling=",".join(model.embedder.config.pooling),
                n=len(test.texts), dtype="float32", data=data_hash(repr(test)), version=VERSION,
            )  # fmt: skip
            first, _, one, other = test.names
            figures.append(AuditFigure(
                self.name, "effect size", test.convention, test.name, found.size, None, len(test.targets[0]) + len(test.targets[1]),
                found.low, found.high, 0.0, signature, "d", (f"{first}: {one}", f"{first}: {other}"), found.p))  # fmt: skip
            on_samples(1)
        return Audited(self, figures)


@dataclass(frozen=True)
class Effect:
    """How much nearer the first targets lie to the first attributes than the second ones do."""

    size: float
    """d: difference of the mean associations in standard deviations; from -2 to 2."""
    p: float
    """Of a division of the targets with at least this difference (one-sided)."""
    low: float
    high: float
    """Of a 95 % interval: targets drawn again."""


def effect(x_ND: np.ndarray, y_ND: np.ndarray, a_ND: np.ndarray, b_ND: np.ndarray, seed: int = 12345) -> Effect:
    """Caliskan et al. 2017: s(w) = mean cos(w, a) - mean cos(w, b); d = (mean s(x) - mean s(y)) / std s(x or y)."""
    x_ND, y_ND, a_ND, b_ND = (
        each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-30) for each in (x_ND, y_ND, a_ND, b_ND)
    )
    x_N, y_N = ((each @ a_ND.T).mean(1) - (each @ b_ND.T).mean(1) for each in (x_ND, y_ND))
    draw = np.random.default_rng(seed)
    again = [
        _size(x_N[draw.integers(0, len(x_N), len(x_N))], y_N[draw.integers(0, len(y_N), len(y_N))])
        for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(again, [0.025, 0.975])
    return Effect(_size(x_N, y_N), permutation_p(x_N, y_N, draw), float(low), float(high))


def _size(x_N: np.ndarray, y_N: np.ndarray) -> float:
    deviation = np.concatenate((x_N, y_N)).std(ddof=1)
    return float((x_N.mean() - y_N.mean()) / deviation) if deviation > 1e-15 else 0.0


def permutation_p(x_N: np.ndarray, y_N: np.ndarray, draw: np.random.Generator) -> float:
    """Of all divisions into sets of these sizes (100,000 drawn ones, where there are more), the part whose difference of means is
    at least that of these two."""
    both, n = np.concatenate((x_N, y_N)), len(x_N)
    observed = x_N.sum() - 1e-9 * max(1e-12, np.abs(both).max())
    if math.comb(len(both), n) <= _EXACT:
        sums = [both[list(each)].sum() for each in itertools.combinations(range(len(both)), n)]
        return float(np.mean(np.array(sums) >= observed))
    larger = sum(int(draw.permutation(both)[:n].sum() >= observed) for _ in range(_DRAWN))
    return (larger + 1) / (_DRAWN + 1)


def _in_sentences(each: Association, templates: Sequence[str], convention: str) -> WordTest:
    sets = [tuple(template.replace("{}", word) for word in words for template in templates)
            for _, words in (*each.targets, *each.attributes)]  # fmt: skip
    first, second, one, other = (name for name, _ in (*each.targets, *each.attributes))
    return WordTest(each.name, convention, (first, second, one, other), (sets[0], sets[1]), (sets[2], sets[3]))


def _published(path: Path) -> WordTest:
    """
    Raises:
        InputError: the file does not hold four sets.
    """
    with reading(path):
        table = json.loads(read_text(path))
    names, words = [], []
    for key in _SETS:
        each: Any = table.get(key) if isinstance(table, dict) else None
        examples = each.get("examples") if isinstance(each, dict) else None
        if not isinstance(examples, list) or len(examples) < 2 or not all(isinstance(text, str) for text in examples):
            raise InputError(f'{path}: {key} must have "examples", a list of two texts or more.')
        names.append(str(each.get("category", key))[:60])
        words.append(tuple(examples))
    convention = "sentence" if path.name.startswith("sent-") else "word"
    stem = path.name.split(".")[0]
    return WordTest(
        stem, convention, (names[0], names[1], names[2], names[3]), (words[0], words[1]), (words[2], words[3])
    )
