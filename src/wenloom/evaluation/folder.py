"""What a folder of evaluations holds, of this call and of earlier ones: figures, paired tests, samples.

evaluation/MODEL/SUITE.jsonl          samples, see `suite`
evaluation/MODEL/SUITE.figures.json   what came of them
evaluation/comparisons.json           paired tests
evaluation/index.html                 the page of all of them, see `page`
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wenloom.core.console import remark
from wenloom.core.errors import InputError, printable
from wenloom.core.files import write_atomically
from wenloom.core.foreign import json_text, read_json, reading
from wenloom.evaluation.locate import FIGURES
from wenloom.evaluation.rows import read_rows
from wenloom.evaluation.signature import Signature
from wenloom.evaluation.suite import MetricResult

COMPARISONS = "comparisons.json"
LARGEST = 1e100
"""Of a figure that can be shown."""


@dataclass(frozen=True)
class Evaluated:
    """What came of one model on one suite or file."""

    model: str
    on: str
    figures: list[MetricResult]
    samples: Path
    """Where they are; of a text for perplexity what its stretches have."""


def keep_figures(samples: Path, model: str, on: str, figures: Sequence[MetricResult]) -> None:
    """Write the figures beside the file of their samples."""
    document = {"model": model, "on": on, "figures": [each.as_json() for each in figures]}
    write_atomically(samples.with_suffix(FIGURES), json_text(document, indent=1) + "\n")


def keep_comparisons(out: Path, made: Sequence[dict[str, Any]]) -> None:
    """Add paired tests to those of the folder; a test of the same models on the same suite takes the place of the last."""
    if made:
        kept = {_asked(each): each for each in (*comparisons_in(out), *made)}
        text = json_text(list(kept.values()), indent=1)
        write_atomically(out / COMPARISONS, text + "\n")


def _asked(comparison: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(comparison[name] for name in ("on", "by", "first", "second"))


def evaluated_in(out: Path) -> list[Evaluated]:
    """Everything that was evaluated into a folder, in order of names; files that cannot be read are named and left out."""
    found = []
    for path in sorted(out.glob(f"*/*{FIGURES}")):
        with _left_out(path):
            document = read_json(path)
            figures = [_figure(each) for each in document["figures"]]
            samples = path.with_name(path.name.removesuffix(FIGURES) + ".jsonl")
            found.append(Evaluated(str(document["model"]), str(document["on"]), figures, samples))
    return found


def comparisons_in(out: Path) -> list[dict[str, Any]]:
    """The paired tests of a folder."""
    path, found = out / COMPARISONS, []
    if path.exists():
        with _left_out(path):
            found = [_comparison(each) for each in read_json(path)]
    return found


def _comparison(values: dict[str, Any]) -> dict[str, Any]:
    _check_numbers(*(values[name] for name in ("difference", "low", "high", "p")))
    return values | {name: str(values[name]) for name in ("on", "by", "first", "second", "test")}


def told_difference(comparison: dict[str, Any]) -> tuple[str, str, str]:
    """A difference with the ends of its interval: bits per byte differ by less than points of other scores."""
    digits = 4 if comparison["by"] == "bits_per_byte" else 2
    difference, low, high = (f"{comparison[name]:+.{digits}f}" for name in ("difference", "low", "high"))
    return difference, low, high


@dataclass(frozen=True)
class Choice:
    """A choice of a question, or one of its contexts where these differ."""

    text: str
    log_likelihood: float
    """Nats."""
    is_right: bool
    is_chosen: bool


@dataclass(frozen=True)
class ShownSample:
    """A sample as a page shows it: a prompt with what was written, or a context with its choices."""

    prompt: str
    written: list[str]
    choices: list[Choice]

    @property
    def margin(self) -> float:
        """By how much the right choice is more probable than the best wrong one, nats."""
        wrong = [each.log_likelihood for each in self.choices if not each.is_right]
        return sum(each.log_likelihood for each in self.choices if each.is_right) - max(wrong, default=0.0)


def extremes(evaluated: Evaluated, count: int = 5) -> list[tuple[str, list[ShownSample]]]:
    """Of choices the samples where the right one is least and most preferred, of other samples the first; each with what
    they are."""
    samples: list[ShownSample] = []
    if evaluated.samples.exists():
        with _left_out(evaluated.samples):
            rows = [
                row for row in read_rows(evaluated.samples) if "number" in row and row.keys() & {"choices", "prompt"}
            ]
            rows.sort(key=lambda row: row["number"])
            n = max((each.n for each in evaluated.figures), default=0)
            samples = [_sample(row) for row in rows[:n]]
    if not samples or not samples[0].choices:
        return [("first", samples[:count])] if samples else []
    samples.sort(key=lambda each: each.margin)
    return [("worst", samples[:count]), *([("best", samples[-count:][::-1])] if len(samples) > count else [])]


def _sample(row: dict[str, Any]) -> ShownSample:
    if "choices" not in row:
        return ShownSample(str(row["prompt"])[-600:], [str(each)[:600] for each in row["written"][:3]], [])
    contexts, choices = row["context"], row["choices"]
    several = len(contexts) > 1
    texts = [context + choices[0] for context in contexts] if several else choices
    return ShownSample("" if several else contexts[0][-600:], [], [
        Choice(text, float(value), place == row["gold"], place == row["chosen"]["raw"])
        for place, (text, value) in enumerate(zip(texts, row["log_likelihoods"], strict=True))
    ])  # fmt: skip


def _figure(values: dict[str, Any]) -> MetricResult:
    """From JSON.

    Raises:
        ValueError, TypeError, KeyError, InputError: it is none.
    """
    made = MetricResult(**{**values, "signature": Signature.parse(values["signature"])})
    texts, details = (made.task, made.dataset, made.metric), made.details
    parts = [details.get(name, {}) for name in ("groups", "group_sizes")]
    if not all(isinstance(each, str) for each in texts):
        raise ValueError("a figure without its names")
    _check_numbers(made.value, made.low, made.high, made.n, *(value for part in parts for value in part.values()))
    return made


def _check_numbers(*values: Any) -> None:
    """
    Raises:
        ValueError: one is none that a page can show.
    """
    for each in values:
        if isinstance(each, bool) or not isinstance(each, int | float) or not abs(each) <= LARGEST:
            raise ValueError(f"no number: {printable(repr(each), 40)}")


@contextmanager
def _left_out(path: Path) -> Iterator[None]:
    """What cannot be read is named in a remark: the rest of the folder can be shown."""
    try:
        with reading(path, what="holds nothing that evaluate wrote"):
            yield
    except InputError as error:
        remark(f"{error} It is left out of the page.")
