"""Parts of a model's shape that have several values of their own."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

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
