"""The shape of a model, in the field's names, independent of any file format."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from wenloom.core.errors import InputError
from wenloom.model.parts import Activation, Disentangled, Experts, Rope

PLAIN_BLOCKS: dict[str, Any] = {
    "norm": "layernorm", "gated_mlp": False, "qkv_bias": True, "attention_output_bias": True, "mlp_bias": True,
}  # fmt: skip
"""What models of the kinds of GPT-2, BERT and BART share: LayerNorm, biases, a feed-forward layer without gate."""
POST_NORM: dict[str, Any] = {**PLAIN_BLOCKS, "norm_place": "post", "final_norm": False}
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
    rope: Rope | None = None
    """Rotary positions; None means those of `positions`."""
    local_rope: Rope | None = None
    """Rotary positions of the layers with a sliding window, where they are others than `rope` (Gemma 3)."""
    unrotated_layers: tuple[int, ...] = ()
    """Indices of the layers without positions though there is `rope` (NoPE, SmolLM3)."""
    positions: Literal["learned", "sinusoidal", "fairseq_sinusoidal", "relative", "alibi", "none"] = "learned"
    """Without rope: a vector per position that is learned, or made of sines (Vaswani et al. 2017, section 3.5; those of
    fairseq have other wavelengths), or a bias per head on attention scores by distance, learned (T5) or fixed (ALiBi,
    Press et al. 2022); or none, where attention itself tells distances apart (DeBERTa)."""
    position_offset: int = 0
    """Rows of the position table that come before position 0."""
    skip_padding: bool = False
    """Count positions over tokens that are no padding."""
    relative_buckets: int = 32
    """relative: how many distances are told apart."""
    relative_distance: int = 128
    """relative: distances from here on are one."""
    relative_in_layers: bool = False
    """relative: each layer has biases of its own (UMT5)."""
    distance_bias: bool = False
    """The biases of `relative` come beside the other positions (MPNet)."""
    disentangled: Disentangled | None = None
    """Attention by content and distance, each with the other (DeBERTa); beside it there may be no positions at all."""
    norm: Literal["layernorm", "rmsnorm"] = "rmsnorm"
    """Normalisation, of one kind everywhere."""
    norm_bias: bool = True
    """layernorm: add a bias."""
    norm_place: Literal["pre", "post", "inner", "both"] = "pre"
    """Where a sub-layer f is normalised: x + f(norm(x)); post: norm(x + f(x)), as in the original Transformer; inner:
    x + norm(f(x)) (OLMo 2); both: x + norm(f(norm(x))) (Gemma 2)."""
    first_norm: bool = True
    """pre: normalise what the attention of the first block reads; the embeddings may be normalised already (ModernBERT)."""
    final_norm: bool = True
    """Normalise after the last block."""
    embedding_norm: bool = False
    """Normalise the embeddings."""
    scale_embedding: bool = False
    """Multiply token embeddings by sqrt(d_model)."""
    embedding_multiplier: float = 1.0
    """Multiply token embeddings by this (Granite)."""
    d_embedding: int | None = None
    """Width of the vectors of tokens, positions and types, which a linear layer brings to d_model (ELECTRA, ALBERT); None:
    d_model, and no such layer."""
    token_types: int = 0
    """Rows of the table of token types (which of two texts a token belongs to)."""
    layer_groups: int | None = None
    """How many blocks there are, where neighbouring layers are one and the same (ALBERT); None: each layer is its own."""
    causal: bool = True
    """A token sees those before it only."""
    norm_eps: float = 1e-6
    """Added to the variance (or mean square)."""
    activation: Activation = "silu"
    """Non-linearity of the feed-forward layer (`feedforward.ACTIVATIONS` has the formulas)."""
    gated_mlp: bool = True
    """down(activation(gate(x)) * up(x)) instead of down(activation(up(x)))."""
    experts: Experts | None = None
    """Mixtures of experts in the place of feed-forward layers."""
    qkv_bias: bool = False
    """Biases on the query, key and value projections."""
    key_bias: bool = True
    """qkv_bias: on keys too (Whisper's have none)."""
    attention_output_bias: bool = False
    """Bias on the attention output projection."""
    mlp_bias: bool = False
    """Biases in the feed-forward layer."""
    qk_norm: bool = False
    """RMSNorm on every query and key head before rotation."""
    qk_norm_whole: bool = False
    """qk_norm: over all heads at once instead (OLMo 2)."""
    scale_by_head: bool = True
    """Divide attention scores by sqrt(d_head)."""
    scale_by_layer: bool = False
    """Divide attention scores of layer i by i + 1 as well (a GPT-2 option)."""
    score_multiplier: float | None = None
    """Multiply attention scores by this instead of 1 / sqrt(d_head)."""
    score_cap: float | None = None
    """Bound attention scores softly: s becomes cap * tanh(s / cap) (Gemma 2)."""
    sinks: bool = False
    """A learned score per head stands beside those of the keys and takes its share of the attention (gpt-oss)."""
    sliding_window: int | None = None
    """In the layers of `sliding_layers`, a token sees itself and this many minus one before it; in an encoder also as many
    behind it."""
    sliding_layers: tuple[int, ...] = ()
    """Indices of the layers with a sliding window."""
    parallel_residual: bool = False
    """x + attention(norm1(x)) + mlp(norm2(x)) instead of one after the other."""
    shared_norm: bool = False
    """parallel_residual: norm1 and norm2 are one (GPT-J)."""
    residual_multiplier: float = 1.0
    """Multiply what each sub-layer adds to the residual stream by this (Granite)."""
    tie_embeddings: bool = True
    """Use the embedding matrix as output matrix too."""
    head_activation: Activation | None = None
    """A dense layer, this non-linearity and a norm come before the output matrix (BERT)."""
    head_bias: bool = True
    """That dense layer, and the one before classes, have a bias."""
    has_head: bool = True
    """Whether an encoder gives tokens or classes; without a head it gives its last residual stream."""
    output_bias: bool = False
    """Bias on the logits."""
    scale_output: bool = False
    """Divide the last stream by sqrt(d_model) before the output matrix (T5)."""
    logit_multiplier: float = 1.0
    """Multiply the last stream by this before the output matrix (Granite, Cohere)."""
    logit_cap: float | None = None
    """Bound logits softly: z becomes cap * tanh(z / cap) (Gemma 2)."""
    labels: tuple[str, ...] = field(default=(), metadata={"most": 100_000})
    """Classes of a model that classifies texts instead of predicting tokens."""
    pooler: Literal["tanh", "relu", "gelu"] | None = None
    """Activation of the dense layer before the classes; None: there is none."""
    pooler_norm: bool = False
    """A norm comes behind that layer (ModernBERT)."""
    embedding_dropout: float = 0.0
    """Dropout after the embedding."""
    attention_dropout: float = 0.0
    """Dropout on attention weights."""
    residual_dropout: float = 0.0
    """Dropout on what each sub-layer adds to the residual stream."""
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
    n_mels: int | None = None
    """Bands of the spectrogram that an encoder of sound hears; None: it reads tokens."""
    share_embedding: bool = True
    """Encoder and decoder have one token embedding."""
    decoder_start_token_id: int | None = None
    """First token of what a decoder with an encoder writes."""

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
        if self.activation not in get_args(Activation):
            wrong.append(f"activation {self.activation!r} is not one of {', '.join(get_args(Activation))}")
        if self.rope and (self.rope.d_rotary % 2 or not 0 < self.rope.d_rotary <= self.d_head):
            wrong.append(f"rotary dimensions ({self.rope.d_rotary}) must be even and at most d_head ({self.d_head})")
        if self.local_rope and (self.rope is None or self.local_rope.depends_on_length
                                or self.local_rope.d_rotary != self.rope.d_rotary):  # fmt: skip
            wrong.append("local_rope needs a rope that rotates as many dimensions, and a kind that no length changes")
        if self.sliding_layers and not self.sliding_window:
            wrong.append("sliding_layers needs a sliding_window of at least 1")
        if self.shared_norm and not self.parallel_residual:
            wrong.append("shared_norm needs parallel_residual")
        if self.parallel_residual and self.norm_place != "pre":
            wrong.append(f"parallel_residual needs norm_place 'pre', got {self.norm_place!r}")
        if self.experts is not None and not 1 <= self.experts.active <= self.experts.count:
            wrong.append(f"active experts ({self.experts.active}) must be from 1 to all ({self.experts.count})")
        if self.causal and (self.d_embedding or self.layer_groups or self.disentangled or self.distance_bias):
            wrong.append("d_embedding, layer_groups, disentangled and distance_bias need an encoder (causal false)")
        if self.layer_groups is not None and not 1 <= self.layer_groups <= self.n_layers:
            wrong.append(f"layer_groups ({self.layer_groups}) must be from 1 to n_layers ({self.n_layers})")
        if self.qk_norm_whole and not self.qk_norm:
            wrong.append("qk_norm_whole needs qk_norm")
        for name in ("embedding_dropout", "attention_dropout", "residual_dropout"):
            if not 0 <= getattr(self, name) < 1:
                wrong.append(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if wrong:
            raise InputError("This model cannot be built: " + "; ".join(wrong) + ".")

    @property
    def kind(self) -> Literal["decoder", "encoder", "encoder-decoder"]:
        """What it is the shape of."""
        return "encoder" if not self.causal else "decoder" if self.encoder is None else "encoder-decoder"

    @property
    def output(self) -> Literal["tokens", "classes", "hidden states"]:
        """What a text is answered with: scores of tokens or of classes, or the last residual stream."""
        return "classes" if self.labels else "tokens" if self.has_head else "hidden states"

    def described(self) -> dict[str, Any]:
        """Values by field, without fields that change nothing in a model of this shape."""
        unused: set[str] = set()
        if self.rope is not None:
            unused |= {"positions", "position_offset", "skip_padding"}
        if self.rope is not None or self.positions != "relative":
            unused |= {"relative_in_layers"}
            if not self.distance_bias:
                unused |= {"relative_buckets", "relative_distance"}
        if self.kind != "encoder-decoder":
            unused |= {"share_embedding", "decoder_start_token_id"}
        if self.kind != "encoder":
            unused |= {"token_types", "head_activation", "d_embedding", "layer_groups", "distance_bias", "disentangled",
                       "pooler_norm"}  # fmt: skip
        if self.output != "tokens":
            unused |= {"tie_embeddings", "output_bias", "head_activation"}
        shape = {name: value for name, value in asdict(self).items() if name not in unused}
        return shape if self.rope is None else shape | {"rope": self.rope.described()}

    @property
    def hears(self) -> bool:
        """Whether it writes what an encoder of sound has heard."""
        return self.encoder is not None and self.encoder.n_mels is not None

    @property
    def has_output_matrix(self) -> bool:
        """Whether logits come from a matrix of their own, not from the embedding."""
        return self.output == "tokens" and not self.tie_embeddings

    @property
    def has_relative_bias(self) -> bool:
        """Whether a bias by distance takes the place of positions (T5, ALiBi)."""
        return self.rope is None and self.positions in ("relative", "alibi")

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
        return None if self.has_relative_bias or self.positions == "none" else self.context_length

    @property
    def depends_on_length(self) -> bool:
        """Whether the angles of early tokens change as the text grows."""
        return self.rope is not None and self.rope.depends_on_length

    @property
    def d_rotary(self) -> int:
        """Dimensions of a head that are rotated."""
        return 0 if self.rope is None else self.rope.d_rotary

    @property
    def drops(self) -> bool:
        """Whether training drops anything."""
        return any((self.embedding_dropout, self.attention_dropout, self.residual_dropout))

    def window(self, layer: int) -> int | None:
        """How many tokens a token of one layer sees, itself included; None where it sees all."""
        return self.sliding_window if layer in self.sliding_layers else None

    def experts_of(self, layer: int) -> Experts | None:
        """The mixture of experts of one layer; None where it has one feed-forward layer."""
        return None if self.experts is None or layer in self.experts.dense_layers else self.experts

    def rope_of(self, layer: int) -> Rope | None:
        """Rotary positions of one layer."""
        if layer in self.unrotated_layers:
            return None
        return self.local_rope if self.local_rope is not None and layer in self.sliding_layers else self.rope

    def attention_scale(self, layer: int) -> float:
        """The factor on query-key products in one layer."""
        if self.score_multiplier is not None:
            scale = self.score_multiplier
        else:
            scale = self.d_head**-0.5 if self.scale_by_head else 1.0
        return scale / (layer + 1) if self.scale_by_layer else scale


def limit(name: str) -> int:
    """The most that a size of `ModelConfig` may be."""
    return next(each.metadata["most"] for each in fields(ModelConfig) if each.name == name)
