"""A page on which every token of a text is coloured by how surprising it is to a model."""

import bisect
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from wenloom.core.pages.page import END_OF_TEXT, render
from wenloom.evaluation.perplexity import pieces
from wenloom.evaluation.scorer import Score
from wenloom.tokens.tokenizer import TextTokenizer

LEVELS = (1, 2, 4, 6, 8, 12)
"""Bits between the colours: a token of probability 1/2, 1/4, 1/16, 1/64, 1/256, 1/4096. Narrow where most tokens of a text are
(a model of 2 bits per byte is surprised by 3 to 8 bits per token), so that they can be told apart."""
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_LONG_LINE, _ENDS = 240, tuple(".!?。！？…;；")
"""Characters after which a line ends with its sentence."""


class ColouredToken(NamedTuple):
    """A token, or several that are one character."""

    text: str
    bits: float
    place: int
    """Its number, from 0."""

    @property
    def level(self) -> int:
        """Its colour."""
        return bisect.bisect_right(LEVELS, self.bits)

    @property
    def odds(self) -> str:
        """Its probability in words.

        >>> [ColouredToken("a", bits, 0).odds for bits in (1.0, 10.0, 41.363)]
        ['50 %', '1 in 1,024', '1 in 2.8 × 10¹²']
        """
        if self.bits < 6.64:
            return f"{100 * 2**-self.bits:.3g} %"
        if self.bits < 19.93:
            return f"1 in {2**self.bits:,.0f}"
        power, part = divmod(self.bits * math.log10(2), 1)
        figure = f"{10**part:.1f}"
        power, figure = (power + 1, "1.0") if figure == "10.0" else (power, figure)
        return f"1 in {figure} × 10{f'{power:.0f}'.translate(_RAISED)}"


class ColouredLine(NamedTuple):
    """A line of the text, or a sentence of a long one."""

    number: int
    """Of the text's line, from 1."""
    pieces: list[ColouredToken]

    @property
    def bits(self) -> float:
        """Mean surprise per token."""
        return sum(each.bits for each in self.pieces) / len(self.pieces)


def heat_page(model: str, tokenizer: TextTokenizer, result: Score, is_pseudo: bool = False) -> str:
    """The page.

    Args:
        model: how it is called.
        is_pseudo: whether each token was scored from those on both sides (a masked model).
    """
    found = [ColouredToken(text, max(0.0, bits), place) for place, (text, bits) in enumerate(pieces(tokenizer, result))]
    lines = lines_of(found)
    return render(
        "wenloom.evaluation",
        "heat.html.jinja",
        title="How surprising each token is",
        model=model,
        figures=[
            (f"{len(result.token_ids):,}", "tokens"),
            (f"{result.perplexity:,.2f}", "pseudo-perplexity per token" if is_pseudo else "perplexity per token"),
            (f"{result.bits_per_byte:.3f}", "bits per byte"),
        ],
        lines=lines,
        levels=_levels(found),
        surprising_lines=most_surprising_lines(lines),
        surprising_tokens=[(each, _around(found, each.place)) for each in sorted(found, key=lambda p: -p.bits)[:20]],
        end=tokenizer.eos_token or END_OF_TEXT,
    )


def lines_of(found: Sequence[ColouredToken]) -> list[ColouredLine]:
    """Lines of the text; a long one ends after a sentence."""
    lines: list[ColouredLine] = []
    number, length, is_open = 1, 0, False
    for each in found:
        if not is_open:
            lines.append(ColouredLine(number, []))
            length = 0
        lines[-1].pieces.append(each)
        length += len(each.text)
        number += each.text.count("\n")
        is_open = "\n" not in each.text and (length <= _LONG_LINE or not each.text.rstrip().endswith(_ENDS))
    return lines


def most_surprising_lines(lines: Sequence[ColouredLine], count: int = 10) -> list[ColouredLine]:
    """By mean surprise, of lines with at least five tokens that are not blank (of all lines where none has)."""
    whole = [line for line in lines if sum(not each.text.isspace() for each in line.pieces) >= 5]
    return sorted(whole or lines, key=lambda line: -line.bits)[:count]


def _levels(found: Sequence[ColouredToken]) -> list[dict[str, Any]]:
    """The key of the colours: bits, probability, and the part of the tokens that have them."""
    bounds = (0, *LEVELS)
    names = [f"{low}–{high} bits" for low, high in zip(bounds, LEVELS, strict=False)] + [f"over {LEVELS[-1]} bits"]
    least = [f"1 in {2**high:,} or likelier" for high in LEVELS] + ["rarer"]
    counts = [sum(each.level == level for each in found) for level in range(len(bounds))]
    return [
        {"name": name, "odds": odds, "share": count / max(1, len(found))}
        for name, odds, count in zip(names, least, counts, strict=True)
    ]


def _around(found: Sequence[ColouredToken], place: int, n: int = 8) -> tuple[str, str]:
    """The text before and after a token, in its line."""
    before, after = found[max(0, place - n) : place], found[place + 1 : place + 1 + n]
    return "".join(each.text for each in before).split("\n")[-1], "".join(each.text for each in after).split("\n")[0]
