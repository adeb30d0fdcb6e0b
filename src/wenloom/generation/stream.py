"""From tokens to text while they arrive: whole characters only, and nothing after a stop text."""

import json
from typing import NamedTuple

from wenloom.tokens.tokenizer import TextTokenizer


class Piece(NamedTuple):
    """Text that waits to become certain."""

    text: str
    visible: bool
    """False for the name of a special token: a stop text may hold it, the continuation does not."""


class Spelling:
    """What tokens are as text.

    Attributes:
        special: the names of special tokens by their ids.
    """

    def __init__(self, tokenizer: TextTokenizer):
        added = tokenizer.backend.get_added_tokens_decoder()
        self.special = {token: content.content for token, content in added.items() if content.special}
        self._decode = tokenizer.backend.decode
        decoder = tokenizer.backend.decoder
        self.is_joined = decoder is not None and json.loads(decoder.__getstate__())["type"] == "ByteLevel"
        """Whether whole characters are spelled alike wherever they stand."""
        self._alone: dict[int, str] = {}

    def __call__(self, tokens: list[int]) -> str:
        """The text of tokens that are not special."""
        if len(tokens) > 1:
            return self._decode(tokens)
        if not tokens:
            return ""
        if tokens[0] not in self._alone:
            self._alone[tokens[0]] = self._decode(tokens)
        return self._alone[tokens[0]]


class TextStream:
    """The text of a continuation, growing.

    Text is held back while it ends inside a character (bytes of one token each) or while it could be the beginning
    of a stop text. Special tokens are left out, but for those that are to be shown; a stop text may hold their names.

    Args:
        prompt: what the continuation follows; its last tokens decide about a leading blank.
        stop: texts that end the continuation.
        spelling: of the tokenizer, where there is one already.
        shown: special tokens whose names are part of the text.
    """

    def __init__(
        self, tokenizer: TextTokenizer, prompt: list[int], stop: tuple[str, ...], spelling: Spelling | None = None,
        shown: frozenset[int] = frozenset(),
    ):  # fmt: skip
        spelling = spelling or Spelling(tokenizer)
        self._decode, self._special, self._is_joined = spelling, spelling.special, spelling.is_joined
        self._shown = shown
        self._stop, self._starts = stop, frozenset(text[:1] for text in stop)
        self._window = [token for token in prompt[-_CONTEXT:] if token not in self._special]
        """The last tokens; what stands before decides how the next ones are spelled."""
        self._new = 0
        """How many of them have come since the text last ended with a whole character."""
        self._given = self._decode(self._window)
        """The beginning of the window's text that has been given out."""
        self._held: list[Piece] = []
        """Text that may begin a stop text."""
        self._ready: list[str] = []
        self.stopped = False
        """Whether a stop text has come."""

    def fork(self) -> "TextStream":
        """Another one that has read the same tokens, with nothing to take."""
        twin = object.__new__(TextStream)
        twin.__dict__.update(self.__dict__)
        twin._window, twin._held, twin._ready = self._window.copy(), self._held.copy(), []
        return twin

    def push(self, token: int) -> str:
        """Take one more token; returns the text that is certain by it."""
        if token in self._shown:
            return self._release(Piece(self._special[token], True))
        if token in self._special:
            return self._release(Piece(self._special[token], False)) if self._stop else ""
        if self._is_joined and not self._new and (new := self._decode([token])) and _BROKEN not in new:
            self._window, self._given = [token], new
            if not self._held and self._starts.isdisjoint(new):
                return self._give(new)
            return self._release(Piece(new, True))
        self._window.append(token)
        self._new += 1
        whole = self._decode(self._window)
        if not whole.endswith(_BROKEN):
            new = self._behind(whole)
            if new or self._new > _CONTEXT:  # tokens without text leave the window as it is
                self._window, self._new = self._window[-self._new :], 0
                self._given = self._decode(self._window)
        elif self._new <= _LONGEST_BROKEN:
            return ""  # the beginning of a character
        else:
            certain = _certain(whole)
            new = certain[len(self._given) :] if certain.startswith(self._given) else ""
            self._given += new
            if len(self._window) > _LONGEST_WINDOW:
                self._window, self._new = self._window[-_CONTEXT:], min(self._new, _CONTEXT)
                self._given = _certain(self._decode(self._window))
        return self._release(Piece(new, True)) if new else ""

    def finish(self) -> str:
        """What was held back and is now certain, as nothing follows."""
        if self.stopped:
            return ""
        if self._new:
            self._held.append(Piece(self._behind(self._decode(self._window)), True))
            self._new = 0
        return self._hand_out(len(self._held), "")

    def take(self) -> str:
        """All text that has become certain since the last call."""
        pieces, self._ready = self._ready, []
        return "".join(pieces)

    def repeat(self, prompt: str) -> None:
        """Text that comes before all other."""
        self._ready.insert(0, prompt)

    def _behind(self, whole: str) -> str:
        """What the window's text adds to that which has been given out."""
        for given in (self._given, self._given.rstrip(_BROKEN)):  # a prompt may end inside a character
            if whole.startswith(given) and (given or not self._given):
                return whole[len(given) :]
        return self._decode(self._window[-self._new :])  # bytes that are read in another way before these

    def _release(self, piece: Piece) -> str:
        """Add text, look for stop texts, and give out what cannot belong to one."""
        if not self._held and piece.visible and self._starts.isdisjoint(piece.text):
            return self._give(piece.text)
        self._held.append(piece)
        rendered = "".join(each.text for each in self._held)
        found = min((at for at in map(rendered.find, self._stop) if at >= 0), default=None)
        if found is not None:
            self.stopped = True
        safe = len(rendered) - max(_overlap(rendered, text) for text in self._stop) if found is None else found
        count, length = 0, 0
        while count < len(self._held) and length + len(self._held[count].text) <= safe:
            length += len(self._held[count].text)
            count += 1
        rest = ""
        if length < safe:
            cut = self._held[count]
            rest = cut.text[: safe - length] if cut.visible else ""
            self._held[count] = Piece(cut.text[safe - length :], cut.visible)
        text = self._hand_out(count, rest)
        if self.stopped:
            self._held, self._new = [], 0
        return text

    def _hand_out(self, count: int, rest: str) -> str:
        """Give out the visible text of the first pieces, and of the rest."""
        text = "".join(each.text for each in self._held[:count] if each.visible) + rest
        del self._held[:count]
        return self._give(text) if text else ""

    def _give(self, text: str) -> str:
        self._ready.append(text)
        return text


_BROKEN = "\ufffd"
"""Stands for bytes that are no character."""
_LONGEST_BROKEN = 3
"""Bytes of a character that may lack its last."""
_LONGEST_WINDOW = 32
"""Tokens that are spelled at a time, where none ends with a whole character."""
_CONTEXT = 8
"""Tokens of the prompt that may decide how the first ones after it are spelled."""


def _certain(text: str) -> str:
    """Text that ends in broken bytes without those with which a character may still begin."""
    broken = len(text) - len(text.rstrip(_BROKEN))
    return text[: len(text) - min(_LONGEST_BROKEN, broken)]


def _overlap(text: str, stop: str) -> int:
    """The longest end of `text` that is a beginning of `stop`.

    >>> _overlap("abc##", "###")
    2
    """
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
