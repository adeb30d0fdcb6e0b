"""A sparse autoencoder of the residual stream: few of many features stand for what flows after a block (Gao et al. 2024).

    z = TopK(W_enc (x - b_dec) + b_enc),   x' = W_dec z + b_dec

The k largest of M pre-activations are kept, where they are positive, and all others are zero. Kept on disk as SAELens keeps its
class `topk`: cfg.json and sae_weights.safetensors.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from wenloom.checkpoint.weights import stored_tensors, write_tensors
from wenloom.core.errors import CheckpointError
from wenloom.core.files import folder_aside
from wenloom.core.foreign import json_text, read_json_object
from wenloom.model.config import ModelConfig

CONFIG, WEIGHTS, FOUND = "cfg.json", "sae_weights.safetensors", "features.json"
"""Names of SAELens, and our own file of what was found about each feature."""


class Active(NamedTuple):
    """The features that are active at some tokens."""

    values_NK: Tensor
    """How strongly; 0 where fewer than k are."""
    numbers_NK: Tensor


@dataclass(frozen=True, eq=False)
class SparseCoder:
    """M features of the stream after a block, D wide."""

    layer: int
    """The block: x is `blocks.LAYER.resid_post`."""
    active: int
    """k."""
    encoder_MD: Tensor
    encoder_bias_M: Tensor
    decoder_MD: Tensor
    """A row of length 1 for each feature: the direction that it adds."""
    decoder_bias_D: Tensor
    about: Mapping[str, Any] = field(default_factory=dict)
    """What it was made of."""

    def to(self, device: torch.device) -> "SparseCoder":
        """The same, elsewhere."""
        tensors = {name: each.to(device) for name, each in vars(self).items() if isinstance(each, Tensor)}
        return replace(self, **tensors)

    @property
    def n_features(self) -> int:
        """M."""
        return len(self.decoder_MD)

    def pre_activations(self, x_ND: Tensor) -> Tensor:
        """W_enc (x - b_dec) + b_enc, shape (N, M)."""
        return F.linear(x_ND - self.decoder_bias_D, self.encoder_MD, self.encoder_bias_M)

    def encode(self, x_ND: Tensor) -> Active:
        """The features that are active."""
        return top_active(self.pre_activations(x_ND), self.active)

    def decode(self, active: Active) -> Tensor:
        """x', shape (N, D)."""
        return decoded(active, self.decoder_MD) + self.decoder_bias_D

    def __call__(self, x: Tensor) -> Tensor:
        """What the features keep of the stream, shape (..., D)."""
        x_ND = x.reshape(-1, x.shape[-1]).to(self.decoder_MD)
        return self.decode(self.encode(x_ND)).reshape(x.shape).to(x.dtype)

    def check(self, config: ModelConfig, name: str) -> None:
        """
        Raises:
            CheckpointError: it is another model's.
        """
        width = self.decoder_MD.shape[1]
        if width != config.d_model or self.layer >= config.n_layers:
            raise CheckpointError(
                f"{name}: features of {width} numbers after block {self.layer}; this model has {config.n_layers} blocks with "
                f"{config.d_model}. Features are those of the model that they were made with."
            )


def top_active(pre_NM: Tensor, k: int) -> Active:
    """The k largest pre-activations, negative ones as 0."""
    values_NK, numbers_NK = pre_NM.topk(min(k, pre_NM.shape[1]), sorted=False)
    return Active(values_NK.relu(), numbers_NK)


def decoded(active: Active, decoder_MD: Tensor) -> Tensor:
    """The sum of the directions of the active features, shape (N, D)."""
    return F.embedding_bag(active.numbers_NK, decoder_MD, per_sample_weights=active.values_NK, mode="sum")


def save_coder(coder: SparseCoder, folder: Path, found: Mapping[str, Any]) -> None:
    """Write a folder that SAELens reads with `SAE.load_from_disk`.

    Args:
        folder: new or empty.
        found: figures, and what each feature stands for.

    Raises:
        WenloomError: the disk refused.
    """
    m, d = coder.decoder_MD.shape
    config = {
        "architecture": "topk", "d_in": d, "d_sae": m, "k": coder.active, "dtype": "float32", "device": "cpu",
        "apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none",
        "rescale_acts_by_decoder_norm": False,
        "metadata": {"sae_lens_version": "6.0.0", **coder.about, "hook_name": f"blocks.{coder.layer}.hook_resid_post"},
    }  # fmt: skip
    weights = {
        "W_enc": coder.encoder_MD.T, "b_enc": coder.encoder_bias_M, "W_dec": coder.decoder_MD, "b_dec": coder.decoder_bias_D,
    }  # fmt: skip
    with folder_aside(folder) as aside:
        (aside / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        write_tensors(
            {name: each.detach().float().cpu().contiguous() for name, each in weights.items()}, aside / WEIGHTS
        )
        (aside / FOUND).write_text(json_text(found) + "\n", encoding="utf-8")


def load_coder(folder: Path) -> SparseCoder:
    """Read a folder of `save_coder`, or one of SAELens' class `topk` at the stream after a block.

    Raises:
        CheckpointError: it is none, or damaged.
    """
    config = read_json_object(folder / CONFIG, CheckpointError)
    plain = {"architecture": "topk", "normalize_activations": "none", "reshape_activations": "none",
             "apply_b_dec_to_input": True, "rescale_acts_by_decoder_norm": False}  # fmt: skip
    metadata = config.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    other = [name for name, value in plain.items() if config.get(name, value) != value]
    layer, active = _layer_of(metadata.get("hook_name")), config.get("k")
    if other or config.get("architecture") != "topk":
        raise CheckpointError(
            f'{folder / CONFIG}: features of another kind ("{(other or ["architecture"])[0]}"); wenloom features makes them.'
        )
    if not isinstance(layer, int) or not isinstance(active, int) or layer < 0 or active < 1:
        raise CheckpointError(
            f'{folder / CONFIG}: does not say after which block ("hook_name") or how many are active ("k").'
        )
    with ExitStack() as stack:
        stored = stored_tensors([folder / WEIGHTS], stack)
        if not {"W_enc", "b_enc", "W_dec", "b_dec"} <= stored.keys():
            raise CheckpointError(f"{folder / WEIGHTS}: lacks one of W_enc, b_enc, W_dec and b_dec.")
        shape = stored["W_dec"].shape
        if (
            len(shape) != 2
            or stored["W_enc"].shape != shape[::-1]
            or stored["b_enc"].shape != shape[:1]
            or stored["b_dec"].shape != shape[1:]
        ):
            raise CheckpointError(f"{folder / WEIGHTS}: shapes of its tensors do not fit each other.")
        read = {name: each.read_weights().float() for name, each in stored.items()}
    return SparseCoder(
        layer, active, read["W_enc"].T.contiguous(), read["b_enc"], read["W_dec"], read["b_dec"], metadata
    )


def _layer_of(hook: object) -> int | None:
    """The block that a name of TransformerLens tells.

    >>> _layer_of("blocks.7.hook_resid_post"), _layer_of("blocks.7.hook_resid_pre")
    (7, None)
    """
    parts = hook.split(".") if isinstance(hook, str) else []
    is_post = len(parts) == 3 and parts[0] == "blocks" and parts[2] == "hook_resid_post"
    return int(parts[1]) if is_post and parts[1].isdecimal() else None
