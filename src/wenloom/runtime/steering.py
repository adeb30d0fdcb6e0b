"""What is added to the residual stream of some texts of a step, and of no other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from wenloom.model.taps import Tap


@dataclass(frozen=True, eq=False)
class Steering:
    """What is added to the residual stream of a text, at each of its tokens."""

    parts: tuple[tuple[int, Tensor], ...] = ()
    """Blocks, and the vectors (D,) that are added to what these give: float32, on the model's device."""
    key: str = ""
    """Tells texts of the same tokens apart whose keys and values differ by this."""


UNSTEERED = Steering()


class Addition(NamedTuple):
    """A vector that is added to what a block gives, in some rows of a step."""

    layer: int
    begin: int
    end: int
    vector_D: Tensor


def adding(additions: Sequence[Addition]) -> Iterator[tuple[str, Tap]]:
    """Places of `model.taps`, and the functions that add there; other rows keep their bits."""
    for layer in sorted({each.layer for each in additions}):
        yield f"blocks.{layer}.resid_post", _tap([each for each in additions if each.layer == layer])


def _tap(additions: Sequence[Addition]) -> Tap:
    def add(x_1ND: Tensor) -> Tensor:
        x_1ND = x_1ND.clone()
        for each in additions:
            x_1ND[:, each.begin : each.end] += each.vector_D.to(x_1ND.dtype)
        return x_1ND

    return add
