"""English numbers in words as digits, by the rules that Whisper's authors publish (Radford et al. 2022, appendix C).

"one hundred and twenty three" is 123, "nineteen sixty one" 1961, "twenty dollars" $20, "five percent" 5%, "double oh seven" 007,
"two point five million" 2500000, "thirty first" 31st; "one" alone stays a word.
"""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction

_UNITS = ("one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
          "nineteen").split()  # fmt: skip
ONES = {name: number for number, name in enumerate(_UNITS, 1)}
TENS = {
    name: 10 * number for number, name in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
_POWERS = (
    "thousand million billion trillion quadrillion quintillion sextillion septillion octillion nonillion decillion"
)
TIMES = {"hundred": 100} | {name: 1000**power for power, name in enumerate(_POWERS.split(), 1)}
ZEROS = frozenset(("o", "oh", "zero"))
SIGNS = {"minus": "-", "negative": "-", "plus": "+", "positive": "+"}
UNITS_OF_MONEY = {
    "pound": "£",
    "pounds": "£",
    "euro": "€",
    "euros": "€",
    "dollar": "$",
    "dollars": "$",
    "cent": "¢",
    "cents": "¢",
}
_IRREGULAR = {"zeroth": ("0", "th"), "first": ("1", "st"), "second": ("2", "nd"), "third": ("3", "rd"), "fifth": ("5", "th"),
              "twelfth": ("12", "th")}  # fmt: skip
ORDINALS: dict[str, tuple[int, str]] = {
    **{("sixes" if name == "six" else f"{name}s"): (number, "s") for name, number in ONES.items()},
    **{name: (int(number), suffix) for name, (number, suffix) in _IRREGULAR.items()},
    **{name + ("h" if name.endswith("t") else "th"): (number, "th") for name, number in ONES.items()
       if number > 3 and number not in (5, 12)},
}  # fmt: skip
"""Ordinals and plurals of small numbers: number and ending."""
ORDINAL_TENS = {name[:-1] + ending: (number, suffix) for name, number in TENS.items()
                for ending, suffix in (("ies", "s"), ("ieth", "th"))}  # fmt: skip
ORDINAL_TIMES = {name + suffix: (number, suffix) for name, number in TIMES.items() for suffix in ("s", "th")}
_SPECIAL = ("and", "double", "triple", "point")
_KNOWN = {
    *ZEROS,
    *ONES,
    *TENS,
    *TIMES,
    *SIGNS,
    *UNITS_OF_MONEY,
    *ORDINALS,
    *ORDINAL_TENS,
    *ORDINAL_TIMES,
    "per",
    "percent",
    *_SPECIAL,
}
_DIGITS = re.compile(r"\d+(\.\d+)?")


class _NumberReader:
    """Reads words one by one; a number that is under way is an int, or digits where it is read out digit by digit."""

    def __init__(self, words: Sequence[str]):
        self._words = words
        self._value: int | str | None = None
        self._prefix = ""

    def _done(self, text: int | str) -> str:
        made = f"{self._prefix}{text}"
        self._value, self._prefix = None, ""
        return made

    def _flush(self) -> Iterator[str]:
        if self._value is not None:
            yield self._done(self._value)

    def _joined(self, number: int, before: str | None) -> int | str:
        """The number under way with one below a hundred behind it: added where it fits, else as digits."""
        value = self._value
        if value is None:
            return number
        if number < 20 and (isinstance(value, str) or before in ONES):
            digits = str(value)
            return digits[:-1] + str(number) if before in TENS and number < 10 else digits + str(number)
        fits = isinstance(value, int) and value % (10 if number < 10 else 100) == 0
        return value + number if fits and isinstance(value, int) else f"{value}{number}"

    def _times(self, factor: int) -> Iterator[str]:
        """The number under way times a hundred, a thousand ...: of that below a thousand only."""
        value = self._value
        if value is None:
            self._value = factor
        elif isinstance(value, str) or value == 0:
            product = _fraction(str(value))
            product = None if product is None else product * factor
            if product is not None and product.denominator == 1:
                self._value = product.numerator
            else:
                yield self._done(value)
                self._value = factor
        else:
            self._value = value // 1000 * 1000 + value % 1000 * factor

    def read(self) -> Iterator[str]:
        """All words, numbers among them as digits."""
        skips = False
        for place, word in enumerate(self._words):
            if skips:
                skips = False
                continue
            before = self._words[place - 1] if place else None
            after = self._words[place + 1] if place + 1 < len(self._words) else None
            bare = word[1:] if word[0] in "-+£€$¢" else word
            if _DIGITS.fullmatch(bare):
                yield from self._digits(word, bare)
            elif word not in _KNOWN:
                yield from self._flush()
                yield self._done(word)
            elif word in ZEROS:
                self._value = f"{self._value or ''}0"
            elif word in ONES or word in TENS:
                self._value = self._joined(ONES.get(word) or TENS[word], before)
            elif word in ORDINALS or word in ORDINAL_TENS:
                number, suffix = ORDINALS.get(word) or ORDINAL_TENS[word]
                yield self._done(f"{self._joined(number, before)}{suffix}")
            elif word in TIMES:
                yield from self._times(TIMES[word])
            elif word in ORDINAL_TIMES:
                number, suffix = ORDINAL_TIMES[word]
                yield from self._times(number)
                yield self._done(f"{self._value}{suffix}")
            elif word in SIGNS:
                yield from self._flush()
                if _may_count(after):
                    self._prefix = SIGNS[word]
                else:
                    yield self._done(word)
            elif word in UNITS_OF_MONEY:
                if self._value is None:
                    yield self._done(word)
                else:
                    self._prefix = UNITS_OF_MONEY[word]
                    yield self._done(self._value)
            elif word in ("per", "percent"):
                skips = word == "per" and after == "cent" and self._value is not None
                if self._value is not None and (word == "percent" or skips):
                    yield self._done(f"{self._value}%")
                else:
                    yield from self._flush()
                    yield self._done(word)
            else:
                skips = yield from self._special(word, before, after)
        yield from self._flush()

    def _digits(self, word: str, bare: str) -> Iterator[str]:
        if isinstance(self._value, str) and self._value.endswith("."):  # the digits behind a point, or of an address
            self._value += word
            return
        yield from self._flush()
        self._prefix = word[0] if bare != word else self._prefix
        self._value = int(bare) if "." not in bare or Fraction(bare).denominator == 1 else bare
        if "." in bare and isinstance(self._value, int):
            self._value = Fraction(bare).numerator

    def _special(self, word: str, before: str | None, after: str | None) -> Iterator[str]:
        """And, point, double, triple: inside of numbers only. Returns whether the next word is read with it."""
        counts = _may_count(after)
        if counts and word == "and" and before in TIMES:
            return False
        if counts and word in ("double", "triple") and (after in ONES or after in ZEROS):
            self._value = f"{self._value or ''}{str(ONES.get(after or '', 0)) * (2 if word == 'double' else 3)}"
            return True
        if counts and word == "point":
            if after in ONES or after in TENS or after in ZEROS or _DIGITS.fullmatch(after or ""):
                self._value = f"{self._value or ''}."
            return False
        yield from self._flush()
        yield self._done(word)
        return False


def _may_count(word: str | None) -> bool:
    return word is not None and (word in _KNOWN or _DIGITS.fullmatch(word) is not None)


def _fraction(text: str) -> Fraction | None:
    try:
        return Fraction(text)
    except ValueError:
        return None


def with_digits(text: str) -> str:
    """A text of lower-case words with its numbers as digits.

    >>> with_digits("nineteen sixty one and two point five million dollars")
    '1961 and $2500000'
    """
    halves = re.split(r"\band\s+a\s+half\b", text)
    parts: list[str] = []
    for number, part in enumerate(halves):
        parts.append(part)
        if number + 1 < len(halves) and part.strip():
            last = part.split()[-1]
            counts = last in ONES or last in TENS or last in ZEROS or last in TIMES
            parts.append("point five" if counts else "and a half")
    text = re.sub(r"([a-z])([0-9])", r"\1 \2", " ".join(parts))
    text = re.sub(r"([0-9])([a-z])", r"\1 \2", text)
    text = re.sub(r"([0-9])\s+(st|nd|rd|th|s)\b", r"\1\2", text)
    made = " ".join(_NumberReader(text.split()).read())
    made = re.sub(
        r"([€£$])([0-9]+) (?:and )?¢([0-9]{1,2})\b", lambda each: f"{each[1]}{each[2]}.{int(each[3]):02d}", made
    )
    made = re.sub(r"[€£$]0\.([0-9]{1,2})\b", lambda each: f"¢{int(each[1])}", made)
    return re.sub(r"\b1(s?)\b", r"one\1", made)
