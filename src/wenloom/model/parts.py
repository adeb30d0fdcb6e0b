"""The parts of a model's shape, each with the values that concern it alone."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "silu", "relu", "relu_squared", "tanh"]
RopeKind = Literal["default", "linear", "dynamic", "yarn", "longrope", "llama3"]


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding (RoFormer, Su et al. 2021) and how it is stretched to long contexts."""

    d_rotary: int
    """How many of a head's dimensions are rotated; the rest pass unrotated (partial rotary)."""
    theta: float = 10_000.0
    """Base of the geometric series of wavelengths."""
    kind: RopeKind = "default"
    """How frequencies are scaled; `position.py` has the formula of each kind."""
    factor: float | None = None
    """Context stretch; for yarn and longrope None means context_length / original_context_length."""
    original_context_length: int | None = None
    """Context length before stretching; of `dynamic` the length from which on frequencies change."""
    attention_factor: float | None = None
    """Multiplier of the rotated vectors (yarn, longrope); None derives it from `factor`."""
    beta_fast: float = 32.0
    """yarn: dimensions that turn more often than this in the original context are kept."""
    beta_slow: float = 1.0
    """yarn: dimensions that turn less often than this are interpolated."""
    mscale: float | None = None
    """yarn: numerator weight of the derived attention factor."""
    mscale_all_dim: float | None = None
    """yarn: denominator weight of the derived attention factor."""
    truncate: bool = True
    """yarn: round the correction range to whole dimensions."""
    short_factor: tuple[float, ...] | None = None
    """longrope: divisor of every frequency up to the original context length."""
    long_factor: tuple[float, ...] | None = None
    """longrope: divisor of every frequency beyond it."""
    low_freq_factor: float | None = None
    """llama3: wavelengths above original_context_length / this are interpolated."""
    high_freq_factor: float | None = None
    """llama3: wavelengths below original_context_length / this are kept."""

    @property
    def depends_on_length(self) -> bool:
        """Whether the frequencies of early tokens change as the text grows."""
        return self.kind in ("dynamic", "longrope")

    def described(self) -> dict[str, Any]:
        """Values by field, without those of yarn where it is of another kind."""
        of_yarn = ("beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate")
        return {name: value for name, value in asdict(self).items() if self.kind == "yarn" or name not in of_yarn}


@dataclass(frozen=True)
class Experts:
    """Several feed-forward layers in the place of one, of which each token passes a few (Shazeer et al. 2017, eq. 1)."""

    count: int
    """How many there are in a layer."""
    active: int
    """How many of them a token passes: those to which the router gives the highest scores."""
    d_mlp: int
    """Hidden width of each."""
    normalised: bool = True
    """Shares are the softmax of the scores of the active experts, so that they sum to 1 (Mixtral); otherwise of all (OLMoE)."""
    dense_layers: tuple[int, ...] = ()
    """Indices of the layers with one feed-forward layer, `ModelConfig.d_mlp` wide, instead."""
    router_bias: bool = False
    """Add a bias to the router's scores."""
    gate_limit: float | None = None
    """down((up + 1) * gate * sigmoid(`gate_slope` * gate)) with gate at most this, up within plus and minus this (gpt-oss)."""
    gate_slope: float = 1.702
    """See `gate_limit`."""


@dataclass(frozen=True)
class Disentangled:
    """Scores by what tokens are and by how far they stand apart, each with the other (DeBERTa, He et al. 2021, eq. 4)."""

    buckets: int
    """How many distances to one side are told apart, far ones in ever wider ranges; 0: each up to `distance`."""
    distance: int
    """Distances from here on are one."""
    content_to_position: bool = True
    """Add what a query finds in the vectors of distances."""
    position_to_content: bool = True
    """Add what a distance asks of a key."""
    shared: bool = True
    """Vectors of distances go through the projections of queries and keys, not through some of their own."""
    norm: bool = True
    """Normalise the vectors of distances."""

    @property
    def span(self) -> int:
        """How many vectors there are to one side."""
        return self.buckets or self.distance


@dataclass(frozen=True)
class AttentionShape:
    """What queries, keys and values are made of, and what becomes of their scores."""

    qkv_bias: bool = False
    """Biases on the query, key and value projections."""
    key_bias: bool = True
    """qkv_bias: on keys too (Whisper's have none)."""
    output_bias: bool = False
    """Bias on the output projection."""
    qk_norm: bool = False
    """RMSNorm on every query and key head before rotation."""
    qk_norm_whole: bool = False
    """qk_norm: over all heads at once instead (OLMo 2)."""
    scale_by_head: bool = True
    """Divide scores by sqrt(d_head)."""
    scale_by_layer: bool = False
    """Divide scores of layer i by i + 1 as well (a GPT-2 option)."""
    score_multiplier: float | None = None
    """Multiply scores by this instead of 1 / sqrt(d_head)."""
    score_cap: float | None = None
    """Bound scores softly: s becomes cap * tanh(s / cap) (Gemma 2)."""
    sinks: bool = False
    """A learned score per head stands beside those of the keys and takes its share of the attention (gpt-oss)."""
    sliding_window: int | None = None
    """In the layers of `sliding_layers`, a token sees itself and this many minus one before it; in an encoder also as many
    behind it."""
    sliding_layers: tuple[int, ...] = ()
    """Indices of the layers with a sliding window."""

    def window(self, layer: int) -> int | None:
        """How many tokens a token of one layer sees, itself included; None where it sees all."""
        return self.sliding_window if layer in self.sliding_layers else None

    def problems(self) -> list[str]:
        """What does not fit together."""
        wrong: list[str] = []
        if self.sliding_layers and not self.sliding_window:
            wrong.append("sliding_layers needs a sliding_window of at least 1")
        if self.qk_norm_whole and not self.qk_norm:
            wrong.append("qk_norm_whole needs qk_norm")
        return wrong


@dataclass(frozen=True)
class PositionShape:
    """How a model tells places apart."""

    rope: Rope | None = None
    """Rotary positions; None means those of `kind`."""
    local_rope: Rope | None = None
    """Rotary positions of the layers with a sliding window, where they are others than `rope` (Gemma 3)."""
    unrotated_layers: tuple[int, ...] = ()
    """Indices of the layers without positions though there is `rope` (NoPE, SmolLM3)."""
    kind: Literal["learned", "sinusoidal", "fairseq_sinusoidal", "relative", "alibi", "none"] = "learned"
    """Without rope: a vector per position that is learned, or made of sines (Vaswani et al. 2017, section 3.5; those of
    fairseq have other wavelengths), or a bias per head on attention scores by distance, learned (T5) or fixed (ALiBi,
    Press et al. 2022); or none, where attention itself tells distances apart (DeBERTa)."""
    offset: int = 0
    """Rows of the position table that come before position 0."""
    skip_padding: bool = False
    """Count positions over tokens that are no padding."""
    buckets: int = 32
    """relative: how many distances are told apart."""
    distance: int = 128
    """relative: distances from here on are one."""
    in_layers: bool = False
    """relative: each layer has biases of its own (UMT5)."""
    distance_bias: bool = False
    """The biases of `relative` come beside the other positions (MPNet)."""
    disentangled: Disentangled | None = None
    """Attention by content and distance, each with the other (DeBERTa); beside it there may be no positions at all."""

    @property
    def has_relative_bias(self) -> bool:
        """Whether a bias by distance takes the place of positions (T5, ALiBi)."""
        return self.rope is None and self.kind in ("relative", "alibi")

    @property
    def depends_on_length(self) -> bool:
        """Whether the angles of early tokens change as the text grows."""
        return self.rope is not None and self.rope.depends_on_length

    @property
    def d_rotary(self) -> int:
        """Dimensions of a head that are rotated."""
        return 0 if self.rope is None else self.rope.d_rotary

    def problems(self) -> list[str]:
        """What does not fit together."""
        if self.local_rope and (self.rope is None or self.local_rope.depends_on_length
                                or self.local_rope.d_rotary != self.rope.d_rotary):  # fmt: skip
            return ["local_rope needs a rope that rotates as many dimensions, and a kind that no length changes"]
        return []


@dataclass(frozen=True)
class FeedForwardShape:
    """What stands behind attention; its width is `ModelConfig.d_mlp`."""

    activation: Activation = "silu"
    """Non-linearity (`feedforward.ACTIVATIONS` has the formulas)."""
    gated: bool = True
    """down(activation(gate(x)) * up(x)) instead of down(activation(up(x)))."""
    bias: bool = False
    """Biases in the feed-forward layer."""
    experts: Experts | None = None
    """Mixtures of experts in the place of feed-forward layers."""

    def experts_of(self, layer: int) -> Experts | None:
        """The mixture of experts of one layer; None where it has one feed-forward layer."""
        return None if self.experts is None or layer in self.experts.dense_layers else self.experts

    def problems(self) -> list[str]:
        """What does not fit together."""
        wrong: list[str] = []
        if self.activation not in get_args(Activation):
            wrong.append(f"activation {self.activation!r} is not one of {', '.join(get_args(Activation))}")
        if self.experts is not None and not 1 <= self.experts.active <= self.experts.count:
            wrong.append(f"active experts ({self.experts.active}) must be from 1 to all ({self.experts.count})")
        return wrong


@dataclass(frozen=True)
class NormShape:
    """What is normalised, and how."""

    kind: Literal["layernorm", "rmsnorm"] = "rmsnorm"
    """Normalisation, of one kind everywhere."""
    bias: bool = True
    """layernorm: add a bias."""
    eps: float = 1e-6
    """Added to the variance (or mean square)."""
    place: Literal["pre", "post", "inner", "both"] = "pre"
    """Where a sub-layer f is normalised: x + f(norm(x)); post: norm(x + f(x)), as in the original Transformer; inner:
    x + norm(f(x)) (OLMo 2); both: x + norm(f(norm(x))) (Gemma 2)."""
    first: bool = True
    """pre: normalise what the attention of the first block reads; the embeddings may be normalised already (ModernBERT)."""
    final: bool = True
    """Normalise after the last block."""
    embedding: bool = False
    """Normalise the embeddings."""


@dataclass(frozen=True)
class ResidualShape:
    """How sub-layers are added to the residual stream."""

    parallel: bool = False
    """x + attention(norm1(x)) + mlp(norm2(x)) instead of one after the other."""
    shared_norm: bool = False
    """parallel: norm1 and norm2 are one (GPT-J)."""
    multiplier: float = 1.0
    """Multiply what each sub-layer adds by this (Granite)."""

    def problems(self) -> list[str]:
        """What does not fit together."""
        return ["shared_norm needs parallel_residual"] if self.shared_norm and not self.parallel else []


@dataclass(frozen=True)
class EmbeddingShape:
    """What stands at a place before the first block."""

    scaled: bool = False
    """Multiply token embeddings by sqrt(d_model)."""
    multiplier: float = 1.0
    """Multiply token embeddings by this (Granite)."""
    width: int | None = None
    """Width of the vectors of tokens, positions and types, which a linear layer brings to d_model (ELECTRA, ALBERT); None:
    d_model, and no such layer."""
    token_types: int = 0
    """Rows of the table of token types (which of two texts a token belongs to)."""
    shared: bool = True
    """Encoder and decoder have one token embedding."""


@dataclass(frozen=True)
class LogitShape:
    """From the last residual stream to scores of tokens."""

    tied: bool = True
    """Use the embedding matrix as output matrix too."""
    bias: bool = False
    """Bias on the logits."""
    scaled: bool = False
    """Divide the last stream by sqrt(d_model) before the output matrix (T5)."""
    multiplier: float = 1.0
    """Multiply the last stream by this before the output matrix (Granite, Cohere)."""
    cap: float | None = None
    """Bound logits softly: z becomes cap * tanh(z / cap) (Gemma 2)."""


@dataclass(frozen=True)
class HeadShape:
    """What an encoder has over its last residual stream, and any model that classifies before the classes."""

    present: bool = True
    """Whether an encoder gives tokens or classes; without a head it gives its last residual stream."""
    activation: Activation | None = None
    """A dense layer, this non-linearity and a norm come before the output matrix (BERT)."""
    bias: bool = True
    """That dense layer, and the one before classes, have a bias."""
    pooler: Literal["tanh", "relu", "gelu"] | None = None
    """Activation of the dense layer before the classes; None: there is none."""
    pooler_norm: bool = False
    """A norm comes behind that layer (ModernBERT)."""


@dataclass(frozen=True)
class DropoutRates:
    """What training drops, from 0 on and less than 1."""

    embedding: float = 0.0
    """After the embedding."""
    attention: float = 0.0
    """On attention weights."""
    residual: float = 0.0
    """On what each sub-layer adds to the residual stream."""

    @property
    def drops(self) -> bool:
        """Whether training drops anything."""
        return any((self.embedding, self.attention, self.residual))

    def problems(self) -> list[str]:
        """What does not fit together."""
        rates = {each.name: getattr(self, each.name) for each in fields(self)}
        return [f"{name}_dropout must be in [0, 1), got {rate}" for name, rate in rates.items() if not 0 <= rate < 1]
