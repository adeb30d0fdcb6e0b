"""From tokens to text while they arrive: whole characters only, and nothing after a stop text."""

from collections.abc import Iterable, Iterator

from tokenizers.decoders import DecodeStream

from wordloom.tokens.tokenizer import TextTokenizer


def text_pieces(
    tokenizer: TextTokenizer, prompt: list[int], tokens: Iterable[int], stop: tuple[str, ...]
) -> Iterator[str]:
    """The text of a continuation, piece by piece.

    A piece is held back while it ends inside a character (bytes of one token each) or while it could be
    the beginning of a stop text. Special tokens are left out.

    Args:
        prompt: what the continuation follows; its last tokens decide about a leading blank.
        tokens: the continuation, as it is chosen; not asked for more after a stop text.
    """
    decoder = DecodeStream(ids=prompt[-8:], skip_special_tokens=True)
    held = ""
    for token in tokens:
        held += decoder.step(tokenizer.backend, token) or ""
        found = min((at for at in map(held.find, stop) if at >= 0), default=None)
        if found is not None:
            if found:
                yield held[:found]
            return
        safe = len(held) - max((_overlap(held, text) for text in stop), default=0)
        if safe:
            yield held[:safe]
            held = held[safe:]
    if held:
        yield held


def _overlap(text: str, stop: str) -> int:
    """The longest end of `text` that is a beginning of `stop`.

    >>> _overlap("abc##", "###")
    2
    """
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
