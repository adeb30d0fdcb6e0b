"""Gopher's repetition filter: each share by a count over all pairs of places, and documents on both sides of a limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wenloom.text.documents import Document
from wenloom.text.steps import STEPS
from wenloom.text.steps.repetition import shares
from wenloom.text.steps.step import Dropped


def letters_in_repeated(words: list[str], n: int) -> int:
    """By going through the places: from the end of a sequence that stood before, the next is looked for."""
    seen, place, total = set[tuple[str, ...]](), 0, 0
    while place <= len(words) - n:
        gram = tuple(words[place : place + n])
        if gram in seen:
            total, place = total + sum(map(len, gram)), place + n
        else:
            seen.add(gram)
            place += 1
    return total


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "dddd"]), max_size=40))
def test_every_share_is_what_its_definition_says(words: list[str]):
    text = " ".join(words)
    found = {share.what: share.value for share in shares(text)}
    total = max(1, len(text))
    for n in range(5, 11):
        assert found[f"repeated sequences of {n} words"] == letters_in_repeated(words, n) / total
    for n in (2, 3, 4):
        grams = [tuple(words[place : place + n]) for place in range(len(words) - n + 1)]
        most = max(map(grams.count, grams), default=0)
        first = next((gram for gram in grams if grams.count(gram) == most), ())
        assert found[f"the same {n} words"] == (most * len(" ".join(first)) / total if most > 1 else 0.0)
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
        (f"{PROSE}\n\n{PROSE}\n\n{PROSE}", "repeated paragraphs"),
        ("spam ham " * 30, "same 2 words"),
        ("买买买" * 30, "same 2 words"),
        (f"{PROSE} {MORE} {PROSE} {MORE.lower()}", "repeated sequences"),
    ],
)
def test_what_repeats_itself_is_dropped_with_the_reason_in_any_language(text: str, reason: str | None):
    result = STEPS["repetition"]()(Document(text, "here"))
    assert (reason in result.reason) if isinstance(result, Dropped) and reason else (reason is None)
