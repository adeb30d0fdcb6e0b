"""The state of a run on disk: enough to continue as if nothing had happened.

A run folder is the model folder (Hugging Face files at its top) and beside them:

    run.toml            settings, data and result
    metrics.jsonl       one line per logged step and per evaluation
    report.html         the same for people
    checkpoints/step-N  the last complete checkpoint: model files, optimizer.safetensors, state.json
"""

import json
import re
import shutil
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from wordloom.checkpoint.folder import load_decoder, write_model_files
from wordloom.core.errors import CheckpointError, InputError
from wordloom.core.files import folder_aside, publish, write_atomically
from wordloom.model.decoder import Decoder
from wordloom.tokens.tokenizer import TextTokenizer

RUN, METRICS, REPORT, STATE, OPTIMIZER = (
    "run.toml",
    "metrics.jsonl",
    "report.html",
    "state.json",
    "optimizer.safetensors",
)
_STEP = re.compile(r"step-(\d+)")


@dataclass
class Progress:
    """Where a run stands."""

    n_steps: int
    """Steps the schedule was made for."""
    step: int = 0
    """Optimizer steps done."""
    samples: int = 0
    """Samples read: the position in the data (`tokens.batches`)."""
    seconds: float = 0.0
    """Time spent training, evaluation and saving not counted."""


def save_checkpoint(
    run: Path, decoder: Decoder, optimizer: torch.optim.Optimizer, tokenizer: TextTokenizer, progress: Progress
) -> Path:
    """Write a checkpoint aside, make it the newest, publish its model files at the top, drop the older ones.

    Raises:
        WordloomError: the disk refused; the previous checkpoint and the published model are untouched.
    """
    path = run / "checkpoints" / f"step-{progress.step:08}"
    with folder_aside(path) as folder:
        write_model_files(decoder, folder)
        tokenizer.save_pretrained(folder)
        model_files = sorted(file.name for file in folder.iterdir())
        names: dict[torch.Tensor, str] = {parameter: name for name, parameter in decoder.named_parameters()}
        tensors = {
            f"{key}/{names[parameter]}": value.contiguous()
            for parameter, values in optimizer.state.items()
            for key, value in values.items()
        }
        try:
            save_file(tensors, folder / OPTIMIZER)
        except SafetensorError as error:  # what the disk refused comes back under this name
            raise OSError(0, str(error)) from error
        (folder / STATE).write_text(json.dumps(asdict(progress)) + "\n", encoding="utf-8")
    for name in model_files:
        publish(path / name, run)
    for older in path.parent.iterdir():
        if older != path:
            shutil.rmtree(older)
    return path


def latest_checkpoint(run: Path) -> Path | None:
    """The newest complete checkpoint of a run."""
    found = sorted(path for path in (run / "checkpoints").glob("step-*") if _STEP.fullmatch(path.name))
    return found[-1] if found else None


def load_checkpoint(path: Path, decoder: Decoder, optimizer: torch.optim.Optimizer) -> Progress:
    """Put a checkpoint's weights and optimizer state into place.

    Raises:
        CheckpointError: it is damaged or belongs to another model.
    """
    device = next(decoder.parameters()).device
    try:
        decoder.load_state_dict(load_decoder(path).state_dict())
        tensors = load_file(path / OPTIMIZER, device=str(device))
        progress = Progress(**json.loads((path / STATE).read_text(encoding="utf-8")))
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: cannot be resumed from ({error}).") from None
    parameters = dict(decoder.named_parameters())
    for full_name, tensor in tensors.items():
        key, _, name = full_name.partition("/")
        optimizer.state[parameters[name]][key] = tensor.cpu() if key == "step" and device.type == "cpu" else tensor
    return progress


class Metrics:
    """metrics.jsonl: appended line by line; what a resumed run will do again is cut off."""

    def __init__(self, run: Path, up_to_step: int):
        self._path = run / METRICS
        self.lines = [line for line in read_metrics(run) if line["step"] <= up_to_step]
        write_atomically(self._path, "".join(json.dumps(line) + "\n" for line in self.lines))

    def add(self, **values: Any) -> None:
        """Append one line."""
        self.lines.append(values)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values, ensure_ascii=False) + "\n")


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """All lines of metrics.jsonl; a last line that was cut short is left out."""
    lines = []
    if (run / METRICS).exists():
        for line in (run / METRICS).read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return lines


def write_run(run: Path, tables: dict[str, dict[str, Any]]) -> None:
    """Write run.toml: tables of plain values, None left out."""
    parts = []
    for title, table in tables.items():
        lines = [
            f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in table.items() if value is not None
        ]
        parts.append("\n".join([f"[{title}]", *lines]))
    write_atomically(run / RUN, "\n\n".join(parts) + "\n")


def read_run(run: Path) -> dict[str, dict[str, Any]]:
    """Read run.toml.

    Raises:
        InputError: the folder holds no run.
    """
    path = run / RUN
    if not path.exists():
        raise InputError(f"{run}: holds no training run (it has no {RUN}).")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid TOML ({error}).") from None
