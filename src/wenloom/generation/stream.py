"""From tokens to text while they arrive: whole characters only, and nothing after a stop text."""

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
    of a stop text. Special tokens are left out; a stop text may hold their names.

    Args:
        prompt: what the continuation follows; its last tokens decide about a leading blank.
        stop: texts that end the continuation.
        spelling: of the tokenizer, where there is one already.
    """

    def __init__(
        self, tokenizer: TextTokenizer, prompt: list[int], stop: tuple[str, ...], spelling: Spelling | None = None
    ):
        spelling = spelling or Spelling(tokenizer)
        self._decode, self._special, self._stop = spelling, spelling.special, stop
        self._before = [token for token in prompt[-_CONTEXT:] if token not in self._special]
        """Tokens whose text is out already; they decide how the next ones are spelled."""
        self._before_text = self._decode(self._before)
        self._pending: list[int] = []
        """Tokens that may end inside a character."""
        self._held: list[Piece] = []
        """Text that may begin a stop text."""
        self._ready: list[str] = []
        self.stopped = False
        """Whether a stop text has come."""

    def fork(self) -> "TextStream":
        """Another one that has read the same tokens, with nothing to take."""
        twin = object.__new__(TextStream)
        twin.__dict__.update(self.__dict__)
        twin._pending, twin._held, twin._ready = self._pending.copy(), self._held.copy(), []
        return twin

    def push(self, token: int) -> str:
        """Take one more token; returns the text that is certain by it."""
        if token in self._special:
            return self._release(Piece(self._special[token], False)) if self._stop else ""
        self._pending.append(token)
        new = self._after(len(self._pending))
        if new.endswith(_BROKEN) and len(self._pending) > _LONGEST_CHARACTER:
            n, new = self._certain(new)
        elif new.endswith(_BROKEN):
            return ""
        else:
            n = len(self._pending)
        if not new:
            if n > _CONTEXT:  # tokens without text
                self._pending = []
            return ""
        self._before, self._pending = self._pending[:n], self._pending[n:]
        self._before_text = self._decode(self._before)
        return self._release(Piece(new, True))

    def finish(self) -> str:
        """What was held back and is now certain, as nothing follows."""
        if self.stopped:
            return ""
        if self._pending:
            self._held.append(Piece(self._after(len(self._pending)), True))
            self._pending = []
        return self._hand_out(len(self._held), "")

    def take(self) -> str:
        """All text that has become certain since the last call."""
        pieces, self._ready = self._ready, []
        return "".join(pieces)

    def repeat(self, prompt: str) -> None:
        """Text that comes before all other."""
        self._ready.insert(0, prompt)

    def _after(self, n: int) -> str:
        """The text of the first n pending tokens as it follows what stands before."""
        whole = self._decode(self._before + self._pending[:n])
        for known in (self._before_text, self._before_text.rstrip(_BROKEN)):  # a prompt may end inside a character
            if known and whole.startswith(known):
                return whole[len(known) :]
        # together, the bytes before these would be read in another way
        return self._decode(self._pending[:n]) if self._before_text else whole

    def _certain(self, whole: str) -> tuple[int, str]:
        """Of bytes that are no character, all but the last, with which one may still begin; cut between characters."""
        last = len(self._pending) - _LONGEST_CHARACTER + 1
        for n in range(len(self._pending) - 1, last, -1):
            if (text := self._after(n)) + self._decode(self._pending[n:]) == whole:
                return n, text
        return last, self._after(last)

    def _release(self, piece: Piece) -> str:
        """Add text, look for stop texts, and give out what cannot belong to one."""
        if not self._stop:
            self._ready.append(piece.text)
            return piece.text
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
            self._held, self._pending = [], []
        return text

    def _hand_out(self, count: int, rest: str) -> str:
        """Give out the visible text of the first pieces, and of the rest."""
        text = "".join(each.text for each in self._held[:count] if each.visible) + rest
        del self._held[:count]
        if text:
            self._ready.append(text)
        return text


_BROKEN = "\ufffd"
"""Stands for bytes that are no character."""
_LONGEST_CHARACTER = 4
"""Bytes, and so tokens, of a character."""
_CONTEXT = 8
"""Tokens of the prompt that may decide how the first ones after it are spelled."""


def _overlap(text: str, stop: str) -> int:
    """The longest end of `text` that is a beginning of `stop`.

    >>> _overlap("abc##", "###")
    2
    """
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
