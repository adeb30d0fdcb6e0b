"""Few of many features stand for what flows in a model: sparse autoencoders and transcoders.

A sparse autoencoder of the stream after a block (TopK, Gao et al. 2024) keeps the k largest of M pre-activations, where they are
positive, and sets all others to zero:

    z = TopK(W_enc (x - b_dec) + b_enc),   x' = W_dec z + b_dec

A transcoder (Dunefsky et al. 2024) reads what the feed-forward layer of a block reads, and says what that layer adds to the stream.
Those features are active that exceed a threshold, k of them on average (as in BatchTopK, Bussmann et al. 2024):

    z = a where a > θ, else 0, of a = W_enc x + b_enc,   y' = W_dec z + b_dec

Kept on disk as SAELens keeps its classes `topk` and `jumprelu_transcoder`: cfg.json and sae_weights.safetensors.
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
    """M features of the stream after a block, or of its feed-forward layer; D wide."""

    layer: int
    """The block."""
    active: int
    """k; of a transcoder on average."""
    encoder_MD: Tensor
    encoder_bias_M: Tensor
    decoder_MD: Tensor
    """A row of length 1 for each feature: the direction that it adds."""
    decoder_bias_D: Tensor
    threshold_M: Tensor | None = None
    """Of a transcoder: θ."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What it was made of."""

    @property
    def places(self) -> tuple[str, ...]:
        """Where it reads and writes: one place of the stream, or two of the feed-forward layer."""
        return places_of(self.layer, self.threshold_M is not None)

    @property
    def reads(self) -> str:
        """The place of x."""
        return self.places[0]

    @property
    def writes(self) -> str:
        """The place in which x' or y' may stand."""
        return self.places[-1]

    def split(self, flowing: Tensor) -> tuple[Tensor, Tensor]:
        """What flows where it reads and where it writes, of `activations.flowing` at its places; twice the same of the stream."""
        d = self.decoder_MD.shape[1]
        return flowing[..., :d], flowing[..., -d:]

    def to(self, device: torch.device) -> "SparseCoder":
        """The same, elsewhere."""
        tensors = {name: each.to(device) for name, each in vars(self).items() if isinstance(each, Tensor)}
        return replace(self, **tensors)

    @property
    def n_features(self) -> int:
        """M."""
        return len(self.decoder_MD)

    def pre_activations(self, x_ND: Tensor) -> Tensor:
        """W_enc (x - b_dec) + b_enc, of a transcoder W_enc x + b_enc; shape (N, M)."""
        centred_ND = x_ND - self.decoder_bias_D if self.threshold_M is None else x_ND
        return F.linear(centred_ND, self.encoder_MD, self.encoder_bias_M)

    def encode(self, x_ND: Tensor) -> Active:
        """The features that are active."""
        pre_NM = self.pre_activations(x_ND)
        return top_active(pre_NM, self.active) if self.threshold_M is None else active_above(pre_NM, self.threshold_M)

    def decode(self, active: Active) -> Tensor:
        """x' or y', shape (N, D)."""
        return decoded(active, self.decoder_MD) + self.decoder_bias_D

    def __call__(self, x: Tensor) -> Tensor:
        """What the features keep, or say that the layer adds; shape (..., D)."""
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


def places_of(layer: int, is_transcoder: bool) -> tuple[str, ...]:
    """Where features of a block read and write: one place of the stream, or two of the feed-forward layer."""
    return tuple(f"blocks.{layer}.{each}" for each in (("mlp.in", "mlp.out") if is_transcoder else ("resid_post",)))


def top_active(pre_NM: Tensor, k: int) -> Active:
    """The k largest pre-activations, negative ones as 0."""
    values_NK, numbers_NK = pre_NM.topk(min(k, pre_NM.shape[1]), sorted=False)
    return Active(values_NK.relu(), numbers_NK)


def active_above(pre_NM: Tensor, threshold_M: Tensor) -> Active:
    """The pre-activations above a threshold, where they are positive; as many places as the token with the most needs."""
    kept_NM = torch.where(pre_NM > threshold_M, pre_NM, 0)
    most = int((kept_NM > 0).sum(1).max()) if len(kept_NM) else 0
    return top_active(kept_NM, max(1, most))


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
        "d_in": d, "d_sae": m, "dtype": "float32", "device": "cpu", "normalize_activations": "none",
        "reshape_activations": "none",
        **(_topk(coder) if coder.threshold_M is None else _transcoder(coder)),
        "metadata": {"sae_lens_version": "6.0.0", **coder.about, **_hooks(coder)},
    }  # fmt: skip
    weights = {
        "W_enc": coder.encoder_MD.T, "b_enc": coder.encoder_bias_M, "W_dec": coder.decoder_MD, "b_dec": coder.decoder_bias_D,
        **({} if coder.threshold_M is None else {"threshold": coder.threshold_M}),
    }  # fmt: skip
    with folder_aside(folder) as aside:
        (aside / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        write_tensors(
            {name: each.detach().float().cpu().contiguous() for name, each in weights.items()}, aside / WEIGHTS
        )
        (aside / FOUND).write_text(json_text(found) + "\n", encoding="utf-8")


def _topk(coder: SparseCoder) -> dict[str, Any]:
    return {
        "architecture": "topk",
        "k": coder.active,
        "apply_b_dec_to_input": True,
        "rescale_acts_by_decoder_norm": False,
    }


def _transcoder(coder: SparseCoder) -> dict[str, Any]:
    return {"architecture": "jumprelu_transcoder", "d_out": coder.decoder_MD.shape[1], "apply_b_dec_to_input": False}


def _hooks(coder: SparseCoder) -> dict[str, str]:
    """The names of the places in TransformerLens."""
    if coder.threshold_M is None:
        return {"hook_name": f"blocks.{coder.layer}.hook_resid_post"}
    return {"hook_name": f"blocks.{coder.layer}.mlp.hook_in", "hook_name_out": f"blocks.{coder.layer}.hook_mlp_out"}


def load_coder(folder: Path) -> SparseCoder:
    """Read a folder of `save_coder`, or one of SAELens' classes `topk` (the stream after a block), `transcoder` and
    `jumprelu_transcoder` (the feed-forward layer of a block).

    Raises:
        CheckpointError: it is none, or damaged.
    """
    config = read_json_object(folder / CONFIG, CheckpointError)
    architecture = config.get("architecture")
    is_transcoder = architecture in ("transcoder", "jumprelu_transcoder")
    plain = {"normalize_activations": "none", "reshape_activations": "none", "apply_b_dec_to_input": not is_transcoder,
             "rescale_acts_by_decoder_norm": False}  # fmt: skip
    metadata = config.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    other = [name for name, value in plain.items() if config.get(name, value) != value]
    if other or not (is_transcoder or architecture == "topk"):
        raise CheckpointError(
            f'{folder / CONFIG}: features of another kind ("{(other or ["architecture"])[0]}"); wenloom features makes them.'
        )
    hook = "mlp.hook_in" if is_transcoder else "hook_resid_post"
    layer, active = _layer_of(metadata.get("hook_name"), hook), config.get("k", metadata.get("active_features", 1))
    if not isinstance(layer, int) or not isinstance(active, int) or layer < 0 or active < 1:
        raise CheckpointError(
            f'{folder / CONFIG}: does not say at which block ("hook_name": "blocks.N.{hook}") or how many are active ("k").'
        )
    with ExitStack() as stack:
        stored = stored_tensors([folder / WEIGHTS], stack)
        names = ["W_enc", "b_enc", "W_dec", "b_dec", *(["threshold"] if architecture == "jumprelu_transcoder" else [])]
        if not set(names) <= stored.keys():
            raise CheckpointError(f"{folder / WEIGHTS}: lacks one of {', '.join(names[:-1])} and {names[-1]}.")
        shape = stored["W_dec"].shape
        expected = {"W_enc": shape[::-1], "b_enc": shape[:1], "b_dec": shape[1:], "threshold": shape[:1]}
        if len(shape) != 2 or any(stored[name].shape != expected.get(name, shape) for name in names):
            raise CheckpointError(f"{folder / WEIGHTS}: shapes of its tensors do not fit each other.")
        read = {name: stored[name].read_weights().float() for name in names}
    if not all(each.isfinite().all() for each in read.values()):
        raise CheckpointError(f"{folder / WEIGHTS}: holds numbers that are none (NaN or infinite).")
    threshold_M = read.get("threshold", torch.zeros(shape[0])) if is_transcoder else None
    return SparseCoder(
        layer, active, read["W_enc"].T.contiguous(), read["b_enc"], read["W_dec"], read["b_dec"], threshold_M, metadata
    )


def _layer_of(name: object, hook: str) -> int | None:
    """The block that a name of TransformerLens tells.

    >>> _layer_of("blocks.7.hook_resid_post", "hook_resid_post"), _layer_of("blocks.7.hook_resid_pre", "hook_resid_post")
    (7, None)
    """
    parts = name.split(".", 2) if isinstance(name, str) else []
    is_there = len(parts) == 3 and parts[0] == "blocks" and parts[2] == hook
    return int(parts[1]) if is_there and parts[1].isdecimal() else None
