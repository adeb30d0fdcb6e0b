"""Which files are read: those that paths, folders, globs and data sets of the hub name."""

import glob
import os
from pathlib import Path

from wenloom.core.errors import InputError
from wenloom.core.foreign import reading, regular_file
from wenloom.text.document import ReadOptions
from wenloom.text.hub import download, is_hub_data
from wenloom.text.kinds import ABOUT_PACKAGES, ARCHIVES, CODE, NOTES, PLAIN, ROWS, kind_of_name
from wenloom.text.readers import READERS
from wenloom.text.skipped import SkippedFile, counted, tell

_FRAME = "to_json('texts.jsonl', orient='records', lines=True, force_ascii=False)"
_CONVERSIONS = {
    ".xlsx": f"; convert it: pandas.read_excel(FILE).{_FRAME}",
}
"""What to do with files of other kinds."""
_KNOWN = ", ".join(sorted(each for each in READERS if each not in CODE)) + " and code (.py, .c, .js ...)"


def find_files(paths: list[str], skipped: list[SkippedFile] | None = None, show_skipped: bool = False) -> list[Path]:
    """Files named by paths, folders, globs and data sets of the hub (`text.hub.download`), sorted.

    Of a folder, all files of known kinds below it are taken, but not hidden ones nor notes about the data
    (README, LICENSE, SOURCE and the like); name such a file itself to read it. Links to folders, pipes,
    devices and empty files in it are passed over, and a remark counts the files that are not read.

    Args:
        skipped: told which files of folders are not read.
        show_skipped: name each of them.

    Raises:
        InputError: a path does not exist, is not a file or cannot be looked into, or a glob or folder holds no
            readable file.
    """
    found: dict[Path, None] = {}
    for name in paths:
        if is_hub_data(name):
            found |= dict.fromkeys(
                download(name, lambda file: _why_unread(file) is None and kind_of_name(file) not in CODE)
            )
            continue
        with reading(name):
            path = Path(name).expanduser()
            if path.is_dir():
                readable, others = _files_below(path)
                tell(path, others, show_skipped)
                if skipped is not None:
                    skipped += others
            elif glob.has_magic(name) and not path.exists():
                readable = sorted(
                    Path(match) for match in glob.glob(str(path), recursive=True) if Path(match).is_file()
                )
                if not readable:
                    raise InputError(f"{name}: no file matches this pattern.")
            else:
                regular_file(path)
                readable = [path]
        found |= dict.fromkeys(readable)
    for file in found:
        if kind_of_name(file) not in READERS:
            mend = _CONVERSIONS.get(kind_of_name(file), "")
            raise InputError(
                f"{file}: kind {kind_of_name(file) or '(no ending)'!r} is not known{mend}. Known: {_KNOWN}, also .gz, .zst, .bz2 and .xz."
            )
    return list(found)


def hold_rows(files: list[Path]) -> bool:
    """Whether one of the files has rows with fields, or may hold such a file."""
    return any(kind_of_name(file) in (*ROWS, *ARCHIVES) for file in files)


def refuse_idle(files: list[Path], options: ReadOptions) -> None:
    """
    Raises:
        InputError: an option is for files of a kind of which there is none.
    """
    if options.separator is not None and all(kind_of_name(file) not in (*PLAIN, *ARCHIVES) for file in files):
        raise InputError(
            "--separator has no effect here: it parts the documents of txt and md files, and none is read."
        )
    if options.text_field != ReadOptions.text_field and not hold_rows(files):
        raise InputError(
            "--text-field has no effect here: it names a field of rows (jsonl, json, csv, tsv, parquet, arrow), and none is read."
        )


def _files_below(folder: Path) -> tuple[list[Path], list[SkippedFile]]:
    readable, others = list[Path](), list[SkippedFile]()

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be looked into ({(error.strerror or str(error)).lower()}).")

    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [each for each in folders if not each.startswith(".")]
        for name in names:
            file = Path(root, name)
            if name.startswith(".") or not file.is_file():
                continue
            why = _why_skipped(file)
            if why is None:
                readable.append(file)
            else:
                others.append(SkippedFile(file, why))
    if not readable:
        what = f"nothing to read, but {counted(others)}" if others else "no files"
        raise InputError(f"{folder}: holds {what}. Known kinds: {_KNOWN}, also .gz, .zst, .bz2 and .xz.")
    return sorted(readable), sorted(others)


def _why_skipped(file: Path) -> str | None:
    return _why_unread(file) or (None if file.stat().st_size else "empty")


def _why_unread(file: Path) -> str | None:
    """By its name."""
    if kind_of_name(file) not in READERS:
        return kind_of_name(file) or "no ending"
    if NOTES.match(file.name) and kind_of_name(file) not in CODE:
        return "notes"
    if ABOUT_PACKAGES.fullmatch(file.name):
        return "about a package"
    return None
