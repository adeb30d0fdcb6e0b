"""Questions with several answers, told apart by their probability: the log-likelihood tasks.

Which answer a model "chooses" depends on what its log-probability is divided by. All common norms are computed:
raw, per token, per byte, per character, and against the answer's probability without the question (unconditional; Brown et al. 2020).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from wenloom.core.errors import InputError
from wenloom.evaluation.scorer import ContinuationScore, Scorer, TextInContext
from wenloom.evaluation.significance import Interval, interval

NORMS = ("raw", "token", "byte", "character", "unconditional")


@dataclass(frozen=True)
class Question:
    """A context and its possible continuations; or several contexts before one continuation (WinoGrande)."""

    contexts: tuple[str, ...]
    """One for all choices, or one per choice."""
    choices: tuple[str, ...]
    """With the blank that parts them from the context."""
    gold: int
    group: str = ""
    """What its result counts towards, such as a BLiMP paradigm."""
    lead: str = ""
    """What stands before every context: a description, worked examples."""
    examples: tuple[int, ...] = ()
    """Which ones."""
    example: str = ""
    """How it is written as one; default: its context with the right choice."""

    def pairs(self) -> list[tuple[str, str]]:
        """Context and continuation of every choice."""
        return [(self.lead + context, choice) for context, choice in self._bare_pairs()]

    def _bare_pairs(self) -> list[tuple[str, str]]:
        contexts = self.contexts * (len(self.choices) if len(self.contexts) == 1 else 1)
        choices = self.choices * (len(contexts) if len(self.choices) == 1 else 1)
        return list(zip(contexts, choices, strict=True))

    def solved(self) -> str:
        """The context with its right choice, see `shots`."""
        return self.example or "".join(self._bare_pairs()[self.gold])

    def led_by(self, examples: str, numbers: tuple[int, ...]) -> "Question":
        """The question after worked examples."""
        return replace(self, lead=self.lead + examples, examples=numbers)


@dataclass(frozen=True)
class Answer:
    """What a model makes of a question."""

    log_likelihoods: list[float]
    """Of every choice, nats."""
    chosen: dict[str, int]
    """Which choice each norm takes."""
    is_greedy: bool
    """Whether the right choice is what the model would write by itself."""
    right: float
    """log P of the right choice."""
    cut_off: int
    """Tokens that did not fit into the context."""


@dataclass(frozen=True)
class ChoiceResult:
    """Accuracy over many questions."""

    answers: list[Answer]
    questions: Sequence[Question] = field(repr=False)

    def correct(self, norm: str) -> np.ndarray:
        """1 for every question answered rightly."""
        pairs = zip(self.answers, self.questions, strict=True)
        return np.array([float(answer.chosen[norm] == question.gold) for answer, question in pairs])

    def accuracy(self, norm: str) -> Interval:
        """In percent, with its 95 % interval."""
        return interval(100 * self.correct(norm))

    @property
    def norms(self) -> list[str]:
        """The norms that were computed."""
        return list(self.answers[0].chosen)


def answer_all(
    scorer: Scorer,
    questions: Sequence[Question],
    unconditional: bool = True,
    on_rows: Callable[[int], None] = lambda n: None,
) -> ChoiceResult:
    """Let a model answer questions by the likelihood of their choices.

    Args:
        unconditional: also compare with each choice after "Answer:" alone, which costs as many rows again. Left out
            by itself where contexts differ or are empty.
        on_rows: told how many choices were scored; there are `n_rows` in all.

    Raises:
        InputError: no questions; an empty choice; a vocabulary without any token to open a text where one is needed.
    """
    if not questions:
        raise InputError("there are no questions.")
    conditional = _by_lead(scorer, questions, on_rows)
    alone = _unconditional(scorer, questions, on_rows) if unconditional else {}
    for number, scores in enumerate(conditional, 1):
        if not all(each.token_ids for each in scores):
            raise InputError(f"question {number}: a choice without any token to score.")
    return ChoiceResult(
        [_answer(q, f, [alone[each] for each in q.choices] if alone else None)
         for q, f in zip(questions, conditional, strict=True)],
        questions,
    )  # fmt: skip


def _by_lead(
    scorer: Scorer, questions: Sequence[Question], on_rows: Callable[[int], None]
) -> list[list[ContinuationScore]]:
    """Scores of all choices, asked lead by lead, so that each lead is read once."""
    leads: dict[str, list[int]] = {}
    for number, question in enumerate(questions):
        leads.setdefault(question.lead, []).append(number)
    found: dict[int, list[ContinuationScore]] = {}
    for numbers in leads.values():
        asked = [[TextInContext(*pair) for pair in questions[number].pairs()] for number in numbers]
        found |= zip(numbers, scorer.continuations(asked, on_rows), strict=True)
    return [found[number] for number in range(len(questions))]


def n_rows(questions: Sequence[Question], unconditional: bool = True) -> int:
    """How many rows `answer_all` scores, for a progress bar."""
    count = sum(len(question.pairs()) for question in questions)
    return count + (len(_distinct(questions)) if unconditional and _has_unconditional(questions) else 0)


def _has_unconditional(questions: Sequence[Question]) -> bool:
    return all(len(q.contexts) == 1 and q.contexts[0] for q in questions)


def _distinct(questions: Sequence[Question]) -> list[str]:
    return list(dict.fromkeys(choice for question in questions for choice in question.choices))


def _unconditional(
    scorer: Scorer, questions: Sequence[Question], on_rows: Callable[[int], None]
) -> dict[str, ContinuationScore]:
    """Of every choice alone; choices of many questions (the letters A to D) are scored once."""
    if not _has_unconditional(questions):
        return {}
    choices = _distinct(questions)
    found = scorer.continuations([[TextInContext("Answer:", each)] for each in choices], on_rows)
    return {choice: scores[0] for choice, scores in zip(choices, found, strict=True)}


def _answer(question: Question, found: list[ContinuationScore], alone: list[ContinuationScore] | None) -> Answer:
    totals = [each.log_probability for each in found]
    choices = [choice.strip() for _, choice in question.pairs()]
    scores = {
        "raw": totals,
        "token": [each.log_probability / len(each.token_ids) for each in found],
        "byte": [total / max(1, len(text.encode())) for total, text in zip(totals, choices, strict=True)],
        "character": [total / max(1, len(text)) for total, text in zip(totals, choices, strict=True)],
    }
    if alone is not None:
        scores["unconditional"] = [total - other.log_probability for total, other in zip(totals, alone, strict=True)]
    chosen = {norm: max(range(len(values)), key=values.__getitem__) for norm, values in scores.items()}
    gold = found[question.gold]
    return Answer(totals, chosen, gold.is_greedy, totals[question.gold], max(each.cut_off for each in found))


def greedy_accuracy(result: ChoiceResult) -> Interval:
    """How often the right choice is what the model would write, in percent (LAMBADA)."""
    return interval(100 * np.array([float(each.is_greedy) for each in result.answers]))


def choice_perplexity(result: ChoiceResult) -> float:
    """exp of the mean -log P of the right choices (LAMBADA's perplexity: per target, not per token)."""
    return math.exp(min(-float(np.mean([each.right for each in result.answers])), 700))
