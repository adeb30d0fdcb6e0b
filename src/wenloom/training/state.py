"""The state of a run on disk: enough to continue as if nothing had happened.

A run folder is the model folder (Hugging Face files at its top) and beside them:

    run.toml            settings, data and result
    metrics.jsonl       one line per logged step and per evaluation
    report.html         the same for people
    checkpoints/step-N  the last two checkpoints, and those kept for good: model files, optimizer.safetensors, state.json

The model at the top is the best one so far (before the first evaluation: the last one).
"""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wenloom.checkpoint.adapter import load_adapter, write_adapter
from wenloom.checkpoint.folder import is_adapter, load_model, write_model_files
from wenloom.checkpoint.replacing import publish_files
from wenloom.checkpoint.weights import stored_tensors, write_tensors
from wenloom.core.errors import CheckpointError
from wenloom.core.files import folder_aside
from wenloom.core.foreign import reading
from wenloom.model.build import Model, build
from wenloom.model.lora import adapt, adapted_layers
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.checkpoints import OPTIMIZER, STATE, drop_older, free_place, read_state, write_state
from wenloom.training.pace import Course
from wenloom.training.parallel import World, full_tensor, shard_like


@dataclass
class Progress:
    """Where a run stands."""

    n_steps: int
    """Steps the schedule was made for."""
    step: int = 0
    """Optimizer steps done, skipped ones included."""
    samples: int = 0
    """Samples read: the position in the data (`tokens.batches`)."""
    seconds: float = 0.0
    """Time spent training, evaluation and saving not counted."""
    skipped: int = 0
    """Steps in a row, up to now, whose loss or gradient was not finite."""
    course: Course | None = None
    """Where in its schedule each step stands; None before it is known."""
    kept: bool = False
    """Whether the checkpoint of this moment stays for good."""


@dataclass(frozen=True)
class Snapshot:
    """A copy of everything that steps change, whole and on the CPU; training goes on while it is written."""

    model: Model
    optimizer: dict[str, Tensor]
    progress: Progress


def take_snapshot(
    model: Model, optimizers: list[torch.optim.Optimizer], progress: Progress, world: World
) -> Snapshot | None:
    """Copy the state. All processes must ask; the main one gets it."""
    weights, tensors = {}, {}
    has_adapter = any(adapted_layers(model))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad or not has_adapter:  # an adapter knows its model by name
            weights[name] = _copied(parameter.detach(), world)
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    for optimizer in optimizers:
        for parameter, values in optimizer.state.items():
            for key, value in values.items():
                tensors[f"{key}/{names[parameter]}"] = _copied(value, world)
    if not world.is_main:
        return None
    copy = _like(model)
    copy.load_state_dict(weights, assign=True, strict=not has_adapter)
    return Snapshot(copy.eval(), tensors, replace(progress))


def _like(model: Model) -> Model:
    """A model of the same shape, with the same adapter, without weights."""
    with torch.device("meta"):
        copy = build(model.config)
        layers = dict(adapted_layers(model))
        if layers:
            adapt(copy, next(iter(layers.values())).config)
    return copy


def _without(model: Model) -> Model:
    """The model without its adapter."""
    for name, layer in list(adapted_layers(model)):
        model.set_submodule(name, layer.linear)
    return model


def _copied(tensor: Tensor, world: World) -> Tensor:
    full = full_tensor(tensor)
    return full.to("cpu", copy=True).contiguous() if world.is_main else torch.empty(0)


def write_checkpoint(run: Path, snapshot: Snapshot, tokenizer: TextTokenizer, base: str | None = None) -> Path:
    """Write a checkpoint aside, make it the newest, drop our older ones but one.

    Args:
        base: the model that an adapter belongs to; of a model with an adapter only that is written.

    Raises:
        WenloomError: the disk refused; the previous checkpoint is untouched.
    """
    path = free_place(run, snapshot.progress.step)
    with folder_aside(path) as folder:
        if base is not None and any(adapted_layers(snapshot.model)):
            write_adapter(snapshot.model, folder, base)
        else:
            write_model_files(snapshot.model, folder)
        tokenizer.save_pretrained(folder)
        write_tensors(snapshot.optimizer, folder / OPTIMIZER)
        write_state(folder, asdict(snapshot.progress))
    drop_older(run, path)
    return path


def publish_model(run: Path, checkpoint: Path) -> None:
    """Make a checkpoint's model the model of the run folder; it stays when the checkpoint goes."""
    publish_files([file for file in sorted(checkpoint.iterdir()) if file.name not in (OPTIMIZER, STATE)], run)


class Saver:
    """Writes checkpoints in a thread of its own, one after the other."""

    def __init__(self, run: Path, tokenizer: TextTokenizer, base: str | None = None):
        self._run, self._tokenizer, self._base = run, tokenizer, base
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._writing: Future[Path] | None = None

    def save(self, snapshot: Snapshot) -> None:
        """Begin to write; waits for the checkpoint before it.

        Raises:
            WenloomError: the disk refused the one before.
        """
        self.wait()
        self._writing = self._writer.submit(write_checkpoint, self._run, snapshot, self._tokenizer, self._base)

    def wait(self) -> None:
        """Until everything is on the disk.

        Raises:
            WenloomError: the disk refused.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def close(self) -> None:
        """End the thread."""
        self._writer.shutdown(wait=True)


def load_checkpoint(path: Path, model: Model, optimizers: list[torch.optim.Optimizer]) -> Progress:
    """Put a checkpoint's weights and optimizer state into place, in every process its part.

    Raises:
        CheckpointError: it is damaged or belongs to another model.
    """
    device = next(model.parameters()).device
    has_adapter = any(adapted_layers(model))
    parameters = {name: each for name, each in model.named_parameters() if each.requires_grad or not has_adapter}
    progress = read_progress(path)
    with reading(path, CheckpointError, "cannot be resumed from"):
        stored = (load_adapter(_without(_like(model)), path) if is_adapter(path) else load_model(path)).state_dict()
        for name, parameter in parameters.items():
            if name not in stored or stored[name].shape != parameter.shape:
                raise CheckpointError(f'{path}: belongs to another model: "{name}" is missing or of another shape.')
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(shard_like(stored[name].to(device), parameter))
    with reading(path / OPTIMIZER, CheckpointError, "cannot be resumed from"):
        with ExitStack() as stack:
            tensors = {name: each.read() for name, each in stored_tensors([path / OPTIMIZER], stack).items()}
        if unknown := [name for name in tensors if name.partition("/")[2] not in parameters]:
            raise CheckpointError(f"{path / OPTIMIZER}: belongs to another model: it holds {unknown[0]}.")
        held = {name.partition("/")[2] for name in tensors}
        if progress.step > progress.skipped and (missing := sorted(parameters.keys() - held)):
            raise CheckpointError(f"{path / OPTIMIZER}: holds nothing of {missing[0]}.")
        for full_name, tensor in tensors.items():
            key, _, name = full_name.partition("/")
            parameter = parameters[name]
            if tensor.dim() and tensor.shape != parameter.shape:
                raise CheckpointError(f"{path / OPTIMIZER}: {full_name} has shape {tuple(tensor.shape)}.")
            optimizer = next(each for each in optimizers if any(
                parameter is held for group in each.param_groups for held in group["params"]))  # fmt: skip
            is_clock = key == "step"
            value = tensor if is_clock and device.type == "cpu" else tensor.to(device)
            optimizer.state[parameter][key] = value if is_clock else shard_like(value, parameter)
    return progress


def read_progress(path: Path) -> Progress:
    """What state.json says of where the run stands.

    Raises:
        CheckpointError: a field is missing or no such number.
    """
    state = read_state(path)
    values = {}
    for name, kind in (("n_steps", int), ("step", int), ("samples", int), ("seconds", (int, float)), ("skipped", int)):
        value = state.get(name)
        if not isinstance(value, kind) or isinstance(value, bool) or not 0 <= value < 2**60:
            raise CheckpointError(
                f'{path / STATE}: field "{name}": must be a number from 0 on, got {str(value)[:40]!r}.'
            )
        values[name] = value
    return Progress(**values, course=_course(path, state.get("course")))


def _course(path: Path, table: Any) -> Course | None:
    """What state.json says of it; checkpoints of earlier versions say nothing.

    Raises:
        CheckpointError: it is none.
    """
    if table is None:
        return None
    with reading(path / STATE, CheckpointError, 'holds no "course" that a run writes'):
        course = Course(**table | {"checks": tuple(map(float, table["checks"]))})
        if not 0 <= course.since <= course.n_steps or not 0 <= course.place <= course.planned or not course.checks:
            raise CheckpointError(f'{path / STATE}: field "course": its steps do not fit together.')
    return course
