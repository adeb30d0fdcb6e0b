"""Where documents were found, kept in little room: many share all but their number."""

import re
from array import array

_NUMBERED = re.compile(r"(.*) ([1-9]\d{0,17})", re.DOTALL)


class Origins:
    """Sources of documents, such as `corpus.jsonl, line 17`, in the order in which they were added.

    >>> origins = Origins()
    >>> for source in ("a.jsonl, line 7", "a.jsonl, line 12", "b.txt"): origins.add(source)
    >>> origins.beginnings, origins.which.tolist(), origins.numbers.tolist()
    (['a.jsonl, line', 'b.txt'], [0, 0, 1], [7, 12, 0])
    >>> len(origins), origins[1]
    (3, 'a.jsonl, line 12')
    """

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self.beginnings: list[str] = []
        """What stands before the numbers, each once."""
        self.which, self.numbers = array("Q"), array("Q")
        """By document: which beginning it has, and its number; 0 where it has none."""

    def add(self, source: str) -> None:
        """Append a document's source."""
        match = _NUMBERED.fullmatch(source)
        beginning, number = (match[1], int(match[2])) if match else (source, 0)
        if beginning not in self._known:
            self._known[beginning] = len(self.beginnings)
            self.beginnings.append(beginning)
        self.which.append(self._known[beginning])
        self.numbers.append(number)

    def __len__(self) -> int:
        return len(self.which)

    def __getitem__(self, number: int) -> str:
        return written(self.beginnings[self.which[number]], self.numbers[number])


def written(beginning: str, number: int) -> str:
    """A source in words.

    >>> written("a.jsonl, line", 7), written("b.txt", 0)
    ('a.jsonl, line 7', 'b.txt')
    """
    return f"{beginning} {number}" if number else beginning
