"""Figures of a command in the results store, with what they depend on."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from wenloom.evaluation.suite import MetricResult


class MeasuredModel(Protocol):
    """Whose figures they are."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str:
        """What tells it from others of its name."""
        ...

    @property
    def n_parameters(self) -> int | None: ...


def keep_results(
    store: Path | None, model: MeasuredModel, figures: "Sequence[MetricResult]", samples: Path | None, seconds: float
) -> None:
    """Add figures to the results store.

    Args:
        store: its file; None: see `results.default_store`.
        samples: file of the samples, where it is there.
        seconds: that it took.

    Raises:
        InputError: the store cannot be written.
    """
    from wenloom.core.hardware import probe
    from wenloom.core.version import __version__
    from wenloom.evaluation.results import Result, ResultsStore, today

    hardware, digest = str(probe("auto").device), model.fingerprint
    ResultsStore(store).add(
        Result(
            task=each.task, dataset=each.dataset, metric=each.metric, value=each.value, model=model.name,
            signature=str(each.signature), low=each.low, high=each.high, n=each.n, higher_is_better=each.higher_is_better,
            is_headline=each.is_headline, date=today(), parameters=model.n_parameters, model_hash=digest,
            code_version=__version__, command=shlex.join(["wenloom", *sys.argv[1:]]), hardware=hardware, seconds=seconds,
            samples=str(samples) if samples is not None and samples.exists() else "", details=each.details, best=each.best,
        )
        for each in figures
    )  # fmt: skip
