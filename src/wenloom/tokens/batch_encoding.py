"""What a tokenizer takes and gives: text that can be encoded, ids cut to a length, ids as tensors."""

from typing import TYPE_CHECKING, Any

from wenloom.core.errors import InputError
from wenloom.core.foreign import kind_of

if TYPE_CHECKING:
    from torch import Tensor


class BatchEncoding(dict[str, Any]):
    """`input_ids` and `attention_mask`, as keys and as attributes."""

    def to(self, device: Any) -> "BatchEncoding":
        """These tensors on another device."""
        return BatchEncoding({name: value.to(device) for name, value in self.items()})

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def tensor_of(rows: list[list[int]], kind: str) -> "Tensor":
    """Rows of ids as one tensor, shape (rows, ids).

    Raises:
        InputError: another kind than "pt", or rows of different length.
    """
    if kind != "pt":
        raise InputError(f'return_tensors="{kind}": only "pt" (PyTorch) is known.')
    import torch

    if len({len(row) for row in rows}) > 1:
        raise InputError("texts of different length make no tensor: add padding=True.")
    return torch.tensor(rows, dtype=torch.long)


_CLEANED = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"),
            (" 've", "'ve"), (" 're", "'re"))  # fmt: skip
"""What transformers' clean_up_tokenization replaces, in its order."""


def without_blanks(text: str) -> str:
    """Text without the blanks before punctuation, as transformers' clean_up_tokenization makes it.

    >>> without_blanks("It is n't so , is it ?")
    "It isn't so, is it?"
    """
    for found, instead in _CLEANED:
        text = text.replace(found, instead)
    return text


def without_end(ids: list[int], around: list[int], limit: int, side: str) -> list[int]:
    """As many of a text's tokens as fit beside those that stand around it."""
    inside = [index for index, is_around in enumerate(around) if not is_around]
    room = max(0, limit - (len(ids) - len(inside)))
    dropped = set(inside[room:] if side == "right" else inside[: len(inside) - room])
    return [token for index, token in enumerate(ids) if index not in dropped]


def checked(text: str) -> str:
    """The text, if it is one that can be encoded.

    Raises:
        InputError: it is none.
    """
    if not isinstance(text, str):
        raise InputError(f"expected text to encode, got {kind_of(text)}.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError("the text holds half of a surrogate pair, which is not a character.") from None
    return text
