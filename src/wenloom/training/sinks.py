"""Other places that figures go to beside metrics.jsonl, for those who use them already."""

import importlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from wenloom.core.errors import InputError
from wenloom.core.files import write_atomically
from wenloom.core.foreign import reading
from wenloom.training.settings import TrainSettings

_ID = ".run-id"


class Sink(Protocol):
    """Takes figures."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Record figures of a step."""
        ...

    def close(self) -> None:
        """Write what is pending."""
        ...


class TensorBoard:
    """Event files in the run folder: `tensorboard --logdir runs` shows all runs."""

    def __init__(self, run: Path, step: int):
        module = _needed("torch.utils.tensorboard", "--tensorboard", "tensorboard")
        # what an earlier process wrote of the steps to come, or a run that was given up, is not shown
        self._writer = module.SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of a Weights & Biases project; WANDB_MODE=offline keeps it on this machine."""

    def __init__(self, run: Path, project: str, config: dict[str, Any]):
        module = _needed("wandb", "--wandb", "wandb")
        self._run = module.init(
            project=project, name=run.resolve().name, dir=str(run), config=config, resume="allow", id=_own_id(run)
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()


def _own_id(run: Path) -> str:
    """A name that no other run has, kept in the run folder: folders of equal names stay apart, a resumed run goes on."""
    path = run / _ID
    if not path.exists():
        is_of_before = (run / "wandb").is_dir()  # version 0.1 used the folder's name
        write_atomically(path, (run.resolve().name if is_of_before else secrets.token_hex(8)) + "\n")
    with reading(path):
        return path.read_text(encoding="utf-8")[:128].strip()


def open_sinks(run: Path, settings: TrainSettings, is_main: bool, config: dict[str, Any], step: int = 0) -> list[Sink]:
    """The sinks that were asked for; only the main process has any.

    Args:
        step: where the run begins or goes on.

    Raises:
        InputError: the package of one is not installed.
    """
    sinks: list[Sink] = []
    if settings.tensorboard and is_main:
        sinks.append(TensorBoard(run, step))
    if settings.wandb and is_main:
        sinks.append(WeightsAndBiases(run, settings.wandb, config))
    return sinks


def _needed(module: str, flag: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(f"{flag} needs the package {package}: pip install {package}") from None
