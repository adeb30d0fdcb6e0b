"""Training from scratch: from a prepared corpus and settings to a fresh model and what it learns from."""

import bz2
import functools
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import torch

from wenloom.core.errors import InputError
from wenloom.core.hardware import memory_available, probe
from wenloom.core.quantities import parse_count
from wenloom.core.randomness import generator
from wenloom.model.build import build
from wenloom.model.config import ModelConfig
from wenloom.model.decoder import Decoder
from wenloom.model.presets import from_scratch
from wenloom.tokens.shards import Dataset, Part, TokenStream
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.dial import Derived, resolve_settings
from wenloom.training.guards import check_causality
from wenloom.training.measure import guessed_flops_per_second
from wenloom.training.objectives import CausalObjective
from wenloom.training.parallel import World
from wenloom.training.plan import ENGLISH_PACKED_BITS, expected_bits_per_byte, no_worse_than_uniform
from wenloom.training.routing import RouterLosses
from wenloom.training.settings import ModelSettings, TrainSettings
from wenloom.training.setup import RunSpec, chosen_strategy
from wenloom.training.source import CorpusSource, MixtureSource, Source
from wenloom.training.unread import TRAINING, refuse

_LOOKED_AT, _ENOUGH = 2**20, 10
"""Tokens in which the length of documents is looked at, and the documents that tell it."""
_PACKED, _PIECES = 2**17, 8
"""Tokens that are packed to see how regular a text is, and in how many places they stand."""


class CorpusStatistics(NamedTuple):
    """What set-up needs to know of a prepared corpus, or of one that is only imagined."""

    vocab_size: int
    stream: TokenStream
    """Training tokens."""
    tokens: int | None
    """How many there are; None if the corpus is imagined."""
    validation_tokens: int
    bytes_per_token: float
    document_start: int | None
    document_tokens: float
    """Mean length of a document."""
    most_documents: int | None
    """The length that 9 of 10 documents do not exceed; None where they cannot be told apart."""
    tokenizer: TextTokenizer | None
    parts: tuple[Part, ...] = ()
    """Of a mixture, its corpora."""

    def source(self, context: int, batch: int, seed: int) -> Source:
        """What samples come from."""
        if not self.parts:
            return CorpusSource(self.stream, context, batch, seed)
        sources = [CorpusSource(part.dataset.stream("train"), context, batch, seed) for part in self.parts]
        return MixtureSource(sources, [part.share for part in self.parts])

    def told(self, source: Source, training: TrainSettings) -> list[Derived]:
        """Of a mixture, how much of it each source is, and how often it is read."""
        assert training.batch is not None
        samples = (training.epochs or 0) * source.per_epoch or (training.steps or 0) * training.batch
        if training.tokens is not None:
            samples = parse_count(training.tokens, "--tokens") / source.row_tokens
        lines = []
        for part, each in zip(self.parts, source.sources if isinstance(source, MixtureSource) else (), strict=True):
            per_epoch = each.per_epoch / part.share
            often = (
                f"{samples / per_epoch:.2g} epochs"
                if samples
                else f"an epoch every {per_epoch / training.batch:,.0f} steps"
            )
            tokens = part.dataset.splits["train"].tokens
            lines.append(Derived(part.name, f"{100 * part.share:.1f} % of the samples, {often}", f"{tokens:,} tokens"))
        return lines

    def packed_bits(self) -> float:
        """Bits per byte to which bzip2 packs samples of the training text: how regular it is beyond any model; of an imagined
        corpus, those of English prose."""
        if self.tokenizer is None:
            return ENGLISH_PACKED_BITS
        n_pieces = _PIECES if len(self.stream) > _PACKED else 1
        size = min(len(self.stream), _PACKED // n_pieces)
        starts = np.linspace(0, len(self.stream) - size, n_pieces).astype(int)
        pieces = [self.tokenizer.decode(self.stream.window(int(start), size).tolist()) for start in starts]
        text = "".join(pieces).encode("utf-8", "replace")
        return 8 * len(bz2.compress(text)) / max(1, len(text))

    @classmethod
    def of(cls, dataset: Dataset) -> "CorpusStatistics":
        """A prepared corpus.

        Raises:
            InputError: it has no validation text.
        """
        train, validation = dataset.splits["train"], dataset.splits["validation"]
        if not validation.bytes:
            raise InputError(f"{dataset.folder}: has no validation text. Prepare more text.")
        tokenizer = dataset.tokenizer()
        return cls(tokenizer.vocab_size, dataset.stream("train"), train.tokens, validation.tokens,
                   train.bytes / max(1, train.tokens), tokenizer.bos_token_id, train.tokens / max(1, train.documents), _longest_of_most(dataset, tokenizer.bos_token_id),
                   tokenizer, tuple(dataset.parts))  # fmt: skip

    @classmethod
    def imagined(cls, vocab_size: int) -> "CorpusStatistics":
        """Random tokens, to plan before there is a text; 4 bytes a token, as English has."""
        drawn = np.random.default_rng(0).integers(0, vocab_size, 2**17, dtype=np.uint32)
        return cls(vocab_size, TokenStream([drawn]), None, 0, 4.0, None, float("inf"), None, None)


def _longest_of_most(dataset: Dataset, document_start: int | None) -> int | None:
    """The length that 9 of 10 of the first documents do not exceed."""
    if document_start is None:
        return None
    stream = dataset.stream("train")
    tokens = stream.window(0, min(len(stream), _LOOKED_AT))
    lengths = np.diff(np.flatnonzero(tokens == document_start))
    return int(np.quantile(lengths, 0.9, method="higher")) if len(lengths) >= _ENOUGH else None


def model_config(settings: ModelSettings, vocab_size: int, tokenizer: TextTokenizer | None) -> ModelConfig:
    """The shape that settings without gaps ask for."""
    assert settings.layers and settings.width and settings.heads and settings.context
    return from_scratch(
        settings.arch,
        vocab_size=vocab_size,
        n_layers=settings.layers,
        d_model=settings.width,
        n_heads=settings.heads,
        n_kv_heads=settings.kv_heads or settings.heads,
        context_length=settings.context,
        dropout=settings.dropout or 0.0,
        n_experts=settings.experts,
        n_active=settings.active or 2,
        bos_token_id=tokenizer.bos_token_id if tokenizer else None,
        eos_token_id=tokenizer.eos_token_id if tokenizer else None,
        pad_token_id=tokenizer.pad_token_id if tokenizer else None,
    )


def scratch_run(corpus: CorpusStatistics, model: ModelSettings, training: TrainSettings, world: World) -> RunSpec:
    """Fill in the settings and build the model.

    Raises:
        InputError: the settings do not fit together, or the model does not fit in memory.
    """
    hardware = probe(training.device)

    resolved = resolve_settings(
        model,
        training,
        corpus.vocab_size,
        corpus.tokens,
        lambda: guessed_flops_per_second(training, world),
        corpus.most_documents,
    )
    model, training = resolved.model, resolved.training
    refuse((training,), TRAINING, training)
    assert model.context and training.batch
    config = model_config(model, corpus.vocab_size, corpus.tokenizer)
    source = corpus.source(model.context, training.batch, training.seed)
    n_parameters = parameters_of(config)
    available = memory_available(hardware.device)
    if available is not None:
        chosen_strategy(training, world, n_parameters, n_parameters, 4 * n_parameters, available, hardware.device)
    decoder = Decoder(config)
    decoder.initialise(generator(training.seed, "weights"))
    decoder.to(hardware.device)
    check_causality(decoder, generator(training.seed, "causality"))
    opens = document_start(corpus, training, model.context)
    words = (
        f"{model.arch}, {config.n_layers} layer{'s' * (config.n_layers > 1)}, width {model.width}, "
        f"{config.n_heads} head{'s' * (config.n_heads > 1)}, context {model.context}"
        + (f", {model.experts} experts of which {model.active} are active" if model.experts else "")
        + ", documents apart" * (opens is not None)
    )

    packed_bits = functools.cache(corpus.packed_bits)

    def expected(tokens: int) -> tuple[float, float]:
        unique = corpus.tokens * corpus.bytes_per_token if corpus.tokens else None
        expected = expected_bits_per_byte(n_parameters, tokens * corpus.bytes_per_token, unique, packed_bits())
        return no_worse_than_uniform(expected, corpus.vocab_size, corpus.bytes_per_token)

    routers = None
    if model.experts is not None:
        assert model.balance_loss is not None and model.router_z_loss is not None
        routers = RouterLosses(model.balance_loss, model.router_z_loss)
    return RunSpec(
        CausalObjective(decoder, opens, routers), source, training,
        asdict(model) | asdict(training), [*resolved.derived, *corpus.told(source, training)], words, corpus.validation_tokens,
        has_epochs=corpus.tokens is not None, expected=expected if model.experts is None else None,
    )  # fmt: skip


def document_start(corpus: CorpusStatistics, training: TrainSettings, context: int) -> int | None:
    """The token that opens a document, if tokens are to see their own document only.

    Raises:
        InputError: that was asked for, and documents cannot be told apart.
    """
    masked = training.document_mask
    if masked is None:
        masked = corpus.document_start is not None and corpus.document_tokens < context
    if masked and corpus.document_start is None:
        raise InputError("--document-mask needs a tokenizer with a token that opens documents; this one has none.")
    return corpus.document_start if masked else None


def parameters_of(config: ModelConfig) -> int:
    """Number of weights, without making them."""
    with torch.device("meta"):
        return build(config).n_parameters()
