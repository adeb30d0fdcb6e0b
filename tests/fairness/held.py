"""The probability of the words in which two texts differ, and of what stands around them, by where tokens end in both."""

from collections.abc import Sequence
from itertools import accumulate, takewhile
from pathlib import Path

from wenloom.tokens.tokenizer import TextTokenizer

Spans = Sequence[tuple[int, int]]


def held(
    folder: Path, texts: Sequence[str], logs: Sequence[Sequence[float]], words: Sequence[Spans] | None = None
) -> list[tuple[float, float]]:
    """Of each of two texts: Σ log P of what both have around some words, from where tokens of both end to where tokens of both end,
    and of the rest.

    Args:
        words: where they stand; default: the one word in which the texts differ.
    """
    tokenizer = TextTokenizer.from_pretrained(folder)
    sums = [dict[int, float](), dict[int, float]()]
    for text, own, done in zip(texts, logs, sums, strict=True):
        stops = [end for _, end in tokenizer.encoding(text, False).offsets]
        assert len(stops) == len(own) and stops[-1] == len(text)
        done.update(zip([0, *stops], accumulate(own, initial=0.0), strict=True))
    outside = [0.0, 0.0]
    spans = words or [[each] for each in _differing(*texts)]
    edges = [[0, *(edge for span in each for edge in span), len(text)] for each, text in zip(spans, texts, strict=True)]
    for place in range(0, len(edges[0]), 2):
        firsts, length = [each[place] for each in edges], edges[0][place + 1] - edges[0][place]
        common = [
            n for n in range(length + 1) if all(first + n in done for first, done in zip(firsts, sums, strict=True))
        ]
        for which, (first, done) in enumerate(zip(firsts, sums, strict=True)):
            outside[which] += done[first + common[-1]] - done[first + common[0]] if common else 0.0
    return [(each, sum(own) - each) for each, own in zip(outside, logs, strict=True)]


def _differing(one: str, other: str) -> list[tuple[int, int]]:
    first = _common(one, other).rfind(" ") + 1
    same = _common(one[::-1], other[::-1])
    last = next((len(same) - n for n, sign in enumerate(reversed(same)) if not sign.isalpha()), 0)
    return [(first, len(each) - last) for each in (one, other)]


def _common(one: str, other: str) -> str:
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
