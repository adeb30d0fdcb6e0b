"""IFEval: what each kind of instruction demands, and its figures over a file as it is published."""

import json
from pathlib import Path
from typing import Any

import pytest

from wenloom.core.errors import InputError
from wenloom.evaluation.instructions import KINDS, instruction
from wenloom.evaluation.suites import suite_of

AT_LEAST, BELOW = "at least", "less than"
CASES: dict[str, list[tuple[dict[str, Any], str, str]]] = {
    "keywords:existence": [({"keywords": ["lamp", "net"]}, "The Lamp above the nets.", "The lamp alone.")],
    "keywords:frequency": [
        ({"keyword": "sea", "frequency": 2, "relation": AT_LEAST}, "Sea and sea.", "The sea."),
        ({"keyword": "sea", "frequency": 2, "relation": BELOW}, "The sea.", "Sea and sea."),
    ],
    "keywords:forbidden_words": [({"forbidden_words": ["net"]}, "The network holds.", "A Net holds.")],
    "keywords:letter_frequency": [({"letter": "A", "let_frequency": 3, "let_relation": AT_LEAST}, "banAna", "ban")],
    "language:response_language": [
        ({"language": "de"}, "Das ist ein ganz gewöhnlicher deutscher Satz.", "This is quite an ordinary English sentence."),
        ({"language": "zh-cn"}, "今天的天气很好，我们去公园散步。", "This is quite an ordinary English sentence."),
    ],
    "length_constraints:number_sentences": [
        ({"num_sentences": 3, "relation": AT_LEAST}, "One. Two! Is it three?", "One. Two."),
        ({"num_sentences": 2, "relation": BELOW}, "今天很好。", "今天很好。明天更好！"),
    ],
    "length_constraints:number_paragraphs": [({"num_paragraphs": 2}, "One\n***\nTwo", "One\n\nTwo"),
                                             ({"num_paragraphs": 2}, "One *** Two ***", "One *** *** Two")],
    "length_constraints:number_words": [({"num_words": 3, "relation": BELOW}, "Two words", "Now three words")],
    "length_constraints:nth_paragraph_first_word": [
        ({"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"}, "First it rained.\n\n\"Then, it stopped.", "Then\n\nrain"),
    ],
    "detectable_content:number_placeholders": [({"num_placeholders": 2}, "[name], [place]", "[name], (place)")],
    "detectable_content:postscript": [({"postscript_marker": "P.S."}, "Yours\np. s. Write!", "Yours, PS Write!"),
                                      ({"postscript_marker": "P.P.S"}, "P.P.S. More", "P.S. More")],
    "detectable_format:number_bullet_lists": [({"num_bullets": 2}, "* one\n - two", "** one\n- two")],
    "detectable_format:constrained_response": [({}, "Well. My answer is maybe.", "My answer is perhaps.")],
    "detectable_format:number_highlighted_sections": [({"num_highlights": 2}, "*one* and *two*", "*one* and * *")],
    "detectable_format:multiple_sections": [
        ({"section_spliter": "SECTION", "num_sections": 2}, "SECTION 1 a SECTION 2 b", "SECTION 1 a SECTION b"),
    ],
    "detectable_format:json_format": [({}, "```json\n{\"a\": 1}\n```", "a: 1")],
    "detectable_format:title": [({}, "<<Lamps>>\nText", "<< >> <Lamps>")],
    "combination:two_responses": [({}, "One\n******\nTwo", "One\n******\nOne")],
    "combination:repeat_prompt": [({"prompt_to_repeat": "Write a poem."}, "write a poem. Lamps", "A poem.")],
    "startend:end_checker": [({"end_phrase": "Is that all?"}, "So. is that all?\"", "Is that all? No.")],
    "startend:quotation": [({}, '"All of it."', '"Some" of it.')],
    "change_case:capital_word_frequency": [
        ({"capital_frequency": 2, "capital_relation": AT_LEAST}, "THE lamp OF Ada", "THE lamp of Ada"),
    ],
    "change_case:english_capital": [({}, "THIS IS AN ENGLISH SENTENCE.", "This Is An English Sentence.")],
    "change_case:english_lowercase": [({}, "this is an english sentence.", "This is an English sentence.")],
    "punctuation:no_comma": [({}, "Lamps and nets", "Lamps, nets")],
}  # fmt: skip
"""By kind: values, a text that obeys and one that does not."""


def test_every_kind_is_tried():
    assert CASES.keys() == KINDS.keys() and len(KINDS) == 25


@pytest.mark.parametrize("name", CASES)
def test_what_a_kind_demands(name: str):
    for values, right, wrong in CASES[name]:
        asked = instruction(name, values | {"unused": None})
        assert asked.is_followed(right) and not asked.is_followed(wrong) and not asked.is_followed(" \n")
        assert asked.is_followed_loosely(right)


def test_loosely_first_and_last_lines_and_asterisks_do_not_count():
    lower = instruction("change_case:english_lowercase", {})
    text = "Here is your text:\nthis is an english sentence.\nEnjoy!"
    assert not lower.is_followed(text) and lower.is_followed_loosely(text)
    ends = instruction("startend:end_checker", {"end_phrase": "the end"})
    assert not ends.is_followed("**the end**") and ends.is_followed_loosely("**the end**")


@pytest.mark.parametrize("name, values, said", [
    ("punctuation:no_dots", {}, "not a kind of instruction; known are keywords:existence"),
    ("keywords:existence", {"keywords": None}, 'needs "keywords" in "kwargs"'),
    ("length_constraints:number_paragraphs", {"num_paragraphs": "two"}, '"num_paragraphs" is a text; a number was expected'),
])  # fmt: skip
def test_what_cannot_be_verified_is_refused(name: str, values: dict[str, Any], said: str):
    with pytest.raises(InputError, match=said):
        instruction(name, values)


def rows(number: int = 6) -> list[dict[str, Any]]:
    return [
        {"key": n, "prompt": f"Write about lamp {n} without commas in 3 words or more.",
         "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
         "kwargs": [{}, {"num_words": 3, "relation": AT_LEAST}]} for n in range(number)
    ]  # fmt: skip


def test_a_row_that_does_not_fit_is_named(tmp_path: Path):
    broken = rows(2)
    broken[1]["kwargs"] = [{}]
    path = tmp_path / "ifeval.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in broken))
    suite = suite_of("ifeval")
    with pytest.raises(InputError, match=r'line 2: "kwargs" must hold one object for each of the 2 instructions'):
        suite.read(path)
