"""The plain text of wikitext, MediaWiki's markup."""

import html
import re

_SILENT = re.compile(
    r"<!--.*?-->|<(ref|math|gallery|timeline|score|syntaxhighlight|nowiki)\b[^<>]*/>"
    r"|<(ref|gallery|timeline|score|imagemap|templatestyles)\b[^<>]*>.*?</\2\s*>",
    re.DOTALL | re.IGNORECASE,
)
_BRACES = re.compile(r"\{\{|\}\}|\{\||\|\}(?!\})")
_LINK = re.compile(r"\[\[([^\[\]]*)\]\]")
_OUTSIDE = re.compile(r"\[(?:https?:)?//[^\s\[\]]+\s*([^\[\]\n]*)\]")
_HEADING = re.compile(r"^(=+)\s*(.*?)\s*\1[ \t]*$", re.MULTILINE)
_MARKS = re.compile(r"'{2,5}|^[ \t]*[*#:;]+[ \t]*|^----+|__[A-Z]{3,20}__", re.MULTILINE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,300}>")
_NOT_TEXT = re.compile(
    r"^:?(file|image|category|datei|bild|kategorie|fichier|catégorie|archivo|categoría|файл|категория|"
    r"文件|檔案|图像|圖像|分类|分類|ファイル|画像|カテゴリ|ملف|تصنيف|ไฟล์|หมวดหมู่)\s*:",
    re.IGNORECASE,
)
_DEEPEST = 8
"""Links inside captions of pictures."""


def wiki_text(source: str) -> str:
    """Without templates, tables, references, pictures and categories; links as they are read.

    >>> wiki_text("'''Oil''' is a [[liquid|fluid]].{{cite|x={{y}}}}<ref>Smith</ref>\\n== Uses ==\\n* [[lamp]]s [[File:a.jpg|thumb|A [[lamp]]]]")
    'Oil is a fluid.\\nUses\\nlamps'
    """
    text = _without_braces(_SILENT.sub("", source))
    for _ in range(_DEEPEST):
        text, count = _LINK.subn(_shown, text)
        if not count:
            break
    text = _OUTSIDE.sub(r"\1", text)
    text = html.unescape(_TAG.sub("", _MARKS.sub("", _HEADING.sub(r"\2", text))))
    lines = "\n".join(" ".join(line.split(" ")).strip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", lines).strip()


def _without_braces(text: str) -> str:
    """Templates {{...}} and tables {|...|} taken out, nested ones with them; what is never closed ends at its line."""
    parts, at, opened = list[str](), 0, list[int]()
    for found in _BRACES.finditer(text):
        if found[0][0] == "{":
            if not opened:
                parts.append(text[at : found.start()])
                at = found.start()
            opened.append(found.start())
        elif opened:
            opened.pop()
            if not opened:
                at = found.end()
    rest = text[at:]
    return "".join([*parts, rest.partition("\n")[2] if opened else rest])


def _shown(link: re.Match[str]) -> str:
    if _NOT_TEXT.match(link[1]):
        return ""
    target, _, shown = link[1].partition("|")
    return (shown.rpartition("|")[2] or target).removeprefix(":")
