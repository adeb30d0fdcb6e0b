"""Going on with the pretraining of a model that somebody trained: its shape and vocabulary, other text."""

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from wenloom.checkpoint.folder import load_model
from wenloom.core.console import remark
from wenloom.core.errors import InputError
from wenloom.core.progress import progress
from wenloom.core.quantities import counted, parse_count, parse_duration, show_count
from wenloom.model.build import active_parameters
from wenloom.model.decoder import Decoder
from wenloom.tokens.shards import Dataset
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.adapters import tuned_by_method
from wenloom.training.dial import Derived
from wenloom.training.equalized import EqualizedObjective, word_pairs
from wenloom.training.measure import guessed_flops_per_second
from wenloom.training.objectives import CausalObjective
from wenloom.training.pace import LEAST_STEPS
from wenloom.training.parallel import World
from wenloom.training.routing import RouterLosses
from wenloom.training.scratch import CorpusStatistics, document_start
from wenloom.training.settings import ADAPTERS, InitSettings, TrainSettings
from wenloom.training.setup import RunSpec
from wenloom.training.source import CorpusSource, MixedSource
from wenloom.training.training_data import CorpusData, CorpusDataWithKept, corpus_data
from wenloom.training.unread import TRAINING, refuse

_MOST_CONTEXT = 1024
"""Tokens of a row, unless more are asked for."""
_STEP_TOKENS = 4096
"""Of a short run; grows with the square root of its length."""
_EPOCHS = 2.0
KEPT_SHARE = 0.1
"""Part of the samples that come from the text that is kept: 1 to 5 % are enough where the new text is near the old, more
where it is far (Ibrahim et al. 2024, "Simple and scalable strategies to continually pre-train large language models",
section 7)."""
EQUALIZED = "en:gender"
"""Words that are compared where nobody names others."""
_MANY_TOKENS = 1.25
"""Tokens of a character from which a vocabulary is said not to fit a text."""


class ContinuedData(NamedTuple):
    """The texts of a continued pretraining."""

    dataset: Dataset
    kept: Dataset | None
    """Text that the model is not to forget."""
    tokenizer: TextTokenizer
    """The model's."""


def check_vocabulary(dataset: Dataset, tokenizer: TextTokenizer, init: str) -> None:
    """
    Raises:
        InputError: a corpus was made with another tokenizer than the model's.
    """
    there = dataset.manifest["tokenizer"]
    if there.get("sha256") != tokenizer.fingerprint():
        raise InputError(
            f"{dataset.folder}: was made with another vocabulary ({there['vocab_size']:,} tokens) than that of {init} "
            f"({tokenizer.vocab_size:,}). Prepare the text with the model's: wenloom prepare TEXT --tokenizer {init} "
            "--out FOLDER"
        )
    split = dataset.splits["train"]
    per_character = split.tokens / max(1, split.characters)
    if per_character > _MANY_TOKENS and tokenizer.kind != "bytes":
        remark(
            f"The vocabulary of {init} does not fit this text: {per_character:.1f} tokens a character. Training and "
            "generation take that much longer; a model whose vocabulary knows this script would learn it better."
        )


def continued_run(
    data: ContinuedData,
    init: InitSettings,
    context: int | None,
    training: TrainSettings,
    world: World,
    checkpoint: Path | None = None,
) -> tuple[RunSpec, CorpusData]:
    """Fill in the settings and load the model.

    Args:
        context: tokens of a row; default: what the model reads at once, 1,024 at most.
        checkpoint: from where a run goes on.

    Raises:
        InputError: the settings do not fit together or do not fit the model.
    """
    assert init.init is not None
    source = Path(init.init)
    adapts = init.method in ADAPTERS
    with progress("Loading the model"):
        model = load_model(source if adapts or checkpoint is None else checkpoint)
    if not isinstance(model, Decoder):
        raise InputError(f"{source}: predicts no next tokens (it has an encoder); --init goes on with a decoder.")
    most, derived = model.config.context_length, list[Derived]()
    if context is not None and context > most:
        raise InputError(f"--context {context}: {source} reads {most:,} tokens at once.")
    corpus = CorpusStatistics.of(data.dataset)
    if context is None:
        context = min(most, _MOST_CONTEXT, max(8, (corpus.tokens or 0) - 1))
        derived.append(Derived("context", f"{context:,}", f"what the model reads at once, {_MOST_CONTEXT:,} at most"))
    model = tuned_by_method(model, init, training.seed, derived)
    assert isinstance(model, Decoder)

    training = _without_gaps(
        model, init, context, training, corpus.tokens or 1, lambda: guessed_flops_per_second(training, world), derived
    )
    refuse((training,), TRAINING, training)
    assert training.batch is not None
    source_of = corpus.source(context, training.batch, training.seed)
    derived += corpus.told(source_of, training)
    validation_tokens = corpus.validation_tokens
    texts = corpus_data(data.dataset, data.tokenizer, context)
    if data.kept is not None:
        share = init.keep or KEPT_SHARE
        kept = CorpusStatistics.of(data.kept)
        source_of = MixedSource(source_of, CorpusSource(kept.stream, context, training.batch, training.seed), share)
        texts = CorpusDataWithKept(data.dataset, data.kept, data.tokenizer, context)
        validation_tokens += min(validation_tokens, kept.validation_tokens)
        derived.append(Derived("kept text", f"{100 * share:.0f} % of the samples", f"from {data.kept.folder}"))
    shape, routers = model.config, None
    if shape.mlp.experts is not None:
        routers = RouterLosses()
        derived.append(Derived("balance loss", str(routers.balance), "default of models with experts"))
        derived.append(Derived("router z loss", str(routers.z), "default of models with experts"))
    objective = CausalObjective(model, document_start(corpus, training, context), routers)
    if init.equalize is not None:
        if routers is not None:
            raise InputError("--equalize goes with models without experts, whose routers have losses of their own.")
        words = init.equalize_words or EQUALIZED
        pairs = word_pairs(words, data.tokenizer)
        objective = EqualizedObjective(model, pairs, init.equalize, objective.document_start)
        derived.append(
            Derived(
                "equalized",
                f"{len(pairs.first)} pairs of tokens",
                f"words and counterparts of {words} that are one token",
            )
        )
    settings = asdict(init) | {"context": context} | asdict(training)
    spec = RunSpec(
        objective, source_of, training,
        settings, derived,
        f"{source.name or source} ({shape.family}, {counted(shape.n_layers, 'layer')}, width {shape.d_model}), context {context:,}"
        + f", {init.method}" * adapts,
        validation_tokens, evaluates_first=True,
        smaller="choose a smaller --context, --method lora, or --recompute",
        calmer="more text, a lower --learning-rate, --method lora or fewer --epochs",
    )  # fmt: skip
    return spec, texts


def _without_gaps(
    model: Decoder,
    init: InitSettings,
    context: int,
    training: TrainSettings,
    corpus_tokens: int,
    flops_per_second: Callable[[], float],
    derived: list[Derived],
) -> TrainSettings:
    if not any((training.budget, training.tokens, training.epochs, training.steps)):
        training = replace(training, epochs=_EPOCHS)
        derived.append(Derived("epochs", f"{_EPOCHS:.0f}", "default of a model that goes on training"))
    if training.batch is None:
        if training.tokens is not None:
            tokens = parse_count(training.tokens, "--tokens")
        elif training.budget is not None:
            seconds = parse_duration(training.budget, "--budget")
            tokens = seconds * flops_per_second() / (6 * active_parameters(model))
        elif training.steps is not None:
            tokens = training.steps * _STEP_TOKENS
        else:
            tokens = (training.epochs or _EPOCHS) * corpus_tokens
        wanted, few = _STEP_TOKENS * math.sqrt(max(tokens, 2e6) / 2e6) / context, ""
        if training.steps is None and tokens / (LEAST_STEPS * context) < wanted:
            wanted, few = tokens / (LEAST_STEPS * context), f", fewer for {LEAST_STEPS} steps"
        training = replace(training, batch=max(1, 2 ** round(math.log2(max(1.0, wanted)))))
        derived.append(Derived("batch", f"{training.batch} x {context:,} tokens",
                               f"{_STEP_TOKENS:,} sqrt({show_count(max(tokens, 2e6))} tokens / 2M), a power of two of sequences{few}"))  # fmt: skip
    if training.optimizer is None:
        training = replace(training, optimizer="adamw")
        derived.append(Derived("optimizer", "adamw", "from a trained model"))
    if training.learning_rate is None:
        if init.method in ADAPTERS:
            rate, formula = 1e-3, "default of adapters"
        else:
            rate, formula = 0.0008 * math.sqrt(128 / model.config.d_model), "0.0008 sqrt(128 / width)"
        training = replace(training, learning_rate=float(f"{rate:.3g}"))
        derived.append(Derived("learning rate", f"{rate:.3g}", formula + ", rising anew over the warm-up"))
    return training
