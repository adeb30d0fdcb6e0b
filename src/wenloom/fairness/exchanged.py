"""What two texts share beside the words in which they differ, told apart by characters: a piece of such a word that both happen to
have (the "he" of "s", "he") is none of it, however small the vocabulary is."""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import accumulate

from wenloom.evaluation.scorer import ContinuationScore, Span
from wenloom.evaluation.words import CJK

_WORD = re.compile(rf"\s*(?:{CJK.pattern}|(?:(?!{CJK.pattern})\w)+|[^\w\s])|\s+")


def differing_words(one: str, other: str) -> tuple[list[Span], list[Span]]:
    """Where two texts differ, in whole words, each with the blank before it; of Chinese and Japanese in characters.

    >>> differing_words("So she said.", "So he said.")
    ([(2, 6)], [(2, 5)])
    """
    words = [_WORD.findall(each) for each in (one, other)]
    ends = [[0, *accumulate(map(len, each))] for each in words]
    found: tuple[list[Span], list[Span]] = [], []
    for tag, *places in SequenceMatcher(None, *words, autojunk=False).get_opcodes():
        if tag != "equal":
            for spans, at, (begin, end) in zip(found, ends, (places[:2], places[2:]), strict=True):
                spans.append((at[begin], at[end]))
    return found


def apart(
    scores: Sequence[ContinuationScore], spans: Sequence[Sequence[Span]]
) -> list[tuple[list[float], list[float]]]:
    """log P of the tokens outside the words in which two texts differ, and of all others; of each text.

    A token that holds a character of such a word is not outside. Where it also holds what stands beside the word, the other text's
    tokens of the same characters do not count as outside either: both sums are of the same characters.

    Args:
        scores: of the two texts.
        spans: of each text its differing words; the texts between them are the same.
    """
    outside: list[set[int]] = [set(), set()]
    for between in zip(*(_between(each) for each in spans), strict=True):
        cuts = [_cuts(score, begin, end) for score, (begin, end) in zip(scores, between, strict=True)]
        if common := cuts[0].keys() & cuts[1].keys():
            for places, own in zip(outside, cuts, strict=True):
                places |= set(range(own[min(common)][0], own[max(common)][-1]))
    return [
        ([log for place, log in enumerate(score.log_probabilities) if place in places],
         [log for place, log in enumerate(score.log_probabilities) if place not in places])
        for score, places in zip(scores, outside, strict=True)
    ]  # fmt: skip


def _between(spans: Sequence[Span]) -> Iterator[tuple[int, float]]:
    """What stands before, between and behind words."""
    last = 0
    for begin, end in spans:
        yield last, begin
        last = end
    yield last, float("inf")


def _cuts(score: ContinuationScore, begin: int, end: float) -> dict[int, list[int]]:
    """Where one token ends and the next begins among those that lie within some characters: by the character, counted from the
    first of these, before which tokens the cut is. There is none inside a character that several tokens hold."""
    inside = [place for place, (first, last) in enumerate(score.spans) if begin <= first and last <= end]
    found = dict[int, list[int]]()
    for place in range(inside[0], inside[-1] + 2) if inside else ():
        before = score.spans[place - 1][1] if place else score.begin
        if place == len(score.spans) or before <= score.spans[place][0]:
            found.setdefault(max(0, before - begin), []).append(place)
    return found
