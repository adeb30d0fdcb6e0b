"""The forms of regulated Chinese verse (近体诗): what they ask for, and whether a poem keeps to it."""

import re
from typing import NamedTuple

from wenloom.core.errors import InputError

HAN = "[\u3007\u3400-\u4dbf\u4e00-\u9fff]"
_PAUSE = re.compile(r"[，。！？；：、,.!?;:\s]+")
_ASIDE = re.compile(r"[（(][^（）()]*[）)]")


class VerseForm(NamedTuple):
    """So many lines of so many characters."""

    name: str
    lines: int
    characters: int

    @property
    def pattern(self) -> str:
        """A regular expression for poems of this form, two lines to a row."""
        row = f"{HAN}{{{self.characters}}}，{HAN}{{{self.characters}}}。"
        return rf"{row}(\n{row}){{{self.lines // 2 - 1}}}"


FORMS = {
    name: VerseForm(name, lines, characters)
    for name, lines, characters in (("五言绝句", 4, 5), ("七言绝句", 4, 7), ("五言律诗", 8, 5), ("七言律诗", 8, 7))
}


def form_named(name: str) -> VerseForm:
    """A form by its name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in FORMS:
        raise InputError(f"--form {name}: known are {', '.join(FORMS)}.")
    return FORMS[name]


def verses(poem: str) -> list[str]:
    """The lines between pauses, notes in brackets left out.

    >>> verses("白日依山尽，黄河入海流。")
    ['白日依山尽', '黄河入海流']
    """
    return [each for each in _PAUSE.split(_ASIDE.sub("", poem)) if each]


def form_of(poem: str) -> VerseForm | None:
    """The form that a poem has; None if it has none of these.

    >>> form_of("白日依山尽，黄河入海流。欲穷千里目，更上一层楼。").name
    '五言绝句'
    """
    lines = verses(poem)
    if not lines or not all(re.fullmatch(f"{HAN}+", line) for line in lines) or len({len(line) for line in lines}) > 1:
        return None
    found = (form for form in FORMS.values() if (form.lines, form.characters) == (len(lines), len(lines[0])))
    return next(found, None)


def faults(poem: str, form: VerseForm) -> list[str]:
    """What a poem has against a form, line by line; nothing where it keeps to it.

    >>> faults("白日依山尽，黄河入海。", FORMS["五言绝句"])
    ['has 2 lines instead of 4', 'line 2 has 4 characters instead of 5: 黄河入海']
    """
    lines, found = verses(poem), []
    if len(lines) != form.lines:
        found.append(f"has {len(lines)} lines instead of {form.lines}")
    for number, line in enumerate(lines, 1):
        if len(line) != form.characters:
            found.append(f"line {number} has {len(line)} characters instead of {form.characters}: {line}")
        elif not re.fullmatch(f"{HAN}+", line):
            found.append(f"line {number} is not all Chinese characters: {line}")
    return found


_RHYMES = (("a", "ia", "ua"), ("o", "e", "uo"), ("ie", "ve"), ("ai", "uai"), ("ei", "uei"), ("ao", "iao"), ("ou", "iou"),
           ("an", "ian", "uan", "van"), ("en", "in", "uen", "vn"), ("ang", "iang", "uang"),
           ("eng", "ing", "ueng", "ong", "iong"), ("i", "er", "v"), ("-i",), ("u",))  # fmt: skip
"""The fourteen rhymes of 中华新韵 (2005), by the finals of Mandarin."""


def rhymes(poem: str) -> bool | None:
    """Whether the even lines end alike in today's Mandarin, in any reading of their last characters.

    Old poems rhymed in the speech of their time, which is not always today's. None without the package pypinyin
    (`pip install 'wenloom[chinese]'`).
    """
    try:
        import pypinyin  # noqa: F401
    except ImportError:
        return None
    lasts = [line[-1] for line in verses(poem)[1::2]]
    return bool(lasts) and bool(set.intersection(*map(_rhymes_of, lasts)))


_SYLLABIC = re.compile(r"(zh|ch|sh|r|z|c|s)i")
"""Syllables whose i is another sound."""


def _rhymes_of(character: str) -> set[int]:
    """The rhymes that a character may belong to, by any of its readings."""
    from pypinyin import Style, pinyin

    (syllables,) = pinyin(character, style=Style.NORMAL, heteronym=True)
    (finals,) = pinyin(character, style=Style.FINALS, heteronym=True)
    syllabic = [bool(_SYLLABIC.fullmatch(each)) for each in syllables]
    found = {final for final in finals if final != "i" or not all(syllabic)} | ({"-i"} if any(syllabic) else set())
    return {number for number, group in enumerate(_RHYMES) if found & set(group)}
