"""The text of LaTeX, reStructuredText and XML, as a reader sees it; formulas and code stay as they are written.

Everything is found by patterns that look at a character once, whatever the file holds: nothing is expanded or fetched.
"""

import html
import re

_TEX_COMMENT = re.compile(r"(?<!\\)%[^\n]*\n?[ \t]*")
_TEX_SILENT = re.compile(
    r"\\(?:cite[a-z]*|ref|eqref|pageref|label|bibliography|bibliographystyle|includegraphics|usepackage|input|include|vspace|hspace)"
    r"\*?(?:\[[^\]\n]{0,500}\])?\{[^{}]*\}"
)
_TEX_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[^{}\n]*\}(?:\[[^\]\n]{0,500}\])?")
_TEX_COMMAND = re.compile(
    r"\\(?:[a-zA-Z]+\*?(?:\[[^\]\n]{0,500}\])?[ \t]*(?=\{)|(?:item|par|noindent|centering|maketitle)\b[ \t]*)"
)
_TEX_MATH = re.compile(r"(\$\$[^$]+\$\$|\$[^$\n]+\$|\\\[[^\]]{0,2000}\\\]|\\\([^)\n]{0,500}\\\))")
_TEX_MARKS = [(r"\&", "&"), (r"\%", "%"), (r"\#", "#"), (r"\_", "_"), (r"\$", "$"), ("~", " "), ("``", "“"), ("''", "”"),
              ("---", "—"), ("--", "–"), ("\\\\", "\n"), ("{", ""), ("}", "")]  # fmt: skip


def tex_text(source: str) -> str:
    r"""The text of a LaTeX document: without preamble, comments, references and the names of commands.

    >>> tex_text(r"\section{On oil} % todo" + "\nOil \\emph{burns} at $x_1$~K \\cite{a}.")
    'On oil\nOil burns at $x_1$ K .'
    """
    body = source.partition("\\begin{document}")[2] or source
    body = _TEX_COMMENT.sub("\n", body.partition("\\end{document}")[0])
    parts = []
    for place, part in enumerate(_TEX_MATH.split(body)):
        if place % 2 == 0:  # formulas stand between
            part = _TEX_COMMAND.sub("", _TEX_ENVIRONMENT.sub("", _TEX_SILENT.sub("", part)))
            for mark, text in _TEX_MARKS:
                part = part.replace(mark, text)
        parts.append(part)
    return _tidy("".join(parts))


_RST_RULE = re.compile(r"^([=\-~^\"'`#*+.:_])\1{2,}[ \t]*$", re.MULTILINE)
_RST_DIRECTIVE = re.compile(r"^[ \t]*\.\. (?:[\w:-]+::.*|\[[^\]\n]*\]|_[^\n]*:.*|(?!\w).*)$", re.MULTILINE)
_RST_OPTION = re.compile(r"^[ \t]+:[\w-]+:.*$", re.MULTILINE)
_RST_ROLE = re.compile(r":[\w:+-]+:(?=`)")
_RST_LINK = re.compile(r"`([^`<\n]{1,500})<[^>`\n]{0,500}>`_{0,2}")
_RST_MARKS = re.compile(r"(``|\*\*|`_{0,2})(?=\S)|(?<=\S)(``|\*\*|`_{0,2})")


def rst_text(source: str) -> str:
    """The text of a reStructuredText document: without rules under headings, directives, roles and targets.

    >>> rst_text("Oil\\n===\\n\\n.. note::\\n\\n   Use :ref:`the lamp <lamp>` and ``oil``.")
    'Oil\\n\\n   Use the lamp and oil.'
    """
    text = _RST_OPTION.sub("", _RST_DIRECTIVE.sub("", _RST_RULE.sub("", source)))
    return _tidy(_RST_MARKS.sub("", _RST_LINK.sub(lambda found: found[1].rstrip(), _RST_ROLE.sub("", text))))


_XML_INSTRUCTION = re.compile(r"<\?[^<>]*\?>")
_XML_TYPE = re.compile(r"<!DOCTYPE[^<>\[]*(?:\[[^\]]*\])?[^<>]*>")
_XML_BETWEEN = re.compile(r"(</[^<>]*>|/>)\s*(?=<)")
_XML_TAG = re.compile(r"<[^<>]*>")


def xml_text(source: str) -> str:
    """The text of the elements of an XML document, each on a line of its own where no text stands between them.

    Entities that the document defines itself are not expanded.

    >>> xml_text("<?xml version='1.0'?><a><b>One <i>two</i> &amp; three</b><b><![CDATA[4 < 5]]></b><!-- no --></a>")
    'One two & three\\n4 < 5'
    """
    parts = []
    for part in _outside_comments(source):
        if part.startswith("<![CDATA["):
            parts.append(html.escape(part[9:-3], quote=False))
        else:
            parts.append(part)
    text = _XML_INSTRUCTION.sub("", "".join(parts))
    begin = text.find("<!DOCTYPE")  # there is one at most
    kind = _XML_TYPE.match(text, begin) if begin >= 0 else None
    text = text if kind is None else text[:begin] + text[kind.end() :]
    return _tidy(html.unescape(_XML_TAG.sub("", _XML_BETWEEN.sub(r"\1" + "\n", text))))


def _outside_comments(source: str) -> list[str]:
    """Stretches of XML without its comments, sections of plain characters each by itself."""
    parts, at = list[str](), 0
    for found in re.finditer(r"<!--|<!\[CDATA\[", source):
        if found.start() < at:
            continue
        parts.append(source[at : found.start()])
        closing = "-->" if found[0] == "<!--" else "]]>"
        end = source.find(closing, found.end())
        at = end + 3 if end >= 0 else len(source)
        if found[0] != "<!--" and end >= 0:
            parts.append(source[found.start() : at])
    return [*parts, source[at:]]


def _tidy(text: str) -> str:
    """Lines without blanks at their ends, at most one empty line in a row."""
    lines = "\n".join(line.rstrip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", lines).strip("\n").rstrip()
