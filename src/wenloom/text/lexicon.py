"""Words by which a language speaks of people of one group or of another, and texts that speak of the other group instead.

A lexicon is a TOML file (`lexicons/en.toml` says what is in one): axes such as gender with two sides, pairs of counterparts, rules
for words whose counterpart depends on what stands around them. All words are exchanged at once, so that nothing is exchanged twice;
a text in which the counterpart of a word is not sure is not exchanged at all.
"""

import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from wenloom.core.errors import InputError, printable
from wenloom.core.foreign import kind_of, regular_file

_FOLDER = Path(__file__).parent / "lexicons"
LANGUAGES = tuple(sorted(each.stem for each in _FOLDER.glob("*.toml")))
"""Those that come with Wenloom."""
_BYTES = 2**20
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
        longest = "|".join(re.escape(each) for each in sorted(forms, key=len, reverse=True))
        return re.compile(rf"(?<!\w)(?:{longest})(?!\w)" if self.spaced else longest, re.IGNORECASE)

    def found(self, text: str) -> Iterator[Found]:
        """Words of either group in a text, in order."""
        for match in self._pattern.finditer(text):
            word = match.group()
            if word in self.keep and not (
                self.spaced and word[0].isupper() and _OPENING.search(text, max(0, match.start() - 80), match.start())
            ):
                continue
            rules = self._by_form.get(word.casefold())
            if not rules:
                continue
            rule = next((each for each in rules if _stands(each, match, text)), None)
            to = None if rule is None else _cased(rule, word)
            yield Found(match.start(), match.end(), rules[0].side if rule is None else rule.side, to)

    def sides_of(self, text: str) -> tuple[int, int]:
        """How many words of each group a text has."""
        sides = [each.side for each in self.found(text)]
        return sides.count(0), sides.count(1)

    def swapped(self, text: str) -> str | None:
        """The text with every word exchanged for its counterpart; None where that is not sure of one, or there is none.

        >>> lexicon("en").axes["gender"].swapped("She gave him HER book; he thanked her.")
        'He gave her HIS book; she thanked him.'
        """
        parts, last, n = [], 0, 0
        for each in self.found(text):
            if each.to is None:
                return None
            parts += [text[last : each.begin], each.to]
            last, n = each.end, n + 1
        return "".join(parts) + text[last:] if n else None


@dataclass(frozen=True)
class Association:
    """Two sets of target words and two of attributes (Caliskan et al. 2017)."""

    name: str
    targets: tuple[tuple[str, tuple[str, ...]], tuple[str, tuple[str, ...]]]
    """Of each its name and its words."""
    attributes: tuple[tuple[str, tuple[str, ...]], tuple[str, tuple[str, ...]]]


@dataclass(frozen=True)
class Sentiment:
    """Words that speak well of something, or ill."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    negations: tuple[str, ...]
    """What turns the next word around."""


@dataclass(frozen=True)
class Lexicon:
    """All that a language's file holds."""

    language: str
    spaced: bool
    axes: dict[str, GroupAxis]
    associations: tuple[Association, ...] = ()
    templates: tuple[str, ...] = ("{}",)
    """Sentences that say little but the word in them."""
    sentiment: Sentiment = Sentiment((), (), ())
    people: tuple[str, ...] = ()
    """Sentences about people, of the first side of `people_axis`."""
    people_axis: str = ""

    def axis(self, name: str) -> GroupAxis:
        """
        Raises:
            InputError: there is none of this name.
        """
        if name not in self.axes:
            raise InputError(
                f"axis {printable(name, 60)}: the lexicon {self.language} has {', '.join(self.axes) or 'none'}."
            )
        return self.axes[name]


def lexicon(name: str) -> Lexicon:
    """A lexicon of Wenloom by its language, or one of your own by its file.

    Raises:
        InputError: no such language or file, or one that cannot be used; names the entry.
    """
    path = _FOLDER / f"{name}.toml" if name in LANGUAGES else Path(name).expanduser()
    if name not in LANGUAGES and not path.is_file():
        raise InputError(f"lexicon {printable(name, 200)}: no such file; there are {', '.join(LANGUAGES)}.")
    if regular_file(path).st_size > _BYTES:
        raise InputError(f"{path}: more than {_BYTES:,} bytes; a lexicon is a page of words.")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8; convert the file first.") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(
            f"{path}: not valid TOML ({printable(str(error), 200)}); a lexicon names two groups and pairs of their words, as in: "
            '[axes.gender], then sides = ["female", "male"] and pairs = [["she", "he", "pronoun"]], each on a line of its own.'
        ) from None
    return _LexiconReader(path, table).lexicon()


def language_of(texts: list[str]) -> str:
    """The lexicon that suits texts: by their script, then by the words that each finds in them; English where nothing tells.

    >>> language_of(["她在医院工作。"]), language_of(["Der Mann arbeitet als Arzt."]), language_of(["He works."])
    ('zh', 'de', 'en')
    """
    joined = " ".join(texts)[:100_000]
    if len(re.findall(r"[\u3400-\u9fff]", joined)) > len(joined) / 5:
        return "zh"
    german = len(re.findall(r"\b(?:der|die|das|und|ist|nicht|ein|eine|als|mit|auf|für)\b", joined, re.IGNORECASE))
    english = len(re.findall(r"\b(?:the|and|is|not|a|an|as|with|on|for|of|to|was)\b", joined, re.IGNORECASE))
    return "de" if german > english else "en"


def _stands(rule: Rule, match: re.Match[str], text: str) -> bool:
    if rule.after and not re.match(rule.after, text[match.end() : match.end() + 80]):
        return False
    return (
        not rule.before
        or re.search(f"(?:{rule.before})$", text[max(0, match.start() - 80) : match.start()], re.IGNORECASE) is not None
    )


def _cased(rule: Rule, word: str) -> str:
    """The counterpart in the case of the word that it replaces."""
    if len(word) > 1 and word.isupper() and not rule.form.isupper():
        return rule.to.upper()
    if word[0].isupper() and rule.form[0].islower():
        return rule.to[0].upper() + rule.to[1:]
    if word[0].isupper() or not rule.form[0].isupper():
        return rule.to
    return rule.to[0].lower() + rule.to[1:]


class _LexiconReader:
    """A lexicon of a parsed file."""

    def __init__(self, path: Path, table: dict[str, Any]):
        self._path, self._table = path, table

    def lexicon(self) -> Lexicon:
        table = self._table
        known = {"language", "spaced", "keep", "cases", "axes", "associations", "sentences", "people", "sentiment"}
        if unknown := [each for each in table if each not in known]:
            raise self._wrong(f"unknown entry {printable(unknown[0], 60)}; there may be {', '.join(sorted(known))}")
        axes = self._of(table, "axes", dict, {})
        if not axes:
            raise self._wrong('has no axes; give at least one, such as [axes.gender] with "sides" and "pairs"')
        spaced = self._of(table, "spaced", bool, True)
        made = {name: self._axis(name, each, spaced) for name, each in axes.items()}
        sentiment, people = (self._of(table, each, dict, {}) for each in ("sentiment", "people"))
        axis = self._of(people, "axis", str, "")
        if people and axis not in made:
            raise self._wrong(f"people: there is no axis {printable(axis, 60)}")
        return Lexicon(
            self._of(table, "language", str, self._path.stem), spaced, made,
            tuple(self._association(each) for each in self._of(table, "associations", list, [])),
            tuple(self._texts(self._of(table, "sentences", dict, {}), "templates", ["{}"])),
            Sentiment(*(tuple(self._texts(sentiment, key, [])) for key in ("positive", "negative", "negations"))),
            tuple(each.replace("{}", word) for word in self._texts(people, "words", [], "people")
                  for each in self._texts(people, "sentences", [], "people")),
            axis,
        )  # fmt: skip

    def _axis(self, name: str, table: Any, spaced: bool) -> GroupAxis:
        where = f"axes.{printable(name, 60)}"
        if not isinstance(table, dict):
            raise self._wrong(f"{where} is {kind_of(table)}, not a table")
        sides = self._texts(table, "sides", [], where)
        if len(sides) != 2:
            raise self._wrong(f'{where}: "sides" must name two groups')
        rules = [*self._rules(table, where), *self._nouns(table, where)]
        for pair in self._of(table, "pairs", list, [], where):
            if not isinstance(pair, list) or not 2 <= len(pair) <= 4 or not all(isinstance(e, str) and e for e in pair):
                raise self._wrong(
                    f'{where}: a pair must be ["word", "counterpart", "why"], not {printable(str(pair), 80)}'
                )
            if pair[0].casefold() == pair[1].casefold():
                raise self._wrong(f'{where}: "{printable(pair[0], 60)}" is its own counterpart; leave the pair out')
            rules.append(Rule(pair[0], 0, pair[1], why="".join(pair[2:3])))
            if "first" not in pair[3:]:  # the counterpart's own is another word
                rules.append(Rule(pair[1], 1, pair[0], why="".join(pair[2:3])))
        if not rules:
            raise self._wrong(f"{where}: has no pairs")
        keep = (*self._texts(self._table, "keep", []), *self._texts(table, "keep", [], where))
        self._check(rules, where)
        return GroupAxis(name, (sides[0], sides[1]), tuple(rules), keep, spaced)

    def _rules(self, table: dict[str, Any], where: str) -> Iterator[Rule]:
        for each in self._of(table, "rules", list, [], where):
            if not isinstance(each, dict) or {"form", "side", "to"} - set(each) or set(each) - set(Rule._fields):
                raise self._wrong(f"{where}: a rule has form, side, to and may have before, after, why")
            rule = Rule(**each)
            if rule.side not in (0, 1) or not all(isinstance(part, str) for part in rule if part is not rule.side):
                raise self._wrong(
                    f"{where}: the rule of {printable(str(rule.form), 60)} has a side that is not 0 or 1, or no text"
                )
            for pattern in (rule.before, rule.after):
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise self._wrong(
                        f"{where}: the rule of {printable(rule.form, 60)} has a bad pattern ({error})"
                    ) from None
            yield rule

    def _nouns(self, table: dict[str, Any], where: str) -> Iterator[Rule]:
        """Nouns with what stands before them: exchanged together, where the case is sure; alone they are not."""
        cases = self._of(self._table, "cases", dict, {})
        determiners = list(self._threes(table, "determiners", '["word", "counterpart", "case"]', where))
        for female, male, why in self._threes(table, "nouns", '["word", "counterpart", "why"]', where):
            for first, second, case in determiners:
                yield Rule(f"{first} {female}", 0, f"{second} {male}", before=str(cases.get(case, "")), why=why)
                yield Rule(f"{second} {male}", 1, f"{first} {female}", why=why)
            for side, (noun, other) in enumerate(((female, male), (male, female))):
                yield Rule(noun, side, other, before=str(cases.get("bare", "(?!)")), why=why)

    def _threes(self, table: dict[str, Any], key: str, form: str, where: str) -> Iterator[list[str]]:
        for each in self._of(table, key, list, [], where):
            if not isinstance(each, list) or len(each) != 3 or not all(isinstance(part, str) and part for part in each):
                raise self._wrong(f"{where}: {key} must be lists of {form}, not {printable(str(each), 80)}")
            yield each

    def _check(self, rules: list[Rule], where: str) -> None:
        always: dict[str, Rule] = {}
        for rule in rules:
            if not rule.form.strip() or not rule.to.strip():
                raise self._wrong(f"{where}: a word is empty")
            before = always.get(rule.form.casefold())
            if rule.is_always and before is not None and before.to == rule.to and before.side != rule.side:
                raise self._wrong(
                    f'{where}: the pair of "{printable(rule.form, 60)}" and "{printable(rule.to, 60)}" stands there both ways; '
                    "name it once, first the word of the first side"
                )
            if rule.is_always and before is not None and (before.to, before.side) != (rule.to, rule.side):
                raise self._wrong(
                    f'{where}: "{printable(rule.form, 60)}" is to become both "{printable(before.to, 60)}" and '
                    f'"{printable(rule.to, 60)}"; add "first" as fourth part of the pair whose counterpart keeps its own word'
                )
            if rule.is_always:
                always[rule.form.casefold()] = rule

    def _association(self, table: Any) -> Association:
        if not isinstance(table, dict):
            raise self._wrong("associations must be tables")
        where = f'associations "{printable(str(table.get("name", "")), 60)}"'
        found = []
        for key in ("targets", "attributes"):
            names = self._texts(table, key, [], where)
            if len(names) != 2:
                raise self._wrong(f'{where}: "{key}" must name two sets of words')
            found.append(tuple((name, tuple(self._texts(table, name, [], where))) for name in names))
            if any(len(words) < 2 for _, words in found[-1]):
                raise self._wrong(f"{where}: a set has fewer than two words")
        return Association(str(table.get("name", "")), found[0], found[1])

    def _of(self, table: dict[str, Any], key: str, kind: type, default: Any, where: str = "") -> Any:
        value = table.get(key, default)
        if not isinstance(value, kind):
            raise self._wrong(f"{where + ': ' if where else ''}{key} is {kind_of(value)}")
        return value

    def _texts(self, table: dict[str, Any], key: str, default: list[str], where: str = "") -> list[str]:
        values = self._of(table, key, list, default, where)
        if not all(isinstance(each, str) and each.strip() for each in values):
            raise self._wrong(f"{where + ': ' if where else ''}{printable(key, 60)} must be a list of texts")
        return values

    def _wrong(self, what: str) -> InputError:
        return InputError(f"{self._path}: {what}.")


def counter(words: tuple[str, ...], spaced: bool) -> Callable[[str], list[re.Match[str]]]:
    """What finds words in a text, longest first, whatever their case."""
    longest = "|".join(re.escape(each) for each in sorted(words, key=len, reverse=True)) or "(?!)"
    pattern = re.compile(rf"(?<!\w)(?:{longest})(?!\w)" if spaced else longest, re.IGNORECASE)
    return lambda text: list(pattern.finditer(text))
