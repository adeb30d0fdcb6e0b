"""The prefix cache: what was read of one prompt serves every later one that begins alike."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np

from wenloom.runtime.slots import PAGE, Slots
from wenloom.runtime.window import View


class PrefixCache:
    """Pages of keys and values by the hash of all tokens up to their end; the least recently used go first.

    Texts and the cache hold the same pages: nothing is copied.
    """

    def __init__(self, slots: Slots, max_bytes: int):
        self._slots, self._max_bytes = slots, max_bytes
        self._pages: OrderedDict[bytes, int] = OrderedDict()

    @property
    def n_bytes(self) -> int:
        """Memory of the pages that are held."""
        return len(self._pages) * self._slots.page_bytes

    def restore(self, tokens: Sequence[int], view: View, slot: int, limit: int) -> int:
        """Let a slot's text begin with the longest known beginning; returns how many tokens of the view that is.

        Args:
            limit: at most so many tokens.
        """
        if not self._pages:
            return 0
        found = []
        for key in self._keys(tokens, view):
            if (len(found) + 1) * PAGE > limit or key not in self._pages:
                break
            found.append(key)
        if found:
            self._slots.share(slot, [self._pages[key] for key in found])
        for key in reversed(found):  # a beginning stays longer than what follows it
            self._pages.move_to_end(key)
        return len(found) * PAGE

    def remember(self, tokens: Sequence[int], view: View, slot: int) -> None:
        """Keep the whole pages of a text that has been read to its end."""
        if self._max_bytes == 0:
            return
        pages = self._slots.pages(slot)
        for page, key in zip(pages, self._keys(tokens, view), strict=False):
            if key not in self._pages:
                self._slots.hold(page)
                self._pages[key] = page
        while self.n_bytes > self._max_bytes:
            self._slots.let_go(self._pages.popitem(last=False)[1])

    def clear(self) -> None:
        """Forget everything."""
        while self._pages:
            self._slots.let_go(self._pages.popitem()[1])

    def _keys(self, tokens: Sequence[int], view: View) -> Iterator[bytes]:
        """A chain of SHA-256: each page's key covers all that stands before it, and the view."""
        key = repr(view).encode()
        data = np.asarray(tokens[view.first :], np.int64)
        for end in range(PAGE, len(data) + 1, PAGE):
            key = hashlib.sha256(key + data[end - PAGE : end].tobytes()).digest()
            yield key
