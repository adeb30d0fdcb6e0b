"""What a tokenizer gives to a model: ids as tensors."""

from typing import TYPE_CHECKING, Any

from wenloom.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


class Encoded(dict[str, Any]):
    """`input_ids` and `attention_mask`, as keys and as attributes."""

    def to(self, device: Any) -> "Encoded":
        """The same tensors on another device."""
        return Encoded({name: value.to(device) for name, value in self.items()})

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
