"""A text in a grammar is brought to its end before its room is used up, so that no document is cut off in the middle."""

from collections.abc import Callable, Collection

from wenloom.generation.grammars import Matcher

_NEAR = 8
"""Every token is tried while fewer than so many, and the longest way to the end so far, can be spared: one that opens an object
makes the way longer by all that it must hold."""


class Closing:
    """Keeps as many tokens in hand as the text in a grammar needs to end.

    A small model may never close a string. So a short way to the end is looked for now and then, the more often the less
    room there is; near the end, a token after which no way fits is replaced by the next one of the way that does.
    """

    def __init__(self):
        self._look_below: float = float("inf")
        """Tokens left below which the next look is due."""
        self._way: list[int] | None = None
        """Tokens that end the text from here."""
        self._longest = 0
        """Tokens of the longest way that was found."""
        self._next: tuple[int, list[int]] | None = None
        """The token that was chosen, and the way from there."""

    def chosen(
        self, matcher: Matcher, token: int, left: int, endings: Collection[int], may: Callable[[int], bool]
    ) -> int:
        """The token that the model chose, or what must stand in its place.

        Args:
            matcher: of the text so far.
            left: tokens that may be written, this one among them.
            endings: tokens that end a text.
            may: whether nothing else forbids a token.
        """
        if left > self._look_below:
            return token
        if self._way is None:
            self._way = matcher.ending(left)
        if self._way is None:  # there is no room for a whole text, or no way was found from here
            self._look_below = left - 1 - left // 8
            return token
        self._longest = max(self._longest, len(self._way))
        far = left - len(self._way) - self._longest - _NEAR
        if far > 0:
            self._look_below, self._way = left - 1 - far // 4, None
            return token
        after = matcher.copy()
        rest = after.ending(left - 1) if after.try_advance(token) else None
        if rest is None and self._way and may(self._way[0]):
            token, *rest = self._way
        if rest is None:
            return token if self._way else next(filter(may, endings), token)
        self._next = token, rest
        return token

    def advance(self, token: int) -> None:
        """The text goes on with this token."""
        self._way = self._next[1] if self._next is not None and self._next[0] == token else None
        self._next = None
