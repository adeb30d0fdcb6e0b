"""Gopher's repetition filter: each share by a count over all pairs of places, and documents on both sides of a limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wenloom.text.documents import Document
from wenloom.text.steps import STEPS
from wenloom.text.steps.repetition import shares
from wenloom.text.steps.step import Dropped


def letters_in_repeated(words: list[str], n: int) -> int:
    """By comparing every sequence with every one before it."""
    inside = set[int]()
    for place in range(len(words) - n + 1):
        if any(words[place : place + n] == words[before : before + n] for before in range(place)):
            inside |= set(range(place, place + n))
    return sum(len(words[place]) for place in inside)


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "dddd"]), max_size=40))
def test_every_share_is_what_its_definition_says(words: list[str]):
    found = {share.what: share.value for share in shares(" ".join(words))}
    total = max(1, sum(map(len, words)))
    for n in range(5, 11):
        assert found[f"repeated sequences of {n} words"] == letters_in_repeated(words, n) / total
    for n in (2, 3, 4):
        grams = [tuple(words[place : place + n]) for place in range(len(words) - n + 1)]
        largest = max((grams.count(gram) * sum(map(len, gram)) for gram in grams), default=0)
        assert found[f"the same {n} words"] in (0.0, min(1.0, largest / total))
    lines = {share.what: share.value for share in shares("\n".join(words))}
    again = [word for place, word in enumerate(words) if word in words[:place]]
    assert lines["repeated lines"] == len(again) / max(1, len(words))
    assert lines["letters in repeated lines"] == sum(map(len, again)) / total


PROSE = "The old man sat by the river and watched how slowly its brown water carried leaves, twigs and foam to sea."
MORE = (
    "When evening came he folded his coat under one arm, whistled for the dog, and took the path over both hills home."
)


@pytest.mark.parametrize(
    "text, reason",
    [
        (PROSE, None),
        ("", None),
        ("你好，世界。今天天气很好，我们去公园散步吧。", None),
        ("one\ntwo\nthree\nfour", None),
        ("buy now\n" * 9 + PROSE, "repeated lines"),
        (f"{PROSE}\n\n{PROSE}\n\n{PROSE}", "repeated lines"),
        ("spam ham " * 30, "same 2 words"),
        ("买买买" * 30, "same 2 words"),
        (f"{PROSE} {MORE} {PROSE} {MORE.lower()}", "repeated sequences"),
    ],
)
def test_what_repeats_itself_is_dropped_with_the_reason_in_any_language(text: str, reason: str | None):
    result = STEPS["repetition"]()(Document(text, "here"))
    assert (reason in result.reason) if isinstance(result, Dropped) and reason else (reason is None)
