"""The training loop: the only one, plain and correct."""

import math
import platform
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from wordloom.checkpoint.card import write_card
from wordloom.core.console import ProgressBar, progress, remark
from wordloom.core.errors import InputError, WordloomError
from wordloom.core.hardware import probe
from wordloom.core.randomness import derive_seed, generator
from wordloom.core.version import __version__
from wordloom.model.config import ModelConfig
from wordloom.model.decoder import Decoder
from wordloom.model.presets import from_scratch
from wordloom.tokens.batches import Samples
from wordloom.tokens.shards import Dataset
from wordloom.tokens.tokenizer import TextTokenizer
from wordloom.training.interrupt import Interrupted, stop_signals
from wordloom.training.objectives import IGNORED, Loss, causal_loss, evaluate
from wordloom.training.optimizers import adamw
from wordloom.training.plan import Plan, make_plan
from wordloom.training.report import Showcase, write_report
from wordloom.training.schedules import cosine
from wordloom.training.settings import ModelSettings, TrainSettings
from wordloom.training.state import (
    METRICS,
    REPORT,
    RUN,
    Metrics,
    Progress,
    latest_checkpoint,
    load_checkpoint,
    read_run,
    save_checkpoint,
    write_run,
)

_LOG_SECONDS = 1.0


@dataclass(frozen=True)
class Result:
    """What a finished run gives."""

    folder: Path
    loss: Loss
    steps: int
    seconds: float
    """Training time, evaluation and saving not counted."""


def model_config(settings: ModelSettings, tokenizer: TextTokenizer) -> ModelConfig:
    """The shape that the settings and the tokenizer ask for."""
    return from_scratch(
        settings.arch,
        vocab_size=tokenizer.vocab_size,
        n_layers=settings.layers,
        d_model=settings.width,
        n_heads=settings.heads,
        n_kv_heads=settings.kv_heads or settings.heads,
        context_length=settings.context,
        dropout=settings.dropout,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def pretrain(
    data: Path,
    out: Path,
    model: ModelSettings | None = None,
    training: TrainSettings | None = None,
    show: Callable[[Decoder, TextTokenizer], Showcase] | None = None,
) -> Result:
    """Train a model from scratch on a prepared corpus.

    Args:
        data: folder made by `tokens.prepare`.
        out: run folder; new, empty, or left by a run that was stopped before its first checkpoint.
        model, training: see their fields.
        show: called at every evaluation; what it writes goes into the log and the report.

    Raises:
        InputError: the settings, the corpus or the output folder cannot be used.
        Interrupted: stopped by the user; the run can be resumed.
    """
    held = {path.name for path in out.iterdir()} if out.is_dir() else {out.name} if out.exists() else set()
    if held - {RUN, METRICS, REPORT}:
        more = f" Continue it with --resume {shlex.quote(str(out))}, or choose" if latest_checkpoint(out) else " Choose"
        raise InputError(f"{out}: is not empty.{more} another --out.")
    return _Run(Dataset.open(data), out, model or ModelSettings(), training or TrainSettings(), show).go()


def resume(run: Path, show: Callable[[Decoder, TextTokenizer], Showcase] | None = None) -> Result:
    """Continue an interrupted run from its last checkpoint, to the same end.

    Raises:
        InputError: there is nothing to continue, or the corpus changed since.
    """
    tables = read_run(run)
    checkpoint = latest_checkpoint(run)
    if checkpoint is None:
        raise InputError(f"{run}: has no checkpoint to continue from. Start again with another --out.")
    dataset = Dataset.open(Path(tables["data"]["folder"]))
    if dataset.key != tables["data"]["key"]:
        raise InputError(
            f"{dataset.folder}: is not the corpus this run was started on (it was prepared again since). "
            "Prepare the old texts there, or start a new run."
        )
    model = ModelSettings(**_fields(ModelSettings, tables["settings"]))
    training = TrainSettings(**_fields(TrainSettings, tables["settings"]))
    training = replace(training, precision=tables["environment"]["precision"])  # whatever this machine would choose
    return _Run(dataset, run, model, training, show, checkpoint).go()


def _fields(kind: type, table: dict[str, Any]) -> dict[str, Any]:
    return {name: table[name] for name in kind.__dataclass_fields__ if name in table}


class _Run:
    """One run from its first step, or from a checkpoint, to its end."""

    def __init__(
        self,
        dataset: Dataset,
        out: Path,
        model: ModelSettings,
        training: TrainSettings,
        show: Callable[[Decoder, TextTokenizer], Showcase] | None,
        checkpoint: Path | None = None,
    ):
        self.dataset, self.out, self.model, self.training, self.show = dataset, out, model, training, show
        self.tokenizer = _with_length(dataset.tokenizer(), model.context)
        self.config = model_config(model, self.tokenizer)
        if not dataset.splits["validation"].bytes:
            raise InputError(f"{dataset.folder}: has no validation text to measure by. Prepare more text.")
        self.samples = Samples(dataset.stream("train"), model.context, training.seed)
        self.hardware = probe(training.device)
        wants_bf16 = training.precision == "bf16" or (training.precision == "auto" and model.width >= 128)
        self.bf16 = wants_bf16 and (self.hardware.bf16 or training.precision == "bf16")
        self.decoder = Decoder(self.config)
        self.decoder.initialise(generator(training.seed, "weights"))
        self.decoder.to(self.hardware.device)
        self.peak = training.peak_learning_rate(model.width)
        self.optimizer = adamw(self.decoder, self.peak, training.weight_decay, (training.beta1, training.beta2))
        self.micro_batch = training.micro_batch or training.batch
        self.progress = load_checkpoint(checkpoint, self.decoder, self.optimizer) if checkpoint else Progress(n_steps=0)
        self.showcase = Showcase()

    # --- one step ---

    def _autocast(self) -> Any:
        return torch.autocast(self.hardware.device, torch.bfloat16) if self.bf16 else nullcontext()

    def _gradients(self, first_sample: int, step: int) -> tuple[float, float]:
        """Gradients of the mean loss over one batch; returns that loss and the gradient norm before clipping."""
        inputs, targets = self.samples.batch(first_sample, self.training.batch)
        n_valid = max(1, int((targets != IGNORED).sum()))
        total = 0.0
        for part, (x, y) in enumerate(
            zip(inputs.split(self.micro_batch), targets.split(self.micro_batch), strict=True)
        ):
            x, y = x.to(self.hardware.device), y.to(self.hardware.device)
            with self._dropout_stream(step, part):
                with self._autocast():
                    loss = causal_loss(self.decoder, x, y) / n_valid
                loss.backward()
            total += loss.item()
        limit = self.training.clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), limit, foreach=True)
        return total, float(norm)

    @contextmanager
    def _dropout_stream(self, step: int, part: int) -> Iterator[None]:
        """Dropout drawn as a function of (seed, step): nothing to save, and the global generator is left alone."""
        if not self.model.dropout:
            yield
            return
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(self.training.seed, "dropout", step, part))
            yield

    def _step(self) -> tuple[float, float, float]:
        """One optimizer step; returns its loss, gradient norm and learning rate.

        Raises:
            WordloomError: loss or gradient is not finite; the weights are as they were.
        """
        started, step = time.monotonic(), self.progress.step
        rate = self._learning_rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss, norm = self._gradients(self.progress.samples, step)
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise WordloomError(self._diverged(step, loss))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        self.progress.samples += self.training.batch
        self.progress.seconds += time.monotonic() - started
        return loss, norm, rate

    def _learning_rate(self, step: int) -> float:
        n_steps = self.progress.n_steps
        warmup = max(1, round(self.training.warmup * n_steps))
        return self.peak * cosine(step, n_steps, warmup, self.training.final_learning_rate)

    # --- the run ---

    def go(self) -> Result:
        """Train to the end; the run folder is made only now, when all settings are known to fit."""
        self.out.mkdir(parents=True, exist_ok=True)
        self.metrics = Metrics(self.out, self.progress.step)
        plan = make_plan(
            self.training,
            self._time_a_step(),
            self.training.batch * self.model.context,
            self.samples.per_epoch,
            self.dataset.splits["validation"].tokens,
            self.progress.step,
            self.progress.n_steps or None,
        )
        self.progress.n_steps = n_steps = plan.n_steps
        self._write_run(None)
        self._announce(plan)
        loss, last_save = None, time.monotonic()
        with stop_signals() as stop, progress("Training", n_steps) as bar:
            bar.advance(self.progress.step)
            last_log, tokens_at_log, status = time.monotonic(), self.progress.samples * self.model.context, ""
            while self.progress.step < n_steps:
                train_loss, norm, rate = self._step()
                step, now = self.progress.step, time.monotonic()
                if now - last_log > _LOG_SECONDS or step in plan.evaluate_at:
                    tokens = self.progress.samples * self.model.context
                    speed = (tokens - tokens_at_log) / (now - last_log)
                    self.metrics.add(
                        step=step, tokens=tokens, seconds=round(self.progress.seconds, 2), loss=train_loss,
                        learning_rate=rate, gradient_norm=norm, tokens_per_second=round(speed, 1),
                    )  # fmt: skip
                    status = f"loss {train_loss:.3f}  {speed:,.0f} tokens/s"
                    last_log, tokens_at_log = now, tokens
                bar.advance(1, status)
                if stop.is_set():
                    self._save()
                    raise self._interrupted()
                if step in plan.evaluate_at or now - last_save > 60 * self.training.save_minutes:
                    self._save()
                    last_save = time.monotonic()
                if step in plan.evaluate_at:
                    loss = self._evaluate(bar, stop)
                    last_log = time.monotonic()
        if loss is None:  # resumed after the last step
            loss = self._evaluate(None, threading.Event())
        self._write_run(loss)
        return Result(self.out, loss, n_steps, self.progress.seconds)

    def _time_a_step(self) -> float:
        """Seconds of one step, from a few whose gradients are thrown away."""
        seconds = []
        for attempt in range(4):
            started = time.monotonic()
            self._gradients(attempt * self.training.batch, attempt)
            self.optimizer.zero_grad(set_to_none=True)
            seconds.append(time.monotonic() - started)
            if sum(seconds) > 20:
                break
        return min(seconds)

    def _evaluate(self, bar: ProgressBar | None, stop: threading.Event) -> Loss:
        """Score the validation text, show and report; the checkpoint was written before, so it may be interrupted."""
        self.decoder.eval()
        done, n_tokens = 0, self.dataset.splits["validation"].tokens

        def on_tokens(count: int) -> None:
            nonlocal done
            done += count
            if stop.is_set():
                raise self._interrupted()
            if bar:
                bar.advance(0, f"evaluating {done / n_tokens:.0%}")

        with self._autocast():
            loss = evaluate(
                self.decoder,
                self.dataset.stream("validation"),
                self.dataset.splits["validation"],
                self.model.context,
                device=self.hardware.device,
                on_tokens=on_tokens,
            )
        if self.show is not None:
            self.showcase = self.show(self.decoder, self.tokenizer)
        self.decoder.train()
        step = self.progress.step
        self.metrics.add(step=step, tokens=self.progress.samples * self.model.context,
                         seconds=round(self.progress.seconds, 2), validation=loss.figures(),
                         samples=[sample.continuation for sample in self.showcase.samples])  # fmt: skip
        sample = f"  {self.showcase.samples[0].excerpt()!r}" if self.showcase.samples else ""
        line = f"step {step:,}: validation {loss.nats_per_token:.3f} nats/token, {loss.bits_per_byte:.3f} bits/byte{sample}"
        (bar.print if bar else remark)(line)
        self._report(loss)
        return loss

    def _save(self) -> None:
        save_checkpoint(self.out, self.decoder, self.optimizer, self.tokenizer, self.progress)

    # --- what is said about it ---

    def _announce(self, plan: Plan) -> None:
        tokens = plan.n_steps * self.training.batch * self.model.context
        epochs = plan.n_steps * self.training.batch / self.samples.per_epoch
        precision = "bf16" if self.bf16 else "fp32"
        remark(
            f"{self.config.family}, {self.decoder.n_parameters():,} parameters, {precision} on {self.hardware.device}; "
            f"{plan.n_steps:,} steps, {tokens:,} tokens ({epochs:.1f} epochs), {len(plan.evaluate_at)} evaluations; "
            f"about {plan.seconds / 60:.1f} minutes."
        )
        if self.training.precision == "bf16" and not self.hardware.bf16:
            remark("This machine has no bf16 unit: bf16 works here, but slower than fp32.")

    def _interrupted(self) -> Interrupted:
        return Interrupted(
            f"Stopped at step {self.progress.step:,} of {self.progress.n_steps:,}; everything is saved. Continue with:\n"
            f"  wordloom pretrain --resume {shlex.quote(str(self.out))}"
        )

    def _diverged(self, step: int, loss: float) -> str:
        saved = latest_checkpoint(self.out)
        kept = f"The last good checkpoint is {saved}." if saved else "No checkpoint was written yet."
        return f"Loss or gradient is not finite at step {step:,} (loss {loss}). {kept} Try a smaller --learning-rate."

    def tables(self, loss: Loss | None) -> dict[str, dict[str, Any]]:
        """What run.toml and the report say."""
        manifest = self.dataset.manifest
        return {
            "settings": {**asdict(self.model), **asdict(self.training)},
            "data": {
                "folder": str(self.dataset.folder.resolve()),
                "key": self.dataset.key,
                "sources": [source["file"] for source in manifest["sources"]],
                "split": manifest["split_rule"],
                **{f"{name}_{what}": getattr(split, what)
                   for name, split in self.dataset.splits.items() for what in ("documents", "bytes", "characters", "tokens")},
            },
            "model": {
                "family": self.config.family, "parameters": self.decoder.n_parameters(),
                "vocab_size": self.config.vocab_size, "tokenizer": self.tokenizer.kind,
            },
            "environment": {
                "wordloom": __version__, "torch": torch.__version__, "python": platform.python_version(),
                "device": self.hardware.name, "threads": self.hardware.threads, "precision": "bf16" if self.bf16 else "fp32",
            },
            "result": {
                "steps": self.progress.step, "of_steps": self.progress.n_steps,
                "tokens": self.progress.samples * self.model.context,
                "training_seconds": round(self.progress.seconds, 1),
                **({f"validation_{name}": round(value, 4) for name, value in loss.figures().items()} if loss else {}),
            },
        }  # fmt: skip

    def _write_run(self, loss: Loss | None) -> None:
        tables = self.tables(loss)
        write_run(self.out, tables)
        if loss is not None:
            write_card(self.out, tables, [sample.prompt + sample.continuation for sample in self.showcase.samples])

    def _report(self, loss: Loss) -> None:
        write_report(self.out, self.tables(loss), self.metrics.lines, self.showcase)


def _with_length(tokenizer: TextTokenizer, context_length: int) -> TextTokenizer:
    """The tokenizer, told the context length of its model."""
    tokenizer.model_max_length = context_length
    return tokenizer
