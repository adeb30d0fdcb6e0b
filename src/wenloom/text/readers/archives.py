"""Archives (zip, tar): each member is read as a file of its kind would be.

A member is unpacked to the disk, one at a time, and nothing of it is trusted: its name chooses the reader and no place.
"""

import lzma
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from wenloom.core.console import remark
from wenloom.core.errors import InputError, printable
from wenloom.core.files import scratch_folder
from wenloom.text.compression import RATIO, open_decompressed, unpacking
from wenloom.text.document import Document, Reader, Room, SourceFile
from wenloom.text.kinds import kind_of_name

_DEEPEST = 2
"""An archive within an archive is read, one within that is not."""
_SUSPICIOUS = 256 * 2**20
"""Bytes of all members together from which what unpacks to more than `RATIO` times its size is a bomb; of one member 2^20."""
_PIECE = 2**20
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError,
            ValueError, OSError)  # fmt: skip


class _Member(NamedTuple):
    number: int
    name: str
    stream: IO[bytes]


def read(source: SourceFile, read_inside: Reader) -> Iterator[Document]:
    """The documents of all members of known kinds; those of others are counted in a remark, links and devices among them.

    A member that cannot be read is named and left out.
    """
    if source.depth >= _DEEPEST:
        raise InputError(f"{source.file}: lies in {source.depth} archives; unpack the outer one.")
    others: Counter[str] = Counter()
    members = _zipped if kind_of_name(source.file) == ".zip" else _tarred
    room = source.room or Room(max(_SUSPICIOUS, RATIO * source.file.stat().st_size))
    source = source._replace(room=room)
    with scratch_folder() as folder:
        for member in members(source, others):
            yield from _documents(member, source, read_inside, folder)
            if room.left < 0:
                break
    if others:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in others.most_common(8))
        remark(f"{_shown(source)}: skipped {others.total():,} members: {counts}.")


def _documents(member: _Member, source: SourceFile, read_inside: Reader, folder: Path) -> Iterator[Document]:
    shown, refusals = _shown(source, member.name), source.refusals
    ending = "".join(PurePosixPath(member.name.replace("\\", "/")).suffixes[-2:])[-40:]
    place = folder / f"{member.number}{ending}".replace("\0", "")
    refusals.shown_as[place] = shown
    before = refusals.count
    try:
        _unpack(member, place, source)
        if not place.stat().st_size:
            return
        for document in read_inside(source._replace(file=place, depth=source.depth + 1)):
            yield replace(document, source=document.source.replace(str(place), str(shown), 1))
        refusals.in_a_row *= before != refusals.count
    except (InputError, *_DAMAGED) as error:
        if refusals.strict and not isinstance(error, InputError) and source.options.strict:
            raise
        why = str(error).replace(str(place), str(shown)).removeprefix(f"{shown}: ")
        refusals.leave_out(shown, 0, why or type(error).__name__, "member", source.options.strict)
    finally:
        place.unlink(missing_ok=True)
        refusals.shown_as.pop(place, None)


def _shown(source: SourceFile, member: str = "") -> Path:
    """The name of an archive, or of a member of it, as the user knows it, in however many archives it lies."""
    return source.refusals.shown_as.get(source.file, source.file) / printable(member, 300).lstrip("/")


def _unpack(member: _Member, place: Path, source: SourceFile) -> None:
    """
    Raises:
        InputError: with what was unpacked before, of the outermost archive, it is too much.
    """
    assert source.room is not None
    with place.open("wb") as out:
        while piece := member.stream.read(_PIECE):
            source.room.left -= len(piece)
            if source.room.left < 0:
                raise InputError(f"{place}: unpacks to more than {source.room.size:,} bytes with the members before it, {RATIO} times its "
                                 "archive; all others are left out.")  # fmt: skip
            out.write(piece)


def _is_read(name: str, others: Counter[str]) -> bool:
    """Whether there is a reader for a member of this name."""
    from wenloom.text.readers import READERS

    kind = kind_of_name(Path(PurePosixPath(name.replace("\\", "/")).name))
    if PurePosixPath(name).name.startswith((".", "._")) or name.startswith("__MACOSX/"):
        return False
    if kind not in READERS:
        others[printable(kind, 20) or "no ending"] += 1
    return kind in READERS


def _zipped(source: SourceFile, others: Counter[str]) -> Iterator[_Member]:
    try:
        archive = zipfile.ZipFile(source.file)
    except _DAMAGED as error:
        raise InputError(f"{source.file}: is not a zip archive, or damaged ({printable(str(error), 200)}).") from None
    with archive:
        for number, info in enumerate(archive.infolist(), 1):
            if info.is_dir() or not _is_read(info.filename, others):
                continue
            if info.file_size > max(2**20, RATIO * info.compress_size):  # the library reads no more than it says here
                why = f"would unpack to {info.file_size:,} bytes, more than {RATIO} times its size: text does not"
                source.refusals.leave_out(_shown(source, info.filename), 0, why, "member", source.options.strict)
                continue
            try:
                with archive.open(info) as stream:
                    yield _Member(number, info.filename, stream)
            except _DAMAGED as error:
                source.refusals.leave_out(_shown(source, info.filename), 0, str(error), "member", source.options.strict)


def _tarred(source: SourceFile, others: Counter[str]) -> Iterator[_Member]:
    with unpacking(source.file), open_decompressed(source.file) as packed:
        try:
            with tarfile.open(fileobj=packed, mode="r|", errorlevel=0) as archive:
                for number, info in enumerate(archive, 1):
                    if info.isdir() or not _is_read(info.name, others):
                        continue
                    stream = archive.extractfile(info) if info.isreg() else None
                    if stream is None:
                        others["links and devices"] += 1
                        continue
                    yield _Member(number, info.name, stream)
        except tarfile.TarError as error:
            raise InputError(
                f"{source.file}: is not a tar archive, or damaged ({printable(str(error), 200)})."
            ) from None
