"""Steering vectors on disk: one safetensors file with a direction, the block after which it is added, and how strongly."""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from wenloom.checkpoint.weights import stored_tensors, write_tensors
from wenloom.core.errors import CheckpointError, InputError, printable
from wenloom.core.files import file_aside
from wenloom.core.foreign import regular_file
from wenloom.model.config import ModelConfig

DIRECTION = "direction"
_LAYER, _STRENGTH = "wenloom.layer", "wenloom.strength"


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """A direction of the residual stream: `strength` times it is added to what a block gives."""

    layer: int
    """The block, from 0: it is added at `blocks.LAYER.resid_post`."""
    direction: Tensor
    """Shape (D,), float32."""
    strength: float = 1.0
    """Where none is asked for."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What it was made of, for who finds the file."""

    def check(self, config: ModelConfig, name: str) -> None:
        """
        Args:
            name: how it is called.

        Raises:
            InputError: it is another model's.
        """
        if len(self.direction) != config.d_model or self.layer >= config.n_layers:
            raise InputError(
                f"steer {printable(name, 100)}: a vector of {len(self.direction)} numbers after block {self.layer}; this "
                f"model has {config.n_layers} blocks with {config.d_model}. A vector works in the model that it was made with."
            )


def save_steering(vector: SteeringVector, path: Path) -> None:
    """Write a vector; a file of that name is replaced.

    Raises:
        WenloomError: the disk refused.
    """
    metadata = {**vector.about, _LAYER: str(vector.layer), _STRENGTH: repr(vector.strength)}
    with file_aside(path) as aside:
        write_tensors({DIRECTION: vector.direction.detach().float().cpu()}, aside, metadata)


def load_steering(path: Path) -> SteeringVector:
    """Read a vector.

    Raises:
        InputError: there is no such file.
        CheckpointError: it holds no steering vector, or a damaged one.
    """
    regular_file(path)
    with ExitStack() as stack:
        stored = stored_tensors([path], stack).get(DIRECTION)
        if stored is None or len(stored.shape) != 1:
            raise CheckpointError(
                f'{path}: holds no steering vector (a tensor "{DIRECTION}"); wenloom steer makes one.'
            )
        about = dict(stored.metadata)
        direction = stored.read_weights().to(torch.float32)
    layer, strength = about.pop(_LAYER, ""), about.pop(_STRENGTH, "1")
    if not layer.isdecimal() or not _is_number(strength) or not bool(direction.isfinite().all()):
        raise CheckpointError(
            f"{path}: says of itself that it is added after block {printable(layer, 20) or '(none)'} with strength "
            f"{printable(strength, 20)}; wenloom steer makes one that works."
        )
    own = {name: text for name, text in about.items() if not name.startswith("wenloom.") and name != "format"}
    return SteeringVector(int(layer), direction, float(strength), own)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
