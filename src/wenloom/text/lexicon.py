"""Lexicons: by what words a language speaks of people of one group or of another, and how well or ill it speaks of them.

A lexicon is a TOML file (`lexicons/en.toml` says what is in one): axes such as gender with two sides, pairs of counterparts, rules
for words whose counterpart depends on what stands around them.
"""

import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wenloom.core.errors import InputError, printable
from wenloom.core.foreign import kind_of, regular_file
from wenloom.text.group_axis import GroupAxis, Rule

_FOLDER = Path(__file__).parent / "lexicons"
LANGUAGES = tuple(sorted(each.stem for each in _FOLDER.glob("*.toml")))
"""Those that come with Wenloom."""
_BYTES = 2**20


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


class _LexiconReader:
    """A lexicon of a parsed file."""

    def __init__(self, path: Path, table: dict[str, Any]):
        self._path, self._table = path, table

    def lexicon(self) -> Lexicon:
        table = self._table
        known = {
            "language", "spaced", "keep", "cases", "articles", "axes", "associations", "sentences", "people", "sentiment",
        }  # fmt: skip
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
        for key in ("pairs", "names"):
            for pair in self._of(table, key, list, [], where):
                if (
                    not isinstance(pair, list)
                    or not 2 <= len(pair) <= 4
                    or not all(isinstance(e, str) and e for e in pair)
                ):
                    raise self._wrong(
                        f'{where}: a pair must be ["word", "counterpart", "why"], not {printable(str(pair), 80)}'
                    )
                if pair[0].casefold() == pair[1].casefold():
                    raise self._wrong(f'{where}: "{printable(pair[0], 60)}" is its own counterpart; leave the pair out')
                more = {"why": "".join(pair[2:3]), "cased": key == "names"}
                rules.append(Rule(pair[0], 0, pair[1], **more))
                if "first" not in pair[3:]:  # the counterpart's own is another word
                    rules.append(Rule(pair[1], 1, pair[0], **more))
        rules += self._with_articles(rules)
        if not rules:
            raise self._wrong(f"{where}: has no pairs")
        keep = (*self._texts(self._table, "keep", []), *self._texts(table, "keep", [], where))
        self._check(rules, where)
        return GroupAxis(name, (sides[0], sides[1]), tuple(rules), keep, spaced)

    def _rules(self, table: dict[str, Any], where: str) -> Iterator[Rule]:
        for each in self._of(table, "rules", list, [], where):
            if not isinstance(each, dict) or {"form", "side", "to"} - set(each) or set(each) - set(Rule._fields):
                raise self._wrong(
                    f"{where}: a rule has form, side, to and may have before, after, why, elsewhere, cased"
                )
            rule = Rule(**each)
            texts = (rule.form, rule.to, rule.before, rule.after, rule.why)
            if rule.elsewhere not in ("unsure", "other") or not isinstance(rule.cased, bool):
                raise self._wrong(
                    f'{where}: the rule of {printable(str(rule.form), 60)}: elsewhere is "unsure" or "other", cased true or false'
                )
            if rule.side not in (0, 1) or not all(isinstance(part, str) for part in texts):
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
        """Nouns with what stands before them: exchanged together, where the case is sure; alone they are not. Where the counterpart
        has another form in all cases but the first, that stands fourth; "first" at the end says that its own is another word."""
        cases = {name: str(each) for name, each in self._of(self._table, "cases", dict, {}).items()}
        behind = cases.get("behind", "")
        plurals = list(self._lists(table, "plurals", (4, 5), '["words", "counterparts", "their dative", "why"]', where))
        plural_forms = {form for each in plurals for form in each[1:3]}
        of_plurals = self._texts(table, "plural_determiners", [], where)
        for kind in ("", "neuter_"):
            determiners = list(
                self._lists(table, f"{kind}determiners", (3, 3), '["word", "counterpart", "case"]', where)
            )
            for female, male, why, *more in self._lists(
                table, f"{kind}nouns", (3, 5), '["word", "counterpart", "why"]', where
            ):
                is_first = more[-1:] == ["first"]
                others = [each for each in more if each != "first"]
                for first, second, case in determiners:
                    other, before = male if case == "nominative" else (others or [male])[0], cases.get(case, "")
                    yield Rule(f"{first} {female}", 0, f"{second} {other}", before, behind, why, cased=True)
                    if not is_first:  # a form that is a plural too says no case by itself
                        sure = before if other in plural_forms and second in of_plurals else ""
                        yield Rule(f"{second} {other}", 1, f"{first} {female}", sure, behind, why, cased=True)
                for side, (noun, other) in enumerate(((female, male), (male, female))[: 1 if is_first else 2]):
                    yield Rule(noun, side, other, cases.get("bare", "(?!)"), behind, why, cased=True)
        for female, male, dative, why, *more in plurals:
            yield Rule(female, 0, dative, cases.get("plural dative", "(?!)"), why=why, cased=True)
            yield Rule(female, 0, male, cases.get("plural", ""), cases.get("behind plural", ""), why, cased=True)
            if more != ["first"]:
                yield from (Rule(form, 1, female, why=why, cased=True) for form in dict.fromkeys((male, dative)))

    def _with_articles(self, rules: list[Rule]) -> Iterator[Rule]:
        """The same words with an article before them that the counterpart changes: an uncle, a niece."""
        table = self._of(self._table, "articles", dict, {})
        if not table:
            return
        try:
            vowel = re.compile(table["vowel"], re.IGNORECASE)
            articles: tuple[str, str] = table["consonant_article"], table["vowel_article"]
            assert all(isinstance(each, str) and each for each in articles)
        except (KeyError, TypeError, AssertionError, re.error):
            raise self._wrong(
                'articles must have "consonant_article", "vowel_article" and "vowel", a pattern of what the latter stands before'
            ) from None
        for each in rules:
            one, other = (articles[bool(vowel.match(word))] for word in (each.form, each.to))
            if one != other:
                yield each._replace(form=f"{one} {each.form}", to=f"{other} {each.to}")

    def _lists(
        self, table: dict[str, Any], key: str, sizes: tuple[int, int], form: str, where: str
    ) -> Iterator[list[str]]:
        for each in self._of(table, key, list, [], where):
            fits = isinstance(each, list) and sizes[0] <= len(each) <= sizes[1]
            if not fits or not all(isinstance(part, str) and part for part in each):
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
