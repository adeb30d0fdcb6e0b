"""Members of the zip archives that documents of office programs and electronic books are."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.parsers import expat

from wenloom.core.errors import InputError, printable
from wenloom.core.files import scratch_folder
from wenloom.text.compression import RATIO, open_decompressed, unpacking
from wenloom.text.document import SourceFile
from wenloom.text.kinds import COMPRESSIONS

_FILE_BYTES, _SUSPICIOUS = 2**30, 256 * 2**20


@contextmanager
def plain_file(source: SourceFile) -> Iterator[Path]:
    """The file itself, or unpacked beside where its name ends in .gz and the like.

    Raises:
        InputError: it unpacks to more than a gigabyte.
    """
    if source.file.suffix.lower() not in COMPRESSIONS:
        yield source.file
        return
    with scratch_folder() as folder, (folder / "unpacked").open("wb") as aside:
        size = 0
        with unpacking(source.file), open_decompressed(source.file) as stream:
            while piece := stream.read(2**20):
                size += len(piece)
                if size > _FILE_BYTES:
                    raise InputError(f"{source.file}: unpacks to more than {_FILE_BYTES:,} bytes.")
                aside.write(piece)
        aside.flush()
        yield folder / "unpacked"


@contextmanager
def zip_of(source: SourceFile, what: str) -> Iterator[zipfile.ZipFile]:
    """The archive that a file is.

    Raises:
        InputError: it is none, or a member is damaged.
    """
    try:
        with plain_file(source) as file, zipfile.ZipFile(file) as archive:
            size = sum(info.file_size for info in archive.infolist())
            if size > max(_SUSPICIOUS, RATIO * file.stat().st_size):
                raise InputError(f"{source.file}: would unpack to {size:,} bytes, more than {RATIO} times its size.")
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"{source.file}: is not {what}, or damaged ({printable(str(error).strip(chr(39)), 200)})."
        ) from None
    except expat.ExpatError as error:
        raise InputError(f"{source.file}: is not {what}, or damaged (no XML: {error}).") from None


def member(archive: zipfile.ZipFile, name: str, most: int, source: SourceFile) -> bytes:
    """
    Raises:
        InputError: it has more than `most` bytes.
        KeyError: there is none.
    """
    with archive.open(name) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise InputError(
            f"{source.file}: its part {printable(name, 100)} is longer than {most:,} bytes; allow more with --max-document-mb."
        )
    return data


def parser() -> expat.XMLParserType:
    """Of XML that defines no entities: nothing grows while it is read."""
    made = expat.ParserCreate(namespace_separator=" ")
    made.buffer_text = True

    def refuse(*_: object) -> None:
        raise expat.ExpatError("it defines entities")

    made.EntityDeclHandler = refuse
    return made
