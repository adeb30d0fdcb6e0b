"""`wenloom evaluate` of a model that hears, on manifests of recordings with what is said in them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wenloom.core.console import print_json, remark, say
from wenloom.core.errors import InputError
from wenloom.core.files import write_atomically
from wenloom.core.foreign import json_text
from wenloom.core.quantities import counted
from wenloom.tasks.speech.options import FusionOptions

if TYPE_CHECKING:
    from wenloom.evaluation.speech import SpeechFigure
    from wenloom.tasks.speech.manifest import Spoken
    from wenloom.tasks.speech.measuring import Fused, MeasuredSpeech


def hears(models: Sequence[str]) -> bool:
    """Whether the models to evaluate hear.

    Raises:
        InputError: one does and another does not.
    """
    from wenloom.checkpoint.folder import read_config
    from wenloom.checkpoint.hub import resolve

    folders = [resolve(model) for model in models]
    found = {model: read_config(each).hears
             for model, each in zip(models, folders, strict=True)}  # fmt: skip
    if len({*found.values()}) > 1:
        one = next(model for model, does in found.items() if does)
        raise InputError(f"{one} hears and others do not: models are compared on what all of them take.")
    return any(found.values())


def evaluate_speech(
    models: Sequence[str], files: Sequence[str], limit: int | None, skip_bad: bool, out: Path, device: str, dtype: str, json: bool,
    fusion: FusionOptions,
) -> None:  # fmt: skip
    """Print word or character error rates by manifest and language; transcripts go below `out`.

    With a language model but no weight for it, its weight is found by cross-validation.
    """
    from wenloom.evaluation.speech import compared_speech
    from wenloom.tasks.rows import RowReader
    from wenloom.tasks.speech.manifest import is_manifest, read_manifest

    for file in files:
        if not is_manifest(Path(file)):
            raise InputError(
                f"--on {file}: a model that hears is evaluated on a manifest: .tsv, .csv or .jsonl with path and text."
            )
    reader = RowReader(strict=not skip_bad)
    manifests = {file: read_manifest(Path(file), reader)[:limit] for file in files}
    reader.report()
    figures: dict[str, dict[tuple[str, str], SpeechFigure]] = {}
    fused: dict[tuple[str, str, str], Fused] = {}
    left_out: list[dict[str, str]] = []
    for model in models:
        for file, rows in manifests.items():
            found, missed = _measured(model, file, rows, out, device, dtype, fusion)
            figures.setdefault(model, {}).update({(file, language): each for language, each in found.figures.items()})
            fused |= {(model, file, language): each for language, each in found.fused.items()}
            left_out += missed
    comparisons = []
    for other in models[1:]:
        for place in figures[models[0]].keys() & figures[other].keys():
            test = compared_speech(figures[models[0]][place], figures[other][place])
            comparisons.append(
                {"on": place[0], "language": place[1], "first": models[0], "second": other, **test._asdict()}
            )
    if json:
        print_json({"figures": {model: [_described(file, each) for (file, _), each in found.items()]
                                for model, found in figures.items()},
                    "comparisons": comparisons, "left_out": left_out, "out": str(out)}
                   | ({"language_model": [_fused(*place, each) for place, each in fused.items()]} if fused else {}))  # fmt: skip
        return
    for model, found in figures.items():
        for (file, language), each in found.items():
            low, value, high = each.interval
            kinds = each.by_kind
            say(f"{model}  {file}  {language}  {each.metric.upper()} {value:.2f} %  (95 % {low:.2f} to {high:.2f}, "
                f"{counted(len(each.errors), 'recording')})")  # fmt: skip
            unit = "word" if each.metric == "wer" else "character"
            say(f"  of {counted(kinds['said'], unit)} {kinds['substituted']:,} substituted, {kinds['deleted']:,} deleted, "
                f"{kinds['inserted']:,} inserted")  # fmt: skip
            if (change := fused.get((model, file, language))) is not None:
                low, value, high = change.before.interval
                say(f"  without {fusion.lm} {value:.2f} % ({low:.2f} to {high:.2f}): {change.test.difference:+.2f} points with it "
                    f"({change.test.low:+.2f} to {change.test.high:+.2f}, p = {change.test.p:.4f}); best of the lists {change.oracle:.2f} %")  # fmt: skip
                if change.is_tuned:
                    say(f"  for other speech: --lm-weight {change.weight:g} --lm-bonus {change.bonus:g}")
            say(f"  {each.signature}")
    for each in comparisons:
        sure = "a difference" if each["p"] < 0.05 else "no significant difference"
        say(f"{each['on']}, {each['language']}: {each['second']} against {each['first']}: {each['difference']:+.2f} points "
            f"({each['low']:+.2f} to {each['high']:+.2f}, p = {each['p']:.4f}): {sure}.")  # fmt: skip
    say(f"Transcripts, and a page of the worst recordings, to be read and played: {out}")


def _fused(model: str, file: str, language: str, change: "Fused") -> dict[str, Any]:
    low, value, high = change.before.interval
    return {"model": model, "on": file, "language": language, "before": {"value": value, "low": low, "high": high},
            "oracle": change.oracle, "lm_weight": change.weight, "lm_bonus": change.bonus, **change.test._asdict()}  # fmt: skip


def _described(file: str, figure: "SpeechFigure") -> dict[str, Any]:
    low, value, high = figure.interval
    return {"on": file, "language": figure.language, "metric": figure.metric, "value": value, "low": low, "high": high,
            "n": len(figure.errors), **figure.by_kind, "signature": str(figure.signature)}  # fmt: skip


def _measured(
    model: str, file: str, rows: "Sequence[Spoken]", out: Path, device: str, dtype: str, fusion: FusionOptions
) -> "tuple[MeasuredSpeech, list[dict[str, str]]]":
    """A model on a manifest, and the recordings that were left out, with the reason."""
    from wenloom.checkpoint.hub import resolve
    from wenloom.core.hardware import number_type, probe
    from wenloom.core.progress import progress
    from wenloom.evaluation.speech_page import SpokenLine, write_speech_page
    from wenloom.tasks.speech.measuring import measure
    from wenloom.tasks.speech.n_best import n_best_row
    from wenloom.tasks.speech.transcriber import Transcriber

    transcriber = Transcriber.load(resolve(model), probe(device).device, number_type(dtype))
    with progress("Transcribing", len(rows), "recordings") as bar:
        measured = measure(transcriber, rows, Path(file).name, fusion, bar.advance)
    for row, why in measured.missed[:5]:
        remark(f"{file}: left out: {row.name}: {why.rstrip('.')}.")
    if len(measured.missed) > 5:
        remark(f"{file}: {len(measured.missed) - 5:,} more are left out (--json lists all).")
    lines = [{"file": each.row.name, "language": each.language, "text": each.row.text, "heard": each.text,
              "errors": each.errors.errors, "said": len(each.errors.reference)} for each in measured.heard]  # fmt: skip
    lines.sort(key=lambda each: -each["errors"] / max(1, each["said"]))
    folder, stem = out / Path(model).name, Path(file).stem
    write_atomically(folder / f"{stem}.transcripts.jsonl", "".join(json_text(each) + "\n" for each in lines))
    if fusion.lm is not None:
        n_best = [n_best_row(each.row.name, each.n_best, each.row.text) for each in measured.heard]
        write_atomically(folder / f"{stem}.nbest.jsonl", "".join(json_text(each) + "\n" for each in n_best))
    said = [f"Without {fusion.lm}: {each.before.interval.value:.2f} %; with it {each.test.difference:+.2f} points (p = {each.test.p:.4f})."
            for each in measured.fused.values()]  # fmt: skip
    shown = [
        SpokenLine(each.row.name, each.language, each.errors, lambda row=each.row: row.read()[:2])
        for each in measured.heard
    ]
    write_speech_page(
        folder / f"{stem}.html", Path(model).name, Path(file).name, [*measured.figures.values()], shown, said
    )
    return measured, [{"model": model, "file": row.name, "why": why} for row, why in measured.missed]
