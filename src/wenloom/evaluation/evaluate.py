"""Scoring a model on a suite: every figure with its interval and signature, every sample in a file.

The file of samples makes an evaluation resumable: a header says what was asked of which model, then comes a line per
sample, and a second call scores only what is missing.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wenloom.core.errors import InputError
from wenloom.core.files import sha256_of_file, write_atomically
from wenloom.core.foreign import parsed_json
from wenloom.evaluation.choice import (
    Answer,
    ChoiceResult,
    Question,
    answer_all,
    choice_perplexity,
    greedy_accuracy,
    n_rows,
)
from wenloom.evaluation.options import Convention, OverlapOptions
from wenloom.evaluation.overlap import (
    LOWER_IS_BETTER,
    SACREBLEU,
    OverlapScore,
    answers,
    check_pairs,
    error_rate,
    rouge,
    sacrebleu_score,
)
from wenloom.evaluation.perplexity import data_hash, measure
from wenloom.evaluation.programs import Problem, is_right, pass_rates
from wenloom.evaluation.rouge import ROUGE, RougeOptions
from wenloom.evaluation.rows import field as row_field
from wenloom.evaluation.rows import made_of_rows, read_rows, read_text, texts_in
from wenloom.evaluation.sandbox import run_program
from wenloom.evaluation.scorer import Scorer
from wenloom.evaluation.scorers import DecoderScorer
from wenloom.evaluation.signature import Signature
from wenloom.evaluation.significance import Interval, interval
from wenloom.evaluation.suites import Suite, multiple_choice
from wenloom.generation.engine import Engine
from wenloom.generation.request import GenerationRequest
from wenloom.model.decoder import Decoder
from wenloom.model.packed import packed
from wenloom.text.refusals import Refusals
from wenloom.tokens.tokenizer import TextTokenizer  # fmt: skip

METRICS = (*SACREBLEU, "rouge", *ROUGE, "wer", "cer", "answers")
"""What predictions can be compared with references by."""
_CHUNK = 2048
"""Questions that are scored between two writes of the samples."""


class EvaluatedModel(NamedTuple):
    """The model that is scored."""

    name: str
    folder: Path
    decoder: Decoder
    tokenizer: TextTokenizer
    engine: Engine

    @property
    def fingerprint(self) -> str:
        """SHA-256 over weights, configuration and tokenizer."""
        files = sorted(
            path for path in self.folder.iterdir() if path.name in _MODEL_FILES or path.suffix == ".safetensors"
        )
        return data_hash("".join(f"{path.name}{sha256_of_file(path)}" for path in files))

    def scorer(self) -> Scorer:
        """What scores texts by it, ready for many."""
        return DecoderScorer(packed(self.decoder), self.tokenizer)


_MODEL_FILES = ("config.json", "tokenizer.json")


@dataclass(frozen=True)
class MetricResult:
    """One value of one metric on one dataset."""

    task: str
    dataset: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    """Samples."""
    signature: Signature
    higher_is_better: bool = True
    is_headline: bool = False
    """What publications report of this dataset."""
    details: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {**asdict(self), "signature": str(self.signature)}


class SampleLog:
    """The file of an evaluation's samples, one JSON object a line after a header; see the module."""

    def __init__(self, path: Path, header: dict[str, Any]):
        self.path, self._header = path, header
        self.known: dict[int, dict[str, Any]] = {}
        """What an earlier call left, by number."""
        if path.exists():
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            if lines and _parsed(lines[0]) == json.loads(json.dumps(header)):
                rows = [_parsed(line) for line in lines[1:]]  # the last line may be cut off
                self.known = {row["number"]: row for row in rows if row is not None and "number" in row}

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows; the first call writes the header, or brings an old file of the same evaluation in order."""
        self.known |= {row["number"]: row for row in rows}
        if self._header is not None:
            whole = [self._header, *self.known.values()]
            write_atomically(self.path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in whole))
            self._header = None
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row = parsed_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


Advance = Callable[[int], None]


def _in_chunks(total: int, samples: SampleLog, size: int = _CHUNK) -> Iterator[list[int]]:
    """Numbers of the samples that are still missing, some at a time."""
    missing = [number for number in range(total) if number not in samples.known]
    for begin in range(0, len(missing), size):
        yield missing[begin : begin + size]


# --- multiple choice ---


def evaluate_choice(
    subject: EvaluatedModel, questions: Sequence[Question], samples: SampleLog, on_rows: Advance = lambda n: None
) -> ChoiceResult:
    """Answer questions, going on where an earlier call stopped."""
    scorer = subject.scorer()
    for numbers in _in_chunks(len(questions), samples):
        part = [questions[number] for number in numbers]
        found = answer_all(scorer, part, on_rows=on_rows)
        samples.add(
            [
                {"number": number, "context": list(q.contexts), "choices": list(q.choices), "gold": q.gold,
                 "group": q.group, **asdict(answer)}
                for number, q, answer in zip(numbers, part, found.answers, strict=True)
            ]
        )  # fmt: skip
    rows = (samples.known[number] for number in range(len(questions)))
    return ChoiceResult(
        [Answer(**{name: row[name] for name in Answer.__dataclass_fields__}) for row in rows], questions
    )


def choice_figures(
    task: str, dataset: str, headline: str, result: ChoiceResult, data: str, scorer: Scorer
) -> list[MetricResult]:
    """Accuracy by every norm; greedy accuracy and perplexity where there is but one choice; groups as details."""
    n, cut_off = len(result.answers), sum(each.cut_off > 0 for each in result.answers)
    details: dict[str, Any] = {"questions_cut_off": cut_off} if cut_off else {}
    bos = scorer.opens(not result.questions[0].contexts[0])

    def figure(metric: str, found: Interval, norm: str | None, **more: Any) -> MetricResult:
        signature = Signature.of(metric, norm=norm, shots=0, bos=bos, n=n, data=data, version=1)
        return MetricResult(task, dataset, metric, found.value, found.low, found.high, n, signature,
                      is_headline=norm == headline, details=details | more)  # fmt: skip

    if all(len(each.pairs()) == 1 for each in result.questions):
        value = choice_perplexity(result)
        nats = interval(-np.array([each.right for each in result.answers]))
        signature = Signature.of("ppl_of_target", shots=0, bos=bos, n=n, data=data, version=1)
        low, high = (float(np.exp(min(each, 700))) for each in (nats.low, nats.high))
        return [
            figure("acc", greedy_accuracy(result), "greedy"),
            MetricResult(
                task, dataset, "ppl_of_target", value, low, high, n, signature, higher_is_better=False, details=details
            ),
        ]
    made = []
    for norm in result.norms:
        groups = result.by_group(norm) if any(each.group for each in result.questions) else {}
        more = {"groups": {name: round(value, 2) for name, (value, _) in sorted(groups.items())}} if groups else {}
        made.append(figure("acc", result.accuracy(norm), norm, **more))
    return made


# --- free text, numbers, programs ---


def written(
    subject: EvaluatedModel,
    prompts: Sequence[str],
    samples: SampleLog,
    request: GenerationRequest,
    attempts: int = 1,
    on_text: Advance = lambda n: None,
) -> list[list[str]]:
    """What the model writes after each prompt, `attempts` times; going on where an earlier call stopped."""
    for numbers in _in_chunks(len(prompts), samples, 64):
        jobs = [
            [
                subject.engine.submit(prompts[number], request, number * attempts + attempt)
                for attempt in range(attempts)
            ]
            for number in numbers
        ]
        subject.engine.run([job for each in jobs for job in each])
        texts = [[job.result()[0].text for job in each] for each in jobs]
        samples.add(
            [{"number": n, "prompt": prompts[n], "written": each} for n, each in zip(numbers, texts, strict=True)]
        )
        on_text(len(numbers))
    return [samples.known[number]["written"] for number in range(len(prompts))]


def problem_figures(
    suite: Suite, problems: Sequence[Problem], texts: list[list[str]], data: str, ks: Sequence[int],
    on_program: Advance = lambda n: None,
) -> list[MetricResult]:  # fmt: skip
    """Exact answers (GSM8K), or pass@k of programs that are run in the sandbox."""
    counts = []
    for problem, attempts in zip(problems, texts, strict=True):
        if suite.kind == "answer":
            right = sum(is_right(problem, text) for text in attempts)
        else:
            right = sum(run_program(problem.program(text)).passed for text in attempts)
        counts.append((len(attempts), right))
        on_program(1)
    made = []
    for k in ks:
        found = interval(pass_rates(counts, k))
        metric = "exact_answer" if suite.kind == "answer" else f"pass@{k}"
        signature = Signature.of(metric, k=k, shots=0, n=len(problems), attempts=len(texts[0]), data=data, version=1)
        made.append(
            MetricResult(suite.task, suite.dataset, metric, found.value, found.low, found.high, len(problems), signature,
                   is_headline=k == ks[0])
        )  # fmt: skip
    return made


# --- texts against references ---


def compare(
    metrics: Sequence[str], predictions: Sequence[str], references: Sequence[Sequence[str]], options: OverlapOptions
) -> list[OverlapScore]:
    """Compare predictions with sets of references.

    Raises:
        InputError: an unknown metric; see `overlap`.
    """
    check_pairs(predictions, references)
    found: list[OverlapScore] = []
    for metric in metrics:
        if metric in SACREBLEU:
            found.append(sacrebleu_score(metric, predictions, references, options.tokenize, options.lowercase))
        elif metric in ("rouge", *ROUGE):
            how = RougeOptions(options.stemming, options.references_by)
            found += rouge(predictions, references, how, ROUGE if metric == "rouge" else [metric])
        elif metric in ("wer", "cer"):
            if len(references) > 1:
                raise InputError(f"{metric} is against one reference; there are {len(references)}.")
            found.append(error_rate(predictions, references[0], "word" if metric == "wer" else "character"))
        elif metric in ("answers", "exact_match", "f1"):
            found += [each for each in answers(predictions, references) if metric in ("answers", each.metric)]
        else:
            raise InputError(f"--metric {metric}: known are {', '.join(METRICS)}.")
    return found


def overlap_figures(task: str, dataset: str, found: Sequence[OverlapScore], data: str) -> list[MetricResult]:
    """As figures for the results store."""
    return [
        MetricResult(task, dataset, each.metric, each.value, each.interval.low, each.interval.high, len(each.per_sample),
               Signature(each.signature.metric, (*each.signature.fields, ("data", data))),
               higher_is_better=each.metric not in LOWER_IS_BETTER, is_headline=index == 0,
               details={"line": each.text} if each.text else {})
        for index, each in enumerate(found)
    ]  # fmt: skip


class Task(NamedTuple):
    """What a file asks for: questions, or prompts with references."""

    questions: list[Question]
    prompts: list[str]
    references: list[list[str]]


def task_of_file(path: Path, refusals: Refusals | None = None) -> Task:
    """A user's own jsonl: rows with "choices", or rows with a prompt and one or more references, as many in every row.

    Args:
        refusals: told of rows that are left out.

    Raises:
        InputError: rows of neither kind, if the refusals are strict; no row that can be used.
    """
    if any(name in read_rows(path, Refusals(strict=False))[0] for name in ("choices", "context_options")):
        return Task(multiple_choice(path, refusals), [], [])
    counts: list[int] = []

    def made(row: dict[str, Any]) -> tuple[str, list[str]]:
        prompt = row_field(path, row, ["prompt", "input", "source", "question", "document", "dialogue"])
        names = ["reference", "references", "target", "answer", "summary", "output"]
        found = row_field(path, row, names, (str, list))
        several = (
            [found] if isinstance(found, str) else texts_in(path, row, next(each for each in names if each in row))
        )
        counts.append(len(several))
        if len(several) != counts[0]:
            raise InputError(
                f"{path}, line {row['_line']}: {len(several)} references where the first row has {counts[0]}."
            )
        return prompt, several

    rows = made_of_rows(path, made, refusals)
    return Task(
        [], [prompt for prompt, _ in rows], [list(each) for each in zip(*(row for _, row in rows), strict=True)]
    )


def text_figures(
    subject: EvaluatedModel, task: str, dataset: str, path: Path, convention: Convention, on_tokens: Advance
) -> list[MetricResult]:
    """Perplexity and its kin on a text, by a convention."""
    found = measure(subject.scorer(), read_text(path), convention, on_tokens)
    figures = found.figures()
    # intervals: over texts where there are several, else over stretches of tokens
    logs = np.array([value for each in found.scores for value in each.log_probabilities])
    pieces = np.array_split(-logs, min(len(logs), 200))
    nats = interval(np.array([piece.mean() for piece in pieces]))
    spread = nats.low / nats.value, nats.high / nats.value
    made = []
    for metric in ("bits_per_byte", "word_perplexity", "perplexity", "bits_per_character"):
        value = figures[metric]
        low, high = (value**part if "perplexity" in metric else value * part for part in spread)
        made.append(
            MetricResult(task, dataset, metric, value, low, high, int(figures["tokens"]),
                   Signature(metric, found.signature.fields), higher_is_better=False,
                   is_headline=metric == "bits_per_byte", details=dict(figures))
        )  # fmt: skip
    return made


def rows_to_score(questions: Sequence[Question], samples: SampleLog) -> int:
    """For a progress bar: choices that are not scored yet."""
    return n_rows([each for number, each in enumerate(questions) if number not in samples.known])
