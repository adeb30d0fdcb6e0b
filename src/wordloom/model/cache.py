"""The key-value cache: what attention remembers of the tokens already read."""

from torch import Tensor


class KVCache:
    """Keys and values of every layer, one pair of tensors per layer.

    Per-layer tensors rather than one stacked tensor: a compiled step would copy a stacked one whole in
    every layer. Room grows by doubling, so that appending a token is amortised constant time.

    Keys are kept rotated. With length-dependent rotary kinds they are valid only while
    `Decoder.frequency_epoch` stays the same; clear the cache when it changes.
    """

    def __init__(self, n_layers: int):
        self.length = 0
        """Tokens that every layer has seen."""
        self._keys: list[Tensor | None] = [None] * n_layers
        self._values: list[Tensor | None] = [None] * n_layers

    def append(self, layer: int, keys_BGTK: Tensor, values_BGTK: Tensor) -> tuple[Tensor, Tensor]:
        """Remember new keys and values of one layer.

        Args:
            keys_BGTK, values_BGTK: shape (batch, kv heads, new tokens, d_head).

        Returns:
            All keys and values of that layer, shape (batch, kv heads, all tokens, d_head).
        """
        end = self.length + keys_BGTK.shape[2]
        self._keys[layer] = keys = _with_room(self._keys[layer], keys_BGTK, self.length, end)
        self._values[layer] = values = _with_room(self._values[layer], values_BGTK, self.length, end)
        keys[:, :, self.length : end] = keys_BGTK
        values[:, :, self.length : end] = values_BGTK
        return keys[:, :, :end], values[:, :, :end]

    def advance(self, n_tokens: int) -> None:
        """Called once a forward pass has appended to every layer."""
        self.length += n_tokens

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows of the batch only."""
        self._keys = [None if each is None else each[rows] for each in self._keys]
        self._values = [None if each is None else each[rows] for each in self._values]

    def clear(self) -> None:
        """Forget everything but keep the room."""
        self.length = 0


def _with_room(store: Tensor | None, like: Tensor, used: int, needed: int) -> Tensor:
    if store is not None and store.shape[2] >= needed:
        return store
    batch, heads, _, d_head = like.shape
    grown = like.new_empty(batch, heads, max(needed, 2 * used, 64), d_head)
    if store is not None:
        grown[:, :, :used] = store[:, :, :used]
    return grown
