"""Embeddings and blocks: what encoders and decoders have in common."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wenloom.core.errors import InputError
from wenloom.model.attention import visible_keys
from wenloom.model.block import Block
from wenloom.model.cache import EncoderKV, KVCache
from wenloom.model.config import ModelConfig
from wenloom.model.dropout import Dropout
from wenloom.model.embedding import embedding
from wenloom.model.norm import make_norm
from wenloom.model.parts import Rope
from wenloom.model.position import AlibiBias, DistanceVectors, RelativeBias, SinusoidalPositions, rotary_table
from wenloom.model.taps import Taps, stack_places, tapped, within

Rotary = Mapping[Rope | None, tuple[Tensor, Tensor] | None]
"""Cosines and sines of a step, for the layers of each kind of rotary positions."""


class Stack(nn.Module):
    """From token ids, or other vectors in their place, to the last residual stream.

    Args:
        embed: the token embedding of another stack, to share it; not counted among this stack's weights.
    """

    def __init__(self, config: ModelConfig, embed: nn.Embedding | None = None):
        super().__init__()
        self.config = config
        self.ropes = {config.rope_of(layer) for layer in range(config.n_layers)}
        self.embed: nn.Embedding
        width = config.embedding.width or config.d_model
        if embed is None:
            self.embed = embedding(config.vocab_size, width)
        else:
            self.__dict__["embed"] = embed  # past the register of submodules
        self.positions: nn.Embedding | SinusoidalPositions | None = None
        places = config.positions
        if places.rope is None and places.kind == "learned":
            self.positions = embedding(config.context_length + places.offset, width)
        elif places.rope is None and places.kind in ("sinusoidal", "fairseq_sinusoidal"):
            self.positions = SinusoidalPositions(config.context_length, width, places.kind == "fairseq_sinusoidal")
        self.relative = _make_relative(config)
        self.distances = None if places.disentangled is None else DistanceVectors(config)
        self.token_types = embedding(config.embedding.token_types, width) if config.embedding.token_types else None
        self.embedding_norm = make_norm(config.norms, width) if config.norms.embedding else None
        self.dropout = Dropout(config.dropout.embedding, site=0)
        self.widen = nn.Identity() if config.embedding.width is None else nn.Linear(width, config.d_model)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_blocks))
        self.final_norm = make_norm(config.norms, config.d_model) if config.norms.final else nn.Identity()

    @property
    def layers(self) -> list[Block]:
        """The blocks in the order in which they are computed; a block comes several times where layers are one and the same."""
        return [self.blocks[self.config.block_of(layer)] for layer in range(self.config.n_layers)]  # pyright: ignore

    def relative_of(self, layer: int) -> RelativeBias | AlibiBias | None:
        """The biases by distance of one layer."""
        return self.relative[layer] if isinstance(self.relative, nn.ModuleList) else self.relative  # pyright: ignore

    def token_vectors(self, tokens: Tensor) -> Tensor:
        """The vector of every token, scaled where the model scales them; one more dimension, of size D (or `EmbeddingShape.width`)."""
        x = self.embed(tokens)
        shape = self.config.embedding
        if shape.scaled:
            x = x * self.config.d_model**0.5
        return x if shape.multiplier == 1 else x * shape.multiplier

    def placed(self, x: Tensor, positions: Tensor, token_types: Tensor | None = None) -> Tensor:
        """What the first block reads: position and type are added to what stands at a place.

        Raises:
            InputError: there is no vector for a position.
        """
        if self.positions is not None:
            if (length := int(positions.max()) + 1) > self.config.context_length:
                kind = "learned " if isinstance(self.positions, nn.Embedding) else ""
                raise InputError(
                    f"{length} tokens do not fit: this model has {self.config.context_length} {kind}positions."
                )
            x = x + self.positions(positions + self.config.positions.offset).to(x.dtype)
        if self.token_types is not None:
            if token_types is None:
                token_types = torch.zeros(x.shape[:-1], dtype=torch.long, device=x.device)
            x = x + self.token_types(token_types)
        return x if self.embedding_norm is None else self.embedding_norm(x)

    def hidden(
        self,
        tokens_BT: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: KVCache | None = None,
        documents_BT: Tensor | None = None,
        dropout_keys_B: Tensor | None = None,
        encoder_kv: EncoderKV | None = None,
        token_types_BT: Tensor | None = None,
        taps: Taps | None = None,
    ) -> Tensor:
        """The normalised last residual stream of tokens, shape (B, T, D).

        Args:
            tokens_BT: token ids.
            others: those of `run`, spelled out again so that readers and type checkers see them.
        """
        return self.run(self.token_vectors(tokens_BT), attention_mask, position_ids, cache, documents_BT,
                        dropout_keys_B, encoder_kv, token_types_BT, taps)  # fmt: skip

    def run(
        self,
        vectors_BTD: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: KVCache | None = None,
        documents_BT: Tensor | None = None,
        dropout_keys_B: Tensor | None = None,
        encoder_kv: EncoderKV | None = None,
        token_types_BT: Tensor | None = None,
        taps: Taps | None = None,
    ) -> Tensor:
        """The normalised last residual stream of whatever enters, shape (B, T, D).

        Args:
            vectors_BTD: those of tokens (`token_vectors`), or others: of sound, of images, or learned. Positions are
                added here.
            attention_mask: 1 for tokens, 0 for padding, shape (B, cached + T); None means no padding.
            position_ids: positions, shape (T,) or (B, T); None counts on from the cache. Like transformers,
                the default does not look at padding (unless `skip_padding`): pass positions for left-padded batches.
            cache: tokens read earlier, extended in place.
            documents_BT: a number per document where a row holds several: a token sees its own document only.
                Without a cache.
            dropout_keys_B: what dropout is decided by, see `dropout.Dropout`.
            encoder_kv: the encoded texts, in a decoder that has an encoder.
            token_types_BT: in a model with token types; None means type 0.
            taps: what is read or replaced on the way.
        """
        T, past, device = vectors_BTD.shape[1], cache.length if cache else 0, vectors_BTD.device
        present_BS = None if attention_mask is None or bool(attention_mask.all()) else attention_mask.bool()
        if position_ids is not None:
            positions = position_ids
        elif self.config.positions.skip_padding and present_BS is not None:
            positions = (present_BS.long().cumsum(-1) - 1).clamp(min=0)
        else:
            positions = torch.arange(past, past + T, device=device)
        x_BTD = self.widen(self.dropout(self.placed(vectors_BTD, positions, token_types_BT), dropout_keys_B))
        x_BTD = tapped(taps, "embed", x_BTD)
        rotary = self._rotary(positions, x_BTD.dtype)
        causal = self.config.causal
        distances = None if self.distances is None else self.distances(T)
        masks: dict[tuple[int | None, nn.Module | None], Tensor | None] = {}
        for layer, block in enumerate(self.layers):
            window, relative = self.config.attention.window(layer), self.relative_of(layer)
            if (window, relative) not in masks:
                mask = visible_keys(T, past + T, window, present_BS, device, documents_BT, causal)
                if relative is not None:
                    mask = _biased(relative(torch.arange(past, past + T, device=device), past + T), mask, causal)
                masks = {(window, relative): mask, **({} if self.config.positions.in_layers else masks)}
            keys_B = None if dropout_keys_B is None else dropout_keys_B + (layer + 1) * 0x61C88647
            angles, inner = rotary[self.config.rope_of(layer)], within(taps, f"blocks.{layer}")
            x_BTD = block(x_BTD, angles, masks[window, relative], cache, keys_B, encoder_kv, inner, distances)
        if cache is not None:
            cache.advance(T)
        return tapped(taps, "final_norm", self.final_norm(x_BTD))

    @property
    def places(self) -> list[str]:
        """Names for `taps`."""
        return stack_places(self.config)

    def _rotary(self, positions: Tensor, dtype: torch.dtype) -> Rotary:
        return {rope: self._angles(rope, positions, dtype) for rope in self.ropes}

    def _angles(self, rope: Rope | None, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        config = self.config
        if rope is None:
            return None
        if positions.dim() == 1:
            length = int(positions[-1]) + 1 if rope.depends_on_length else 0
            cos, sin = rotary_table(config, positions, length, rope)
        elif not rope.depends_on_length:
            cos, sin = rotary_table(config, positions[:, None], 0, rope)  # (B, 1, T, r): all heads alike
        else:  # each row by its own length, so that a row's result does not depend on its batch
            rows = [rotary_table(config, row, int(row.max()) + 1, rope) for row in positions]
            cos, sin = (torch.stack(each)[:, None] for each in zip(*rows, strict=True))
        return cos.to(dtype), sin.to(dtype)

    def initialise(self, generator: torch.Generator) -> None:
        """Fresh weights: N(0, initializer_range²), projections into the stream divided by sqrt(2 n_layers).

        The division keeps the stream's variance independent of depth at the start (GPT-2, Radford et al.
        2019, section 2.3). Token embeddings that are scaled up are drawn with 1 / sqrt(d_model),
        those whose logits are scaled down (T5) with 1.
        """
        std = self.config.initializer_range
        for name, parameter in self.named_parameters():
            if name.endswith(("bias", "sinks")):
                nn.init.zeros_(parameter)
            elif "norm" in name:
                nn.init.ones_(parameter)
            elif name == "embed.weight" and self.config.embedding.scaled:
                nn.init.normal_(parameter, 0.0, self.config.d_model**-0.5, generator=generator)
            elif name == "embed.weight" and self.config.logits.scaled:
                nn.init.normal_(parameter, 0.0, 1.0, generator=generator)
            else:
                into_stream = name.endswith(("attention.output.weight", "cross.output.weight", ".down.weight"))
                scale = std / (2 * self.config.n_layers) ** 0.5 if into_stream else std
                nn.init.normal_(parameter, 0.0, scale, generator=generator)

    def n_parameters(self) -> int:
        """Number of weights, tied ones counted once."""
        return sum(parameter.numel() for parameter in self.parameters())


def _make_relative(config: ModelConfig) -> RelativeBias | AlibiBias | nn.ModuleList | None:
    """Biases by distance, where `config` asks for some."""
    positions = config.positions
    if not positions.has_relative_bias and not positions.distance_bias:
        return None
    if positions.in_layers:
        return nn.ModuleList(RelativeBias(config) for _ in range(config.n_layers))
    return AlibiBias(config.n_heads) if positions.kind == "alibi" else RelativeBias(config)


def _biased(bias_HTS: Tensor, seen: Tensor | None, causal: bool) -> Tensor:
    """What is added to scores: a bias where a key is seen, minus infinity elsewhere."""
    if seen is None and causal and bias_HTS.shape[-2] > 1:
        seen = torch.ones(bias_HTS.shape[-2:], dtype=torch.bool, device=bias_HTS.device).tril()
    return bias_HTS if seen is None else bias_HTS.masked_fill(~seen, -torch.inf)


def make_classifier(config: ModelConfig) -> "Classifier | None":
    """The head of a model that classifies texts."""
    return Classifier(config) if config.output == "classes" else None


class Classifier(nn.Module):
    """Scores of the classes from one token's residual stream: a dense layer with an activation, then a linear one."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        head, width = config.head, config.d_model
        self.dense = None if head.pooler is None else nn.Linear(width, width, head.bias)
        self.activation = {"relu": torch.relu, "gelu": nn.functional.gelu}.get(head.pooler or "", torch.tanh)
        self.norm = make_norm(config.norms, width) if head.pooler_norm else nn.Identity()
        self.dropout = Dropout(config.dropout.residual, site=4)
        self.output = nn.Linear(width, len(config.labels), bias=head.pooler is not None)

    def forward(self, x_BD: Tensor, dropout_keys_B: Tensor | None = None) -> Tensor:
        """Scores (B, classes)."""
        if self.dense is not None:
            x_BD = self.norm(self.activation(self.dense(self.dropout(x_BD, dropout_keys_B))))
        return self.output(self.dropout(x_BD, None if dropout_keys_B is None else dropout_keys_B + 1))
