"""What all trainings for a task have in common: examples, a model to begin with, the one loop."""

import gc
import hashlib
import json
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Generic, TypeVar

from wenloom.checkpoint.folder import load_model, load_tokenizer
from wenloom.core.console import remark
from wenloom.core.errors import InputError, printable
from wenloom.core.hardware import probe
from wenloom.core.memory import release_freed_memory
from wenloom.core.progress import progress
from wenloom.core.quantities import counted, parse_duration
from wenloom.core.randomness import derive_seed
from wenloom.generation.jobs import Continuation
from wenloom.model.build import Model
from wenloom.tasks.augment import Noise
from wenloom.tasks.lost import Lost
from wenloom.tasks.rows import RowReader
from wenloom.tasks.run_settings import Settings
from wenloom.tasks.settings import DataSettings
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.adapters import tuned_by_method
from wenloom.training.columns import Example, tokens_of
from wenloom.training.dial import Derived
from wenloom.training.examples import ExampleData, Examples, targets_of
from wenloom.training.loop import Run
from wenloom.training.measure import flops_of, guessed_flops_per_second
from wenloom.training.objectives import Objective
from wenloom.training.pace import LEAST_STEPS
from wenloom.training.parallel import World, joined_processes
from wenloom.training.prolong import lengthened, with_length_of
from wenloom.training.report import SamplePreview
from wenloom.training.run_file import read_run, write_run
from wenloom.training.run_result import RunResult
from wenloom.training.settings import ADAPTERS, TrainSettings
from wenloom.training.setup import RunSpec
from wenloom.training.training_data import TrainingData

Row = TypeVar("Row")
Found = TypeVar("Found")
Figures = dict[str, tuple[float, float | None]]
"""Measures by name: value, and standard error or half of a 95 % interval where there is one."""
_FROM_SCRATCH, _FROM_A_MODEL = 64, 16
"""Examples of a step, where --batch says nothing."""
SHOWN = 3
"""Examples that are shown at every evaluation."""
_MOST_NAMED = 1000
"""Rows left out that run.toml lists."""
_DIVISIONS = 20
"""How often other rows are chosen for validation where none of those chosen fits."""
_LEAVING = 0.5
"""Seconds of a budget for what follows the figures: they are written down, and Python ends."""
_HEADS = ("head.", "classifier.", "transform", "output_bias")


@dataclass(frozen=True)
class EncodedExamples:
    """Examples as a model reads them."""

    train: list[Example]
    validation: list[Example]
    lost: dict[str, Lost]
    """Examples that do not fit, by a phrase that says what happened to them."""
    packed: float = 1.0
    """How many of the texts that are learned share a row, on average."""


@dataclass(frozen=True)
class TaskResult:
    """What a finished training gives."""

    run: RunResult
    figures: Figures
    """Of the best model, on the validation data."""


def _base_missing(settings: Settings) -> InputError:
    return InputError(f"--task {settings.task} begins with a model: wenloom finetune MODEL --task ...")


class TaskRecipe(ABC, Generic[Row]):
    """One training for a task.

    Raises:
        InputError: the settings or the examples cannot be used.
    """

    needs_base = True
    """Whether there must be a model to begin with."""

    smaller = "choose a smaller --max-source-tokens, --method lora, or --recompute"
    """What to do where one example does not fit in memory."""

    measuring = 0.0
    """Part of a budget that `measure` may take."""

    least_steps = 0  # of a run from scratch whose length nobody gave
    longer = "allow more by --max-source-tokens and --max-target-tokens"
    """What to do where no example fits the model."""

    def __init__(self, settings: Settings):
        if settings.data.train is None:
            raise InputError("name the examples: --train FILE")
        if self.needs_base and settings.base is None:
            raise _base_missing(settings)
        if settings.base is None and settings.learning.method != "full":
            raise InputError(f"--method {settings.learning.method} begins with a model: there is nothing to freeze.")
        self.derived: list[Derived] = []
        self.batch_is_open = self.length_is_open = False
        self.settings = replace(settings, training=self._without_gaps(settings))
        data, reader = settings.data, RowReader(settings.data.strict)
        with progress("Reading the examples"):
            self.train = self.read(settings.data.train, reader, data)
            others = (data.validation, data.extra)
            validation, extra = (None if where is None else self.read(where, reader, data) for where in others)
        reader.report()
        self._given, self._extra = self.train, extra or []
        if validation is not None:
            self.validation = validation
            self.train = self.train + self._to_learn(self._extra)
        else:
            self._divide(settings.training.seed)
        self.reader = reader
        rows = json.dumps([self.train, self.validation], ensure_ascii=False)
        self.key = hashlib.sha256(rows.encode()).hexdigest()[:16]

    # --- what a task says ---

    @abstractmethod
    def read(self, where: str, reader: RowReader, data: DataSettings) -> list[Row]:
        """The rows of a file."""

    @abstractmethod
    def question(self, row: Row) -> str:
        """What tells rows apart that must not be divided between training and validation."""

    def answers(self, row: Row) -> tuple[str, ...]:
        """Texts that are not learned where they are the answers of validation rows."""
        return ()

    @abstractmethod
    def encode(self, model: Model, tokenizer: TextTokenizer) -> EncodedExamples:
        """Examples for a model."""

    @abstractmethod
    def objective(self, model: Model) -> Objective:
        """What is minimised."""

    change: Callable[[Example, int], Example] | None = None
    """See `training.examples.Examples`."""

    def fresh(self) -> tuple[Model, TextTokenizer]:
        """A model from scratch.

        Raises:
            InputError: the task begins with a model.
        """
        raise _base_missing(self.settings)

    def prepared(self, model: Model, tokenizer: TextTokenizer) -> Model:
        """The model to begin with, as the task needs it."""
        return model

    def show(self, model: Model, tokenizer: TextTokenizer, until: float | None = None) -> SamplePreview:
        """What the model makes of some examples, written until a time by `time.monotonic`; None: however long it takes."""
        return SamplePreview()

    def measure(self, model: Model, tokenizer: TextTokenizer) -> Figures:
        """How good the finished model is on the validation data, by the task's own measure.

        Where there is a budget, it keeps to `until`.
        """
        return {}

    @property
    def until(self) -> float | None:
        """When `measure` is to have ended, by `time.monotonic`; None without a budget."""
        end = self.settings.deadline
        return None if end is None else end - _LEAVING

    def in_time(self, found: Iterable[Found], until: float | None = None) -> Iterator[Found]:
        """What is found until a time, or else until the budget ends; something at least."""
        end = self.until if until is None else until
        for each in found:
            yield each
            if end is not None and time.monotonic() >= end:
                return

    def written(self, texts: Iterable[Continuation], total: int, unit: str) -> list[Continuation]:
        """Texts as they are written, with a bar; those that the end of the budget left without a token are left out."""
        found = []
        with progress("Measuring", total, unit) as bar:
            for text in texts:
                found.append(text)
                bar.advance()
        begun = [each for each in found if each.tokens or each.ended_by != "cancelled"]
        if n_cut := sum(each.ended_by == "cancelled" for each in begun):
            remark(f"The budget ended while {unit} were measured: {n_cut:,} of {len(begun):,} count as far as written.")
        return begun

    def usual_batch(self, encoded: EncodedExamples) -> tuple[int, str]:
        """Examples of a step where nobody says how many, and the formula."""
        formula = f"{_FROM_SCRATCH} examples from scratch, {_FROM_A_MODEL} from a trained model"
        return (_FROM_SCRATCH if self.settings.base is None else _FROM_A_MODEL), formula

    # --- the same for all ---

    def _divide(self, seed: int) -> None:
        """A fiftieth for validation, 1,000 at most: those whose questions hash lowest, so that equal ones stay together.

        Raises:
            InputError: too few to divide.
        """
        rows, questions = self._given, [self.question(row) for row in self._given]
        n_validation = min(1000, max(1, len(rows) // 50))
        chosen = set(sorted(questions, key=lambda each: derive_seed(seed, "held out", each))[:n_validation])
        validation = [row for row, question in zip(rows, questions, strict=True) if question in chosen]
        others = [row for row, question in zip(rows, questions, strict=True) if question not in chosen]
        self.validation = validation
        train = self._to_learn(others)
        if not train:
            raise InputError(f"{len(rows)} examples are too few: some must be kept for validation.")
        self.train = train + self._to_learn(self._extra)

    def _encoded(self, model: Model, tokenizer: TextTokenizer) -> EncodedExamples:
        """Examples; where none of a few rows chosen for validation fits the model, others are chosen.

        Raises:
            InputError: none fits for training, or for validation.
        """
        encoded = self.encode(model, tokenizer)
        for attempt in range(1, _DIVISIONS):
            if encoded.validation or not encoded.train or self.settings.data.validation is not None:
                break
            self._divide(self.settings.training.seed + attempt)
            encoded = self.encode(model, tokenizer)
        n_tokens = sum(map(tokens_of, chain(encoded.train, encoded.validation)))
        n_tokens += sum(lost.tokens for lost in encoded.lost.values())
        for what, lost in encoded.lost.items():
            if lost.examples:
                remark(lost.said(what, len(self._given), n_tokens, self.longer))
        if not encoded.train or not encoded.validation:
            what, rows = ("validation", self.validation) if encoded.train else ("training", self._given)
            raise InputError(f"no example is left for {what}: all {len(rows):,} are too long; {self.longer}.")
        return encoded

    def _to_learn(self, rows: list[Row]) -> list[Row]:
        """Rows of which neither question nor answer is in the validation data."""
        questions = {self.question(row) for row in self.validation}
        answers = {answer for row in self.validation for answer in self.answers(row)}
        kept = [row for row in rows if self.question(row) not in questions and answers.isdisjoint(self.answers(row))]
        if len(kept) < len(rows):
            what = counted(len(rows) - len(kept), "example")
            remark(f"Left out: {what} with a question or an answer of the validation data.")
        return kept

    def noise(self, model: Model, tokenizer: TextTokenizer) -> Noise | None:
        """Changes to what is read, if any are asked for."""
        learning = self.settings.learning
        if not learning.noise and not learning.deletion:
            return None
        return Noise(model.config.vocab_size, tokenizer.special_ids, learning.noise, learning.deletion)

    def _without_gaps(self, settings: Settings) -> TrainSettings:
        training, has_base = settings.training, settings.base is not None
        adapter = settings.learning.method in ADAPTERS
        if training.batch is None:
            training = replace(training, batch=_FROM_SCRATCH if not has_base else _FROM_A_MODEL)
            self.batch_is_open = True
        if not any((training.budget, training.tokens, training.epochs, training.steps)):
            self.length_is_open = True
            epochs = 3.0 if has_base else 20.0
            training = replace(training, epochs=epochs)
            self.derived.append(Derived("epochs", f"{epochs:.0f}", "3 from a trained model, 20 from scratch"))
        if training.optimizer is None:
            training = replace(training, optimizer="adamw" if has_base else "muon")
            formula = "adamw from a trained model, muon from scratch"
            self.derived.append(Derived("optimizer", str(training.optimizer), formula))
        if training.learning_rate is None:
            rate, formula = (1e-3, "default of adapters") if adapter else (3e-4, "default of full tuning")
            if not has_base:
                rate, formula = float(f"{0.005 * (128 / settings.fresh.width) ** 0.5:.3g}"), "0.005 sqrt(128 / width)"
            training = replace(training, learning_rate=rate)
            self.derived.append(Derived("learning rate", f"{rate:g}", formula))
        return training

    def run(self, out: Path, checkpoint: Path | None = None) -> TaskResult:
        """Train to the end."""
        with joined_processes(probe(self.settings.training.device).device) as world:
            spec, examples = self._specified(world)
            if self.settings.more is not None and checkpoint is not None:
                longer = replace(spec, training=with_length_of(spec.training, self.settings.more))
                spec = lengthened(longer, out, checkpoint, branches=False)
            result = Run(spec, examples, out, self.show, world, checkpoint).go()
            if not world.is_main:
                return TaskResult(result, {})
        gc.collect()  # what was trained, before it is read back
        release_freed_memory()
        device = probe(self.settings.training.device).device
        with progress("Measuring the finished model"):
            figures = self.measure(load_model(out, device), TextTokenizer.from_pretrained(out))
        table = {name: value for name, (value, _) in figures.items()}
        errors = {f"{name}_error": error for name, (_, error) in figures.items() if error is not None}
        write_run(out, read_run(out) | {"measures": table | errors})
        return TaskResult(result, figures)

    def _specified(self, world: World) -> tuple[RunSpec, TrainingData]:
        """The parts of the run, and the data that it learns from and validates on."""
        base, loading = self.settings.base, time.monotonic()
        with progress("Making the model" if base is None else "Loading the model"):
            if base is None:
                model, tokenizer = self.fresh()
            else:
                tokenizer = load_tokenizer(base)
                model = self.prepared(load_model(base), tokenizer)
                seed = self.settings.training.seed
                model = tuned_by_method(model, self.settings.learning, seed, self.derived, _HEADS)
        loading = time.monotonic() - loading
        with progress("Encoding the examples"):
            encoded = self._encoded(model, tokenizer)
        table = {
            "task": self.settings.task,
            "key": self.key,
            "train": (self.settings.data.train or "").split(","),
            "train_examples": len(encoded.train),
            "validation_examples": len(encoded.validation),
            "rows_left_out": self.reader.count,
            "too_long": [lost.told(what) for what, lost in encoded.lost.items() if lost.examples],
            "left_out": [printable(str(each), 500) for each in self.reader.refused[:_MOST_NAMED]],
        }
        if not any(map(targets_of, encoded.train)):
            raise InputError("no example holds a single token to learn: every target is empty or cut off.")
        if self.batch_is_open:
            self._fit_batch(model, encoded, world)
        if self.length_is_open:
            self._fit_length(len(encoded.train))
        training = self.settings.training
        assert training.batch
        source = Examples(encoded.train, training.batch, training.seed, self.change)
        training_data = ExampleData(tokenizer, encoded.train, encoded.validation, table)
        shape = model.config
        spec = RunSpec(
            self.objective(model), source, training, self.settings.table(), self.derived,
            f"{shape.family}, {counted(shape.n_layers, 'layer')}, width {shape.d_model}",
            sum(map(tokens_of, encoded.validation)),
            layer_decay=self.settings.learning.layer_decay, smaller=self.smaller, deadline=self.settings.deadline,
            closing=self._closing(loading), prolonged=self.settings.prolonged,
            calmer="more examples, a higher --dropout, a smaller --width or fewer --epochs" if base is None else
                   "more examples, a lower --learning-rate or fewer --epochs",
        )  # fmt: skip
        return spec, training_data

    def _closing(self, loading: float) -> float:
        """Seconds of a budget for what follows the last evaluation: report, the model read back, its figures.

        Args:
            loading: seconds that reading, or making, the model took.
        """
        budget = self.settings.training.budget
        measuring = self.measuring * parse_duration(budget, "--budget") if budget else 0.0
        return 1.0 + loading * (self.settings.base is not None) + measuring + _LEAVING

    def _fit_batch(self, model: Model, encoded: EncodedExamples, world: World) -> None:
        """As many rows as hold the texts of a step: where many share a row, few rows do. Fewer, where a budget would
        otherwise end after a few steps."""
        (texts, formula), packed = self.usual_batch(encoded), encoded.packed
        rows = max(world.size, round(texts / packed))
        shared = f"; {packed:.1f} share a row" if packed > 1 else ""
        if self.settings.deadline is not None:
            fitting = self._rows_in_time(model, encoded.train, world)
            if fitting < rows:
                rows, shared = max(world.size, fitting), f"{shared}; fewer, so that --budget holds {LEAST_STEPS} steps"
        self.settings = replace(self.settings, training=replace(self.settings.training, batch=rows))
        self.derived.insert(0, Derived("batch", f"{rows} rows", formula + shared))

    def _fit_length(self, n_examples: int) -> None:
        """More epochs, where those of every task would be fewer than `least_steps`."""
        training = self.settings.training
        epochs = self.least_steps * min(training.batch or 1, n_examples) / n_examples
        if self.settings.base is None and epochs > (training.epochs or 0):
            self.settings = replace(self.settings, training=replace(training, epochs=float(f"{epochs:.3g}")))
            more = Derived("epochs", f"{epochs:.3g}", f"{self.least_steps:,} steps, more than 20 epochs")
            self.derived = [more if each.name == "epochs" else each for each in self.derived]

    def _rows_in_time(self, model: Model, examples: list[Example], world: World) -> int:
        """The most rows of which half of what a budget leaves holds `LEAST_STEPS` steps."""
        assert self.settings.deadline is not None
        tokens = statistics.fmean(map(tokens_of, examples))
        left = (self.settings.deadline - time.monotonic()) / 2
        speed = guessed_flops_per_second(self.settings.training, world)
        return int(world.agreed(left * speed / (LEAST_STEPS * tokens * flops_of(model, tokens))))
