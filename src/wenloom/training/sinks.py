"""Other places that figures go to beside metrics.jsonl, for those who use them already."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from wenloom.core.errors import InputError
from wenloom.training.settings import TrainSettings


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

    def __init__(self, run: Path):
        module = _needed("torch.utils.tensorboard", "--tensorboard", "tensorboard")
        self._writer = module.SummaryWriter(str(run / "tensorboard"))

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
            project=project, name=run.name, dir=str(run), config=config, resume="allow", id=run.name
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()


def open_sinks(run: Path, settings: TrainSettings, is_main: bool, config: dict[str, Any]) -> list[Sink]:
    """The sinks that were asked for; only the main process has any.

    Raises:
        InputError: the package of one is not installed.
    """
    sinks: list[Sink] = []
    if settings.tensorboard and is_main:
        sinks.append(TensorBoard(run))
    if settings.wandb and is_main:
        sinks.append(WeightsAndBiases(run, settings.wandb, config))
    return sinks


def _needed(module: str, flag: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(f"{flag} needs the package {package}: pip install {package}") from None
