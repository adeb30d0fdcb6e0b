"""Porter's stemmer for English (Porter 1980, "An algorithm for suffix stripping"), with the additions that ROUGE's
usual implementation has: a few irregular words, and care with short ones."""

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

_IRREGULAR = {
    "skies": "sky", "sky": "sky", "dying": "die", "lying": "lie", "tying": "tie", "news": "news", "innings": "inning",
    "inning": "inning", "outings": "outing", "outing": "outing", "cannings": "canning", "canning": "canning",
    "howe": "howe", "proceed": "proceed", "exceed": "exceed", "succeed": "succeed",
}  # fmt: skip
_STEP_2 = [
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("bli", "ble"),
    ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"),
    ("ator", "ate"), ("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"),
    ("iviti", "ive"), ("biliti", "ble"), ("fulli", "ful"),
]  # fmt: skip
_STEP_3 = [
    ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", ""),
]  # fmt: skip
_STEP_4 = [
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
]  # fmt: skip


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """The stem of a word in lower case.

    >>> [stem(each) for each in ("caresses", "flies", "relational", "hopping", "happily", "controlling")]
    ['caress', 'fli', 'relat', 'hop', 'happili', 'control']
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 2:
        return word
    return _step_5(_step_4(_step_3(_step_2(_step_1c(_step_1b(_step_1a(word)))))))


def _is_consonant(word: str, at: int) -> bool:
    if word[at] in "aeiou":
        return False
    return word[at] != "y" or at == 0 or not _is_consonant(word, at - 1)


def _measure(word: str) -> int:
    """m of [C](VC)^m[V]: how often a consonant follows a vowel."""
    kinds = [_is_consonant(word, at) for at in range(len(word))]
    return sum(after and not before for before, after in pairwise(kinds))


def _has_vowel(word: str) -> bool:
    return not all(_is_consonant(word, at) for at in range(len(word)))


def _ends_double_consonant(word: str) -> bool:
    return len(word) >= 2 and word[-1] == word[-2] and _is_consonant(word, len(word) - 1)


def _ends_cvc(word: str) -> bool:
    """*o of the paper: consonant, vowel, consonant other than w, x, y; two letters may be vowel and consonant."""
    n = len(word)
    if n == 2:
        return not _is_consonant(word, 0) and _is_consonant(word, 1)
    return (
        n >= 3
        and _is_consonant(word, n - 3)
        and not _is_consonant(word, n - 2)
        and _is_consonant(word, n - 1)
        and word[-1] not in "wxy"
    )


def _first_rule(word: str, rules: list[tuple[str, str]], holds: Callable[[str], bool]) -> str:
    """The first ending that matches decides: replaced where the condition holds, else nothing is."""
    for ending, new in rules:
        if word.endswith(ending):
            beginning = word.removesuffix(ending)
            return beginning + new if holds(beginning) else word
    return word


def _step_1a(word: str) -> str:
    if word.endswith("ies") and len(word) == 4:
        return word[:-1]
    return _first_rule(word, [("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")], lambda _: True)


def _step_1b(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for ending in ("ed", "ing"):
        beginning = word.removesuffix(ending)
        if word.endswith(ending) and _has_vowel(beginning):
            if beginning.endswith(("at", "bl", "iz")):
                return beginning + "e"
            if _ends_double_consonant(beginning):
                return beginning if beginning[-1] in "lsz" else beginning[:-1]
            return beginning + "e" if _measure(beginning) == 1 and _ends_cvc(beginning) else beginning
    return word


def _step_1c(word: str) -> str:
    if word.endswith("y") and len(word) > 2 and _is_consonant(word, len(word) - 2):
        return word[:-1] + "i"
    return word


def _step_2(word: str) -> str:
    if word.endswith("alli") and _measure(word[:-4]) > 0:
        return _step_2(word[:-2])
    if word.endswith("logi"):  # the l counts for the measure
        return word[:-1] if _measure(word[:-3]) > 0 else word
    return _first_rule(word, _STEP_2, lambda beginning: _measure(beginning) > 0)


def _step_3(word: str) -> str:
    return _first_rule(word, _STEP_3, lambda beginning: _measure(beginning) > 0)


def _step_4(word: str) -> str:
    for ending in _STEP_4:
        if word.endswith(ending):
            beginning = word.removesuffix(ending)
            fits = _measure(beginning) > 1 and (ending != "ion" or beginning.endswith(("s", "t")))
            return beginning if fits else word
    return word


def _step_5(word: str) -> str:
    if word.endswith("e"):
        beginning = word[:-1]
        measure = _measure(beginning)
        if measure > 1 or (measure == 1 and not _ends_cvc(beginning)):
            word = beginning
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word
