"""Taps: named places in a model where what flows through can be read or replaced.

A mapping from names to functions is passed down with a forward pass; there are no hooks that stay behind. A function gets
the tensor of its place and returns None (it has read) or a tensor of the same shape, which flows on instead. Names:

| place | tensor | shape |
|---|---|---|
| `embed` | what the first block reads: token, position and type | B T D |
| `blocks.3.resid_pre`, `.resid_mid`, `.resid_post` | the residual stream before a block, after attention, after the block | B T D |
| `blocks.3.attention.query`, `.key`, `.value` | per head, with norms and rotary positions (keys and values: new tokens) | B H T K, B G T K |
| `blocks.3.attention.pattern` | attention weights over all keys | B H T S |
| `blocks.3.attention.heads` | what each head has gathered, before the output matrix | B H T K |
| `blocks.3.attention.out` | what attention adds to the stream | B T D |
| `blocks.3.cross.pattern`, `.heads`, `.out` | the same of attention to an encoded text | B H T S, B H T K, B T D |
| `blocks.3.mlp.in`, `.hidden`, `.out` | what the layer reads (normalised), after the non-linearity, and what is added to the stream | B T D, B T F, B T D |
| `blocks.3.mlp.router` | in the place of `.hidden` where the layer is a mixture of experts: the router's scores of all | B T E |
| `final_norm` | the normalised last residual stream | B T D |
| `logits` | scores of the tokens, or of the classes | B T V, B C |

In an encoder-decoder they begin with `encoder.` or `decoder.`. In a step over several texts at once (`Decoder.read`) B
is 1 and T counts the tokens of all; patterns come once per text, or per run of neighbours that read one token each.
"""

import difflib
from collections.abc import Callable, Collection, Mapping

from torch import Tensor

from wenloom.core.errors import InputError
from wenloom.model.config import ModelConfig

Tap = Callable[[Tensor], Tensor | None]
"""Reads a tensor; what it returns, if anything, flows on in its place."""

_ATTENTION = ("resid_pre", *(f"attention.{each}" for each in ("query", "key", "value", "pattern", "heads", "out")))
_CROSS = ("cross.pattern", "cross.heads", "cross.out")


def stack_places(config: ModelConfig) -> list[str]:
    """The places of embeddings and blocks, without what stands over them, in the order of a forward pass."""
    attention = (*_ATTENTION, *(_CROSS if config.encoder is not None else ()), "resid_mid")
    places = ["embed"]
    for layer in range(config.n_layers):
        inner = "mlp.hidden" if config.mlp.experts_of(layer) is None else "mlp.router"
        places += [f"blocks.{layer}.{each}" for each in (*attention, "mlp.in", inner, "mlp.out", "resid_post")]
    return [*places, "final_norm"]


class Taps:
    """Functions at places, as a forward pass carries them.

    Args:
        functions: name of a place to what is to be done there.
        places: the names that there are: `places` of the model.

    Raises:
        InputError: there is no place of a name in this model.
    """

    def __init__(self, functions: Mapping[str, Tap], places: Collection[str]):
        for name in functions:
            if name not in places:
                near = ", ".join(difflib.get_close_matches(name, places, 3))
                raise InputError(f"this model has no place {name!r}{near and f' (near: {near})'}.")
        self._functions = dict(functions)

    def __contains__(self, place: str) -> bool:
        return place in self._functions

    def at(self, place: str, x: Tensor) -> Tensor:
        """What flows on from a place: `x` itself, if there is no tap or it only reads.

        Raises:
            InputError: a tap returns another shape.
        """
        tap = self._functions.get(place)
        replaced = None if tap is None else tap(x)
        if replaced is None:
            return x
        if replaced.shape != x.shape:
            raise InputError(f"the tap of {place} returns shape {tuple(replaced.shape)} for {tuple(x.shape)}.")
        return replaced.to(x.dtype)

    def within(self, part: str) -> "Taps | None":
        """The taps of a part (`blocks.3`, `attention`, `encoder`), under their names there; None if it has none."""
        below = {
            name.removeprefix(f"{part}."): tap for name, tap in self._functions.items() if name.startswith(f"{part}.")
        }
        if not below:
            return None
        inner = object.__new__(Taps)
        inner._functions = below
        return inner


def within(taps: Taps | None, part: str) -> Taps | None:
    """As `Taps.within`, of no taps none."""
    return None if taps is None else taps.within(part)


def tapped(taps: Taps | None, place: str, x: Tensor) -> Tensor:
    """As `Taps.at`; without taps `x` itself, at no cost."""
    return x if taps is None else taps.at(place, x)


def keep(place: str, kept: dict[str, Tensor]) -> Tap:
    """A tap that notes what flows at a place, and changes nothing."""

    def tap(x: Tensor) -> None:
        kept[place] = x

    return tap
