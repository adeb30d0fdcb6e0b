"""A model that is explained, with its tokenizer: how it reads a text, and one forward pass from token vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from wenloom.checkpoint.folder import load_model, load_tokenizer
from wenloom.checkpoint.hub import resolve
from wenloom.core.errors import InputError
from wenloom.core.hardware import probe
from wenloom.evaluation.likelihood import continuation_row, tokens_before
from wenloom.model.build import Model
from wenloom.model.decoder import Decoder
from wenloom.model.encoder import Encoder
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.stack import Classifier, Stack
from wenloom.model.taps import Taps, tapped, within
from wenloom.tokens.tokenizer import TextTokenizer


class WithDecoder(Protocol):
    """What `wenloom.load` gives."""

    @property
    def decoder(self) -> Decoder: ...
    @property
    def tokenizer(self) -> TextTokenizer: ...


@dataclass(frozen=True)
class Reading:
    """A text as a model reads it.

    Of a decoder that reads an encoder, `tokens` are its own and `source` the encoder's.
    """

    tokens: Tensor
    """Shape (1, T)."""
    start: int
    """Place of the first token of the continuation; T where there is none."""
    source: Tensor | None = None
    """Shape (1, S)."""


@dataclass(frozen=True)
class Subject:
    """A model and its tokenizer."""

    model: Model
    tokenizer: TextTokenizer

    @property
    def stack(self) -> Stack:
        """The blocks under the logits: the decoder's, where there are two stacks."""
        return self.model.decoder if isinstance(self.model, EncoderDecoder) else self.model

    @property
    def prefix(self) -> str:
        """What the names of its places begin with."""
        return "decoder." if isinstance(self.model, EncoderDecoder) else ""

    @property
    def ordinary_tokens(self) -> list[int]:
        """The tokens that stand for text: all but the special ones."""
        n_known, special = min(self.stack.config.vocab_size, self.tokenizer.vocab_size), self.tokenizer.special_ids
        return [token for token in range(n_known) if token not in special]

    @property
    def classifier(self) -> Classifier | None:
        """The head of a model that classifies texts."""
        return None if isinstance(self.model, EncoderDecoder) else self.model.classifier

    @property
    def predicts(self) -> str:
        """What logits are of: the next token, the token at a place, a class, or nothing."""
        if self.classifier is not None:
            return "class"
        if isinstance(self.model, Encoder):
            return "token" if self.model.predicts_tokens else "nothing"
        return "next token"

    def read(self, text: str, continuation: str = "") -> Reading:
        """The tokens of a text and of what follows it.

        A continuation begins where its first letter does: a token that reaches across the cut belongs to it (see
        `evaluation.likelihood.continuation_row`). Of a decoder that reads an encoder, the text is the source and the
        continuation what it writes. An encoder has no continuation.

        Raises:
            InputError: nothing to read, or more than the model has positions for.
        """
        config, source = self.model.config, None
        if isinstance(self.model, EncoderDecoder):
            source = self._row(self.tokenizer.encode(text, add_special_tokens=True))
            assert config.encoder is not None
            _check_length(source, config.encoder.context_length, "the source")
            start_token, own = config.decoder_start_token_id, self.tokenizer.encode(continuation, False)
            assert start_token is not None
            tokens, start = [start_token, *own], 1
        elif isinstance(self.model, Encoder) or self.classifier is not None:
            tokens = self.tokenizer.encode(text, add_special_tokens=True)
            start = len(tokens)
        else:
            before = tokens_before(self.tokenizer, is_empty=not text)
            tokens = [*before, *self.tokenizer.encode(text, add_special_tokens=False)]
            start = len(tokens)
            if continuation:
                tokens, start, _ = continuation_row(self.tokenizer, text, continuation, before)
        reading = Reading(self._row(tokens), start, source)
        _check_length(reading.tokens, config.context_length, "the text")
        return reading

    def _row(self, tokens: Sequence[int]) -> Tensor:
        if not tokens:
            raise InputError("the text is empty.")
        return torch.tensor([tokens], device=self.stack.embed.weight.device)

    def vectors(self, reading: Reading) -> tuple[Tensor, Tensor | None]:
        """Vectors of the tokens (1, T, D) and, of a model with two stacks, of its source (1, S, D)."""
        if isinstance(self.model, EncoderDecoder):
            assert reading.source is not None
            return self.stack.token_vectors(reading.tokens), self.model.encoder.token_vectors(reading.source)
        return self.stack.token_vectors(reading.tokens), None

    def forward(
        self,
        vectors_BTD: Tensor,
        source_BSD: Tensor | None = None,
        taps: Taps | None = None,
        at: Tensor | None = None,
    ) -> Tensor:
        """Logits from token vectors, bit for bit those that the model gives for its tokens.

        Args:
            at: the places whose logits are wanted, shape (N,); None: all, and `logits` is a place for taps.

        Returns:
            Shape (B, T or N, V), of classes (B, C), of an encoder without a head its last residual stream (B, T, D).
        """
        encoder_kv, inner = None, taps
        if isinstance(self.model, EncoderDecoder):
            assert source_BSD is not None
            inner = within(taps, "decoder")
            encoder_kv = self.model.decoder.project_source(
                self.model.encoder.run(source_BSD, taps=within(taps, "encoder"))
            )
        x_BTD = self.stack.run(vectors_BTD, encoder_kv=encoder_kv, taps=inner)
        if self.classifier is not None:
            return tapped(inner, "logits", self.classifier(x_BTD[:, 0 if isinstance(self.model, Encoder) else -1]))
        if self.predicts == "nothing":
            return x_BTD
        logits_BTV = self.unembed(x_BTD if at is None else x_BTD[:, at])
        return tapped(inner, "logits", logits_BTV) if at is None else logits_BTV

    def unembed(self, x: Tensor) -> Tensor:
        """Logits of tokens from the normalised last residual stream."""
        assert isinstance(self.stack, Decoder | Encoder)
        return self.stack.unembed(x)

    def writer(self, refusal: str) -> Decoder:
        """The model, if it continues a text: a decoder without an encoder or classes.

        Args:
            refusal: what is said of any other.

        Raises:
            InputError: it is another.
        """
        if self.predicts != "next token" or not isinstance(self.model, Decoder):
            raise InputError(refusal)
        return self.model

    def piece(self, token: int) -> str:
        """A token's text; where it is a part of a character, its bytes."""
        text = self.tokenizer.decode([token])
        return self.tokenizer.show(token) if "\ufffd" in text or not text else text


def subject_of(model: "Subject | WithDecoder | str | Path", device: str = "auto") -> Subject:
    """What is to be explained: a folder or hub model, what `wenloom.load` gives, or a model with its tokenizer.

    Raises:
        CheckpointError: a folder that holds no model.
    """
    if isinstance(model, Subject):
        return model
    if isinstance(model, str | Path):
        folder = resolve(model)
        return Subject(load_model(folder, probe(device).device).eval(), load_tokenizer(folder))
    return Subject(model.decoder, model.tokenizer)


def _check_length(tokens: Tensor, most: int, what: str) -> None:
    if tokens.shape[1] > most:
        raise InputError(f"{what} has {tokens.shape[1]:,} tokens; this model reads at most {most:,}.")
