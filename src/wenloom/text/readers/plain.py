"""Plain text: one document a file, or several with a text between them."""

from collections.abc import Iterator

from wenloom.core.errors import InputError
from wenloom.text.document import Document, SourceFile
from wenloom.text.encoding import pieces_of

TEXT_BYTES = 256 * 2**20
"""Of a document; text8 is a line of 100 million."""
PART_BYTES = 32 * 2**20
"""From which a file is parted: steps take some ten times as much memory as a document has, in every process."""


def read(source: SourceFile) -> Iterator[Document]:
    """The documents of a txt or md file."""
    most, separator = source.options.most(TEXT_BYTES), source.options.separator
    if separator is None:
        yield from _parts(source, most)
        return
    number, size, waiting, tail = 1, 0, list[str](), ""
    for text, _ in pieces_of(source.file, source.options.encoding, source.options.repair):
        waiting.append(text)
        size += len(text)
        if separator in tail + text:
            *parts, rest = "".join(waiting).split(separator)
            for part in parts:
                yield Document(part.strip("\r\n"), f"{source.file}, part {number}")
                number += 1
            size, waiting, tail, text = len(rest), [rest], "", rest
        if size > most:
            raise InputError(
                f"{source.file}, part {number}: is longer than {most:,} characters; allow more with --max-document-mb."
            )
        tail = (tail + text)[1 - len(separator) :] if len(separator) > 1 else ""
    yield Document("".join(waiting).strip("\r\n"), f"{source.file}, part {number}")


def _parts(source: SourceFile, most: int) -> Iterator[Document]:
    """The file as one document; a long one in parts that end where a paragraph or line ends.

    Raises:
        InputError: a line is longer than `most`.
    """
    number, size, waiting = 0, 0, list[str]()
    enough = looked_at = source.options.most(PART_BYTES)
    for text, n_bytes in pieces_of(source.file, source.options.encoding, source.options.repair):
        waiting.append(text)
        size += n_bytes
        if size <= min(looked_at, most):
            continue
        if (first := _first_part(waiting)) is None:
            if size > most:
                raise InputError(
                    f"{source.file}: is one document of more than {most:,} bytes, without the end of a line; split it, with "
                    "--separator where documents are joined in it, or allow more with --max-document-mb."
                )
            looked_at = 2 * size
            continue
        number, part = number + 1, Document(first, f"{source.file}, part {number + 1}")
        size, looked_at = sum(len(each.encode()) for each in waiting), enough
        del first
        yield part
        del part  # whoever has it lets it go, too
    rest = "".join(waiting)
    waiting.clear()
    yield Document(
        rest.strip("\r\n") if number else rest, f"{source.file}, part {number + 1}" if number else str(source.file)
    )


def _first_part(waiting: list[str]) -> str | None:
    """The text that waits up to its last paragraph or line; what is behind it waits then. None: it has no line that ends.

    The text is there twice for a moment, not more.
    """
    found = _last_end(waiting, "\n\n") or _last_end(waiting, "\n")
    if found is None:
        return None
    at, cut = found
    part = [each for each in (*waiting[:at], waiting[at][:cut]) if each]
    waiting[: at + 1] = [waiting[at][cut:]]
    for end, strip in ((-1, str.rstrip), (0, str.lstrip)):
        while part and (stripped := strip(part[end], "\r\n")) != part[end]:
            part[end] = stripped
            if not stripped:
                del part[end]
    return "".join(part)


def _last_end(pieces: list[str], mark: str) -> tuple[int, int] | None:
    """In which piece of a text a mark stands last, which may reach into the next one, and where its first character ends there.

    >>> _last_end(["a\\n\\nb", "c\\n", "\\nd"], "\\n\\n"), _last_end(["a"], "\\n")
    ((1, 2), None)
    """
    following = ""
    for at in reversed(range(len(pieces))):
        place = (pieces[at] + following[: len(mark) - 1]).rfind(mark)
        if place >= 0:
            return at, place + 1
        following = pieces[at] or following
    return None
