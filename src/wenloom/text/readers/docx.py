"""Documents of word processors (docx, ECMA-376): the text of their paragraphs, tables and notes."""

from collections.abc import Iterator

from wenloom.text.document import Document, SourceFile
from wenloom.text.readers.plain import TEXT_BYTES
from wenloom.text.readers.zipped import member, parser, zip_of

_PARTS = ("word/document.xml", "word/footnotes.xml", "word/endnotes.xml")
_BREAKS = {"p": "\n", "br": "\n", "cr": "\n", "tab": "\t", "tc": "\t"}
_SPACES = (
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "http://purl.oclc.org/ooxml/wordprocessingml/main",
)


def read(source: SourceFile) -> Iterator[Document]:
    """One document. What was deleted while changes were recorded, and fields' instructions, are not text.

    Raises:
        InputError: the file is damaged, or too long.
    """
    most = source.options.most(TEXT_BYTES)
    with zip_of(source, "a docx document") as archive:
        names = set(archive.namelist())
        parts = [_text(member(archive, name, most, source)) for name in _PARTS if name in names or name == _PARTS[0]]
    yield Document("\n".join(filter(None, parts)), str(source.file))


def _text(xml: bytes) -> str:
    parts, inside = list[str](), [False]

    def local(tag: str) -> str:
        space, _, name = tag.rpartition(" ")
        return name if space in _SPACES else ""

    def begin(tag: str, _: dict[str, str]) -> None:
        inside[0] = local(tag) == "t"

    def end(tag: str) -> None:
        inside[0] = False
        parts.append(_BREAKS.get(local(tag), ""))

    made = parser()
    made.StartElementHandler, made.EndElementHandler = begin, end
    made.CharacterDataHandler = lambda data: parts.append(data) if inside[0] else None
    made.Parse(xml, True)
    lines = (line.strip("\t ") for line in "".join(parts).replace("\n\t", "\t").split("\n"))
    return "\n".join(line for line in lines if line)
