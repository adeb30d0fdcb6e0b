"""Words of two groups of people, and texts that speak of the other group instead. All words are exchanged at once, so that nothing is
exchanged twice; a text in which the counterpart of a word is not sure is not exchanged at all."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

_OPENING = re.compile(r"(?:^|[.!?:]\s*)$")
"""Before a sentence, whose first word is in capitals whatever it means."""


class Rule(NamedTuple):
    """A word, what it is exchanged for, and where."""

    form: str
    side: int
    """0 or 1: of whom it speaks."""
    to: str
    before: str = ""
    """Pattern of what must stand before it."""
    after: str = ""
    """Pattern of what must follow."""
    why: str = ""
    elsewhere: Literal["unsure", "other"] = "unsure"
    """What the word is where no rule of it holds: one of the group that cannot surely be exchanged, or another word."""
    cased: bool = False
    """Whether what is a capital in the form must be one in the text, as in names and German nouns."""

    @property
    def is_always(self) -> bool:
        """Whether it holds wherever the word stands."""
        return not self.before and not self.after


class Found(NamedTuple):
    """A word of a group in a text."""

    begin: int
    end: int
    side: int
    to: str | None
    """What it is exchanged for; None: not sure here."""


class Exchanged(NamedTuple):
    """A text that speaks of the other group, and the characters at which its words begin and end."""

    text: str
    here: list[tuple[int, int]]
    """Those of the words in the text that it was made of."""
    there: list[tuple[int, int]]
    """Those of their counterparts, in the same order."""


@dataclass(frozen=True)
class GroupAxis:
    """Two groups of people, and the words that tell them apart."""

    name: str
    sides: tuple[str, str]
    rules: tuple[Rule, ...]
    keep: tuple[str, ...] = ()
    """Texts that only look like words of a group; case counts, but at the beginning of a sentence."""
    spaced: bool = True
    """Whether words have blanks or signs around them."""
    _by_form: dict[str, list[Rule]] = field(init=False, default_factory=dict, repr=False, compare=False)

    def __post_init__(self):
        for rule in self.rules:
            self._by_form.setdefault(rule.form.casefold(), []).append(rule)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        forms = {*self._by_form, *(each.casefold() for each in self.keep)}
        longest = _longest_of(sorted(forms))
        return re.compile(rf"(?<!\w){longest}(?!\w)" if self.spaced else longest, re.IGNORECASE)

    def found(self, text: str) -> Iterator[Found]:
        """Words of either group in a text, in order."""
        at = 0
        while (match := self._pattern.search(text, at)) is not None:
            word, at = match.group(), match.end()
            if word in self.keep and not (
                self.spaced and word[0].isupper() and _OPENING.search(text, max(0, match.start() - 80), match.start())
            ):
                continue
            rules = [each for each in self._by_form.get(word.casefold(), ()) if _has_case(each, word)]
            rule = next((each for each in rules if _stands(each, match, text)), None)
            if not rules or (rule is None and rules[0].elsewhere == "other"):
                at = match.start() + 1  # a shorter word may begin within it
                continue
            to = None if rule is None else _cased(rule, word)
            yield Found(match.start(), match.end(), rules[0].side if rule is None else rule.side, to)

    def sides_of(self, text: str) -> tuple[int, int]:
        """How many words of each group a text has."""
        sides = [each.side for each in self.found(text)]
        return sides.count(0), sides.count(1)

    def swapped(self, text: str) -> str | None:
        """The text with every word exchanged for its counterpart; None where that is not sure of one, or there is none.

        >>> GroupAxis("gender", ("female", "male"), (Rule("she", 0, "he"), Rule("he", 1, "she"))).swapped("She said that HE ran.")
        'He said that SHE ran.'
        """
        exchanged = self.exchanged(text)
        return None if exchanged is None else exchanged.text

    def exchanged(self, text: str) -> "Exchanged | None":
        """See `swapped`, with the places of the words.

        >>> GroupAxis("gender", ("female", "male"), (Rule("she", 0, "he"),)).exchanged("So she said.")
        Exchanged(text='So he said.', here=[(3, 6)], there=[(3, 5)])
        """
        made, last, here, there = "", 0, list[tuple[int, int]](), list[tuple[int, int]]()
        for each in self.found(text):
            if each.to is None:
                return None
            made += text[last : each.begin]
            here.append((each.begin, each.end))
            there.append((len(made), len(made) + len(each.to)))
            made, last = made + each.to, each.end
        return Exchanged(made + text[last:], here, there) if here else None


def _has_case(rule: Rule, word: str) -> bool:
    return not rule.cased or all(
        there.isupper() for here, there in zip(rule.form, word, strict=False) if here.isupper()
    )


def _stands(rule: Rule, match: re.Match[str], text: str) -> bool:
    if rule.after and not re.match(rule.after, text[match.end() : match.end() + 80]):
        return False
    return (
        not rule.before
        or re.search(f"(?:{rule.before})$", text[max(0, match.start() - 80) : match.start()], re.IGNORECASE) is not None
    )


def _longest_of(forms: Sequence[str]) -> str:
    """A pattern of the longest of some texts, in alphabetical order, that stands at a place; what texts begin with in common is
    looked at once, so that thousands of them take hardly more time than a few.

    >>> _longest_of(["he", "her", "hers", "she"])
    '(?:h(?:e(?:r(?:s)?)?)|s(?:h(?:e)))'
    """
    is_end, by_first = "" in forms, dict[str, list[str]]()
    for each in forms:
        if each:
            by_first.setdefault(each[0], []).append(each[1:])
    parts = "|".join(re.escape(first) + _longest_of(rest) * (rest != [""]) for first, rest in by_first.items())
    return f"(?:{parts}){'?' * is_end}"


def _cased(rule: Rule, word: str) -> str:
    """The counterpart in the case of the word that it replaces."""
    if len(word) > 1 and word.isupper() and not rule.form.isupper():
        return rule.to.upper()
    if word[0].isupper() and rule.form[0].islower():
        return rule.to[0].upper() + rule.to[1:]
    if word[0].isupper() or not rule.form[0].isupper():
        return rule.to
    return rule.to[0].lower() + rule.to[1:]
