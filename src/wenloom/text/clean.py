"""Making equal text equal: line ends, invisible marks and Unicode normalisation."""

import re
import unicodedata
from functools import cache
from typing import Literal

_COMPATIBILITY_IDEOGRAPHS = re.compile(r"([\uf900-\ufaff\U0002f800-\U0002fa1f]+)")
_MOST_MARKS = 256
"""Combining marks in a row that are put in order, which takes time quadratic in their number. No writing has more than
30 (Unicode Standard Annex 15, section 13)."""


@cache
def _runs_of_marks() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What finds long runs of combining marks, and a faster one that also finds other text beyond U+FFFF."""
    marks = [code for code in range(0x300, 0x20000)
             if unicodedata.combining(unicodedata.normalize("NFKD", chr(code))[0])]  # fmt: skip
    ranges: list[list[int]] = []
    for code in marks:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    inside = "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)
    basic = "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges if last < 0x10000)
    many = f"{{{_MOST_MARKS + 1},}}+"
    return re.compile(f"[{inside}]{many}"), re.compile(f"[{basic}\U00010000-\U0010ffff]{many}")


def composed(text: str, form: Literal["NFC", "NFKC"] = "NFC") -> str:
    r"""Unicode normalisation in linear time: more than 256 combining marks in a row stay as they stand.

    >>> composed("e\u0301")
    'é'
    """
    if text.isascii():
        return text
    exact, fast = _runs_of_marks()
    if not fast.search(text):
        return unicodedata.normalize(form, text)
    parts, at = [], 0
    for run in exact.finditer(text):
        begin = max(at, run.start() - 1)  # with the letter that the marks stand on
        parts += [unicodedata.normalize(form, text[at:begin]), text[begin : run.end()]]
        at = run.end()
    return "".join([*parts, unicodedata.normalize(form, text[at:])])


def normalize(text: str) -> str:
    r"""NFC, line ends as \n, byte order marks dropped; every other character is kept.

    NFC replaces CJK compatibility ideographs by other characters, which a reader of names or classical
    texts would call a mangled character: those are kept as they stand. So are more than 256 combining marks in a row.

    >>> normalize("e\u0301\r\n")
    'é\n'
    >>> normalize("\ufa1e") == "\ufa1e"
    True
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\ufeff" in text:
        text = text.replace("\ufeff", "")
    if text.isascii():
        return text
    parts = enumerate(_COMPATIBILITY_IDEOGRAPHS.split(text))  # between, matched, between, ...
    return "".join(part if number % 2 else composed(part) for number, part in parts)
