"""Positions: rotary and its stretched forms, sines, and biases by distance.

Of rotary positions:

A pair of dimensions (j, j + r/2) of a head is turned by the angle position * frequency_j with
frequency_j = theta^(-2j/r), r = d_rotary (RoFormer, Su et al. 2021, eq. 15 and 34). To serve contexts
longer than those trained on, the frequencies are changed; each kind below names its source.
"""

import math

import torch
from torch import Tensor, nn

from wenloom.model.config import ModelConfig
from wenloom.model.embedding import embedding
from wenloom.model.norm import make_norm
from wenloom.model.parts import Rope


def _base_frequencies(rope: Rope, theta: float | None = None) -> Tensor:
    """theta^(-2j/r) for j = 0 .. r/2 - 1, float32."""
    exponents = torch.arange(0, rope.d_rotary, 2, dtype=torch.float32) / rope.d_rotary
    return 1.0 / ((theta or rope.theta) ** exponents)


def _linear(rope: Rope) -> Tensor:
    """Position interpolation (Chen et al. 2023): every position is divided by `factor`."""
    assert rope.factor is not None
    return _base_frequencies(rope) / rope.factor


def _dynamic(rope: Rope, length: int, context_length: int) -> Tensor:
    """Dynamic NTK: the base grows with the length of the text beyond the trained context.

    theta' = theta * (s * length/context - (s - 1))^(r / (r - 2)), s = factor (YaRN paper, appendix on
    "dynamic scaling"; first described by bloc97 and emozilla, 2023).
    """
    assert rope.factor is not None
    original = rope.original_context_length or context_length
    stretch = rope.factor * max(length, original) / original - (rope.factor - 1)
    return _base_frequencies(rope, rope.theta * stretch ** (rope.d_rotary / (rope.d_rotary - 2)))


def _yarn_factor(rope: Rope, context_length: int) -> float:
    return rope.factor if rope.factor is not None else context_length / (rope.original_context_length or context_length)


def _yarn(rope: Rope, context_length: int) -> Tensor:
    """YaRN (Peng et al. 2023, section 3.2): interpolate slow dimensions, keep fast ones, blend between."""
    original = rope.original_context_length or context_length

    def dimension_that_turns(rotations: float) -> float:
        return rope.d_rotary * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = dimension_that_turns(rope.beta_fast), dimension_that_turns(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.d_rotary - 1)
    if low == high:
        high += 0.001  # keeps the ramp finite
    ramp = ((torch.arange(rope.d_rotary // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    kept = _base_frequencies(rope)
    return kept / _yarn_factor(rope, context_length) * ramp + kept * (1 - ramp)


def _llama3(rope: Rope) -> Tensor:
    """Llama 3.1: long wavelengths are divided by `factor`, short ones kept, a linear blend between."""
    assert rope.factor and rope.low_freq_factor and rope.high_freq_factor and rope.original_context_length
    frequencies = _base_frequencies(rope)
    turns_in_context = rope.original_context_length * frequencies / (2 * math.pi)
    kept = ((turns_in_context - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)).clamp(0, 1)
    return frequencies / rope.factor * (1 - kept) + frequencies * kept


def _longrope(rope: Rope, length: int) -> Tensor:
    """LongRoPE (Ding et al. 2024): a searched divisor per frequency, one set for short, one for long texts."""
    assert rope.original_context_length is not None
    divisors = rope.long_factor if length > rope.original_context_length else rope.short_factor
    return _base_frequencies(rope) / torch.tensor(divisors)


def frequencies(rope: Rope, length: int, context_length: int) -> Tensor:
    """Angle per position for every rotated pair.

    Args:
        rope: the rotary settings.
        length: tokens of the text so far (matters to `dynamic` and `longrope`).
        context_length: the model's context.

    Returns:
        float32 tensor of shape (d_rotary / 2,), radians per position.
    """
    match rope.kind:
        case "default":
            return _base_frequencies(rope)
        case "linear":
            return _linear(rope)
        case "dynamic":
            return _dynamic(rope, length, context_length)
        case "yarn":
            return _yarn(rope, context_length)
        case "llama3":
            return _llama3(rope)
        case "longrope":
            return _longrope(rope, length)


def attention_factor(rope: Rope, context_length: int) -> float:
    """The multiplier of cosines and sines: 1 but for yarn (paper eq. 22) and longrope (paper section 3.3)."""
    if rope.kind not in ("yarn", "longrope"):
        return 1.0
    if rope.attention_factor is not None:
        return rope.attention_factor
    factor = _yarn_factor(rope, context_length)
    if factor <= 1:
        return 1.0
    if rope.kind == "longrope":
        return math.sqrt(1 + math.log(factor) / math.log(rope.original_context_length or context_length))
    if rope.mscale and rope.mscale_all_dim:
        return (0.1 * rope.mscale * math.log(factor) + 1) / (0.1 * rope.mscale_all_dim * math.log(factor) + 1)
    return 0.1 * math.log(factor) + 1


def frequency_epoch(config: ModelConfig, length: int) -> int:
    """A number that changes exactly when growing to `length` tokens changes the rotary frequencies.

    Keys cached under another epoch were rotated by other angles and must be computed again.
    """
    rope = config.positions.rope
    if rope is None or not rope.depends_on_length:
        return 0
    original = rope.original_context_length or config.context_length
    return int(length > original) if rope.kind == "longrope" else max(0, length - original)


def rotary_table(
    config: ModelConfig, positions: Tensor, length: int, rope: Rope | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines for `rotate`.

    Args:
        config: of a model with rotary positions.
        positions: integer positions, any shape (..., T).
        length: tokens of the text, see `frequencies`.
        rope: those of some layers; None: `config.positions.rope`.

    Returns:
        Two float32 tensors of shape (..., T, d_rotary); the first half of the sines is negated, so that
        rotation is x * cos + roll(x) * sin.
    """
    rope, context_length = rope or config.positions.rope, config.context_length
    assert rope is not None
    angles = positions[..., None].float() * frequencies(rope, length, context_length).to(positions.device)
    scale = attention_factor(rope, context_length)
    cos, sin = angles.cos() * scale, angles.sin() * scale
    return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)


def rotate(x_BHTK: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the first d_rotary dimensions of every head by its position's angles; the rest pass."""
    d_rotary = cos.shape[-1]
    if d_rotary == x_BHTK.shape[-1]:
        return torch.addcmul(x_BHTK * cos, x_BHTK.roll(d_rotary // 2, -1), sin)
    turned, passed = x_BHTK[..., :d_rotary], x_BHTK[..., d_rotary:]
    return torch.cat((rotate(turned, cos, sin), passed), -1)


class SinusoidalPositions(nn.Module):
    """sin(p / 10000^(2i/D)) in the first half of the D entries of position p, cos in the second.

    Vaswani et al. 2017, section 3.5, in the order of Marian. Nothing is learned.

    Args:
        of_fairseq: 10000^(i / (D/2 - 1)) in place of 10000^(2i/D), and 0 in the last entry of an odd D.
    """

    def __init__(self, n_positions: int, d_model: int, of_fairseq: bool = False):
        super().__init__()
        self.n_positions, self.d_model, self.of_fairseq = n_positions, d_model, of_fairseq

    def forward(self, positions: Tensor) -> Tensor:
        half = self.d_model // 2 if self.of_fairseq else (self.d_model + 1) // 2
        step = 1 / max(1, half - 1) if self.of_fairseq else 2 / self.d_model
        exponents = torch.arange(half, device=positions.device, dtype=torch.float64) * step
        angles = positions[..., None].double() / 10_000**exponents
        waves = torch.cat((angles.sin(), angles[..., : self.d_model - half].cos()), -1).float()
        return nn.functional.pad(waves, (0, self.d_model - waves.shape[-1]))


class RelativeBias(nn.Module):
    """A number per head on every attention score, by the distance of key and query (T5, Raffel et al. 2020, 2.1).

    Half of the buckets hold one distance each, the others ever wider ranges up to `relative_distance`. An encoder
    uses half of them for keys after the query.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.both_ways = not config.causal
        self.n_buckets, self.longest = config.positions.buckets, config.positions.distance
        self.table = embedding(config.positions.buckets, config.n_heads)

    def forward(self, positions_T: Tensor, n_keys: int) -> Tensor:
        """Shape (heads, T, n_keys), for queries at these positions."""
        ahead = torch.arange(n_keys, device=positions_T.device) - positions_T[:, None]
        n_buckets = self.n_buckets // 2 if self.both_ways else self.n_buckets
        distance = ahead.abs() if self.both_ways else (-ahead).clamp(min=0)
        exact = n_buckets // 2
        far = (distance.float().clamp(min=1) / exact).log() / math.log(self.longest / exact) * (n_buckets - exact)
        bucket = torch.where(distance < exact, distance, (exact + far.long()).clamp(max=n_buckets - 1))
        if self.both_ways:
            bucket = bucket + (ahead > 0) * n_buckets
        return self.table(bucket).permute(2, 0, 1)


class DistanceVectors(nn.Module):
    """A vector for every distance of a query from a key, up to `Disentangled.span` to each side (DeBERTa, He et al. 2021).

    From half of the buckets on a bucket holds a range of distances, ever wider up to `Disentangled.distance` (He et al. 2023,
    DeBERTa V3, as in its code).
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        assert config.positions.disentangled is not None
        self.kind = config.positions.disentangled
        self.table = embedding(2 * self.kind.span, config.d_model)
        self.norm = make_norm(config.norms, config.d_model) if self.kind.norm else None

    def forward(self, n_tokens: int) -> tuple[Tensor, Tensor]:
        """The vectors, shape (2 span, D), and which of them belongs to each query and key, shape (T, T)."""
        vectors = self.table.weight if self.norm is None else self.norm(self.table.weight)
        places = torch.arange(n_tokens, device=vectors.device)
        behind = places[:, None] - places
        if self.kind.buckets:
            exact = self.kind.buckets // 2
            widest = torch.log(torch.tensor((self.kind.distance - 1) / exact))
            far = (torch.log(behind.abs().clamp(min=exact) / exact) / widest * (exact - 1)).ceil() + exact
            behind = torch.where(behind.abs() <= exact, behind, far.long() * behind.sign())
        return vectors, (behind + self.kind.span).clamp(0, 2 * self.kind.span - 1)


class AlibiBias(nn.Module):
    """-slope_h * (query - key) on every attention score (ALiBi, Press et al. 2022, section 3). Nothing is learned.

    The slopes of n heads, n a power of 2, are 2^(-8/n), 2^(-16/n), ...; of other numbers those of the next lower power,
    then every second one of the next higher.
    """

    def __init__(self, n_heads: int):
        super().__init__()
        lower = 2 ** math.floor(math.log2(n_heads))
        slopes = [2 ** (-8 * number / lower) for number in range(1, lower + 1)]
        slopes += [2 ** (-4 * number / lower) for number in range(1, 2 * (n_heads - lower), 2)]
        self.slopes = tuple(slopes)

    def forward(self, positions_T: Tensor, n_keys: int) -> Tensor:
        """Shape (heads, T, n_keys), for queries at these positions."""
        ahead = torch.arange(n_keys, device=positions_T.device) - positions_T[:, None]
        slopes = torch.tensor(self.slopes, device=positions_T.device)
        return slopes[:, None, None] * ahead
