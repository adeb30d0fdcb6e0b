"""The training loop: the only one, for one process and for many."""

import math
import shlex
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from wenloom.checkpoint.folder import load_model
from wenloom.core.console import remark
from wenloom.core.errors import InputError
from wenloom.core.hardware import memory_used
from wenloom.core.memory import release_freed_memory
from wenloom.core.progress import ProgressBar, progress
from wenloom.model.build import Model
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training import record
from wenloom.training.checkpoints import latest_checkpoint, own_checkpoints, set_aside_newer
from wenloom.training.guards import NotFinite, all_finite, origin
from wenloom.training.history import History, decided_before
from wenloom.training.interrupt import Interrupted, stop_signals
from wenloom.training.lock import RunIsTaken, locked
from wenloom.training.memorization import warn_of_quotes
from wenloom.training.pace import Course
from wenloom.training.parallel import World
from wenloom.training.prolong import course_of, told
from wenloom.training.report import SamplePreview, write_report
from wenloom.training.run_file import write_run
from wenloom.training.run_result import RunResult
from wenloom.training.schedules import multiplier
from wenloom.training.setup import Restored, RunSpec, set_up
from wenloom.training.sinks import open_sinks
from wenloom.training.state import Progress, Saver, load_checkpoint, publish_model, take_snapshot
from wenloom.training.train_step import Gradients, StepStopped, TrainStep
from wenloom.training.training_data import Evaluation, TrainingData
from wenloom.training.validation import Validation

_LOG_SECONDS, _REPORT_SECONDS = 1.0, 20.0
Show = Callable[[Model, TextTokenizer, float | None], SamplePreview]
"""What a model writes, from it and its tokenizer until a time by `time.monotonic` (None: however long it takes)."""


class Run:
    """One run from its first step, or from a checkpoint, to its end.

    Args:
        spec: what the run is made of.
        training_data: what it is validated by.
        show: called at every evaluation; what it writes goes into the log and the report.
        checkpoint: where to go on.
    """

    def __init__(
        self,
        spec: RunSpec,
        training_data: TrainingData,
        out: Path,
        show: Show | None,
        world: World,
        checkpoint: Path | None = None,
    ):
        self.out, self.show, self.world, self.checkpoint = out, show, world, checkpoint
        self.progress, self._found = Progress(n_steps=0), own_checkpoints(out)
        self.spec = spec
        self.setup, self.training_data = set_up(spec, world, self._restore), training_data
        self.training_data.limit(self.setup.plan.validation_part)
        self.training, self.train_step, self.pace = self.setup.training, self.setup.train_step, self.setup.pace
        if show is not None:
            self.pace.expect_samples()
        self.validation = Validation(training_data, self.train_step, self.setup.hardware.device, world)
        self._falls_from: int | None = None
        self._go_by(self._laid_out())
        assert self.training.batch
        self.tokenizer, self.batch = self.training_data.tokenizer, self.training.batch
        self.preview, self.overlap = SamplePreview(), None
        self._saved_step, self._peak = self.progress.step if checkpoint else None, self.setup.plan.peak

    def _restore(self, train_step: TrainStep) -> Restored:
        if self.checkpoint:
            self.progress = load_checkpoint(self.checkpoint, train_step.model, train_step.optimizers)
            self.progress.kept = False
        now = self.progress
        return Restored(samples=now.samples) if self.spec.prolongs else Restored(now.step, now.n_steps)

    def _laid_out(self) -> Course:
        """The course of a new run, or of one that is continued."""
        timetable, course, training = self.setup.plan.timetable, self.progress.course, self.training
        laid_out = Course.laid_out(timetable.n_steps, len(timetable.evaluate_at))
        if not self.spec.prolongs:
            return laid_out if course is None or course.n_steps != timetable.n_steps else course
        before, step = course_of(self.progress), self.progress.step
        after = before.prolonged(step, laid_out, before.falls_from(training.schedule, training.decay))
        remark(told(before, step, after, training.schedule))
        return after

    def _go_by(self, course: Course) -> None:
        """Let the run take this course."""
        self.course = self.progress.course = course
        self.progress.n_steps, self._evaluate_at = course.n_steps, course.evaluate_at()
        self._falls_from = course.falls_from(self.training.schedule, self.training.decay)

    def go(self) -> RunResult:
        """Train to the end; the run folder is made only now, when all settings are known to fit.

        Raises:
            RunIsTaken: another process trains there, or did since this one began.
        """
        with ExitStack() as held:
            refusal = None
            if self.world.is_main:
                try:
                    self._take(held)
                except InputError as error:
                    refusal = error
            if refused := self.world.agreed(refusal):
                self.setup.prefetcher.close()
                raise refused
            return self._go()

    def _take(self, held: ExitStack) -> None:
        """Make the folder this process's own, as long as `held` is open."""
        self.out.mkdir(parents=True, exist_ok=True)
        held.enter_context(locked(self.out))
        if self.checkpoint is not None:
            if own_checkpoints(self.out) != self._found:
                raise RunIsTaken(f"{self.out}: another process went on with this run meanwhile; look at it again.")
            set_aside_newer(self.out, self.checkpoint, "decayed" if self.spec.prolongs else "damaged")
        elif own_checkpoints(self.out):
            raise RunIsTaken(f"{self.out}: another process trained here meanwhile; choose another --out.")

    def _go(self) -> RunResult:
        self._repeats = self.checkpoint is not None and not self.spec.prolongs
        self._decided = decided_before(self.out, self.progress.step) if self._repeats else {}
        self.history = History(self.out, self.progress.step, self.world.is_main, self.training_data.best)
        self.sinks = open_sinks(self.out, self.training, self.world.is_main, self.setup.settings, self.progress.step)
        self.saver = Saver(self.out, self.tokenizer, self.setup.settings.get("base", self.setup.settings.get("init")))
        self._write_run()
        for line in record.announcement(self.setup, self.world):
            remark(line)
        if self.checkpoint and self.world.is_main and self.history.best_step == self.progress.step:
            publish_model(self.out, self.checkpoint)  # it may have been stopped between an evaluation and this
        try:
            with stop_signals() as stop, progress("Training", self.progress.n_steps, "steps") as bar:
                bar.begin_at(self.progress.step)
                if not self._repeats and (self.spec.prolongs or self.spec.evaluates_first):
                    self._save()
                if self._is_to_be_evaluated() and not self.history.evaluated(self.progress.step):
                    self._evaluate(bar, stop)
                self._train(bar, stop)
            with progress("Writing the report"):
                self.saver.wait()
                return self._finish()
        finally:
            self.saver.close()
            self.setup.prefetcher.close()
            self.setup.threads.end()
            for sink in self.sinks:
                sink.close()

    def _is_to_be_evaluated(self) -> bool:
        """Whether an evaluation belongs to where the run begins: its own first, or one that it was stopped before."""
        step = self.progress.step
        return step in self._evaluate_at if step else self.spec.evaluates_first

    def _train(self, bar: ProgressBar, stop: threading.Event) -> None:
        """Steps, and between them what is due: a log line, a checkpoint, an evaluation, the end."""
        last_log = last_report = last_save = time.monotonic()
        tokens = 0
        self.pace.mark(self.progress.step)
        while self.progress.step < self.progress.n_steps:
            try:
                gradients, rate = self._step(stop)
            except StepStopped:  # everything is as the last whole step left it
                if self._saved_step != self.progress.step and self._is_sound():
                    self._save()
                raise self._interrupted() from None
            step, now = self.progress.step, time.monotonic()
            tokens += self.setup.source.tokens(self.progress.samples - self.batch, self.progress.samples)
            evaluation_is_due = step in self._evaluate_at
            is_turned = self._turn()
            evaluation_is_due = evaluation_is_due or step in self._evaluate_at
            if now - last_log > _LOG_SECONDS or evaluation_is_due or is_turned:
                left = self.pace.left(self.course, step)
                bar.total = self.progress.n_steps
                bar.tell(self._log(gradients, rate, tokens / max(1e-9, now - last_log), left), left)
                last_log, tokens = now, 0
            if now - last_report > _REPORT_SECONDS and self.world.is_main:
                self._report(is_running=True)
                last_report = now
            bar.advance()
            save_is_due = now - last_save > 60 * self.training.save_minutes
            must_stop, save_is_due = self.world.signals(stop.is_set(), save_is_due, self.setup.hardware.device)
            is_kept = step == self._falls_from or step % (self.training.keep_every or self.progress.n_steps + 1) == 0
            if (must_stop or save_is_due or evaluation_is_due or is_kept) and self._is_sound():
                self._save(is_kept)
                last_save = now
            if must_stop:
                raise self._interrupted()
            if evaluation_is_due and self._is_sound():
                self._evaluate(bar, stop)
                last_log = time.monotonic()
                if self.history.evaluations_since_best() >= (self.training.patience or self.progress.n_steps + 1):
                    remark(
                        f"No better evaluation in the last {self.training.patience}: stopped early at step {step:,}."
                    )
                    self.progress.n_steps = step
                    self._save()

    def _turn(self) -> bool:
        """Put the length of the run right where a budget asks for it; returns whether it was changed.

        A run that is resumed repeats what was decided before it was stopped, and decides nothing anew.
        """
        step, decision = self.progress.step, None
        if self._repeats:
            decision = self._decided.get(step)
        elif self.pace.is_time(self.course, step):
            self.pace.mark(step)
            decision = self.world.agreed(self.pace.decided(self.course, step))
        if decision is None or decision == (self.course.n_steps, len(self.course.checks)):
            return False
        self._go_by(self.course.turned(step, *decision))
        return True

    def _step(self, stop: threading.Event) -> tuple[Gradients, float]:
        """One optimizer step, or none where loss or gradient is not finite; returns the learning rate, too.

        Raises:
            StepStopped: the user stopped it midway.
            NotFinite: that happened too often in a row.
        """
        started, training, step = time.monotonic(), self.training, self.progress.step
        planned = self.course.planned
        rate = (training.learning_rate or 0.0) * multiplier(
            training.schedule, self.course.at(step), planned, max(1, round(training.warmup * planned)),
            round(training.decay * planned), training.final_learning_rate,
        )  # fmt: skip
        batch = self.setup.prefetcher.batch(self.progress.samples)
        self.train_step.objective.done = self.course.at(step) / planned
        gradients = self.train_step.step(batch, rate, stop)
        self.progress.step += 1
        self.progress.samples += self.batch
        self.progress.seconds += time.monotonic() - started
        if gradients.finite:
            self.progress.skipped = 0
            return gradients, rate
        self.progress.skipped += 1
        where = origin(self.train_step, batch, self.tokenizer, self.setup.strategy)
        found = f"Step {step:,}: loss {gradients.loss}, gradient norm {gradients.norm}; it began in {where}."
        if self.progress.skipped >= training.max_skipped:
            saved = latest_checkpoint(self.out)
            kept = f"The last good checkpoint is {saved}." if saved else "No checkpoint was written yet."
            raise NotFinite(
                f"{found} {self.progress.skipped} steps in a row: stopping. {kept} Try a smaller --learning-rate."
            )
        remark(f"{found} The step was skipped.")
        return gradients, rate

    def _is_sound(self) -> bool:
        """Whether the weights are worth keeping; looked at only where the last step was skipped."""
        return not self.progress.skipped or all_finite(self.train_step.model)

    def _save(self, is_kept: bool = False) -> None:
        progress = replace(self.progress, kept=is_kept)
        snapshot = take_snapshot(self.train_step.model, self.train_step.optimizers, progress, self.world)
        self._saved_step = self.progress.step
        if snapshot is not None:
            self.saver.save(snapshot)

    def _evaluate(self, bar: ProgressBar, stop: threading.Event) -> None:
        """Score the validation text, show and report; the checkpoint was written before, so it may be interrupted."""
        started = self.pace.clock()

        def check() -> None:
            if stop.is_set() and self.world.size == 1:  # several must not part ways in the middle of an exchange
                raise self._interrupted()

        seconds = (
            None
            if self.training.validation_part or self.history.evaluations()
            else self.pace.for_evaluation(self.course, self.progress.step)
        )
        if seconds is not None:
            part = self.validation.fit(
                self.setup.plan.validation_part, self.setup.least_part, seconds, self.pace.clock, check
            )
            self.setup = replace(self.setup, plan=replace(self.setup.plan, validation_part=part))
        self._tell(bar, self.validation.score(check))
        self.pace.evaluated(self.pace.clock() - started)

    def _tell(self, bar: ProgressBar, found: Evaluation) -> None:
        """Record the figures of an evaluation, with what the model writes now."""
        figures = found.figures()
        if not self.world.is_main:
            self.history.add_evaluation(self.progress.step, figures)
            return
        self.saver.wait()
        checkpoint = latest_checkpoint(self.out)
        if self.show is not None and checkpoint:  # what was saved: a sharded model cannot be computed by one process
            release_freed_memory()  # the model that is read back may have it
            model = load_model(checkpoint, self.setup.hardware.device)
            self.preview = self.show(model, self.tokenizer, self.pace.samples_until())
        step = self.progress.step
        self.history.add_evaluation(
            step, figures, found.pieces if self.spec.evaluates_first else (), tokens=self.progress.samples * self.setup.plan.context, seconds=round(self.progress.seconds, 2),
            prompts=[sample.prompt for sample in self.preview.samples],
            samples=[sample.continuation for sample in self.preview.samples],
        )  # fmt: skip
        for sink in self.sinks:
            sink.log(step, {f"validation/{name}": value for name, value in figures.items()})
        if checkpoint and self.history.best_step == step:
            publish_model(self.out, checkpoint)
        sample = f"  {self.preview.samples[0].excerpt()!r}" if self.preview.samples else ""
        bar.print(
            f"step {step:,}: validation {record.shown_validation(figures, self.setup.settings.get('task'))}{sample}"
        )
        if self.history.turned_worse():
            bar.print(
                f"Validation has been getting worse since step {self.history.best_step:,}: the model learns its text by heart. The "
                f"best model is kept; {self.spec.calmer} would help."
            )
        self._write_run()
        self._report(is_running=True)

    def _finish(self) -> RunResult:
        best = self.history.best()
        if self.world.is_main:
            if self.preview.samples:
                self.overlap = self.training_data.overlap([sample.continuation for sample in self.preview.samples])
                warn_of_quotes(self.overlap, self.tokenizer)
            self._write_run()
            self.training_data.write_card(
                self.out, self.tables(), [sample.prompt + sample.continuation for sample in self.preview.samples]
            )
            self._report(is_running=False)
        size, figures = self.training_data.validation_size, best["validation"]
        loss = replace(size, nats=figures.get("nats_per_token", math.nan) * size.tokens)
        return RunResult(
            self.out, loss, figures, self.history.best_step, self.progress.step, self.progress.seconds,
            self.setup.plan.validation_part, self.history.before(), self.history.pieces(),
        )  # fmt: skip

    # --- what is said about it ---

    def _log(self, gradients: Gradients, rate: float, speed: float, left: float) -> list[str]:
        """Record a step; returns figures for the terminal, the most important first."""
        used, reached = memory_used(self.setup.hardware.device), speed * self.setup.flops / self.world.size
        self._peak = max(self._peak, reached)  # what was reached is possible: the peak was measured too low
        figures = record.step_figures(
            gradients, rate, speed, reached / self._peak, used or 0, self.training_data.bytes_per_token
        )
        progress, step = self.progress, self.progress.step
        self.history.add(
            step=step, of_steps=progress.n_steps, evaluations_left=len(self.course.checks),
            tokens=progress.samples * self.setup.plan.context, seconds=round(progress.seconds, 2), seconds_left=round(left, 1),
            **figures,
        )  # fmt: skip
        for sink in self.sinks:
            sink.log(step, {f"train/{name}": value for name, value in figures.items() if not isinstance(value, list)})
        return record.shown_figures(figures)

    def _interrupted(self) -> Interrupted:
        """The end that the user asked for, when all that is sound is on the disk."""
        self.saver.wait()
        checkpoint = latest_checkpoint(self.out)
        if checkpoint and self.world.is_main and not self.history.best():
            publish_model(self.out, checkpoint)  # nothing better is known yet
        if self.world.is_main:
            self._write_run()
            self._report(is_running=False)
        stopped = f"Stopped at step {self.progress.step:,} of {self.progress.n_steps:,}; "
        if checkpoint is None:
            return Interrupted(f"{stopped}nothing is saved yet.", None)
        saved = "everything" if self._saved_step == self.progress.step else f"step {self._saved_step or 0:,}"
        command = f"wenloom {self.training_data.command} --resume {shlex.quote(str(self.out))}"
        return Interrupted(f"{stopped}{saved} is saved.", command)

    def tables(self) -> dict[str, dict[str, Any]]:
        """What run.toml, the model card and the report say."""
        return record.tables(
            self.training_data,
            self.setup,
            self.progress,
            self.history.best(),
            self.history.best_by,
            self.world,
            self.overlap,
        )

    def _write_run(self) -> None:
        if self.world.is_main:
            write_run(self.out, self.tables())

    def _report(self, is_running: bool) -> None:
        write_report(self.out, self.tables(), self.history.lines, self.preview, is_running, self.history.best_by.figure)
