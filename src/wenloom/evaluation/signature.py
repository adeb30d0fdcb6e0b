"""Signatures: what a figure depends on, in one line, so that two figures are compared only where they may be.

The form is sacrebleu's (Post 2018, "A Call for Clarity in Reporting BLEU Scores"), here for every metric:
`ppl|join:raw|detok:none|ctx:256|stride:128|bos:yes|window:rolling|denominator:scored|dtype:float32|data:3fa4…|version:1`.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from wenloom.core.errors import InputError

_FREE = {"version"}
"""Fields that differ between releases without changing what is measured."""

_BROKEN = re.compile(r"(\|?)\s*\n\s*")
_MEANING = {
    "join": "how the data become texts: in one piece, or cut into articles or lines that are scored apart",
    "detok": "whether spaces that a corpus put around punctuation were taken out first",
    "ctx": "how many tokens the model saw at once; fewer make every figure worse",
    "stride": "how much context the first tokens of a window have; a smaller stride makes every figure better",
    "bos": "whether the first token was scored too",
    "window": "where windows begin and which of their tokens are scored",
    "denominator": "whether words and bytes were counted in the text that was scored or in the original",
    "dtype": "the precision of the computation",
    "data": "the text itself (a hash)",
    "tok": "how the metric cuts texts into words",
    "lang": "which language was spoken",
    "script": "whether traditional and simplified characters are one",
    "case": "whether upper and lower case differ",
    "nrefs": "how many references there are for each text",
    "smooth": "how n-grams that never match are counted",
    "stem": "whether words were reduced to their stems",
    "refs": "whether several references are averaged or the best one counts",
    "norm": "by what the log-probability of a choice is divided",
    "shots": "how many solved examples stand before the question",
    "seed": "by which the solved examples were drawn",
    "examples": "which solved examples they are: file, rows and a hash of their texts",
    "split": "which part of the dataset",
    "n": "how many examples were scored",
    "k": "how many attempts a problem has",
    "scores": "what log P of a token is given: nothing said: all before it; masked: all others; pairs: those before it and a source",
    "source": "what stands on the side of the encoder: the context, or the words that all texts of a sample begin with",
    "tokens": "in how many tokens the text was cut, or how many were written",
    "pooling": "how the states of a text become one vector",
    "judge": "who or what gives written texts a value",
}


class Difference(NamedTuple):
    """A field in which two signatures differ."""

    field: str
    first: str
    second: str
    meaning: str


@dataclass(frozen=True)
class Signature:
    """The name of a metric and everything its value depends on besides the model.

    >>> Signature.parse("ppl|ctx:256|stride:128").get("ctx")
    '256'
    >>> str(Signature.of("ppl", ctx=256, bos=True))
    'ppl|ctx:256|bos:yes'
    """

    metric: str
    fields: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, metric: str, **fields: object) -> "Signature":
        """From values; None leaves a field out."""
        return cls(metric, tuple((name, _shown(value)) for name, value in fields.items() if value is not None))

    @classmethod
    def parse(cls, line: str) -> "Signature":
        """From its line, also as a narrow terminal breaks it.

        Raises:
            InputError: not a signature.
        """
        metric, *parts = _BROKEN.sub(lambda found: found[1] or " ", line.strip()).split("|")
        pairs = [part.partition(":") for part in parts]
        if ":" in metric or not metric or not pairs or any(not colon for _, colon, _ in pairs):
            raise InputError(f"{line!r} is not a signature; one looks like: ppl|ctx:256|stride:128|bos:yes")
        return cls(metric, tuple((name, value) for name, _, value in pairs))

    def get(self, field: str) -> str | None:
        """A field's value."""
        return dict(self.fields).get(field)

    def __str__(self) -> str:
        return "|".join([self.metric, *(f"{name}:{value}" for name, value in self.fields)])

    @property
    def key(self) -> str:
        """The comparability key: equal keys may be ranked against each other."""
        kept = sorted((name, value) for name, value in self.fields if name not in _FREE)
        return str(Signature(self.metric, tuple(kept)))


def differences(first: Signature, second: Signature) -> list[Difference]:
    """Why two figures cannot be compared; empty where they can.

    >>> [d.field for d in differences(Signature.parse("ppl|ctx:8|bos:no"), Signature.parse("ppl|ctx:9|bos:no"))]
    ['ctx']
    """
    if first.metric != second.metric:
        return [Difference("metric", first.metric, second.metric, "they measure different things")]
    names = dict.fromkeys(name for each in (first, second) for name, _ in each.fields if name not in _FREE)
    pairs = ((name, first.get(name) or "(not said)", second.get(name) or "(not said)") for name in names)
    return [Difference(name, a, b, _MEANING.get(name, "")) for name, a, b in pairs if a != b]


def _shown(value: object) -> str:
    text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    return " ".join(text.replace("|", "/").split())
