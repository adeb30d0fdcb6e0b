"""Training for a task: from files of examples to a model folder, in the one training loop."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tokenizers.processors import TemplateProcessing

from wordloom.checkpoint.folder import load_model
from wordloom.core.console import remark
from wordloom.core.errors import InputError
from wordloom.core.hardware import probe
from wordloom.core.randomness import derive_seed, generator
from wordloom.model.build import Model, build
from wordloom.model.decoder import Decoder
from wordloom.model.encoder_decoder import EncoderDecoder
from wordloom.model.presets import encoder_decoder_from_scratch
from wordloom.tasks.apply import PairWriter
from wordloom.tasks.pairs import PAIR_TASKS, Pair, PairEncoder, PairTask, read_pairs
from wordloom.tasks.rows import Intake
from wordloom.tasks.settings import DataSettings, FreshSettings, LearningSettings
from wordloom.tokens.tokenizer import TextTokenizer
from wordloom.tokens.train import default_vocab_size, train_tokenizer
from wordloom.training.dial import Derived
from wordloom.training.examples import ExampleMaterial
from wordloom.training.learner import Learner
from wordloom.training.loop import Result, Run, check_output, fields_of
from wordloom.training.material import Material
from wordloom.training.objectives import CausalObjective, EncoderDecoderObjective, Objective
from wordloom.training.parallel import World, joined_processes
from wordloom.training.report import Sample, Showcase
from wordloom.training.settings import TrainSettings
from wordloom.training.setup import Setup
from wordloom.training.state import latest_checkpoint, read_run
from wordloom.training.tuning import set_up_tuning

_SHOWN = 3


def finetune(
    task: str,
    out: Path,
    base: Path | None = None,
    data: DataSettings | None = None,
    fresh: FreshSettings | None = None,
    learning: LearningSettings | None = None,
    training: TrainSettings | None = None,
) -> Result:
    """Train a model for a task.

    Args:
        task: a name in `PAIR_TASKS`.
        out: run folder, as in `training.loop.pretrain`.
        base: the model to begin with; None makes one with an encoder, from scratch.
        data, fresh, learning, training: see their fields.

    Raises:
        InputError: the settings, the examples or the output folder cannot be used.
        NotFinite, Interrupted: see `training.loop.pretrain`.
    """
    if task not in PAIR_TASKS:
        raise InputError(f"--task {task}: known are {', '.join(PAIR_TASKS)}.")
    check_output(out)
    work = _PairWork(PAIR_TASKS[task], base, data or DataSettings(), fresh or FreshSettings(),
                     learning or LearningSettings(), training or TrainSettings())  # fmt: skip
    return work.run(out)


def resume(out: Path) -> Result:
    """Continue an interrupted run from its last checkpoint, to the same end.

    Raises:
        InputError: there is nothing to continue, or the examples changed since.
    """
    tables = read_run(out)
    settings, checkpoint = tables["settings"], latest_checkpoint(out)
    if settings.get("task") not in PAIR_TASKS:
        raise InputError(f"{out}: was not made by wordloom finetune; continue it with wordloom pretrain --resume.")
    if checkpoint is None:
        raise InputError(f"{out}: has no checkpoint to continue from. Start again with another --out.")
    environment = tables.get("environment", {})
    fixed = {name: environment[name] for name in ("precision", "micro_batch") if name in environment}
    base = settings.get("base")
    work = _PairWork(
        PAIR_TASKS[settings["task"]],
        Path(base) if base else None,
        DataSettings(**fields_of(DataSettings, settings)),
        FreshSettings(**fields_of(FreshSettings, settings)),
        LearningSettings(**fields_of(LearningSettings, settings)),
        TrainSettings(**fields_of(TrainSettings, settings | fixed)),
    )
    if work.key != tables["data"]["key"]:
        raise InputError(f"{out}: the examples are not those that this run was started on; start a new run.")
    return work.run(out, checkpoint)


class _PairWork:
    """One training for a task that turns texts into texts."""

    def __init__(
        self,
        task: PairTask,
        base: Path | None,
        data: DataSettings,
        fresh: FreshSettings,
        learning: LearningSettings,
        training: TrainSettings,
    ):
        if data.train is None:
            raise InputError("name the examples: --train FILE")
        self.task, self.base, self.data, self.fresh, self.learning = task, base, data, fresh, learning
        intake = Intake(data.strict)
        self.train = self._read(data.train, intake)
        if data.validation is not None:
            self.held_out = self._read(data.validation, intake)
        else:
            self.train, self.held_out = _divided(self.train, training.seed)
        intake.report()
        self.n_refused = len(intake.refused)
        texts = json.dumps([self.train, self.held_out], ensure_ascii=False)
        self.key = hashlib.sha256(texts.encode()).hexdigest()[:16]
        self.derived: list[Derived] = []
        self.training = self._without_gaps(training)

    def _read(self, where: str, intake: Intake) -> list[Pair]:
        pairs = read_pairs(where, self.task, intake, self.data.source, self.data.target)
        if self.data.reverse:
            return [Pair(target, (pair.source,)) for pair in pairs for target in pair.targets]
        return pairs

    def _without_gaps(self, training: TrainSettings) -> TrainSettings:
        if training.batch is None:
            training = replace(training, batch=64)
            self.derived.append(Derived("batch", "64 examples", "default"))
        if not any((training.budget, training.tokens, training.epochs, training.steps)):
            epochs = 3.0 if self.base else 20.0
            training = replace(training, epochs=epochs)
            self.derived.append(Derived("epochs", f"{epochs:.0f}", "3 from a trained model, 20 from scratch"))
        if training.learning_rate is None:
            rate = 3e-4 if self.base else float(f"{0.005 * (128 / self.fresh.width) ** 0.5:.3g}")
            formula = "default for a trained model" if self.base else "0.005 sqrt(128 / width)"
            training = replace(training, learning_rate=rate)
            self.derived.append(Derived("learning rate", f"{rate:g}", formula))
        return training

    def run(self, out: Path, checkpoint: Path | None = None) -> Result:
        """Train to the end."""
        with joined_processes(probe(self.training.device).device) as world:
            return Run(lambda restore: self._begin(restore, world), out, self._show, world, checkpoint).go()

    def _begin(self, restore: Callable[[Learner], tuple[int, int]], world: World) -> tuple[Setup, Material]:
        model, tokenizer = self._model()
        encoder = PairEncoder(model.config, tokenizer, self.task, self.data.longest_source, self.data.longest_target)
        train, _ = encoder.examples([(pair.source, target) for pair in self.train for target in pair.targets])
        held_out, texts = encoder.examples([(pair.source, pair.targets[0]) for pair in self.held_out])
        if encoder.n_cut:
            remark(f"{encoder.n_cut:,} sources have more than {encoder.longest_source} tokens: they lost their end.")
        if encoder.n_dropped:
            remark(f"{encoder.n_dropped:,} targets have more than {encoder.longest_target} tokens: left out.")
        if not train or not held_out:
            raise InputError("no example is left: every target is too long for --longest-target.")
        objective: Objective
        if isinstance(model, EncoderDecoder):
            objective = EncoderDecoderObjective(model, self.learning.smoothing)
        else:
            assert isinstance(model, Decoder)
            objective = CausalObjective(model)
        settings: dict[str, Any] = {
            "task": self.task.name,
            "base": str(self.base.resolve()) if self.base else None,
            **asdict(self.data), **asdict(self.fresh), **asdict(self.learning), **asdict(self.training),
        }  # fmt: skip
        table = {
            "task": self.task.name,
            "key": self.key,
            "train": (self.data.train or "").split(","),
            "train_examples": len(train),
            "validation_examples": len(held_out),
            "rows_left_out": self.n_refused,
            "sources_cut": encoder.n_cut,
            "targets_too_long": encoder.n_dropped,
        }
        setup = set_up_tuning(objective, train, held_out, self.training, settings, self.derived, world, restore)
        return setup, ExampleMaterial(tokenizer, held_out, texts, table)

    def _model(self) -> tuple[Model, TextTokenizer]:
        if self.base is not None:
            model = load_model(self.base)
            if model.config.kind == "encoder":
                raise InputError(f"{self.base}: is an encoder, which cannot write; {self.task.name} needs to.")
            return model, TextTokenizer.from_pretrained(self.base)
        tokenizer = self._tokenizer()
        assert tokenizer.eos_token_id is not None and tokenizer.pad_token_id is not None
        fresh = self.fresh
        config = encoder_decoder_from_scratch(
            fresh.arch, vocab_size=tokenizer.vocab_size, n_layers=fresh.layers, d_model=fresh.width,
            n_heads=fresh.heads, context_length=max(self.data.longest_source, self.data.longest_target),
            dropout=fresh.dropout, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        model = build(config)
        model.initialise(generator(self.training.seed, "weights"))
        return model, tokenizer

    def _tokenizer(self) -> TextTokenizer:
        """One vocabulary for both sides, which closes every text with the end token."""
        texts = [text for pair in self.train for text in (pair.source, *pair.targets)]
        size = self.fresh.vocab_size or min(8192, 4 * default_vocab_size(sum(len(text.encode()) for text in texts)))
        tokenizer = train_tokenizer([texts], "bpe", size, exact=self.fresh.vocab_size is not None)
        end = tokenizer.eos_token
        tokenizer.backend.post_processor = TemplateProcessing(
            single=f"$A {end}", pair=f"$A {end} $B {end}", special_tokens=[(str(end), tokenizer.eos_token_id)]
        )
        return tokenizer

    def _show(self, model: Model, tokenizer: TextTokenizer) -> Showcase:
        sources = [pair.source for pair in self.held_out[:_SHOWN]]
        writer = PairWriter(model, tokenizer, self.task, self.data.longest_source, self.data.longest_target)
        found = [answer.text for answer in writer.write(sources)]
        return Showcase([Sample(f"{source}\n→ ", text.strip()) for source, text in zip(sources, found, strict=True)])


def _divided(pairs: list[Pair], seed: int) -> tuple[list[Pair], list[Pair]]:
    """A fiftieth to measure by, 1,000 at most: those whose source hashes lowest, so that equal sources stay together.

    Raises:
        InputError: too few to divide.
    """
    n_held_out = min(1000, max(1, len(pairs) // 50))
    order = sorted(range(len(pairs)), key=lambda index: derive_seed(seed, "held out", pairs[index].source))
    chosen = {pairs[index].source for index in order[:n_held_out]}
    held_out = [pair for pair in pairs if pair.source in chosen]
    train = [pair for pair in pairs if pair.source not in chosen]
    if not train:
        raise InputError(f"{len(pairs)} examples with one source are too few: some must be held out to measure by.")
    return train, held_out
