"""The decoder-only Transformer: P(x1..xn) = Π P(xi | x<i), every factor from one forward pass."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wordloom.core.errors import InputError
from wordloom.model.attention import visible_keys
from wordloom.model.block import Block
from wordloom.model.cache import KVCache, SlotBatch
from wordloom.model.config import ModelConfig
from wordloom.model.dropout import Dropout
from wordloom.model.norm import make_norm
from wordloom.model.position import frequency_epoch, rotary_table


class Decoder(nn.Module):
    """GPT-2, Llama, Mistral, Qwen2, Qwen3 and GPT-NeoX are configurations of this one model."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = None if config.rope else nn.Embedding(config.context_length, config.d_model)
        self.dropout = Dropout(config.embedding_dropout, site=0)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.final_norm = make_norm(config)
        self.head = None if config.tie_embeddings else nn.Linear(config.d_model, config.vocab_size, bias=False)

    def forward(
        self,
        tokens_BT: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Logits of the next token after every position.

        Args:
            tokens_BT: token ids.
            attention_mask: 1 for tokens, 0 for padding, shape (B, cached + T); None means no padding.
            position_ids: positions, shape (T,) or (B, T); None counts on from the cache. Like transformers,
                the default does not look at padding: pass positions for left-padded batches.
            cache: tokens read earlier, extended in place.

        Returns:
            logits_BTV.
        """
        return self.unembed(self.hidden(tokens_BT, attention_mask, position_ids, cache))

    def hidden(
        self,
        tokens_BT: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: KVCache | None = None,
        documents_BT: Tensor | None = None,
        dropout_keys_B: Tensor | None = None,
    ) -> Tensor:
        """The normalised last residual stream, shape (B, T, D).

        Args:
            documents_BT: a number per document where a row holds several: a token sees its own document only.
                Without a cache.
            dropout_keys_B: what dropout is decided by, see `dropout.Dropout`.
            others: as in `forward`.
        """
        T, past = tokens_BT.shape[1], cache.length if cache else 0
        positions = torch.arange(past, past + T, device=tokens_BT.device) if position_ids is None else position_ids
        x_BTD = self.embed(tokens_BT)
        rotary = self._rotary(positions, x_BTD.dtype)
        if self.positions is not None:
            if (length := int(positions.max()) + 1) > self.config.context_length:
                raise InputError(
                    f"{length} tokens do not fit: this model has {self.config.context_length} learned positions."
                )
            x_BTD = x_BTD + self.positions(positions)
        x_BTD = self.dropout(x_BTD, dropout_keys_B)
        present_BS = None if attention_mask is None or bool(attention_mask.all()) else attention_mask.bool()
        full = visible_keys(T, past + T, None, present_BS, tokens_BT.device, documents_BT)
        windowed = visible_keys(T, past + T, self.config.sliding_window, present_BS, tokens_BT.device, documents_BT)
        for layer, block in enumerate(self.blocks):
            mask = windowed if layer in self.config.sliding_layers else full
            keys_B = None if dropout_keys_B is None else dropout_keys_B + (layer + 1) * 0x61C88647
            x_BTD = block(x_BTD, rotary, mask, cache, keys_B)
        if cache is not None:
            cache.advance(T)
        return self.final_norm(x_BTD)

    def read(self, tokens_N: Tensor, batch: SlotBatch, layers: Sequence[int] = ()) -> tuple[Tensor, dict[int, Tensor]]:
        """The normalised last residual stream of the new tokens of several texts.

        Args:
            tokens_N: the new tokens, text after text.
            batch: which text each belongs to, and what is known of it.
            layers: blocks whose residual stream is wanted too.

        Returns:
            Shape (N, D), and per wanted layer the same, normalised as the last one is.
        """
        x_1ND = self.embed(tokens_N)[None]
        rotary = self._rotary_of(batch, x_1ND.dtype)
        if self.positions is not None:
            x_1ND = x_1ND + self.positions(batch.position_N)
        early = {}
        for layer, block in enumerate(self.blocks):
            x_1ND = block(x_1ND, rotary, None, batch)
            if layer in layers:
                early[layer] = self.final_norm(x_1ND)[0]
        return self.final_norm(x_1ND)[0], early

    def _rotary_of(self, batch: SlotBatch, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        rope = self.config.rope
        if rope is None or not rope.depends_on_length:
            return self._rotary(batch.position_N, dtype)
        parts = [
            rotary_table(rope, positions, segment.length, self.config.context_length)
            for positions, segment in zip(
                batch.position_N.split([s.count for s in batch.segments]), batch.segments, strict=True
            )
        ]
        cos, sin = (torch.cat(each) for each in zip(*parts, strict=True))
        return cos.to(dtype), sin.to(dtype)

    def unembed(self, x_BTD: Tensor) -> Tensor:
        """Logits from the normalised last residual stream."""
        return F.linear(x_BTD, self.embed.weight) if self.head is None else self.head(x_BTD)

    @property
    def output_layer(self) -> nn.Module:
        """The layer from the residual stream to logits; its weight is the embedding's where tied."""
        if self.head is not None:
            return self.head
        layer = nn.Linear(self.config.d_model, self.config.vocab_size, bias=False, device="meta")
        layer.weight = self.embed.weight
        return layer

    @property
    def cache_dtype(self) -> torch.dtype:
        """The number type of keys and values: that of the weights, or bf16 where these are rounded anyway."""
        rounded = self.head is not None and not isinstance(self.head, nn.Linear)
        return torch.bfloat16 if rounded else self.embed.weight.dtype

    @property
    def output_weight(self) -> Tensor:
        """The matrix from the residual stream to logits, shape (V, D): the embedding itself where tied."""
        return self.embed.weight if self.head is None else self.head.weight

    def frequency_epoch(self, length: int) -> int:
        """See `position.frequency_epoch`: cached keys are valid only within one epoch."""
        return frequency_epoch(self.config.rope, length, self.config.context_length)

    def _rotary(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        rope, context_length = self.config.rope, self.config.context_length
        if rope is None:
            return None
        if positions.dim() == 1:
            length = int(positions[-1]) + 1 if rope.depends_on_length else 0
            cos, sin = rotary_table(rope, positions, length, context_length)
        elif not rope.depends_on_length:
            cos, sin = rotary_table(rope, positions[:, None], 0, context_length)  # (B, 1, T, r): all heads alike
        else:  # each row by its own length, so that a row's result does not depend on its batch
            rows = [rotary_table(rope, row, int(row.max()) + 1, context_length) for row in positions]
            cos, sin = (torch.stack(each)[:, None] for each in zip(*rows, strict=True))
        return cos.to(dtype), sin.to(dtype)

    def initialise(self, generator: torch.Generator) -> None:
        """Fresh weights: N(0, initializer_range²), projections into the stream divided by sqrt(2 n_layers).

        The division keeps the stream's variance independent of depth at the start (GPT-2, Radford et al.
        2019, section 2.3).
        """
        std = self.config.initializer_range
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "norm" in name:
                nn.init.ones_(parameter)
            else:
                into_stream = name.endswith(("attention.output.weight", "mlp.down.weight"))
                scale = std / (2 * self.config.n_layers) ** 0.5 if into_stream else std
                nn.init.normal_(parameter, 0.0, scale, generator=generator)

    def n_parameters(self) -> int:
        """Number of weights, tied ones counted once."""
        return sum(parameter.numel() for parameter in self.parameters())
