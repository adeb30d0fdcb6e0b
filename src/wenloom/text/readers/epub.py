"""Electronic books (EPUB 2 and 3): the chapters in the order of reading, joined to one document."""

import posixpath
from collections.abc import Iterator
from urllib.parse import unquote

from wenloom.core.errors import InputError
from wenloom.text.document import Document, SourceFile
from wenloom.text.html import visible_text
from wenloom.text.readers.plain import TEXT_BYTES
from wenloom.text.readers.zipped import member, parser, zip_of

_CONTAINER, _MOST_CHAPTERS = "META-INF/container.xml", 10_000


def read(source: SourceFile) -> Iterator[Document]:
    """One document, with title, author and language as fields. A chapter that cannot be read is named and left out.

    Raises:
        InputError: the file is damaged, too long, or protected.
    """
    most = source.options.most(TEXT_BYTES)
    with zip_of(source, "an EPUB book") as archive:
        if "META-INF/rights.xml" in archive.namelist() or "META-INF/license.lcpl" in archive.namelist():
            raise InputError(f"{source.file}: is protected (DRM) and cannot be read.")
        package = _values(member(archive, _CONTAINER, 2**20, source), "rootfile", "full-path")
        if not package:
            raise InputError(f"{source.file}: is not an EPUB book, or damaged (it names no package).")
        opf = member(archive, package[0], 2**24, source)
        chapters, fields = _spine(opf), _about(opf)
        parts, size, folder = list[str](), 0, posixpath.dirname(package[0])
        for number, name in enumerate(chapters[:_MOST_CHAPTERS], 1):
            path = posixpath.normpath(posixpath.join(folder, unquote(name)))
            try:
                text = visible_text(member(archive, path, most, source).decode("utf-8-sig", "replace"))
            except KeyError:
                source.refusals.leave_out(source.file, number, f"{path} is not there", "chapter", source.options.strict)
                continue
            size += len(text)
            if size > most:
                raise InputError(
                    f"{source.file}: is longer than {most:,} characters; allow more with --max-document-mb."
                )
            parts.append(text)
    yield Document("\n\n".join(filter(None, parts)), str(source.file), fields)


def _values(xml: bytes, name: str, attribute: str) -> list[str]:
    found = list[str]()

    def begin(tag: str, attributes: dict[str, str]) -> None:
        if tag.rpartition(" ")[2] == name and attribute in attributes:
            found.append(attributes[attribute])

    made = parser()
    made.StartElementHandler = begin
    made.Parse(xml, True)
    return found


def _spine(opf: bytes) -> list[str]:
    """Paths of the chapters, in the order of reading; navigation is no chapter."""
    places, order = dict[str, str](), list[str]()

    def begin(tag: str, given: dict[str, str]) -> None:
        name = tag.rpartition(" ")[2]
        if (
            name == "item"
            and "html" in given.get("media-type", "")
            and "nav" not in given.get("properties", "").split()
        ):
            places[given.get("id", "")] = given.get("href", "")
        elif name == "itemref":
            order.append(given.get("idref", ""))

    made = parser()
    made.StartElementHandler = begin
    made.Parse(opf, True)
    return [places[each] for each in order if each in places]


def _about(opf: bytes) -> dict[str, str]:
    found, inside = dict[str, str](), [""]
    names = {"title": "title", "creator": "author", "language": "language"}

    def begin(tag: str, attributes: dict[str, str]) -> None:
        space, _, name = tag.rpartition(" ")
        inside[0] = names.get(name, "") if "purl.org/dc" in space else ""

    def data(text: str) -> None:
        if inside[0] and len(found.get(inside[0], "")) < 1000:
            found[inside[0]] = found.get(inside[0], "") + text

    made = parser()
    made.StartElementHandler, made.CharacterDataHandler = begin, data
    made.EndElementHandler = lambda _: inside.__setitem__(0, "")
    made.Parse(opf, True)
    return found
