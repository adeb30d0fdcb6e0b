"""What a run says of itself: the lines before it starts, and the tables of run.toml."""

import math
import platform
from typing import Any

import torch

from wenloom.core.quantities import show_bytes, show_duration, show_unit
from wenloom.core.version import __version__
from wenloom.training.history import BestBy
from wenloom.training.memorization import CopiedSpan
from wenloom.training.parallel import World
from wenloom.training.routing import busiest
from wenloom.training.setup import Setup
from wenloom.training.state import Progress
from wenloom.training.train_step import Gradients
from wenloom.training.training_data import TrainingData

_ONLY_RECORDED = ("nats_per_character", "kept_nats_per_token", "kept_nats_per_character")


def announcement(setup: Setup, world: World) -> list[str]:
    """The plan in a few lines, and what the run goes without."""
    plan, timetable = setup.plan, setup.plan.timetable
    epochs = f" ({plan.epochs:.1f} epochs)" if plan.epochs else ""
    together = f"; {world.size} processes, {setup.strategy}" if world.size > 1 else ""
    expected = ""
    if plan.bits_per_byte is not None:
        expected = f", {plan.bits_per_byte[0]:.2f} to {plan.bits_per_byte[1]:.2f} bits per byte expected"
    lines = [
        f"{plan.model}: {plan.counted_parameters()}{together}.",
        *(f"  {each.name} {each.value} = {each.formula}" for each in plan.derived),
        f"{timetable.n_steps:,} step{'s' * (timetable.n_steps > 1)} of {plan.batch} x {plan.context} tokens, {plan.tokens:,} tokens{epochs}, "
        f"{plan.evaluations()}; about {show_duration(timetable.seconds)} ({100 * plan.utilisation:.0f} % of the "
        f"matmul peak), {show_bytes(plan.memory.total)}{expected}.",
    ]
    if plan.validation_part < 1 and setup.training.validation_part is None:
        lines.append(
            "All of the validation data would take more than a tenth of --budget; --validation-part asks for it."
        )
    if not setup.hardware.bf16 and setup.hardware.device == "cpu":
        lines.append("Without bf16: this machine has no unit for it.")
    return lines


def step_figures(
    gradients: Gradients, rate: float, speed: float, utilisation: float, memory: int, bytes_per_token: float | None
) -> dict[str, Any]:
    """What metrics.jsonl says of a step.

    Args:
        speed: tokens per second.
        utilisation: part of the matmul peak.
        memory: bytes.
    """
    of_text, of_experts = {}, {}
    if "expert_load" in gradients.figures:
        load = [[round(each, 4) for each in layer] for layer in gradients.figures["expert_load"]]
        of_experts = {"expert_load": load, "busiest_expert": round(busiest(load), 3)}
    if bytes_per_token is not None:
        of_text = {"bits_per_byte": round(gradients.loss / math.log(2) / bytes_per_token, 4)}
    return {
        "loss": gradients.loss, **gradients.figures, **of_experts, **of_text, "learning_rate": rate, "gradient_norm": gradients.norm,
        "tokens_per_second": round(speed, 1), "utilisation": round(utilisation, 4), "memory_bytes": memory,
    }  # fmt: skip


def shown_figures(figures: dict[str, Any]) -> list[str]:
    """The same for a terminal, the most important first."""
    of_text = [f"{figures['bits_per_byte']:.2f} bits per byte"] if "bits_per_byte" in figures else []
    return [
        f"loss {figures['loss']:.3f}", *of_text, f"{figures['tokens_per_second']:,.0f} tokens/s",
        f"{100 * figures['utilisation']:.0f} % of peak", show_bytes(figures["memory_bytes"]),
        f"gradient {figures['gradient_norm']:.2f}",
        *([f"busiest expert {figures['busiest_expert']:.1f} x its share"] if "busiest_expert" in figures else []),
    ]  # fmt: skip


def shown_validation(figures: dict[str, float], task: object) -> str:
    """Figures of an evaluation in a line."""
    return ", ".join(
        f"{value:.3f} {show_unit(name, task)}" for name, value in figures.items() if name not in _ONLY_RECORDED
    )


def tables(
    training_data: TrainingData,
    setup: Setup,
    progress: Progress,
    best: dict[str, Any],
    best_by: BestBy,
    world: World,
    overlap: CopiedSpan | None,
) -> dict[str, dict[str, Any]]:
    """Settings without gaps and where they come from, corpus, model, environment and result.

    Args:
        best: the line of the best evaluation so far; empty before the first.
        best_by: which figure of it tells.
        overlap: of the samples with the training text, once the run has ended.
    """
    return {
        "settings": setup.settings,
        "derived": {each.name.replace(" ", "_"): f"{each.value} = {each.formula}" for each in setup.plan.derived},
        "data": training_data.table(),
        "model": {
            "family": setup.config.family, "parameters": setup.plan.parameters,
            **({"active_parameters": setup.plan.active_parameters} if setup.config.mlp.experts is not None else {}),
            "vocab_size": setup.config.vocab_size, "tokenizer": training_data.tokenizer.kind,
            "end_of_text": training_data.tokenizer.eos_token,
        },
        "environment": {
            "wenloom": __version__, "torch": torch.__version__, "python": platform.python_version(),
            "device": setup.hardware.name, "threads": setup.hardware.threads, "processes": world.size,
            "parallel": setup.strategy if world.size > 1 else "none",
            "precision": "bf16" if setup.bf16 else "fp32", "compile": "on" if setup.compiled else "off",
            "micro_batch": setup.train_step.micro_batch, "matmul_peak_gflops": round(setup.plan.peak / 1e9),
            **({"validation_part": setup.plan.validation_part} if setup.plan.validation_part < 1 else {}),
        },
        "result": {
            "steps": progress.step, "of_steps": progress.n_steps,
            **({"prolonged": list(setup.prolonged)} if setup.prolonged else {}),
            "tokens": progress.samples * setup.plan.context,
            "training_seconds": round(progress.seconds, 1),
            **({} if best_by == BestBy() else {"best_figure": best_by.figure, "best_direction": best_by.direction}),
            **({"best_step": best["step"]} | {f"validation_{name}": value for name, value in best["validation"].items()}
               if best else {}),
            **({"longest_overlap_with_training_text": training_data.tokenizer.decode(overlap.tokens)} if overlap else {}),
        },
    }  # fmt: skip
