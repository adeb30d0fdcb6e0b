"""The shape of a model, in the field's names, independent of any file format."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal

from wenloom.core.errors import InputError
from wenloom.model.parts import (
    AttentionShape,
    DropoutRates,
    EmbeddingShape,
    FeedForwardShape,
    HeadShape,
    LogitShape,
    NormShape,
    PositionShape,
    ResidualShape,
    Rope,
)

PLAIN_BLOCKS: dict[str, Any] = {
    "norms": {"kind": "layernorm"},
    "attention": {"qkv_bias": True, "output_bias": True},
    "mlp": {"gated": False, "bias": True},
}
"""What models of the kinds of GPT-2, BERT and BART share: LayerNorm, biases, a feed-forward layer without gate."""
POST_NORM: dict[str, Any] = {**PLAIN_BLOCKS, "norms": {"kind": "layernorm", "place": "post", "final": False}}
"""`PLAIN_BLOCKS` with the norm after each sub-layer, as in the original Transformer."""


def _at_most(most: int) -> Any:
    """A size that is needed, from 1 to what no model comes near (the largest have 262,144 tokens, 126 layers and a width
    of 18,432); more is a mistake in a file, or meant to fill the memory."""
    return field(metadata={"most": most})


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides what a model computes.

    A decoder (GPT) unless `causal` is false, which makes an encoder (BERT), or `encoder` is given, which makes a
    decoder that reads an encoder (the original Transformer).
    """

    family: str
    """The Hugging Face family whose format the model is saved in (`llama`, `gpt2`, ...)."""
    vocab_size: int = _at_most(2**26)
    """Rows of the embedding matrix."""
    n_layers: int = _at_most(1024)
    """Number of blocks."""
    d_model: int = _at_most(2**20)
    """Width of the residual stream."""
    n_heads: int = _at_most(2**14)
    """Number of query heads."""
    n_kv_heads: int = _at_most(2**14)
    """Number of key and value heads; fewer than n_heads is grouped-query attention."""
    d_head: int = _at_most(2**14)
    """Width of a head."""
    d_mlp: int = _at_most(2**24)
    """Hidden width of the feed-forward layer."""
    context_length: int = _at_most(2**31)
    """The number of positions the model was trained for."""
    attention: AttentionShape = field(default_factory=AttentionShape)
    """Biases, scores and windows."""
    positions: PositionShape = field(default_factory=PositionShape)
    """How places are told apart."""
    mlp: FeedForwardShape = field(default_factory=FeedForwardShape)
    """The feed-forward layers, or mixtures of experts."""
    norms: NormShape = field(default_factory=NormShape)
    """Their kind and their places."""
    residual: ResidualShape = field(default_factory=ResidualShape)
    """How sub-layers are added up."""
    embedding: EmbeddingShape = field(default_factory=EmbeddingShape)
    """What the first block reads."""
    logits: LogitShape = field(default_factory=LogitShape)
    """From the last residual stream to scores of tokens."""
    head: HeadShape = field(default_factory=HeadShape)
    """What else stands before the output of an encoder, or before classes."""
    dropout: DropoutRates = field(default_factory=DropoutRates)
    """What training drops."""
    causal: bool = True
    """A token sees those before it only."""
    layer_groups: int | None = None
    """How many blocks there are, where neighbouring layers are one and the same (ALBERT); None: each layer is its own."""
    labels: tuple[str, ...] = field(default=(), metadata={"most": 100_000})
    """Classes of a model that classifies texts instead of predicting tokens."""
    initializer_range: float = 0.02
    """Standard deviation of fresh weights."""
    bos_token_id: int | None = None
    """Token that opens a document."""
    eos_token_ids: tuple[int, ...] = ()
    """Tokens that end generation."""
    pad_token_id: int | None = None
    """Token that fills up a batch."""
    encoder: "ModelConfig | None" = None
    """The encoder that this decoder reads."""
    decoder_start_token_id: int | None = None
    """First token of what a decoder with an encoder writes."""
    n_mels: int | None = None
    """Bands of the spectrogram that an encoder of sound hears; None: it reads tokens."""

    def __post_init__(self):
        wrong: list[str] = []
        for each in fields(self):
            if (most := each.metadata.get("most")) is not None:
                value = getattr(self, each.name)
                size, least = (value, 1) if isinstance(value, int) else (len(value), 0)
                if size < least:
                    wrong.append(f"{each.name} must be at least {least}, got {size}")
                if size > most:
                    wrong.append(f"{each.name} must be at most {most:,}, got {size:,}")
        if not wrong and self.n_heads % self.n_kv_heads:
            wrong.append(f"n_heads ({self.n_heads}) must be a multiple of n_kv_heads ({self.n_kv_heads})")
        for part in (self.attention, self.positions, self.mlp, self.residual, self.dropout):
            wrong += part.problems()
        rope, positions = self.positions.rope, self.positions
        if rope and (rope.d_rotary % 2 or not 0 < rope.d_rotary <= self.d_head):
            wrong.append(f"rotary dimensions ({rope.d_rotary}) must be even and at most d_head ({self.d_head})")
        if self.residual.parallel and self.norms.place != "pre":
            wrong.append(f"parallel_residual needs norm_place 'pre', got {self.norms.place!r}")
        if self.causal and (
            self.embedding.width or self.layer_groups or positions.disentangled or positions.distance_bias
        ):
            wrong.append("d_embedding, layer_groups, disentangled and distance_bias need an encoder (causal false)")
        if self.layer_groups is not None and not 1 <= self.layer_groups <= self.n_layers:
            wrong.append(f"layer_groups ({self.layer_groups}) must be from 1 to n_layers ({self.n_layers})")
        if wrong:
            raise InputError("This model cannot be built: " + "; ".join(wrong) + ".")

    @property
    def kind(self) -> Literal["decoder", "encoder", "encoder-decoder"]:
        """What it is the shape of."""
        return "encoder" if not self.causal else "decoder" if self.encoder is None else "encoder-decoder"

    @property
    def output(self) -> Literal["tokens", "classes", "hidden states"]:
        """What a text is answered with: scores of tokens or of classes, or the last residual stream."""
        return "classes" if self.labels else "tokens" if self.head.present else "hidden states"

    def described(self) -> dict[str, Any]:
        """Values of all parts by the names that users see, without those that change nothing in a model of this shape."""
        positions, unused = self.positions, set[str]()
        if positions.rope is not None:
            unused |= {"positions.kind", "positions.offset", "positions.skip_padding"}
        if positions.rope is not None or positions.kind != "relative":
            unused |= {"positions.in_layers"}
            if not positions.distance_bias:
                unused |= {"positions.buckets", "positions.distance"}
        if self.kind != "encoder-decoder":
            unused |= {"embedding.shared", "decoder_start_token_id"}
        if self.kind != "encoder":
            unused |= {"embedding.token_types", "head.activation", "embedding.width", "layer_groups", "positions.distance_bias",
                       "positions.disentangled", "head.pooler_norm"}  # fmt: skip
        if self.output != "tokens":
            unused |= {"logits.tied", "logits.bias", "head.activation"}
        described = {name_for_users(name): _plain(value) for name, value in leaves(self) if name not in unused}
        return described if positions.rope is None else described | {"rope": positions.rope.described()}

    @property
    def hears(self) -> bool:
        """Whether it writes what an encoder of sound has heard."""
        return self.encoder is not None and self.encoder.n_mels is not None

    @property
    def has_output_matrix(self) -> bool:
        """Whether logits come from a matrix of their own, not from the embedding."""
        return self.output == "tokens" and not self.logits.tied

    @property
    def n_blocks(self) -> int:
        """How many blocks have weights of their own."""
        return self.layer_groups or self.n_layers

    def block_of(self, layer: int) -> int:
        """The block that a layer is."""
        return layer if self.layer_groups is None else int(layer / (self.n_layers / self.layer_groups))

    @property
    def n_positions(self) -> int | None:
        """The most tokens that it has positions for; None where only distances count."""
        return None if self.positions.has_relative_bias or self.positions.kind == "none" else self.context_length

    def rope_of(self, layer: int) -> Rope | None:
        """Rotary positions of one layer."""
        positions = self.positions
        if layer in positions.unrotated_layers:
            return None
        is_local = positions.local_rope is not None and layer in self.attention.sliding_layers
        return positions.local_rope if is_local else positions.rope

    def attention_scale(self, layer: int) -> float:
        """The factor on query-key products in one layer."""
        if self.attention.score_multiplier is not None:
            scale = self.attention.score_multiplier
        else:
            scale = self.d_head**-0.5 if self.attention.scale_by_head else 1.0
        return scale / (layer + 1) if self.attention.scale_by_layer else scale


PARTS: dict[str, Any] = {
    "attention": AttentionShape, "positions": PositionShape, "mlp": FeedForwardShape, "norms": NormShape, "residual": ResidualShape,
    "embedding": EmbeddingShape, "logits": LogitShape, "head": HeadShape, "dropout": DropoutRates,
}  # fmt: skip
"""The parts of a shape, by the fields of `ModelConfig` that hold them."""
_NAMES_FOR_USERS = {
    "attention.output_bias": "attention_output_bias", "positions.kind": "positions", "positions.offset": "position_offset",
    "positions.buckets": "relative_buckets", "positions.distance": "relative_distance", "positions.in_layers": "relative_in_layers",
    "mlp.gated": "gated_mlp", "mlp.bias": "mlp_bias", "norms.kind": "norm", "norms.bias": "norm_bias", "norms.eps": "norm_eps",
    "norms.place": "norm_place", "norms.first": "first_norm", "norms.final": "final_norm", "norms.embedding": "embedding_norm",
    "residual.parallel": "parallel_residual", "residual.multiplier": "residual_multiplier", "embedding.scaled": "scale_embedding",
    "embedding.multiplier": "embedding_multiplier", "embedding.width": "d_embedding", "embedding.shared": "share_embedding",
    "logits.tied": "tie_embeddings", "logits.bias": "output_bias", "logits.scaled": "scale_output",
    "logits.multiplier": "logit_multiplier", "logits.cap": "logit_cap", "head.present": "has_head",
    "head.activation": "head_activation", "head.bias": "head_bias", "dropout.embedding": "embedding_dropout",
    "dropout.attention": "attention_dropout", "dropout.residual": "residual_dropout",
}  # fmt: skip


def name_for_users(name: str) -> str:
    """The name by which users see a value of a part, `wenloom info --json` among others: one word, without its part.

    >>> name_for_users("norms.eps"), name_for_users("attention.qkv_bias"), name_for_users("n_layers")
    ('norm_eps', 'qkv_bias', 'n_layers')
    """
    return _NAMES_FOR_USERS.get(name, name.rpartition(".")[2])


def leaves(config: ModelConfig) -> Iterator[tuple[str, Any]]:
    """Every value of a shape, those of its parts by names as `attention.qkv_bias`."""
    for each in fields(config):
        value = getattr(config, each.name)
        if each.name in PARTS:
            yield from ((f"{each.name}.{inner.name}", getattr(value, inner.name)) for inner in fields(value))
        else:
            yield each.name, value


def _plain(value: Any) -> Any:
    """A value that has several of its own, as a dictionary."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def joined_shapes(*shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Values of `ModelConfig`, of which the later count more; of parts value by value.

    >>> joined_shapes({"n_layers": 2, "mlp": {"bias": True}}, {"mlp": {"gated": False}})
    {'n_layers': 2, 'mlp': {'bias': True, 'gated': False}}
    """
    made: dict[str, Any] = {}
    for shape in shapes:
        for name, value in shape.items():
            made[name] = {**made.get(name, {}), **value} if name in PARTS else value
    return made


def config_of(*shapes: Mapping[str, Any], **own: Any) -> ModelConfig:
    """A shape of what several say, of parts in dictionaries: `config_of(PLAIN_BLOCKS, ..., norms={"eps": 1e-5})`."""
    made = joined_shapes(*shapes, own)
    return ModelConfig(**made | {name: PARTS[name](**made[name]) for name in PARTS if name in made})


def reshaped(config: ModelConfig, *shapes: Mapping[str, Any], **own: Any) -> ModelConfig:
    """A shape with other values, of parts in dictionaries: `reshaped(config, n_layers=2, mlp={"gated": False})`."""
    made = joined_shapes(*shapes, own)
    parts = {name: replace(getattr(config, name), **made[name]) for name in PARTS if name in made}
    return replace(config, **made | parts)


def limit(name: str) -> int:
    """The most that a size of `ModelConfig` may be."""
    return next(each.metadata["most"] for each in fields(ModelConfig) if each.name == name)
