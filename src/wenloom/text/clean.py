"""Making equal text equal: line ends, invisible marks and Unicode normalisation."""

import re
import unicodedata

_COMPATIBILITY_IDEOGRAPHS = re.compile(r"([\uf900-\ufaff\U0002f800-\U0002fa1f]+)")


def normalize(text: str) -> str:
    r"""NFC, line ends as \n, byte order marks dropped; every other character is kept.

    NFC replaces CJK compatibility ideographs by other characters, which a reader of names or classical
    texts would call a mangled character: those are kept as they stand.

    >>> normalize("e\u0301\r\n")
    'é\n'
    >>> normalize("\ufa1e") == "\ufa1e"
    True
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\ufeff" in text:
        text = text.replace("\ufeff", "")
    if unicodedata.is_normalized("NFC", text):
        return text
    parts = enumerate(_COMPATIBILITY_IDEOGRAPHS.split(text))  # between, matched, between, ...
    return "".join(part if number % 2 else unicodedata.normalize("NFC", part) for number, part in parts)
