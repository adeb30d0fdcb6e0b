"""The text of a web page, as a reader sees it."""

import html
import re

_SILENT = frozenset(("script", "style", "head", "template", "noscript", "svg"))
_BLOCK = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "br",
        "dd",
        "div",
        "dl",
        "dt",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "table",
        "tr",
        "ul",
    ]
)
_ENDED_BY_BLOCKS = frozenset(("head", "svg"))
"""Their end tags may be missing: what cannot be inside ends them (HTML standard, 13.2.6)."""
_RAW = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in ("script", "style")}
_MARKUP = re.compile(r"<(?=[a-zA-Z!?/])")
_NAME = re.compile(r"/?([a-zA-Z][^\s/>]*+)")
# possessive, so that what has no end is looked through once; a quote that is never closed is a letter
_REST = re.compile(r"""(?:[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+')|=)*+>""")
_LONG_REFERENCE = re.compile(r"&#(?:[0-9]{9,}|[xX][0-9a-fA-F]{9,});?")
"""No character has such a number, but numbers of 4,301 digits cannot even be read."""


def visible_text(page: str) -> str:
    """The text of a page: scripts, styles and the head dropped, block elements on lines of their own.

    Reads in linear time whatever the page holds: tags, comments and entities without end included.

    >>> visible_text("<head><title>no</title></head><p>One <b>two</b>\\n three<ul><li>4<li>5</ul>")
    'One two three\\n\\n4\\n5'
    """
    text = _VisibleText()
    at = 0
    while markup := _MARKUP.search(page, at):
        begin = markup.start()
        if begin > at:
            text.data(page[at:begin])
        name = _NAME.match(page, begin + 1)
        if name is None:
            at = _end_of_comment(page, begin)
            continue
        rest = _REST.match(page, name.end())
        if rest is None:
            at = len(page)  # a tag that does not end
            break
        at = rest.end()
        tag = name[1].lower()
        if name[0].startswith("/"):
            text.end(tag)
            continue
        text.start(tag)
        if page[at - 2] == "/":
            text.end(tag)
        elif tag in _RAW:
            closing = _RAW[tag].search(page, at)
            at = closing.start() if closing else len(page)
    text.data(page[at:])
    return text.text()


def _end_of_comment(page: str, begin: int) -> int:
    if page.startswith("<!--", begin):
        if page.startswith((">", "->"), begin + 4):
            return page.index(">", begin) + 1
        end, width = page.find("-->", begin + 4), 3
    else:
        end, width = page.find(">", begin), 1
    return end + width if end >= 0 else len(page)


class _VisibleText:
    def __init__(self) -> None:
        self._parts: list[str] = []
        self._waiting: list[str] = []
        self._silenced_by, self._depth, self._verbatim = "", 0, 0

    def start(self, tag: str) -> None:
        self._write()
        if self._silenced_by in _ENDED_BY_BLOCKS and tag in _BLOCK:
            self._silenced_by = ""
        if self._silenced_by:
            self._depth += tag == self._silenced_by
        elif tag in _SILENT:
            self._silenced_by, self._depth = tag, 1
        self._verbatim += tag == "pre"
        if tag in _BLOCK:
            self._parts.append("\n")

    def end(self, tag: str) -> None:
        self._write()
        if tag == self._silenced_by:
            self._depth -= 1
            if not self._depth:
                self._silenced_by = ""
        self._verbatim = max(0, self._verbatim - (tag == "pre"))
        if tag in _BLOCK:
            self._parts.append("\n")

    def data(self, text: str) -> None:
        if text and not self._silenced_by:
            self._waiting.append(text)

    def _write(self) -> None:
        """Runs of white space count as one blank, and as none at the start of a line."""
        if not self._waiting:
            return
        text = "".join(self._waiting)
        self._waiting.clear()
        if "&" in text:
            text = html.unescape(_LONG_REFERENCE.sub("\ufffd", text))
        if not self._verbatim:
            at_start = not self._parts or self._parts[-1].endswith(("\n", " "))
            words = " ".join(text.split())
            text = f"{' ' * (text[:1].isspace() and not at_start)}{words}{' ' * (text[-1:].isspace() and bool(words))}"
        self._parts.append(text)

    def text(self) -> str:
        """Everything seen, at most one empty line in a row."""
        self._write()
        kept: list[str] = []
        for line in "".join(self._parts).split("\n"):
            if line.strip() or (kept and kept[-1]):
                kept.append(line.rstrip())
        return "\n".join(kept).strip("\n")
