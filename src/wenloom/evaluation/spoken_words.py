"""What counts as the same when speech is compared with what was said: normalisers by language.

English: the rules that Whisper's authors publish (Radford et al. 2022, appendix C): brackets, fillers, contractions, symbols,
diacritics, numbers, British spellings. Chinese: widths, punctuation and blanks, numerals as digits; traditional and simplified
characters stay apart. Other languages: lower case, no symbols.
"""

import re
import unicodedata
from collections.abc import Callable

from wenloom.evaluation.spelling import american
from wenloom.evaluation.spoken_numbers import with_digits

_SHORT = {
    r"won't": "will not", r"can't": "can not", r"let's": "let us", r"ain't": "aint", r"y'all": "you all", r"wanna": "want to",
    r"gotta": "got to", r"gonna": "going to", r"i'ma": "i am going to", r"imma": "i am going to", r"woulda": "would have",
    r"coulda": "could have", r"shoulda": "should have", r"ma'am": "madam",
}  # fmt: skip
_TITLES = {
    "mr": "mister", "mrs": "missus", "st": "saint", "dr": "doctor", "prof": "professor", "capt": "captain", "gov": "governor",
    "ald": "alderman", "gen": "general", "sen": "senator", "rep": "representative", "pres": "president", "rev": "reverend",
    "hon": "honorable", "asst": "assistant", "assoc": "associate", "lt": "lieutenant", "col": "colonel", "jr": "junior",
    "sr": "senior", "esq": "esquire",
}  # fmt: skip
_ENDINGS = {
    "'d been": " had been", "'s been": " has been", "'d gone": " had gone", "'s gone": " has gone", "'d done": " had done",
    "'s got": " has got", "n't": " not", "'re": " are", "'s": " is", "'d": " would", "'ll": " will", "'t": " not", "'ve": " have",
    "'m": " am",
}  # fmt: skip
_UNDECOMPOSED = str.maketrans({"œ": "oe", "ø": "o", "æ": "ae", "ß": "ss", "đ": "d", "ð": "d", "þ": "th", "ł": "l"})
_FILLERS = re.compile(r"\b(hmm|mm|mhm|mmm|uh|um)\b")
_HAN_DIGITS = {char: number for number, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_HAN_UNITS = {"十": 10, "百": 100, "千": 1000}
_HAN_NUMBER = re.compile(r"[零〇一二三四五六七八九十百千万萬亿億两兩]+")


def english(text: str) -> str:
    """English as it is compared.

    >>> english("Mr. Colour [laughs] 's got twenty-two dogs, hasn't he?")
    'mister color has got 22 dogs has not he'
    """
    text = _without_brackets(text.lower())
    text = _FILLERS.sub("", text)
    text = re.sub(r"\s+'", "'", text)
    for short, long in _SHORT.items():
        text = re.sub(rf"\b{short}\b", long, text)
    for short, long in _TITLES.items():
        text = re.sub(rf"\b{short}\b", f"{long} ", text)
    for short, long in _ENDINGS.items():
        text = re.sub(rf"{short}\b", long, text)
    text = re.sub(r"(\d),(\d)", r"\1\2", text)
    text = re.sub(r"\.([^0-9]|$)", r" \1", text)
    text = with_digits(_without_marks(text, ".%$¢€£"))
    text = " ".join(map(american, text.split()))
    text = re.sub(r"[.$¢€£]([^0-9])", r" \1", text)
    text = re.sub(r"([^0-9])%", r"\1 ", text)
    return " ".join(text.split())


def chinese(text: str) -> str:
    """Chinese as it is compared, without blanks.

    >>> chinese("２０２４年，一共有 一百二十三 个。"), chinese("一起，二〇一九")
    ('2024年一共有123个', '一起2019')
    """
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub(
        r"\s+", "", "".join(" " if unicodedata.category(char)[0] in "MSP" and char != "%" else char for char in text)
    )
    return _HAN_NUMBER.sub(lambda found: _han_number(found[0]), text)


def _han_number(text: str) -> str:
    """A numeral as digits where it is a number of at least two characters, read out or counted."""
    if len(text) < 2:
        return text
    if all(char in _HAN_DIGITS for char in text):
        return (
            "".join(str(_HAN_DIGITS[char]) for char in text) if len(text) > 2 or "〇" in text or "零" in text else text
        )
    total = section = digit = 0
    last = 10**9
    for char in text:
        if char in _HAN_DIGITS:
            if digit:
                return text
            digit = _HAN_DIGITS[char]
            continue
        if char in _HAN_UNITS:
            unit = _HAN_UNITS[char]
            if unit >= last and char != "十":
                return text
            section += (digit or 1) * unit
            last = unit
        else:
            unit = 10**4 if char in "万萬" else 10**8
            if not section + digit:
                return text
            total = (total + section + digit) * unit if unit == 10**8 else total + (section + digit) * unit
            section, last = 0, 10**9
        digit = 0
    return str(total + section + digit)


def plain(text: str) -> str:
    """Any language as it is compared.

    >>> plain("¿Qué (dice) ella?")
    'qué ella'
    """
    text = unicodedata.normalize("NFKC", _without_brackets(text.lower()))
    return " ".join("".join(" " if unicodedata.category(char)[0] in "MSP" else char for char in text).lower().split())


def _without_brackets(text: str) -> str:
    return re.sub(r"\(([^)]+?)\)", "", re.sub(r"[<\[][^>\]]*[>\]]", "", text))


def _without_marks(text: str, kept: str) -> str:
    """Letters without diacritics, marks and symbols as blanks but for those kept."""
    made = ""
    for char in unicodedata.normalize("NFKD", text.translate(_UNDECOMPOSED)):
        kind = unicodedata.category(char)
        made += char if char in kept or kind[0] not in "MSP" else "" if kind == "Mn" else " "
    return made


UNSPACED = frozenset("zh yue ja th lo my km".split())
"""Languages that are measured by characters."""


def normaliser(language: str) -> tuple[str, Callable[[str], str]]:
    """Name and function for a language by its code; an empty one counts as English."""
    if language in ("en", ""):
        return "whisper-english", english
    return ("chinese", chinese) if language in ("zh", "yue") else ("plain", plain)
