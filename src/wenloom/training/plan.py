"""What a run will take, told before it starts: steps, time, memory, disk and the loss to expect."""

import math
from dataclasses import dataclass

from wenloom.core.quantities import (
    counted,
    parse_count,
    parse_duration,
    show_bytes,
    show_count,
    show_duration,
    show_percent,
)
from wenloom.training.dial import Derived
from wenloom.training.measure import StepMemory
from wenloom.training.pace import EVALUATION_SHARE, Course
from wenloom.training.settings import TrainSettings


@dataclass(frozen=True)
class Timetable:
    """The shape of a run in time."""

    n_steps: int
    """Optimizer steps."""
    evaluate_at: frozenset[int]
    """Steps after which the validation text is scored; the last is always among them."""
    seconds: float
    """Estimate of what is left to do, evaluations included."""
    evaluation_seconds: float
    """Of them, those of one evaluation."""


def make_timetable(
    settings: TrainSettings,
    step_seconds: float,
    batch_tokens: int,
    samples_per_epoch: float,
    validation_tokens: float,
    done: int = 0,
    n_steps: int | None = None,
    left: float | None = None,
    evaluation_seconds: float | None = None,
    evaluates_first: bool = False,
) -> Timetable:
    """Lay out a run.

    Args:
        settings: without gaps.
        step_seconds: time of one optimizer step.
        batch_tokens: tokens in one step.
        done: steps done already, by a run that is resumed.
        n_steps: the length that a resumed run was made for.
        left: seconds of a budget for steps and evaluations; None: all of it.
        evaluation_seconds: time of one evaluation, where it was measured.
        evaluates_first: whether there is one before the first step.
    """
    if evaluation_seconds is None:  # it is a forward pass: about a third of the work of training on a token
        evaluation_seconds = validation_tokens / (3 * batch_tokens / step_seconds)
    evaluation_seconds = max(1e-3, evaluation_seconds)
    seconds = parse_duration(settings.budget, "--budget") if settings.budget else None
    if seconds is not None and left is not None:
        seconds = left
    if n_steps is None and seconds is None:
        n_steps = steps_asked(settings, batch_tokens, samples_per_epoch)
    count, first = settings.evaluations, int(evaluates_first and not done)
    if count is None:
        expected = seconds if seconds is not None else (n_steps or 1) * step_seconds
        count = int(min(20, max(1, EVALUATION_SHARE * expected / evaluation_seconds - first)))
    if n_steps is None:
        assert seconds is not None
        n_steps = max(1, round((seconds - (first + count) * evaluation_seconds) / step_seconds))
    evaluate_at = Course.laid_out(n_steps, count).evaluate_at()
    to_come = first + sum(step > done for step in evaluate_at)
    seconds = (n_steps - done) * step_seconds + to_come * evaluation_seconds
    return Timetable(n_steps, evaluate_at, seconds, evaluation_seconds)


def steps_asked(settings: TrainSettings, batch_tokens: float, samples_per_epoch: float) -> int:
    """Steps of a run whose length is given in steps, epochs or tokens, not in time; see `make_timetable`."""
    if settings.steps is not None:
        return settings.steps
    if settings.epochs is not None:
        return max(1, round(settings.epochs * samples_per_epoch / (settings.batch or 1)))
    return max(1, round(parse_count(settings.tokens or "1", "--tokens") / batch_tokens))


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes in one process, by part."""

    program: float
    """Python, its libraries, and the text: what the process held before there was a model."""
    weights: float
    gradients: float
    optimizer: float
    activations: float
    """What the rows computed at a time take for the backward pass."""
    working: float
    """What a step takes however few its rows: pieces of the output layer, weights in the dtype of products."""
    saving: float
    """The copy that a checkpoint is written from."""
    showing: float
    """The model read back from a checkpoint at an evaluation, and its file while it is read."""
    saved_while_training: bool
    """Whether checkpoints are due between evaluations: they are written while steps go on."""

    @property
    def total(self) -> float:
        """The most at once: a step, or an evaluation with what it saves and shows."""
        step = self.gradients + self.activations + self.working + self.saving * self.saved_while_training
        return self.program + self.weights + self.optimizer + max(step, self.saving, self.showing)


def memory(
    program: float,
    n_parameters: int,
    n_learned: int,
    n_by_muon: int,
    weights: float,
    step: StepMemory,
    micro_batch: int,
    saved_while_training: bool,
    shards: int = 1,
    on_cpu: bool = True,
) -> MemoryEstimate:
    """What a process will hold: gradients and optimizer state in float32 (Muon keeps one number a weight, AdamW two) of
    what is learned.

    Args:
        weights: bytes of all weights.
        n_by_muon: weights that Muon moves.
        shards: processes that hold the weights together.
        on_cpu: whether copies take of the same memory.
    """
    optimizer = 4 * n_by_muon + 8 * (n_learned - n_by_muon)
    return MemoryEstimate(
        program, weights / shards, 4 * n_learned / shards, optimizer / shards, step.row * micro_batch, step.fixed,
        (4 * n_learned + optimizer) * on_cpu, 8 * n_parameters * on_cpu, saved_while_training,
    )  # fmt: skip


_WORTHWHILE = 2**30
"""Bytes of activations from which a CPU gains nothing by more rows at a time: every operation walks over megabytes."""


def fitted_micro_batch(
    batch: int, step: StepMemory, fixed: float, available: int | None, row_tokens: int, on_cpu: bool = True
) -> int:
    """Rows at a time: all of them, or half, a quarter ... until they fit into four fifths of the memory.

    A CPU gains nothing by more than about 16k tokens, or 1 GB of what they keep, at a time.
    """
    rows = batch
    while rows > 1 and available is not None and fixed + rows * step.row > 0.8 * available:
        rows = -(-rows // 2)
    while rows > 1 and on_cpu and (rows * row_tokens > 2**14 or rows * step.kept > _WORTHWHILE):
        rows = -(-rows // 2)
    return rows


EXPECTED = "(B/2.3)^0.7 (0.70 + 33 N^-0.3 + 64 D^-0.3) +-12 %, B what bzip2 makes of a byte, N parameters, D bytes read"
ENGLISH_PACKED_BITS = 2.3
"""Bits to which bzip2 packs a byte of English prose."""


def expected_bits_per_byte(
    n_parameters: float, train_bytes: float, unique_bytes: float | None, packed_bits: float
) -> tuple[float, float]:
    """The range in which the validation loss will probably end.

    bpb = (B / 2.3)^0.7 (0.70 + 33 N^-0.3 + 64 D^-0.3) in the form of Hoffmann et al. (2022, eq. 10), N parameters, D bytes read, B
    the bits to which bzip2 packs a byte of the text; repeated text counts D' = U + 15 U (1 - exp(-(D/U - 1) / 15)), U bytes of text
    (Muennighoff et al. 2023, eq. 5). The sum is fitted to runs of 0.6 to 6 million parameters on English prose, the exponent to
    thirty runs on five corpora (docs/experiments.md).
    """
    effective = train_bytes
    if unique_bytes and train_bytes > unique_bytes:
        effective = unique_bytes * (1 + 15 * (1 - math.exp(-(train_bytes / unique_bytes - 1) / 15)))
    middle = 0.70 + 33 * n_parameters**-0.3 + 64 * effective**-0.3
    middle *= (packed_bits / ENGLISH_PACKED_BITS) ** 0.7
    return 0.88 * middle, 1.12 * middle


def no_worse_than_uniform(
    expected: tuple[float, float], vocab_size: int, bytes_per_token: float
) -> tuple[float, float]:
    """The same range, ended where a model would be that gives every token of the vocabulary the same probability.

    >>> no_worse_than_uniform((6.6, 8.4), 2048, 2.75), no_worse_than_uniform((1.4, 1.8), 2048, 2.75)
    ((3.52, 4.0), (1.4, 1.8))
    """
    most = math.log2(vocab_size) / bytes_per_token
    return min(expected[0], 0.88 * most), min(expected[1], most)


def of_validation(part: float) -> str:
    """How much of the validation data is scored, where that is not all.

    >>> of_validation(0.123), of_validation(0.001), of_validation(1)
    ('12 % of the validation data', 'less than 1 % of the validation data', '')
    """
    if part >= 1:
        return ""
    return f"{show_percent(part) if part >= 0.01 else 'less than 1 %'} of the validation data"


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that is known before the first step."""

    model: str
    """The shape in words."""
    parameters: int
    active_parameters: int
    """Those that a token meets: fewer where there are experts."""
    derived: list[Derived]
    timetable: Timetable
    tokens: int
    epochs: float | None
    step_seconds: float
    flops: float
    """Of the whole run."""
    utilisation: float
    """Part of the machine's matmul peak that a step reaches."""
    peak: float
    """FLOP/s of a large matrix product."""
    memory: MemoryEstimate
    available: int | None
    """Bytes free before the run."""
    micro_batch: int
    batch: int
    context: int
    validation_part: float
    """Of the validation data, what is scored."""
    bits_per_byte: tuple[float, float] | None
    """Range of the loss to expect; None where nobody knows."""

    @property
    def disk(self) -> float:
        """Bytes of the run folder: the last two checkpoints, the best model, and one checkpoint while it is written."""
        learned = self.memory.gradients  # as many bytes
        return 3 * (learned + self.memory.optimizer) + learned

    def active_words(self) -> str:
        """How many parameters a token meets, where these are not all."""
        return "" if self.active_parameters == self.parameters else f"a token meets {self.active_parameters:,} of them"

    def counted_parameters(self) -> str:
        """How many parameters there are."""
        active = self.active_words()
        return f"{self.parameters:,} parameters" + (f", {active}" if active else "")

    def evaluations(self) -> str:
        """How many there are, of how much of the validation data."""
        of = of_validation(self.validation_part)
        return counted(len(self.timetable.evaluate_at), "evaluation") + f" of {of}" * bool(of)

    def lines(self) -> list[tuple[str, str, str]]:
        """(what, how much, how it comes about) for people."""
        m = self.memory
        per_second = self.batch * self.context / self.step_seconds
        epochs = f"{self.epochs:.1f} epochs" if self.epochs else ""
        rows = [
            ("model", self.model, ""),
            *((f"  {each.name}", each.value, each.formula) for each in self.derived),
            ("parameters", f"{self.parameters:,}", self.active_words()),
            ("batch", f"{self.batch} x {self.context} tokens", f"{self.micro_batch} sequences at a time"),
            ("tokens", show_count(self.tokens), epochs),
            ("steps", f"{self.timetable.n_steps:,}", self.evaluations()),
            ("compute", f"{self.flops:.2g} FLOP", "(6 weights + 12 layers x context x width) x tokens"),
            ("speed", f"{per_second:,.0f} tokens/s, {100 * self.utilisation:.0f} % of the matmul peak", f"median of a few steps; peak {self.peak / 1e9:,.0f} GFLOP/s"),
            ("time", show_duration(self.timetable.seconds), f"{self.step_seconds * 1e3:,.0f} ms a step, and evaluations"),
            ("memory", show_bytes(m.total), f"of {show_bytes(m.program + self.available)} that there are" if self.available else ""),
            ("  program", show_bytes(m.program), "Python, libraries and text, measured"),
            ("  weights, gradients", show_bytes(m.weights + m.gradients), "4 bytes each; frozen ones 2 in bf16"),
            ("  optimizer", show_bytes(m.optimizer), "4 bytes a weight for Muon, 8 for AdamW"),
            ("  activations", show_bytes(m.activations), f"{show_bytes(m.activations / self.micro_batch)} a sequence, measured"),
            ("  working", show_bytes(m.working), "output layer, bf16 weights, measured"),
            ("  saving, showing", show_bytes(max(m.saving, m.showing)), "at evaluations: the copy that is written, the model read back"),
            ("disk", show_bytes(self.disk), "last two checkpoints, the one being written, best model"),
        ]  # fmt: skip
        if self.bits_per_byte is None:
            return rows
        low, high = self.bits_per_byte
        return [*rows, ("loss to expect", f"{low:.2f} to {high:.2f} bits per byte", EXPECTED)]
