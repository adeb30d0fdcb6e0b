"""How a text begins, as a prompt for a model that was trained on the like."""

import re

_WITHOUT_BLANKS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
"""Thai, Lao, Burmese, Khmer, kana, Chinese characters."""
_CLAUSE = re.compile(r"\W*([^\W_][^,.!?;:，。！？；：、…」』”》]{1,7})")
"""Up to eight characters until a mark of punctuation."""


def opening(text: str) -> str:
    """The first four words of its first line; in scripts without blanks the first clause, eight characters at most.

    >>> opening("Good morrow, neighbour."), opening("To be, or not to be, that is the question"), opening("床前明月光，疑是地上霜")
    ('Good morrow, neighbour.', 'To be, or not', '床前明月光')
    """
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    clause = _CLAUSE.match(line) if _WITHOUT_BLANKS.search(line) else None
    return clause[1].strip() if clause else " ".join(line.split()[:4])[:80]
