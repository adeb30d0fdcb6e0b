"""The decoder-only Transformer: P(x1..xn) = Π P(xi | x<i), every factor from one forward pass."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wenloom.model.cache import EncoderKV, KVCache, SlotBatch
from wenloom.model.config import ModelConfig
from wenloom.model.parts import Rope
from wenloom.model.position import frequency_epoch, rotary_table
from wenloom.model.stack import Rotary, Stack, make_classifier
from wenloom.model.taps import Taps, tapped, within


class Decoder(Stack):
    """All families of decoders are configurations of this one model.

    So are the decoders of Marian, BART and T5, which read an encoder's text beside their own.
    """

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False) if config.has_output_matrix else None
        has_bias = config.logits.bias and config.output == "tokens"
        self.output_bias = nn.Parameter(torch.zeros(config.vocab_size)) if has_bias else None
        self.classifier = make_classifier(config)

    def forward(
        self,
        tokens_BT: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: KVCache | None = None,
        encoder_kv: EncoderKV | None = None,
        taps: Taps | None = None,
    ) -> Tensor:
        """Logits of the next token after every position.

        Args:
            tokens_BT, ...: see `Stack.hidden`.

        Returns:
            logits_BTV.
        """
        x_BTD = self.hidden(tokens_BT, attention_mask, position_ids, cache, encoder_kv=encoder_kv, taps=taps)
        return tapped(taps, "logits", self.unembed(x_BTD))

    @property
    def places(self) -> list[str]:
        """Names for `taps`."""
        return [*super().places, "logits"]

    def classify(
        self,
        tokens_BT: Tensor,
        attention_mask: Tensor | None = None,
        dropout_keys_B: Tensor | None = None,
        taps: Taps | None = None,
    ) -> Tensor:
        """Scores of the classes, shape (B, classes), from each row's last token."""
        assert self.classifier is not None
        x_BTD = self.hidden(tokens_BT, attention_mask, dropout_keys_B=dropout_keys_B, taps=taps)
        places_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        last_B = places_T[-1] if attention_mask is None else (places_T * attention_mask).argmax(-1)
        scores_BC = self.classifier(x_BTD[torch.arange(len(x_BTD), device=x_BTD.device), last_B], dropout_keys_B)
        return tapped(taps, "logits", scores_BC)

    def project_source(self, encoded_BSD: Tensor, present_BS: Tensor | None = None) -> EncoderKV:
        """Keys and values of encoded texts for every block's cross-attention."""
        pairs = [block.cross.project(encoded_BSD) for block in self.blocks]  # pyright: ignore
        keys, values = zip(*pairs, strict=True)
        return EncoderKV(keys, values, present_BS)

    def read(self, tokens_N: Tensor, batch: SlotBatch, taps: Taps | None = None) -> Tensor:
        """The normalised last residual stream of the new tokens of several texts.

        Args:
            tokens_N: the new tokens, text after text.
            batch: which text each belongs to, and what is known of it.
            taps: what is read or replaced on the way, but for `logits`.

        Returns:
            Shape (N, D).
        """
        x_1ND = tapped(taps, "embed", self.placed(self.token_vectors(tokens_N), batch.position_N)[None])
        rotary = self._rotary_of(batch, x_1ND.dtype)
        encoder_kv = None if self.config.encoder is None else batch
        for layer, block in enumerate(self.blocks):
            angles, batch.bias = rotary[self.config.rope_of(layer)], self.relative_of(layer)
            x_1ND = block(x_1ND, angles, None, batch, encoder_kv=encoder_kv, taps=within(taps, f"blocks.{layer}"))
        return tapped(taps, "final_norm", self.final_norm(x_1ND))[0]

    def _rotary_of(self, batch: SlotBatch, dtype: torch.dtype) -> Rotary:
        return {
            rope: self._angles_by_text(rope, batch, dtype)
            if rope is not None and rope.depends_on_length
            else self._angles(rope, batch.position_N, dtype)
            for rope in self.ropes
        }

    def _angles_by_text(self, rope: Rope, batch: SlotBatch, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        by_text = batch.position_N.split([s.count for s in batch.segments])
        parts = [
            rotary_table(self.config, positions, segment.length, rope)
            for positions, segment in zip(by_text, batch.segments, strict=True)
        ]
        cos, sin = (torch.cat(each) for each in zip(*parts, strict=True))
        return cos.to(dtype), sin.to(dtype)

    def transformed(self, x_BTD: Tensor) -> Tensor:
        """The normalised last residual stream as the output matrix reads it."""
        shape = self.config.logits
        multiplier = shape.multiplier * (self.config.d_model**-0.5 if shape.scaled else 1)
        return x_BTD if multiplier == 1 else x_BTD * multiplier

    def unembed(self, x_BTD: Tensor) -> Tensor:
        """Logits from the normalised last residual stream."""
        x_BTD = self.transformed(x_BTD)
        logits_BTV = F.linear(x_BTD, self.embed.weight) if self.head is None else self.head(x_BTD)
        logits_BTV = logits_BTV if self.output_bias is None else logits_BTV + self.output_bias
        cap = self.config.logits.cap
        return logits_BTV if cap is None else cap * (logits_BTV / cap).tanh()

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
        """The number type of keys and values: that of the weights, or bf16 where these are quantized anyway."""
        is_quantized = self.head is not None and not isinstance(self.head, nn.Linear)
        return torch.bfloat16 if is_quantized else self.embed.weight.dtype

    @property
    def output_weight(self) -> Tensor:
        """The matrix from the residual stream to logits, shape (V, D): the embedding itself where tied."""
        if self.head is None:
            return self.embed.weight
        weight_as = getattr(self.head, "weight_as", None)  # of quantized weights
        return self.head.weight if weight_as is None else weight_as(self.embed.weight.dtype)

    def frequency_epoch(self, length: int) -> int:
        """See `position.frequency_epoch`: cached keys are valid only within one epoch."""
        return frequency_epoch(self.config, length)
