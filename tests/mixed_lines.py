"""Lines of real text as strangers bring it: hundreds of languages, code, Chinese, signs, blanks, special tokens as text."""

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path

EMOJI = "😀 👩‍👩‍👧 🇫🇷 👍🏽 ❤️ 🤷🏿‍♀️ ✈︎ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 1️⃣ 🫠 e\u0301 ﷽ ａｂ ½ ™ \u200b \ufeff \u00a0 \u3000 \u2028 ᄒ ﾞ".split(" ")
BLANKS = [" ", "  ", "    ", "\t", "\t\t", " \t ", "\n", "\n\n", " \n  ", "\r\n", " " * 17, "\u00a0 ", "\u3000"]


def mixed_lines(shared_data: Path, count: int, special: Sequence[str] = ()) -> list[str]:
    """So many different lines, the same for the same arguments.

    A quarter are of the declaration of human rights in 388 languages, a quarter of code, a tenth of Chinese poems; the rest are
    pieces of these with signs, runs of blanks and special tokens between.

    Args:
        shared_data: the folder of public datasets.
        special: texts of special tokens, which stand in some lines.
    """
    draw = random.Random(0)
    with gzip.open(shared_data / "udhr2/udhr2.jsonl.gz", "rt", encoding="utf-8") as file:
        languages = [json.loads(line)["text"].split("\n") for line in file]
    code = [line for name, fields in (("humaneval/HumanEval.jsonl", ("prompt", "canonical_solution")), ("mbpp/mbpp.jsonl", ("code",)))
            for row in map(json.loads, (shared_data / name).read_text(encoding="utf-8").splitlines())
            for field in fields for line in _in_pieces(row[field], draw)]  # fmt: skip
    spoken = [line for text in languages for line in draw.sample(text, min(len(text), 20)) if line.strip()]
    poems = _poems(shared_data)
    parts = [
        draw.sample(spoken, count // 4),
        draw.sample(code, min(count // 4, len(code))),
        draw.sample(poems, count // 10),
    ]
    found = dict.fromkeys(line for part in parts for line in part)
    while len(found) < count:
        pieces = []
        for _ in range(draw.randrange(1, 6)):
            text = draw.choice(draw.choice((spoken, code, poems)))
            begin = draw.randrange(len(text))
            pieces += [
                text[begin : begin + draw.randrange(1, 20)],
                draw.choice(draw.choice((EMOJI, BLANKS, [*special, "", "7", "2024", "don't", "3.14159", "__"]))),
            ]
        found["".join(pieces)] = None
    lines = list(found)[:count]
    draw.shuffle(lines)
    return lines


def _in_pieces(code: str, draw: random.Random) -> list[str]:
    """Code as lines, and some of its lines together."""
    lines = [line for line in code.split("\n") if line.strip()]
    begin = draw.randrange(len(lines))
    return [*lines, "\n".join(lines[begin : begin + 4])]


def _poems(shared_data: Path) -> list[str]:
    with gzip.open(shared_data / "chinese_poetry/poems.jsonl.gz", "rt", encoding="utf-8") as file:
        return ["".join(json.loads(line)["paragraphs"]) for line in file if "paragraphs" in line][::20]
