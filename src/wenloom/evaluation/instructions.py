"""Instructions whose obedience a program can verify: the 25 kinds of IFEval.

Zhou et al. 2023, "Instruction-following evaluation for large language models", table 1. What each kind demands is read from
the paper and checked against the published verifiers; sentences and words are parted here by rules of punctuation, where
those take NLTK's models, which can differ by one in texts full of abbreviations.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from wenloom.core.errors import InputError
from wenloom.core.foreign import kind_of

Values = Mapping[str, Any]
"""What an instruction says besides its kind, by name."""


class Kind(NamedTuple):
    """A kind of instruction."""

    needs: tuple[str, ...]
    """Names of the values that it cannot be verified without."""
    is_followed: Callable[[str, Values], bool]


class Instruction(NamedTuple):
    """An instruction of a prompt."""

    name: str
    """Of its kind, such as punctuation:no_comma."""
    values: Values

    def is_followed(self, text: str) -> bool:
        """Whether a text obeys it; an empty one never does."""
        return bool(text.strip()) and KINDS[self.name].is_followed(text, self.values)

    def is_followed_loosely(self, text: str) -> bool:
        """Whether it does without its first line, its last line, both, or its asterisks (section 2.2)."""
        lines = text.split("\n")
        parts = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
        return any(self.is_followed(each) for part in parts for each in (part, part.replace("*", "")))


def instruction(name: str, values: Values) -> Instruction:
    """An instruction as the published rows have it.

    Raises:
        InputError: no such kind, or a value that it needs is missing.
    """
    if name not in KINDS:
        raise InputError(f'"{name}" is not a kind of instruction; known are {", ".join(KINDS)}.')
    given = {key: value for key, value in values.items() if value is not None}
    for need in KINDS[name].needs:
        if need not in given:
            raise InputError(f'"{name}" needs "{need}" in "kwargs".')
        if need.startswith("num_") and not isinstance(given[need], int | float):
            raise InputError(f'"{name}": "{need}" is {kind_of(given[need])}; a number was expected.')
    return Instruction(name, given)


def language_of(text: str) -> str | None:
    """The language of a text by langdetect, as an ISO 639-1 code; None where it finds none.

    Raises:
        InputError: langdetect is not installed.
    """
    try:
        from langdetect import DetectorFactory, LangDetectException, detect  # pyright: ignore[reportMissingTypeStubs, reportMissingImports]
    except ModuleNotFoundError:
        raise InputError("IFEval tells languages by langdetect: pip install 'wenloom[ifeval]'.") from None
    DetectorFactory.seed = 0  # it draws
    try:
        return str(detect(text))
    except LangDetectException:
        return None


def _is_in(text: str, language: str) -> bool:
    found = language_of(text)
    return found is None or found == language


def _related(count: int, values: Values, relation: str, limit: str) -> bool:
    bound = int(values[limit])
    return count < bound if values[relation] == "less than" else count >= bound


def _times(pattern: str, text: str, flags: int = 0) -> int:
    return len(re.findall(pattern, text, flags))


def _occurs(word: str, text: str) -> bool:
    return re.search(word, text, re.IGNORECASE) is not None


def _sentences(text: str) -> int:
    parts = re.split(r"(?<=[.!?。！？])[\"'”’)\]]*\s+|(?<=[。！？])|\n{2,}", text)
    return sum(bool(re.search(r"\w", part)) for part in parts)


def _paragraphs(text: str, values: Values) -> bool:
    parts = re.split(r"\s?\*\*\*\s?", text)
    outer = (0, len(parts) - 1)
    if any(not part.strip() for number, part in enumerate(parts) if number not in outer):
        return False
    return sum(bool(part.strip()) for part in parts) == values["num_paragraphs"]


def _first_word(text: str, values: Values) -> bool:
    parts, number = text.split("\n\n"), int(values["nth_paragraph"])
    if sum(bool(part.strip()) for part in parts) != values["num_paragraphs"] or not 1 <= number <= len(parts):
        return False
    words = parts[number - 1].split()
    found = re.match(r"[^.,?!'\"]*", words[0].lstrip("'\"")) if words else None
    return found is not None and found[0].lower() == str(values["first_word"]).lower()


def _postscript(text: str, values: Values) -> bool:
    marker = str(values["postscript_marker"])
    pattern = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}.get(marker, re.escape(marker.lower()))
    return re.search(pattern, text.lower()) is not None


def _bullets(text: str, values: Values) -> bool:
    count = _times(r"^\s*\*[^*].*$", text, re.MULTILINE) + _times(r"^\s*-.*$", text, re.MULTILINE)
    return count == values["num_bullets"]


def _highlights(text: str, values: Values) -> bool:
    single, double = re.findall(r"\*[^\n*]*\*", text), re.findall(r"\*\*[^\n*]*\*\*", text)
    return sum(bool(each.strip("*").strip()) for each in (*single, *double)) >= values["num_highlights"]


def _sections(text: str, values: Values) -> bool:
    return _times(rf"\s?{re.escape(str(values['section_spliter']))}\s?\d+\s?", text) >= values["num_sections"]


def _json(text: str, values: Values) -> bool:
    inner = re.sub(r"^```(?:json)?|```$", "", text.strip(), flags=re.IGNORECASE).strip()
    try:
        json.loads(inner)
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str, values: Values) -> bool:
    return any(each.strip("<>").strip() for each in re.findall(r"<<[^\n]+>>", text))


def _two(text: str, values: Values) -> bool:
    parts = text.split("******")
    if any(not part.strip() for part in parts[1:-1]):
        return False
    whole = [part.strip() for part in parts if part.strip()]
    return len(whole) == 2 and whole[0] != whole[1]


def _says_one_of(text: str, values: Values) -> bool:
    return any(f"My answer is {answer}." in text for answer in ("yes", "no", "maybe"))


def _forbidden(text: str, values: Values) -> bool:
    return not any(_occurs(rf"\b{word}\b", text) for word in values["forbidden_words"])


def _capitals(text: str, values: Values) -> bool:
    count = sum(word.isupper() for word in re.findall(r"\w+(?:[.'’&-]\w+)*", text))
    return _related(count, values, "capital_relation", "capital_frequency")


def _letters(text: str, values: Values) -> bool:
    count = text.lower().count(str(values["letter"]).lower())
    return _related(count, values, "let_relation", "let_frequency")


def _ends(text: str, values: Values) -> bool:
    return text.strip().strip('"').lower().endswith(str(values["end_phrase"]).strip().lower())


def _quoted(text: str, values: Values) -> bool:
    inner = text.strip()
    return len(inner) > 1 and inner[0] == inner[-1] == '"'


KINDS: dict[str, Kind] = {
    "keywords:existence": Kind(("keywords",), lambda text, v: all(_occurs(each, text) for each in v["keywords"])),
    "keywords:frequency": Kind(("keyword", "frequency", "relation"), lambda text, v: _related(
        _times(v["keyword"], text, re.IGNORECASE), v, "relation", "frequency")),
    "keywords:forbidden_words": Kind(("forbidden_words",), _forbidden),
    "keywords:letter_frequency": Kind(("letter", "let_frequency", "let_relation"), _letters),
    "language:response_language": Kind(("language",), lambda text, v: _is_in(text, v["language"])),
    "length_constraints:number_sentences": Kind(("num_sentences", "relation"), lambda text, v: _related(
        _sentences(text), v, "relation", "num_sentences")),
    "length_constraints:number_paragraphs": Kind(("num_paragraphs",), _paragraphs),
    "length_constraints:number_words": Kind(("num_words", "relation"), lambda text, v: _related(
        _times(r"\w+", text), v, "relation", "num_words")),
    "length_constraints:nth_paragraph_first_word": Kind(("num_paragraphs", "nth_paragraph", "first_word"), _first_word),
    "detectable_content:number_placeholders": Kind(
        ("num_placeholders",), lambda text, v: _times(r"\[.*?\]", text) >= v["num_placeholders"]),
    "detectable_content:postscript": Kind(("postscript_marker",), _postscript),
    "detectable_format:number_bullet_lists": Kind(("num_bullets",), _bullets),
    "detectable_format:constrained_response": Kind((), _says_one_of),
    "detectable_format:number_highlighted_sections": Kind(("num_highlights",), _highlights),
    "detectable_format:multiple_sections": Kind(("section_spliter", "num_sections"), _sections),
    "detectable_format:json_format": Kind((), _json),
    "detectable_format:title": Kind((), _title),
    "combination:two_responses": Kind((), _two),
    "combination:repeat_prompt": Kind(("prompt_to_repeat",), lambda text, v:
        text.strip().lower().startswith(v["prompt_to_repeat"].strip().lower())),
    "startend:end_checker": Kind(("end_phrase",), _ends),
    "startend:quotation": Kind((), _quoted),
    "change_case:capital_word_frequency": Kind(("capital_frequency", "capital_relation"), _capitals),
    "change_case:english_capital": Kind((), lambda text, v: text.isupper() and _is_in(text, "en")),
    "change_case:english_lowercase": Kind((), lambda text, v: text.islower() and _is_in(text, "en")),
    "punctuation:no_comma": Kind((), lambda text, v: "," not in text),
}  # fmt: skip
"""Every kind by the name that the published rows give it."""
