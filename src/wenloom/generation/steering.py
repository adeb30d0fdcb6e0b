"""Steering: vectors that are added to the residual stream of one request, or of all that a model computes in a block."""

import contextlib
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from wenloom.checkpoint.steering import SteeringVector
from wenloom.core.errors import InputError, printable
from wenloom.generation.request_types import MOST_STRENGTH, name_and_strength, shown
from wenloom.model.decoder import Decoder
from wenloom.runtime.steering import UNSTEERED, Steering


class Steerable(Protocol):
    """What `wenloom.load` gives."""

    @property
    def decoder(self) -> Decoder: ...


def steering_of(wanted: Sequence[str], known: Mapping[str, SteeringVector], device: torch.device) -> Steering:
    """What a request adds to its texts.

    Args:
        wanted: names with or without a strength.
        known: vectors by their names.

    Raises:
        InputError: there is no vector of a name, or a strength is out of range.
    """
    sums: dict[int, Tensor] = {}
    for each in wanted:
        name, strength = name_and_strength(each)
        if name not in known:
            have = ", ".join(known) or "none"
            raise InputError(f"steer {shown(name)}: this engine has {printable(have, 300)}.")
        vector = known[name]
        strength = vector.strength if strength is None else strength
        if not math.isfinite(strength) or abs(strength) > MOST_STRENGTH:
            raise InputError(f"steer {shown(each)}: the strength must be from -{MOST_STRENGTH:g} to {MOST_STRENGTH:g}.")
        if strength:
            added = strength * vector.direction
            sums[vector.layer] = sums[vector.layer] + added if vector.layer in sums else added
    if not sums:
        return UNSTEERED
    parts = tuple((layer, sums[layer].float().contiguous()) for layer in sorted(sums))
    key = hashlib.sha256(b"".join(layer.to_bytes(4) + vector.numpy().tobytes() for layer, vector in parts)).hexdigest()
    return Steering(tuple((layer, vector.to(device)) for layer, vector in parts), key)


@contextlib.contextmanager
def steering(model: Steerable | Decoder, vector: SteeringVector, strength: float | None = None) -> Iterator[None]:
    """Add a vector to the residual stream of everything that a model computes within the block: texts, scores, gradients.

    ```python
    with wenloom.steering(model, load_steering(Path("calm.safetensors")), 2.0):
        model.generate("ROMEO:"), model.score("ROMEO: I am")
    ```

    A request of its own is steered by its option `steer` instead, beside others that are not.

    Args:
        model: what `wenloom.load` gives, or a decoder. Its adapters are models of their own and stay as they are.
        strength: default: the vector's own.

    Raises:
        InputError: the vector is another model's.
    """
    decoder = model if isinstance(model, Decoder) else model.decoder
    vector.check(decoder.config, "vector")
    added = (vector.strength if strength is None else strength) * vector.direction

    def add(block: Any, read: Any, x_BTD: Tensor) -> Tensor:
        return x_BTD + added.to(x_BTD)

    engine = vars(model).get("engine")  # made already, with keys and values of what it has read
    hook = decoder.blocks[vector.layer].register_forward_hook(add)
    try:
        if engine is not None:
            engine.forget()
        yield
    finally:
        hook.remove()
        if engine is not None:
            engine.forget()
