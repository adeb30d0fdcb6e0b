"""Lists of recordings with what is said in them: a table or jsonl with paths, texts, languages and times."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from wenloom.audio.reading import Sound, read_sound
from wenloom.core.errors import InputError
from wenloom.evaluation.rows import read_lines
from wenloom.tasks.rows import RowReader, content_suffix

_PATHS = ("path", "file", "audio", "audio_filepath", "wav")
_TEXTS = ("text", "sentence", "transcript", "transcription", "target")
_LANGUAGES = ("language", "lang", "locale")


class Spoken(NamedTuple):
    """A recording, or a stretch of one, and what is said in it."""

    name: str
    """As the manifest has it."""
    path: str
    text: str
    language: str = ""
    """Its code; empty where the manifest does not say."""
    start: float = 0.0
    """Second at which it begins."""
    end: float | None = None
    """Second at which it ends; None: with the recording."""

    def read(self) -> Sound:
        """The sound of the stretch.

        Raises:
            InputError: see `audio.reading.read_sound`; or the stretch lies beyond the recording.
        """
        sound = read_sound(Path(self.path))
        first = round(self.start * sound.rate)
        last = len(sound.samples) if self.end is None else round(self.end * sound.rate)
        if not first < len(sound.samples):
            raise InputError(
                f"{self.path}: ends at second {sound.seconds:,.1f}, before second {self.start:,.1f} of the manifest."
            )
        return sound._replace(samples=sound.samples[first:last]) if (first, last) != (0, len(sound.samples)) else sound


def read_manifest(file: Path, reader: RowReader, needs_text: bool = True) -> list[Spoken]:
    """The recordings of a manifest; its paths are relative to its folder.

    Fields or columns: path (or file, audio, audio_filepath, wav), text (sentence, transcript), and where there are such
    language (lang, locale), start and end in seconds (or NeMo's offset and duration).

    Raises:
        InputError: it cannot be read, or holds no recording.
    """
    make = _spoken(file.parent, needs_text)
    return _of_columns(file, reader, make) if content_suffix(file) == ".tsv" else reader.objects(file, make)


def _of_columns(file: Path, reader: RowReader, make: Callable[[dict[str, Any]], Spoken]) -> list[Spoken]:
    """Of columns between tabs, which the first line names; quotes are part of a text unless they stand around it."""
    lines = read_lines(file)
    names = [name.strip().lower() for name in lines[0].split("\t")] if lines else []
    found: list[Spoken] = []
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) != len(names):
            reader.refuse(
                file, number, f"has {len(cells)} columns between tabs where the first line names {len(names)}"
            )
            continue
        try:
            found.append(make(dict(zip(names, cells, strict=True))))
        except ValueError as error:
            reader.refuse(file, number, str(error))
    if not found:
        first = f" The first: {reader.refused[0]}." if reader.refused else ""
        raise InputError(f"{file}: holds no row that can be used.{first}")
    return found


def is_manifest(file: Path) -> bool:
    """Whether a file's name is that of a manifest."""
    return {*map(str.lower, file.suffixes)} & {".tsv", ".csv", ".jsonl", ".json"} != set()


def _spoken(folder: Path, needs_text: bool) -> Callable[[dict[str, Any]], Spoken]:
    def spoken(row: dict[str, Any]) -> Spoken:
        name = _first(row, _PATHS, "the recording")
        text = _first(row, _TEXTS, "what is said") if needs_text else str(row.get("text") or "")
        language = next((str(row[each]) for each in _LANGUAGES if row.get(each)), "").split("-")[0].lower()
        start = _number(row, "start") if row.get("start") not in (None, "") else _number(row, "offset") or 0.0
        end = _number(row, "end")
        if end is None and (length := _number(row, "duration")) is not None and row.get("offset") not in (None, ""):
            end = (start or 0.0) + length
        if (start or 0) < 0 or (end is not None and end <= (start or 0)):
            raise ValueError(f"start {start} and end {end} are no stretch of time")
        return Spoken(name, str(folder / Path(name).expanduser()), text, language, start or 0.0, end)

    return spoken


def _first(row: dict[str, Any], names: tuple[str, ...], what: str) -> str:
    value = next((row[each] for each in names if row.get(each) is not None), None)
    if not isinstance(value, str) or not value.strip():
        found = ", ".join(str(each) for each in list(row)[:8])
        raise ValueError(f'no field "{names[0]}" with {what} (found: {found})')
    return value.strip()


def _number(row: dict[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value in (None, ""):
        return None
    try:
        return float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        raise ValueError(f'"{name}" must be seconds, got {value!r}') from None
