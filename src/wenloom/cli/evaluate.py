"""`wenloom evaluate`. torch is loaded when there is work, so that --help answers at once."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from wenloom.cli.keep_results import keep_results
from wenloom.cli.options import Device, Dtype, Json, changed, flags, refuse_unused
from wenloom.cli.served import Served, told
from wenloom.core.console import out as console
from wenloom.core.console import print_json, remark, say, table
from wenloom.core.errors import InputError
from wenloom.core.quantities import counted
from wenloom.evaluation.options import Convention, OverlapOptions, Shots, Writing
from wenloom.tasks.speech.options import FusionOptions

if TYPE_CHECKING:
    from wenloom.evaluation.evaluated_model import EvaluatedModel
    from wenloom.evaluation.suite import MetricResult

_OUT = Path("evaluation")


def evaluate(
    *models: str,
    on: list[str] | None = None,
    list_: Annotated[bool, Parameter(name="--list", negative="")] = False,
    data: Path | None = None,
    limit: int | None = None,
    skip_bad: bool = False,
    out: Path = _OUT,
    store: Path | None = None,
    keep: Annotated[bool, Parameter(negative="--no-keep")] = True,
    device: Device = "auto",
    dtype: Dtype = "float32",
    predictions: Path | None = None,
    references: list[Path] | None = None,
    metric: list[str] | None = None,
    corpus: Path | None = None,
    json: Json = False,
    served: Annotated[Served, flags("A model that is served elsewhere", 5)] = Served(),
    examples: Annotated[Shots, flags("Worked examples", 1)] = Shots(),
    scoring: Annotated[Convention, flags("Perplexity", 2)] = Convention(),
    comparing: Annotated[OverlapOptions, flags("Texts against references", 3)] = OverlapOptions(),
    writing: Annotated[Writing, flags("Writing", 4)] = Writing(),
    fusion: Annotated[FusionOptions, flags("Recordings, with a language model", 6)] = FusionOptions(),
) -> None:
    """Evaluate a model, with a confidence interval and a signature for every score.

    Suites: wikitext2, lambada, hellaswag, arc_easy, arc_challenge, mmlu, triviaqa, blimp, gsm8k, humaneval, ceval, cmmlu,
    cmrc2018 and more (--list). Instead of a suite, name a file: text for perplexity, jsonl with choices or with prompts and
    references, or a suite of your own in TOML; for a speech recogniser, a manifest of recordings. Two models are also compared with each other, on the same samples.

        wenloom evaluate runs/mine --on lambada,blimp --data datasets/
        wenloom evaluate runs/mine --on arc_easy --shots 5 --data datasets/
        wenloom evaluate runs/mine --on chapter.txt --stride 64
        wenloom evaluate runs/mine --on questions.jsonl --metric rouge
        wenloom evaluate whisper-tiny.en --on recordings.tsv
        wenloom evaluate --api http://localhost:8000/v1 --model mine --on lambada --data datasets/
        wenloom evaluate --predictions out.txt --references ref.txt --metric bleu

    Samples and a page are written below --out; called again, it goes on where it stopped.

    Parameters
    ----------
    models
        Model folders, or hub models.
    on
        Suites or files, comma-separated or given several times.
    list_
        List the suites, and whether their files are below --data; nothing is scored.
    data
        The folder below which suites' files lie; default: the variable WENLOOM_DATA, else data/.
    limit
        Score only this many samples, the first ones (noted in the signature).
    skip_bad
        Leave out rows that cannot be used, named and counted (all of them with --json), instead of stopping at the first.
    out
        Folder for samples and the page.
    store
        The results store (SQLite); default: the variable WENLOOM_RESULTS, else the user's data folder.
    keep
        Put the figures into the results store.
    predictions
        A file of texts, one per line, to compare with references; then no model is needed.
    references
        What they are compared with, line by line; several times for several references.
    metric
        bleu, chrf, ter, rouge (or rouge1, rouge2, rougeL, rougeLsum), wer, cer (blanks left out), answers (exact match and
        F1), vectors (of pairs or scored pairs: nDCG, rank correlation), or, without references, quality (variety, repetition, loops, word frequencies); comma-separated or given several times.
    corpus
        With --metric quality: a prepared corpus; tells how much of the texts is quoted from it word for word.
    """
    if list_:
        _list(data, json)
        return
    names = [name for each in on or [] for name in each.split(",") if name]
    metrics = [name for each in metric or [] for name in each.split(",") if name]
    if predictions is not None:
        if models or names:
            raise InputError("--predictions are compared without a model; leave out models and --on.")
        refuse_unused("goes with models, which --predictions need not", data=data is not None, limit=limit is not None,
                      skip_bad=skip_bad, out=out != _OUT, store=store is not None, no_keep=not keep, device=device != "auto",
                      dtype=dtype != "float32", **changed(fusion), **changed(examples), **changed(scoring), **changed(writing))  # fmt: skip
        refuse_unused("goes with --metric quality", corpus=corpus is not None and metrics != ["quality"])
        _refuse_of_other_metrics(comparing, metrics or ["bleu"])
        if metrics == ["quality"]:
            if references:
                raise InputError("quality needs no references; leave them out or name another metric.")
            _quality(predictions, corpus, json)
        else:
            _predictions(predictions, references or [], metrics, comparing, json)
        return
    if metrics == ["vectors"]:
        refuse_unused("has no use for --metric vectors", data=data is not None, limit=limit is not None, store=store is not None,
                      corpus=corpus is not None, references=bool(references), no_keep=not keep, out=out != _OUT,
                      **changed(fusion), **changed(examples), **changed(scoring), **changed(comparing), **changed(writing))  # fmt: skip
        _vectors(models, names, skip_bad, device, dtype, json)
        return
    if references:
        raise InputError("--references needs --predictions FILE.")
    refuse_unused("goes with --predictions and --metric quality", corpus=corpus is not None)
    if not keep:
        refuse_unused("--no-keep leaves the figures out of every store", store=store is not None)
    endpoints = {each.model: each for each in served.endpoints()}
    if endpoints:
        refuse_unused(
            "is of models that are loaded here; the server decides", device=device != "auto", dtype=dtype != "float32"
        )
        if models:
            raise InputError("--api asks a server: leave the model folders out.")
        models = tuple(endpoints)
    if not models or not names:
        raise InputError("name a model and what to score it on: wenloom evaluate MODEL --on lambada")
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: at least 1.")
    if len(set(models)) < len(models):
        raise InputError("a model is named twice.")
    from wenloom.cli.evaluate_speech import evaluate_speech, hears

    if not endpoints and hears(models):
        refuse_unused("has no use for models that hear", data=data is not None, store=store is not None, no_keep=not keep,
                      metric=bool(metrics), **changed(examples), **changed(scoring), **changed(comparing), **changed(writing))  # fmt: skip
        evaluate_speech(models, names, limit, skip_bad, out, device, dtype, json, fusion)
        return
    refuse_unused("goes with models that hear", **changed(fusion))
    from wenloom.evaluation.evaluated_model import RemoteModel
    from wenloom.evaluation.folder import keep_comparisons
    from wenloom.evaluation.page import write_page
    from wenloom.evaluation.plan import EvaluationPlan
    from wenloom.evaluation.significance import holm

    if not examples.shots:
        refuse_unused("goes with --shots of 1 or more", **changed(examples))
    plans = [
        EvaluationPlan(name, data, out, limit, metrics, scoring, comparing, writing, skip_bad, examples)
        for name in names
    ]
    kinds = {plan.kind for plan in plans}
    if "text" not in kinds:
        refuse_unused("goes with texts, for perplexity; none is among --on", **changed(scoring))
    if "rows" not in kinds:
        given = {"metric": bool(metrics), **changed(comparing)}
        refuse_unused("goes with your own prompts and references (jsonl); none are among --on", **given)
    elif metrics or comparing != OverlapOptions():
        _refuse_of_other_metrics(comparing, metrics or ["rouge"])
    if "program" not in kinds:
        given = {"run_code": writing.run_code, "pass_k": writing.pass_k != Writing.pass_k}
        refuse_unused("goes with suites of programs (humaneval, mbpp); none is among --on", **given)
    if kinds <= {"text", "choice"}:
        refuse_unused("goes with what is solved by writing; nothing of that is among --on", **changed(writing))
    if writing.attempts == 1:
        refuse_unused("goes with --attempts of 2 or more; one text is written without drawing",
                      temperature=writing.temperature != Writing.temperature)  # fmt: skip
    found: dict[str, list[MetricResult]] = {}
    for model in models:
        evaluated = RemoteModel(endpoints[model]) if endpoints else _evaluated_model(model, device, dtype)
        started = time.monotonic()
        for plan in plans:
            began = time.monotonic()
            try:
                figures = plan.run(evaluated)
            except KeyboardInterrupt:
                if n_kept := plan.n_kept(model):
                    are = "is" if n_kept == 1 else "are"
                    remark(f"{counted(n_kept, 'sample')} {are} kept; the same command goes on from there.")
                raise
            found.setdefault(model, []).extend(figures)
            if keep:
                keep_results(store, evaluated, figures, plan.samples(model), time.monotonic() - began)
        asked = f" ({told(endpoints[model])})" if endpoints else ""
        remark(f"{model}: {counted(len(plans), 'evaluation')} in {time.monotonic() - started:,.0f} s{asked}.")
    pairs = [plan.compared(models[0], other) for plan in plans for other in models[1:]]
    comparisons = [each for each in pairs if each is not None]
    for each, adjusted in zip(comparisons, holm([each["p"] for each in comparisons]), strict=True):
        each["p_holm"] = adjusted
    keep_comparisons(out, comparisons)
    page = write_page(out)
    if json:
        figures = {model: [each.as_json() for each in rows] for model, rows in found.items()}
        left_out = [each for plan in plans if plan.refusals for each in plan.refusals.as_json()]
        print_json({"figures": figures, "comparisons": comparisons, "page": str(page), "left_out": left_out})
        return
    for model, rows in found.items():
        _show(model, rows)
    for each in comparisons:
        say(_sentence(each))
    say(f"Page: {page}")


def _list(data: Path | None, json: bool) -> None:
    from wenloom.evaluation.locate import data_folder
    from wenloom.evaluation.suites import SUITES

    rows, root = [], data_folder(data)
    for name, suite in SUITES.items():
        try:
            file = str(suite.find(data).relative_to(root))
        except InputError:
            file = ""
        rows.append({"name": name, "task": suite.task, "about": suite.about, "file": file, "source": suite.where,
                     "shots": suite.takes_examples})  # fmt: skip
    if json:
        print_json(rows)
        return
    shown = table("suite", "what", f"file below {root}", whole=("suite",))
    for row in rows:
        shown.add_row(row["name"], row["about"], row["file"] or "-")
    console.print(shown)
    say("-: not there; evaluate --on SUITE says where it can be had.")


def _refuse_of_other_metrics(comparing: OverlapOptions, metrics: list[str]) -> None:
    def has(*names: str) -> bool:
        return any(each.lower().startswith(names) for each in metrics)

    given, named = changed(comparing), ", ".join(metrics)
    refuse_unused(f"is BLEU's tokenizer; the metric is {named}", tokenize=given["tokenize"] and not has("bleu"))
    refuse_unused(f"goes with bleu, chrf and ter; the metric is {named}",
                  lowercase=given["lowercase"] and not has("bleu", "chrf", "ter"))  # fmt: skip
    rouge = {name: given[name] and not has("rouge") for name in ("references_by",)} | {
        "no_stemming": given["stemming"] and not has("rouge")
    }
    refuse_unused(f"goes with rouge; the metric is {named}", **rouge)


def _evaluated_model(model: str, device: str, dtype: str) -> "EvaluatedModel":
    from wenloom.api import load_writer as load
    from wenloom.checkpoint.hub import resolve
    from wenloom.evaluation.evaluated_model import LocalModel

    loaded = load(model, device, dtype)
    return LocalModel(model, resolve(model), loaded.decoder, loaded.tokenizer, loaded.engine)


def _predictions(
    predictions: Path, references: list[Path], metrics: list[str], comparing: OverlapOptions, json: bool
) -> None:
    from wenloom.evaluation.compare import compare
    from wenloom.evaluation.rows import read_lines

    texts = read_lines(predictions)
    streams = [read_lines(path) for path in references]
    for path, stream in zip(references, streams, strict=True):
        if len(stream) != len(texts):
            raise InputError(
                f"{predictions} has {counted(len(texts), 'line')} and {path} has {len(stream):,}; line n belongs to line n."
            )
    found = compare(metrics or ["bleu"], texts, streams, comparing)
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
        say(f"  95 % interval {low:.2f} to {high:.2f} over {counted(len(each.per_sample), 'text')}")


def _vectors(models: Sequence[str], files: Sequence[str], skip_bad: bool, device: str, dtype: str, json: bool) -> None:
    from wenloom.cli.embed import loaded_embedder
    from wenloom.tasks.embedding import measured, read_text_pairs
    from wenloom.tasks.rows import RowReader

    if not models or not files:
        raise InputError("name a model and pairs: wenloom evaluate MODEL --on pairs.jsonl --metric vectors")
    reader = RowReader(strict=not skip_bad)
    rows = {file: read_text_pairs(file, reader) for file in files}
    reader.report()
    found: list[dict[str, Any]] = []
    for model in models:
        embedder = loaded_embedder(model, device, dtype, None)
        for file, pairs in rows.items():
            for name, (value, error) in measured(embedder, pairs).items():
                found.append(
                    {"model": model, "on": file, "pairs": len(pairs), "metric": name, "value": value, "error": error}
                )
    if json:
        print_json({"figures": found})
        return
    for each in found:
        say(
            f"{each['model']}  {each['on']}  {each['metric']:13} {each['value']:.4f} ± {each['error']:.4f}  ({counted(each['pairs'], 'pair')})"
        )


def _quality(predictions: Path, corpus: Path | None, json: bool) -> None:
    from wenloom.evaluation.quality import CopyDetector, describe
    from wenloom.evaluation.rows import read_lines
    from wenloom.tokens.shards import Dataset

    texts = read_lines(predictions)
    found = dict(vars(describe(texts)))
    if corpus is not None:
        detector = CopyDetector.of_corpus(Dataset.open(corpus))
        found["copied"] = sum(map(detector.share, texts)) / len(texts)
    if json:
        print_json(found)
        return
    for name, value in found.items():
        say(f"{name:<14} {'-' if value is None else f'{value:,}' if isinstance(value, int) else f'{value:.4f}'}")


def _show(model: str, figures: "list[MetricResult]") -> None:
    from wenloom.evaluation.folder import Evaluated
    from wenloom.evaluation.page import table as figure_rows

    numbers = ("value", "95 % interval", "n")
    shown = table("dataset", "metric", *numbers, right=numbers, whole=("metric", "value", "n"), title=model)
    for row in figure_rows([Evaluated(model, "", figures, Path())]):
        each = row.cells[model]
        style = "bold" if row.is_headline else "dim"
        shown.add_row(
            row.dataset, row.name, f"{each.value:.4g}", f"{each.low:.4g} – {each.high:.4g}", f"{each.n:,}", style=style
        )
    console.print(shown)
    cut_off: dict[str, int] = {}
    for each in figures:
        if each.is_headline:
            say(f"  {each.signature}")
        if cut := each.details.get("questions_cut_off"):
            cut_off[each.dataset] = cut
    for dataset, cut in cut_off.items():
        say(f"  {dataset}: {counted(cut, 'question')} did not fit into the context: read without the beginning.")


def _sentence(each: dict[str, Any]) -> str:
    from wenloom.evaluation.folder import told_difference

    sure = "a difference" if each["p_holm"] < 0.05 else "no significant difference"
    difference, low, high = told_difference(each)
    return (
        f"{each['on']}, {each['by']}: {each['second']} against {each['first']}: {difference} "
        f"({low} to {high}, p = {each['p']:.4f}, {each['p_holm']:.4f} after Holm): {sure}."
    )
