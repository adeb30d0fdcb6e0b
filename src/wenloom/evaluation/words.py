"""Texts cut into words, in any language: what ROUGE and the measures of variety count."""

import re
from collections.abc import Sequence

from wenloom.evaluation.stem import stem
from wenloom.text.clean import composed

CJK = re.compile(
    r"[\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    r"\U00020000-\U0003ffff]"
)
"""Scripts written without blanks: Han, Hiragana, Katakana."""
UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
"""Scripts without blanks that are not cut here: Thai, Lao, Burmese, Khmer."""


def looks_unspaced(texts: Sequence[str]) -> bool:
    """Whether most of the letters are of a script without blanks between words."""
    sample = "".join(texts[:200])[:20_000]
    letters = sum(each.isalpha() for each in sample)
    return letters > 0 and (len(CJK.findall(sample)) + len(UNSPACED.findall(sample))) / letters > 0.3


def words_of(text: str, stemming: bool = True, latin_only: bool = False) -> list[str]:
    """What ROUGE counts: words in lower case, each Chinese or Japanese character by itself.

    Args:
        stemming: English words of more than three letters by their Porter stems.
        latin_only: a to z and digits only, as rouge-score.

    >>> words_of("Die Größe, über 3.5 Äpfel")
    ['die', 'größe', 'über', '3', '5', 'äpfel']
    >>> words_of("今天ok")
    ['今', '天', 'ok']
    """
    text = composed(text).lower()
    if latin_only:
        found = re.findall(r"[a-z0-9]+", text)
    else:
        found = re.findall(rf"{CJK.pattern}|(?:(?!{CJK.pattern})[^\W_]|(?<=\w)[\u0300-\u036f])+", text)
    return [stem(each) if stemming and len(each) > 3 and each.isascii() else each for each in found]
