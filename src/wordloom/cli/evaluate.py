"""`wordloom evaluate`. torch is loaded when there is work, so that --help answers at once."""

import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.table import Table

from wordloom.cli.options import Device, Dtype, Json, flags
from wordloom.core.console import out as console
from wordloom.core.console import print_json, progress, remark, say
from wordloom.core.errors import InputError

if TYPE_CHECKING:
    from wordloom.evaluation.evaluate import Figure, Subject


@dataclass(frozen=True)
class TextScoring:
    """Perplexity: the convention. Other conventions give other figures, which the signature tells apart."""

    join: Literal["raw", "lines", "articles"] = "raw"
    """The data as one text, every line apart, or every article of WikiText apart."""
    detokenize: Literal["none", "wikitext"] = "none"
    """Undo WikiText's blanks around punctuation first."""
    context: int | None = None
    """Tokens seen at once; default: all that the model takes."""
    stride: int | None = None
    """Tokens that each further window scores; default: half the context."""
    bos: bool = True
    """Score the first token too, as what follows the BOS token."""
    windows: Literal["rolling", "blocks"] = "rolling"
    """rolling scores every token once; blocks is the way of transformers' guide and of nanoGPT."""
    denominator: Literal["scored", "original", "harness"] = "scored"
    """Words and bytes of the scored text, of the original, or as lm-evaluation-harness counts them."""


@dataclass(frozen=True)
class Comparing:
    """Predictions against references."""

    predictions: Path | None = None
    """A file of texts, one per line; then no model is needed."""
    references: tuple[Path, ...] = ()
    """What they are compared with, line by line; several times for several references."""
    metric: tuple[str, ...] = ()
    """bleu, chrf, ter, rouge, wer, cer, answers (exact match and F1), or, without references, quality (variety,
    repetition, loops, word frequencies); several times or parted by commas."""
    tokenize: str | None = None
    """BLEU's tokenizer, such as 13a, zh or char; default: what fits the references' script."""
    lowercase: Annotated[bool, Parameter(negative="")] = False
    """BLEU, chrF and TER: take upper and lower case as alike."""
    stemming: bool = True
    """ROUGE: count English words by their stems."""
    references_by: Literal["mean", "max"] = "mean"
    """ROUGE with several references: their mean, or the best."""


@dataclass(frozen=True)
class Writing:
    """Tasks that are solved by writing."""

    run_code: Annotated[bool, Parameter(negative="")] = False
    """Run the programs that the model writes (HumanEval, MBPP), each in a bounded process of its own."""
    attempts: int = 1
    """Texts per problem; with more than one they are sampled."""
    pass_k: tuple[int, ...] = (1,)
    """The k of pass@k."""
    max_new_tokens: int = 256
    """Most tokens of a text."""
    temperature: float = 0.8
    """Of sampling, with several attempts."""


def evaluate(
    *models: str,
    on: list[str] | None = None,
    data: Path | None = None,
    limit: int | None = None,
    out: Path = Path("evaluation"),
    store: Path | None = None,
    keep: Annotated[bool, Parameter(negative="--no-keep")] = True,
    device: Device = "auto",
    dtype: Dtype = "float32",
    json: Json = False,
    scoring: Annotated[TextScoring, flags("Perplexity", 1)] = TextScoring(),
    comparing: Annotated[Comparing, flags("Predictions and references", 2)] = Comparing(),
    writing: Annotated[Writing, flags("Writing", 3)] = Writing(),
) -> None:
    """Tell how good a model is, with an interval and a signature for every figure.

    Suites: wikitext2, lambada, hellaswag, arc_easy, piqa, openbookqa, copa, winogrande, wsc, blimp, gsm8k, humaneval,
    mbpp. Instead of a suite, name a file: text for perplexity, or jsonl with choices or with prompts and references.
    Two models are also compared with each other, on the same samples.

        wordloom evaluate runs/mine --on lambada,blimp --data datasets/
        wordloom evaluate runs/mine --on chapter.txt --stride 64
        wordloom evaluate runs/mine --on questions.jsonl --metric rouge
        wordloom evaluate --predictions out.txt --references ref.txt --metric bleu

    Samples and a page are written below --out; called again, it goes on where it stopped.

    Parameters
    ----------
    models
        Model folders, or hub models.
    on
        Suites or files; several times or parted by commas.
    data
        The folder below which suites' files lie; default: the variable WORDLOOM_DATA, else data/.
    limit
        Score only the first so many samples (the signature says so).
    out
        Folder for samples and the page.
    store
        The results store (SQLite); default: the variable WORDLOOM_RESULTS, else the user's data folder.
    keep
        Put the figures into the results store.
    """
    names = [name for each in on or [] for name in each.split(",") if name]
    metrics = [name for each in comparing.metric for name in each.split(",") if name]
    if comparing.predictions is not None:
        if models or names:
            raise InputError("--predictions are compared without a model; leave out models and --on.")
        _predictions(comparing, metrics, json)
        return
    if comparing.references:
        raise InputError("--references needs --predictions FILE.")
    if not models or not names:
        raise InputError("name a model and what to score it on: wordloom evaluate MODEL --on lambada")
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: at least 1.")
    if len(set(models)) < len(models):
        raise InputError("a model is named twice.")
    plans = [_Plan(name, data, limit, metrics, scoring, comparing, writing) for name in names]
    from wordloom.evaluation.results import ResultsStore

    found: dict[str, list[Figure]] = {}
    for model in models:
        subject = _subject(model, device, dtype)
        started = time.monotonic()
        for plan in plans:
            began = time.monotonic()
            figures = plan.run(subject, out)
            found.setdefault(model, []).extend(figures)
            if keep:
                kept = _results(subject, figures, plan.samples(subject, out), time.monotonic() - began)
                ResultsStore(store).add(kept)
        remark(f"{model}: {len(plans)} evaluation(s) in {time.monotonic() - started:,.0f} s.")
    pairs = [plan.compared(models[0], other, out) for plan in plans for other in models[1:]]
    comparisons = [each for each in pairs if each is not None]
    page = out / "index.html"
    _page(page, found, comparisons, [plan.examples(model, out) for model in models for plan in plans])
    if json:
        figures = {model: [each.as_json() for each in rows] for model, rows in found.items()}
        print_json({"figures": figures, "comparisons": comparisons, "page": str(page)})
        return
    for model, rows in found.items():
        _show(model, rows)
    for each in comparisons:
        say(_sentence(each))
    say(f"Page: {page}")


class _Plan:
    """One thing to score models on."""

    def __init__(
        self, name: str, data: Path | None, limit: int | None, metrics: list[str], scoring: TextScoring,
        comparing: Comparing, writing: Writing,
    ):  # fmt: skip
        from wordloom.evaluation.evaluate import METRICS
        from wordloom.evaluation.rows import read_text
        from wordloom.evaluation.suites import Suite, suite_of

        path = Path(name)
        self.suite = None if path.is_file() else suite_of(name)
        self.path = path if self.suite is None else self.suite.find(data)
        self.name = path.stem if self.suite is None else self.suite.name
        self.limit, self.metrics, self.scoring, self.comparing, self.writing = (
            limit,
            metrics,
            scoring,
            comparing,
            writing,
        )
        is_rows = ".jsonl" in self.path.suffixes
        self.kind: str = self.suite.kind if self.suite else "rows" if is_rows else "text"
        if unknown := [each for each in metrics if each not in METRICS]:
            raise InputError(f"--metric {unknown[0]}: known are {', '.join(METRICS)}.")
        if self.kind == "program" and not writing.run_code:
            raise InputError(f"{name} runs programs that the model writes; say --run-code if you want that.")
        if writing.attempts < max(writing.pass_k, default=1):
            raise InputError(f"pass@{max(writing.pass_k)} needs --attempts {max(writing.pass_k)} or more.")
        if limit is not None and self.kind == "text":
            raise InputError("--limit counts samples; a text for perplexity is one. Cut the file instead.")
        from wordloom.evaluation.perplexity import data_hash

        self.data = data_hash(read_text(self.path))
        self.task = self.suite.task if isinstance(self.suite, Suite) else "own data"
        self.dataset = self.suite.dataset if self.suite else self.path.name

    def samples(self, subject: "Subject", out: Path) -> Path:
        """The file of its samples."""
        return out / _slug(subject.name) / f"{self.name}.jsonl"

    def run(self, subject: "Subject", out: Path) -> "list[Figure]":
        from wordloom.evaluation import evaluate as work
        from wordloom.evaluation.perplexity import Convention
        from wordloom.generation.request import GenerationRequest

        if self.kind == "text":
            convention = Convention(**vars(self.scoring))
            with progress(f"{self.name}", None, "tokens") as bar:
                return work.text_figures(subject, self.task, self.dataset, self.path, convention, bar.advance)
        header: dict[str, Any] = {
            "evaluation": self.name, "model": subject.fingerprint, "data": self.data, "kind": self.kind,
            "dtype": str(next(subject.decoder.parameters()).dtype),
        }  # fmt: skip
        task = work.task_of_file(self.path) if self.kind == "rows" else None
        questions = (
            self.suite.questions(self.path) if self.suite and self.suite.questions else task.questions if task else []
        )
        if questions:
            questions = questions[: self.limit]
            samples = work.Samples(self.samples(subject, out), header)
            with progress(self.name, work.rows_to_score(questions, samples), "choices") as bar:
                result = work.evaluate_choice(subject, questions, samples, bar.advance)
            headline = self.suite.headline if self.suite else "raw"
            return work.choice_figures(self.task, self.dataset, headline, result, self.data, subject.tokenizer)
        if self.writing.attempts > 1:
            sampling: dict[str, Any] = {"do_sample": True, "temperature": self.writing.temperature, "seed": 0}
        else:
            sampling = {"do_sample": False}
        stops = ("\nQuestion:", "\n\n\n") if self.kind == "answer" else ("\n",) if self.kind == "rows" else ()
        length = self.writing.max_new_tokens
        request = GenerationRequest(max_new_tokens=length, stop_strings=stops, **sampling)
        header |= {"attempts": self.writing.attempts, "max_new_tokens": length, **sampling}
        samples = work.Samples(self.samples(subject, out), header)
        if task is not None:
            prompts, references = task.prompts[: self.limit], [each[: self.limit] for each in task.references]
            with progress(f"{self.name}: writing", len(prompts) - len(samples.known), "texts") as bar:
                texts = [each[0].strip() for each in work.written(subject, prompts, samples, request, 1, bar.advance)]
            found = work.compare(self.metrics or ["rouge"], texts, references, _overlap_options(self.comparing))
            return work.overlap_figures(self.task, self.dataset, found, self.data)
        assert self.suite is not None and self.suite.problems is not None
        problems = self.suite.problems(self.path)[: self.limit]
        with progress(f"{self.name}: writing", len(problems) - len(samples.known), "texts") as bar:
            prompts = [each.prompt for each in problems]
            texts = work.written(subject, prompts, samples, request, self.writing.attempts, bar.advance)
        with progress(f"{self.name}: checking", len(problems), "problems") as bar:
            return work.problem_figures(self.suite, problems, texts, self.data, self.writing.pass_k, bar.advance)

    def _rows(self, model: str, out: Path) -> list[dict[str, Any]]:
        from wordloom.evaluation.rows import read_rows

        path = out / _slug(model) / f"{self.name}.jsonl"
        return sorted((row for row in read_rows(path) if "number" in row), key=lambda row: row["number"])[: self.limit]

    def compared(self, first: str, second: str, out: Path) -> dict[str, Any] | None:
        """Two models on the same samples, by a paired test; None where there are no samples to pair."""
        import numpy as np

        from wordloom.evaluation.significance import paired

        norm = self.suite.headline if self.suite else "raw"
        values = []
        for model in (first, second):
            if not (out / _slug(model) / f"{self.name}.jsonl").exists():
                return None
            rows = self._rows(model, out)
            if not rows or "chosen" not in rows[0]:
                return None
            right = [row["is_greedy"] if norm == "greedy" else row["chosen"][norm] == row["gold"] for row in rows]
            values.append(100 * np.array(right, float))
        found = paired(*values)
        return {"on": self.name, "norm": norm, "first": first, "second": second, **found._asdict()}

    def examples(self, model: str, out: Path) -> dict[str, Any]:
        """The best and the worst samples, for the page."""
        rows = self._rows(model, out) if (out / _slug(model) / f"{self.name}.jsonl").exists() else []
        if rows and "chosen" in rows[0]:
            rows.sort(key=lambda row: _margin(row))
        return {"model": model, "on": self.name, "worst": rows[:5], "best": rows[-5:][::-1] if len(rows) > 5 else []}


def _margin(row: dict[str, Any]) -> float:
    """By how much the right choice is more probable than the best wrong one, nats."""
    totals, gold = row["log_likelihoods"], row["gold"]
    others = [value for index, value in enumerate(totals) if index != gold]
    return totals[gold] - max(others, default=0.0)


def _subject(model: str, device: str, dtype: str) -> "Subject":
    from wordloom.api import load
    from wordloom.checkpoint.hub import resolve
    from wordloom.evaluation.evaluate import Subject

    loaded = load(model, device, dtype)
    return Subject(model, resolve(model), loaded.decoder, loaded.tokenizer, loaded.engine)


def _slug(model: str) -> str:
    path = Path(model)
    return "-".join(part for part in path.parts[-2:] if part not in ("/", ".", ".."))


def _overlap_options(comparing: Comparing) -> Any:
    from wordloom.evaluation.evaluate import OverlapOptions

    return OverlapOptions(comparing.tokenize, comparing.lowercase, comparing.stemming, comparing.references_by)


def _predictions(comparing: Comparing, metrics: list[str], json: bool) -> None:
    from wordloom.evaluation.evaluate import compare
    from wordloom.evaluation.rows import read_lines

    assert comparing.predictions is not None
    predictions = read_lines(comparing.predictions)
    if metrics == ["quality"]:
        if comparing.references:
            raise InputError("quality needs no references; leave them out or name another metric.")
        _quality(predictions, json)
        return
    references = [read_lines(path) for path in comparing.references]
    for path, stream in zip(comparing.references, references, strict=True):
        if len(stream) != len(predictions):
            raise InputError(
                f"{comparing.predictions} has {len(predictions):,} lines and {path} has {len(stream):,}; line n belongs "
                "to line n."
            )
    found = compare(metrics or ["bleu"], predictions, references, _overlap_options(comparing))
    if json:
        print_json(
            [
                {**each._asdict(), "interval": each.interval._asdict(), "signature": str(each.signature)}
                for each in found
            ]
        )
        return
    for each in found:
        low, value, high = each.interval
        say(each.text if each.text else f"{each.signature} = {value:.2f}")
        say(f"  95 % interval {low:.2f} to {high:.2f} over {len(each.per_sample):,} texts")


def _quality(texts: list[str], json: bool) -> None:
    from wordloom.evaluation.quality import describe

    found = vars(describe(texts))
    if json:
        print_json(found)
        return
    for name, value in found.items():
        say(f"{name:<14} {'-' if value is None else f'{value:,}' if isinstance(value, int) else f'{value:.4f}'}")


def _results(subject: "Subject", figures: "list[Figure]", samples: Path, seconds: float) -> list[Any]:
    from wordloom.core.hardware import probe
    from wordloom.core.version import __version__
    from wordloom.evaluation.results import Result, today

    hardware = str(probe("auto").device)
    return [
        Result(
            task=each.task, dataset=each.dataset, metric=each.metric, value=each.value, model=subject.name,
            signature=str(each.signature), low=each.low, high=each.high, n=each.n, higher_is_better=each.higher_is_better,
            is_headline=each.is_headline, date=today(), parameters=subject.decoder.n_parameters(),
            model_hash=subject.fingerprint, code_version=__version__, command=shlex.join(["wordloom", *sys.argv[1:]]),
            hardware=hardware, seconds=seconds, samples=str(samples) if samples.exists() else "", details=each.details,
        )
        for each in figures
    ]  # fmt: skip


def _show(model: str, figures: "list[Figure]") -> None:
    table = Table(title=model, title_justify="left", box=None, pad_edge=False)
    for name, justify in (
        ("dataset", "left"),
        ("metric", "left"),
        ("value", "right"),
        ("95 % interval", "right"),
        ("n", "right"),
    ):
        table.add_column(name, justify=justify, no_wrap=True)  # pyright: ignore[reportArgumentType]
    for each in figures:
        norm = each.signature.get("norm")
        name = f"{each.metric} ({norm})" if norm else each.metric
        style = "bold" if each.is_headline else "dim"
        table.add_row(
            each.dataset, name, f"{each.value:.4g}", f"{each.low:.4g} – {each.high:.4g}", f"{each.n:,}", style=style
        )
    console.print(table)
    cut_off: dict[str, int] = {}
    for each in figures:
        if each.is_headline:
            say(f"  {each.signature}")
        if cut := each.details.get("questions_cut_off"):
            cut_off[each.dataset] = cut
    for dataset, cut in cut_off.items():
        say(f"  {dataset}: {cut:,} questions did not fit into the context; their beginnings were left out.")


def _sentence(each: dict[str, Any]) -> str:
    sure = "a difference" if each["p"] < 0.05 else "no difference that is sure"
    return (
        f"{each['on']}: {each['second']} against {each['first']}: {each['difference']:+.2f} "
        f"({each['low']:+.2f} to {each['high']:+.2f}, p = {each['p']:.4f}): {sure}."
    )


def _page(
    path: Path, found: "dict[str, list[Figure]]", comparisons: list[dict[str, Any]], examples: list[dict[str, Any]]
) -> None:
    import jinja2

    from wordloom.core.files import write_atomically
    from wordloom.evaluation.leaderboard import shown

    environment = jinja2.Environment(loader=jinja2.PackageLoader("wordloom.evaluation"), autoescape=True)
    page = environment.get_template("evaluation.html.jinja").render(
        found=found, comparisons=[_sentence(each) for each in comparisons], examples=examples, number=shown
    )
    write_atomically(path, page)
