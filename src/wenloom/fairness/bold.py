"""BOLD (Dhamala et al. 2021): beginnings of Wikipedia sentences about people, and how well a model speaks of each group."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wenloom.core.console import remark
from wenloom.core.errors import InputError
from wenloom.core.foreign import reading
from wenloom.evaluation.perplexity import data_hash
from wenloom.evaluation.quality import ending_loop, repetition
from wenloom.evaluation.rows import read_text
from wenloom.evaluation.signature import Signature
from wenloom.fairness.audit import ALL, VERSION, Audit, Audited, AuditFigure, Example, Outcomes, spread
from wenloom.fairness.audited_model import AskedModel
from wenloom.fairness.sentiment import TextJudge, by_lexicon
from wenloom.generation.request import GenerationRequest
from wenloom.text.lexicon import lexicon

_NEW_TOKENS = 30
_MOST_PROMPTS = 1000
"""Where nobody names a number."""
_RESAMPLES = 2000


class OpenPrompt(NamedTuple):
    """The beginning of a sentence."""

    text: str
    domain: str
    group: str


class Bold(Audit):
    """Sentiment (or what a classifier says) of what a model writes, by the group that the prompt speaks of.

    Args:
        judge: None: words of the English lexicon.
        seed: of the texts.
    """

    name = "bold"
    about = "how well the model speaks of people of each group when it goes on with a sentence about them"
    caveat = (
        "the sentences of Wikipedia differ between groups in more than the group; a lexicon counts words and knows no "
        "irony (name a classifier of yours with --classifier)"
    )
    source = "github.com/amazon-science/bold (CC BY-SA 4.0)"
    files = ("*_prompt.json",)
    better = {"repetition": False, "loops": False}

    def __init__(self, judge: TextJudge | None = None, seed: int = 0):
        self.judge, self.seed = judge or by_lexicon(lexicon("en")), seed
        self.headline = self.judge.measure, self.judge.name

    def samples(self, data: Path, limit: int | None = None) -> list[OpenPrompt]:
        found = [prompt for path in self.located(data) for prompt in _prompts(path)]
        if not found:
            raise InputError(f"{data}: holds no prompt of {self.name}.")
        return spread(found, _MOST_PROMPTS if limit is None else limit)

    def why_not(self, model: AskedModel) -> str | None:
        return None if model.writes else "it has the model write, so it takes one that continues its prompt"

    def ask(self, model: AskedModel, data: Path, limit: int | None, on_samples: Callable[[int], None]) -> Audited:
        samples = self.samples(data, limit)
        request = GenerationRequest(max_new_tokens=_NEW_TOKENS, temperature=1.0, top_p=1.0, seed=self.seed)
        answers = model.write([each.text for each in samples], request, on_samples)
        written, cut = [each.text for each in answers], sum(each.unseen > 0 for each in answers)
        note = (
            f"{cut:,} of {len(samples):,} texts outgrew the model's context, so that it went on without their beginnings"
            * bool(cut)
        )
        if note:
            remark(f"{self.name}: {note}.")
        values = self.judge.values([each.text + text for each, text in zip(samples, written, strict=True)])
        found = Outcomes(self.judge.measure, self.judge.name, values, [f"{e.domain}: {e.group}" for e in samples],
                         unbiased=None, is_share=False, unit=self.judge.unit)  # fmt: skip
        digest = data_hash(repr(samples))

        def signed(measure: str, judge: str) -> Signature:
            return Signature.of(f"bold.{measure}", judge=judge, tokens=_NEW_TOKENS, seed=self.seed, n=len(samples),
                                dtype=model.scorer.dtype, data=digest, version=VERSION)  # fmt: skip

        examples = [Example(group, (each.text + text,), float(value))
                    for each, text, group, value in zip(samples, written, found.groups, values, strict=True)]  # fmt: skip
        panel = fluency(written)
        figures = self._figures(found, samples, signed(self.judge.measure, self.judge.name))
        figures += [each.figure(self.name, ALL, signed(each.measure, each.convention)) for each in panel]
        return Audited(self, figures, (found, *panel), examples, note)

    def _figures(self, found: Outcomes, samples: list[OpenPrompt], signature: Signature) -> list[AuditFigure]:
        """The mean of each group, and its gap to the others of its domain."""
        made = [found.figure(self.name, ALL, signature)]
        domains = np.array([each.domain for each in samples])
        groups = np.array(found.groups)
        for group in sorted(set(found.groups)):
            made.append(found.of(group).figure(self.name, group, signature))
            own = found.values[groups == group]
            others = found.values[(groups != group) & (domains == group.split(": ")[0])]
            if len(own) and len(others):
                low, high = _gap_interval(own, others)
                made.append(AuditFigure(self.name, f"{found.measure} gap", found.convention, group, float(own.mean() - others.mean()),
                                        None, len(own), low, high, 0.0, signature, found.unit,
                                        ("spoken of better", "spoken of worse")))  # fmt: skip
        return made


def fluency(texts: Sequence[str]) -> list[Outcomes]:
    """How fluent texts are, one by one, by what the quality panel counts: four-word sequences that stood before in the text, and texts
    that end by saying the same again and again, both in percent; less is better."""
    repeated = np.array([100.0 * repetition(each) for each in texts])
    loops = np.array([100.0 * (ending_loop(each) is not None) for each in texts])
    return [
        Outcomes("repetition", "4 words", repeated, [ALL] * len(texts), unbiased=None, is_share=False),
        Outcomes("loops", "quality panel", loops, [ALL] * len(texts), unbiased=None),
    ]


def _gap_interval(own: np.ndarray, others: np.ndarray, seed: int = 12345) -> tuple[float, float]:
    """95 % bootstrap interval of the difference of two means."""
    draw = np.random.default_rng(seed)
    gaps = [draw.choice(own, len(own)).mean() - draw.choice(others, len(others)).mean() for _ in range(_RESAMPLES)]
    low, high = np.quantile(gaps, [0.025, 0.975])
    return float(low), float(high)


def _prompts(path: Path) -> list[OpenPrompt]:
    """
    Raises:
        InputError: not an object of groups with objects of names with lists of prompts.
    """
    with reading(path):
        table: Any = json.loads(read_text(path))
    domain = re.sub(r"^(?:prompts_)?(.*?)_prompt(?:s)?$", r"\1", path.name.split(".")[0]).replace("_", " ")
    if not isinstance(table, dict):
        raise InputError(f"{path}: must be an object of groups.")
    found = []
    for group, names in table.items():
        for name, prompts in names.items() if isinstance(names, dict) else [("", None)]:
            if not isinstance(prompts, list) or not all(isinstance(each, str) for each in prompts):
                raise InputError(f'{path}: group "{group[:60]}", "{name[:60]}" must hold a list of prompts.')
            found += [OpenPrompt(each.rstrip(), domain, group.replace("_", " ")) for each in prompts if each.strip()]
    return found
