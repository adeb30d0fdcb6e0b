"""`wenloom evaluate` of a model that hears, on manifests of recordings with what is said in them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wenloom.core.console import print_json, remark, say
from wenloom.core.errors import InputError, WenloomError
from wenloom.core.files import write_atomically
from wenloom.core.foreign import json_text
from wenloom.core.quantities import counted

if TYPE_CHECKING:
    from wenloom.evaluation.speech import SpeechFigure
    from wenloom.tasks.speech.manifest import Spoken


def hears(models: Sequence[str]) -> bool:
    """Whether the models to evaluate hear.

    Raises:
        InputError: one does and another does not.
    """
    from wenloom.checkpoint.folder import base_of, is_adapter, read_config
    from wenloom.checkpoint.hub import resolve

    folders = [resolve(model) for model in models]
    found = {model: read_config(base_of(each) if is_adapter(each) else each).hears
             for model, each in zip(models, folders, strict=True)}  # fmt: skip
    if len({*found.values()}) > 1:
        one = next(model for model, does in found.items() if does)
        raise InputError(f"{one} hears and others do not: models are compared on what all of them take.")
    return any(found.values())


def evaluate_speech(
    models: Sequence[str], files: Sequence[str], limit: int | None, skip_bad: bool, out: Path, device: str, dtype: str, json: bool
) -> None:  # fmt: skip
    """Print word or character error rates by manifest and language; transcripts go below `out`."""
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
    left_out: list[dict[str, str]] = []
    for model in models:
        for file, rows in manifests.items():
            found, missed = _measured(model, file, rows, out, device, dtype)
            figures.setdefault(model, {}).update({(file, language): each for language, each in found.items()})
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
                    "comparisons": comparisons, "left_out": left_out, "out": str(out)})  # fmt: skip
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
            say(f"  {each.signature}")
    for each in comparisons:
        sure = "a difference" if each["p"] < 0.05 else "no significant difference"
        say(f"{each['on']}, {each['language']}: {each['second']} against {each['first']}: {each['difference']:+.2f} points "
            f"({each['low']:+.2f} to {each['high']:+.2f}, p = {each['p']:.4f}): {sure}.")  # fmt: skip
    say(f"Transcripts: {out}")


def _described(file: str, figure: "SpeechFigure") -> dict[str, Any]:
    low, value, high = figure.interval
    return {"on": file, "language": figure.language, "metric": figure.metric, "value": value, "low": low, "high": high,
            "n": len(figure.errors), **figure.by_kind, "signature": str(figure.signature)}  # fmt: skip


def _measured(
    model: str, file: str, rows: "Sequence[Spoken]", out: Path, device: str, dtype: str
) -> "tuple[dict[str, SpeechFigure], list[dict[str, str]]]":
    """Figures of a model on a manifest by language, and the recordings that were left out, with the reason."""
    from wenloom.checkpoint.hub import resolve
    from wenloom.core.hardware import number_type, probe
    from wenloom.core.progress import progress
    from wenloom.evaluation.speech import speech_errors, speech_figure
    from wenloom.tasks.speech.transcriber import Recording, Transcriber

    transcriber = Transcriber.load(resolve(model), probe(device).device, number_type(dtype))
    known = transcriber.tokens.languages or {"en": 0}
    heard: dict[int, str] = {}
    missed: list[dict[str, str]] = []
    todo: list[int] = []
    for number, row in enumerate(rows):
        if row.language and row.language not in known:
            missed.append(
                {"model": model, "file": row.name, "why": f"the model does not know the language {row.language}"}
            )
        else:
            todo.append(number)
    recordings = [Recording(rows[number].name, rows[number].read, rows[number].language or None) for number in todo]
    with progress("Transcribing", len(todo), "recordings") as bar:
        for number, outcome in transcriber.transcribe(recordings):
            bar.advance()
            if isinstance(outcome, WenloomError):
                missed.append({"model": model, "file": rows[todo[number]].name, "why": str(outcome)})
            else:
                heard[todo[number]] = outcome.text
    for each in missed[:5]:
        remark(f"{file}: left out: {each['file']}: {each['why'].rstrip('.')}.")
    if len(missed) > 5:
        remark(f"{file}: {len(missed) - 5:,} more are left out (--json lists all).")
    by_language: dict[str, list[int]] = {}
    for number in sorted(heard):
        by_language.setdefault(rows[number].language or "en", []).append(number)
    if not by_language:
        raise InputError(f"{file}: none of its recordings could be heard by {model}.")
    lines = []
    for language, numbers in by_language.items():
        for number in numbers:
            errors = speech_errors(rows[number].text, heard[number], language)
            lines.append({"file": rows[number].name, "language": language, "text": rows[number].text, "heard": heard[number],
                          "errors": errors.errors, "said": len(errors.reference)})  # fmt: skip
    lines.sort(key=lambda each: -each["errors"] / max(1, each["said"]))
    target = out / Path(model).name / f"{Path(file).stem}.transcripts.jsonl"
    write_atomically(target, "".join(json_text(each) + "\n" for each in lines))
    figures = {
        language: speech_figure([(rows[number].text, heard[number]) for number in numbers], language, Path(file).name)
        for language, numbers in by_language.items()
    }
    return figures, missed
