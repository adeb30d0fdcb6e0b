"""The text of a web page, as a reader sees it."""

from html.parser import HTMLParser
from typing import Any


def visible_text(page: str) -> str:
    """The text of a page: scripts, styles and the head dropped, block elements on lines of their own.

    >>> visible_text("<head><title>no</title></head><p>One <b>two</b>\\n three<ul><li>4<li>5</ul>")
    'One two three\\n\\n4\\n5'
    """
    parser = _VisibleText()
    parser.feed(page)
    parser.close()
    return parser.text()


class _VisibleText(HTMLParser):
    _SILENT = frozenset(("script", "style", "head", "template", "noscript", "svg"))
    _BLOCK = frozenset(
        [
            "address",
            "article",
            "aside",
            "blockquote",
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

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._silent = self._verbatim = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._silent += tag in self._SILENT
        self._verbatim += tag == "pre"
        if tag in self._BLOCK:
            self._parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._silent = max(0, self._silent - (tag in self._SILENT))
        self._verbatim = max(0, self._verbatim - (tag == "pre"))
        if tag in self._BLOCK:
            self._parts.append("\n")

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        if not self._verbatim:  # runs of white space count as one blank, and as none at the start of a line
            at_start = not self._parts or self._parts[-1].endswith(("\n", " "))
            words = " ".join(data.split())
            data = f"{' ' * (data[:1].isspace() and not at_start)}{words}{' ' * (data[-1:].isspace() and bool(words))}"
        self._parts.append(data)

    def text(self) -> str:
        """Everything seen, at most one empty line in a row."""
        kept: list[str] = []
        for line in "".join(self._parts).split("\n"):
            if line.strip() or (kept and kept[-1]):
                kept.append(line.rstrip())
        return "\n".join(kept).strip("\n")
