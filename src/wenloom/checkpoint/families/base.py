"""What a family is: a map of config fields and a map of tensor names, each read both ways."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.model.config import ModelConfig


@dataclass(frozen=True)
class TensorMap:
    """One tensor in their file and the one or several of ours that it holds."""

    theirs: str
    ours: tuple[str, ...]
    split: Callable[[Tensor], Sequence[Tensor]] = lambda tensor: (tensor,)
    """From their tensor to ours."""
    join: Callable[[Sequence[Tensor]], Tensor] = lambda tensors: tensors[0]
    """Ours to theirs."""


def same(theirs: str, ours: str) -> TensorMap:
    """A tensor with the same numbers under another name."""
    return TensorMap(theirs, (ours,))


def transposed(theirs: str, ours: str) -> TensorMap:
    """GPT-2 keeps its matrices as (in, out)."""
    return TensorMap(
        theirs, (ours,), lambda tensor: (tensor.T.contiguous(),), lambda tensors: tensors[0].T.contiguous()
    )


def plus_one(theirs: str, ours: str) -> TensorMap:
    """Gemma keeps the weights of its norms as their distance from 1."""
    return TensorMap(theirs, (ours,), lambda tensor: (tensor.float() + 1,), lambda tensors: tensors[0].float() - 1)


def in_one(theirs: str, ours: Sequence[str], rows: Sequence[int]) -> TensorMap:
    """Several of our matrices, or biases, one below the other in theirs.

    Args:
        rows: how many each has.
    """
    return TensorMap(theirs, tuple(ours), lambda tensor: tensor.split(list(rows)), cat_rows)


def heads_in_one(config: ModelConfig, theirs: str, ours: str) -> TensorMap:
    """Queries, keys and values in one matrix, or bias, group by group: the queries that share a key, the key, the value.

    Args:
        ours: how our names begin, with {} for query, key and value.
    """
    groups, d_head = config.n_kv_heads, config.d_head
    per_group = config.n_heads // groups

    def split(tensor: Tensor) -> list[Tensor]:
        by_head = tensor.view(groups, per_group + 2, d_head, *tensor.shape[1:])
        parts = by_head[:, :-2].flatten(0, 1), by_head[:, -2], by_head[:, -1]
        return [part.reshape(-1, *tensor.shape[1:]) for part in parts]

    def join(tensors: Sequence[Tensor]) -> Tensor:
        rest = tensors[0].shape[1:]
        by_group = [tensor.reshape(groups, -1, d_head, *rest) for tensor in tensors]
        return torch.cat(by_group, 1).reshape(-1, *rest)

    return TensorMap(theirs, tuple(ours.format(part) for part in ("query", "key", "value")), split, join)


def pairs_apart(d_head: int, d_rotary: int) -> Callable[[str, str], TensorMap]:
    """Queries or keys that rotate dimensions (0, 1), (2, 3), ... of a head, where ours rotate (0, r/2), (1, r/2 + 1), ...

    Scores are the same if the dimensions of queries and keys are put in another order alike.
    """
    order = [*range(0, d_rotary, 2), *range(1, d_rotary, 2), *range(d_rotary, d_head)]
    back = [order.index(place) for place in range(d_head)]

    def reordered(tensor: Tensor, places: list[int]) -> Tensor:
        return tensor.unflatten(0, (-1, d_head))[:, places].flatten(0, 1)

    return lambda theirs, ours: TensorMap(
        theirs, (ours,), lambda tensor: (reordered(tensor, order),), lambda tensors: reordered(tensors[0], back)
    )


def with_bias(make: Callable[[str, str], TensorMap], theirs: str, ours: str, bias: bool) -> list[TensorMap]:
    """A linear layer's weight, and its bias where there is one."""
    maps = [make(f"{theirs}.weight", f"{ours}.weight")]
    return [*maps, same(f"{theirs}.bias", f"{ours}.bias")] if bias else maps


def written(config: ModelConfig, names: Mapping[str, str]) -> dict[str, Any]:
    """Fields of config.json that hold values of ours, `norms.eps` among others, under other names."""
    return {theirs: attrgetter(ours)(config) for ours, theirs in names.items()}


def layers(
    config: ModelConfig, theirs: str, parts: Mapping[str, str], make: Callable[[str, str], TensorMap] = same
) -> list[TensorMap]:
    """The linear layers and norms of all blocks, each with its bias.

    Args:
        theirs: how their names begin, with {} for the layer's number.
        parts: how they go on, and what ours is called in its block.
    """
    return [
        each
        for layer in range(config.n_layers)
        for name, ours in parts.items()
        for each in with_bias(make, f"{theirs.format(layer)}.{name}", f"blocks.{layer}.{ours}", True)
    ]


def heads_of_encoder(config: ModelConfig, names: Mapping[str, str], untied: Sequence[TensorMap]) -> list[TensorMap]:
    """What stands over an encoder: classes, or what predicts tokens.

    Args:
        names: what theirs is called of ours: "classifier.dense", "classifier.output", "transform", "transform_norm",
            and without a weight "output_bias".
        untied: an output matrix of its own.
    """
    if config.output == "classes":
        return [
            each
            for ours in ("classifier.dense", "classifier.output")
            for each in with_bias(same, names[ours], ours, True)
        ]
    if config.output == "hidden states":
        return []
    maps = [each for ours in ("transform", "transform_norm") for each in with_bias(same, names[ours], ours, True)]
    return [*maps, same(names["output_bias"], "output_bias"), *(untied if config.has_output_matrix else ())]


@dataclass(frozen=True)
class Family:
    """One Hugging Face model family."""

    name: str
    """`model_type` in config.json."""
    architecture: str
    """The class transformers builds of a language model, in `architectures`."""
    base_prefix: str
    """Prefix that files saved from the bare model (without its head) leave out."""
    read_config: Callable[[ConfigFields], ModelConfig]
    """config.json to ModelConfig."""
    write_config: Callable[[ModelConfig], dict[str, Any]]
    """ModelConfig to the family's own fields of config.json."""
    tensors: Callable[[ModelConfig], list[TensorMap]]
    """Every tensor of the file."""
    buffers: re.Pattern[str]
    """Names that hold no weights of the model (causal masks, frequencies, heads of another task)."""
    classifier: str | None = None
    """The class that transformers builds of a model with classes; None: it has none of this family."""
    bare: str | None = None
    """The class that transformers builds of an encoder without a head."""
    head: str = "lm_head.weight"
    """The output matrix, which a model whose embeddings are tied need not have, or has instead of the embedding."""
    copies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names under which a tensor may stand as well, or instead."""
    optional: frozenset[str] = frozenset()
    """Tensors that are zeros where a file leaves them out."""

    head_prefixes: tuple[str, ...] = ()
    """How names of tensors begin that stand over the body, where other families have no such."""
    renamed: Callable[[str], str | None] = lambda name: name
    """A name in a file that holds more than this family, as the family has it; None: it is of the other parts."""
    module_tensors: Callable[[ModelConfig], list[TensorMap]] | None = None
    """Every tensor under the name that it has in transformers' modules, which adapters use; None: that of the file."""
    is_always_tied: bool = False
    """Whether an output matrix that a file leaves out is the embedding, whatever `tie_word_embeddings` says."""
    keeps_transposed: bool = False
    """Whether the matrices of its blocks stand as (in, out), while quantized ones stand as (out, in)."""

    def names(self, tensor: str, is_tied: bool) -> tuple[str, ...]:
        """Under which names a tensor may be found, the usual one first."""
        heads = self.names_of_head
        return (tensor, *(name for name in self.copies.get(tensor, ())
                          if is_tied or tensor == self.head or name not in heads))  # fmt: skip

    def modules(self, config: ModelConfig) -> list[TensorMap]:
        """Every tensor under the name of its module in transformers."""
        return (self.module_tensors or self.tensors)(config)

    @property
    def names_of_head(self) -> tuple[str, ...]:
        """Under which names an output matrix of its own may be found."""
        return self.head, *self.copies.get(self.head, ())

    def name_of_class(self, config: ModelConfig) -> str:
        """The class that transformers builds of a model."""
        if config.output == "classes":
            return self.classifier or self.architecture
        return self.architecture if config.output == "tokens" else self.bare or self.architecture

    def config_json(self, config: ModelConfig) -> dict[str, Any]:
        """The whole config.json."""
        eos = config.eos_token_ids
        return {
            "architectures": [self.name_of_class(config)],
            "model_type": self.name,
            "vocab_size": config.vocab_size,
            "bos_token_id": config.bos_token_id,
            "eos_token_id": None if not eos else eos[0] if len(eos) == 1 else list(eos),
            "pad_token_id": config.pad_token_id,
            "tie_word_embeddings": config.logits.tied,
            "initializer_range": config.initializer_range,
            "torch_dtype": "float32",
            **(
                {
                    "id2label": dict(enumerate(config.labels)),
                    "label2id": {label: number for number, label in enumerate(config.labels)},
                }
                if config.labels
                else {}
            ),
            **self.write_config(config),
        }


def heads_of_decoder(config: ModelConfig) -> list[TensorMap]:
    """What stands over a decoder: an output matrix of its own, or classes."""
    if config.labels:
        return [same("score.weight", "classifier.output.weight")]
    return [] if config.logits.tied else [same("lm_head.weight", "head.weight")]


def cat_rows(tensors: Sequence[Tensor]) -> Tensor:
    """Stack matrices or biases along the output dimension."""
    return torch.cat(list(tensors), 0)
