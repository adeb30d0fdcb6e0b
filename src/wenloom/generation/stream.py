"""From tokens to text while they arrive: whole characters only, and nothing after a stop text."""

from tokenizers.decoders import DecodeStream

from wenloom.tokens.tokenizer import TextTokenizer


class TextStream:
    """The text of a continuation, growing.

    Text is held back while it ends inside a character (bytes of one token each) or while it could be the beginning
    of a stop text. Special tokens are left out.

    Args:
        prompt: what the continuation follows; its last tokens decide about a leading blank.
        stop: texts that end the continuation.
    """

    def __init__(self, tokenizer: TextTokenizer, prompt: list[int], stop: tuple[str, ...]):
        self._backend, self._stop = tokenizer.backend, stop
        before = prompt[-8:]
        self._decoder = DecodeStream(ids=before, skip_special_tokens=True)
        known = tokenizer.decode(before, skip_special_tokens=True)
        self._repeated = known if known.endswith(_BROKEN) else ""
        """What the decoder gives again with the first piece: it takes a prompt that ends inside a character for unread."""
        self._held = ""
        self._ready: list[str] = []
        self.stopped = False
        """Whether a stop text has come."""

    def push(self, token: int) -> str:
        """Take one more token; returns the text that is certain by it."""
        new = self._decoder.step(self._backend, token) or ""
        if new and self._repeated:
            whole = self._repeated.rstrip(_BROKEN)
            new = new.removeprefix(whole).removeprefix(self._repeated[len(whole) :])
            self._repeated = ""
        self._held += new
        found = min((at for at in map(self._held.find, self._stop) if at >= 0), default=None)
        if found is not None:
            self.stopped = True
            piece, self._held = self._held[:found], ""
        else:
            safe = len(self._held) - max((_overlap(self._held, text) for text in self._stop), default=0)
            piece, self._held = self._held[:safe], self._held[safe:]
        self._ready.append(piece)
        return piece

    def finish(self) -> str:
        """What was held back and is now certain, as nothing follows."""
        piece, self._held = self._held, ""
        self._ready.append(piece)
        return piece

    def take(self) -> str:
        """All text that has become certain since the last call."""
        pieces, self._ready = self._ready, []
        return "".join(pieces)


_BROKEN = "\ufffd"
"""Stands for bytes that are no character."""


def _overlap(text: str, stop: str) -> int:
    """The longest end of `text` that is a beginning of `stop`.

    >>> _overlap("abc##", "###")
    2
    """
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
