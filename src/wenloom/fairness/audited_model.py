"""A model under audit: what gives probabilities, what writes and what makes vectors of one folder, each loaded when it is needed."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from wenloom.checkpoint.folder import load_model, load_tokenizer
from wenloom.core.hardware import probe
from wenloom.evaluation.scorer import Scorer
from wenloom.evaluation.scorers import scorer_of
from wenloom.generation.engine import Engine
from wenloom.model.build import Model
from wenloom.model.decoder import Decoder
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.packed import packed
from wenloom.runtime.embedder import Embedder, load_embedder
from wenloom.tokens.tokenizer import TextTokenizer

_SLOTS = 32


@dataclass(frozen=True)
class AuditedModel:
    """A folder, and what it gives.

    Args:
        name: how the user calls it.
        device: auto, cpu, cuda, ...
    """

    name: str
    folder: Path
    device: str = "auto"

    @cached_property
    def model(self) -> Model:
        """In evaluation mode, in the numbers that it is stored in."""
        return load_model(self.folder, probe(self.device).device).eval()

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """Its tokenizer."""
        return load_tokenizer(self.folder)

    @cached_property
    def scorer(self) -> Scorer:
        """What gives texts log-probabilities.

        Raises:
            InputError: an encoder that cannot fill in masks.
        """
        return scorer_of(packed(self.model) if isinstance(self.model, Decoder) else self.model, self.tokenizer)

    @cached_property
    def embedder(self) -> Embedder:
        """What makes vectors of texts.

        Raises:
            InputError: a model with an encoder and a decoder.
        """
        return load_embedder(self.folder, probe(self.device).device, torch.float32)

    @property
    def is_pair(self) -> bool:
        """Whether it has an encoder and a decoder."""
        return isinstance(self.model, EncoderDecoder)

    @property
    def writes(self) -> bool:
        """Whether it goes on with its prompt."""
        return isinstance(self.model, Decoder) and not self.model.config.labels

    @cached_property
    def engine(self) -> Engine:
        """What writes, 32 texts side by side."""
        assert isinstance(self.model, Decoder)
        return Engine(self.model, self.tokenizer, max_slots=_SLOTS)
