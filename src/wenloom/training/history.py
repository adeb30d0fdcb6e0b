"""What happened in a run: metrics.jsonl, and what follows from its evaluations."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from wenloom.core.console import remark
from wenloom.core.files import write_atomically
from wenloom.core.foreign import reading
from wenloom.training.run_file import METRICS

_FIGURES = ("loss", "bits_per_byte", "learning_rate", "gradient_norm", "tokens_per_second")
_LONGEST_LINE = 2**22
"""Bytes; samples of an evaluation take some thousand."""


class BestBy(NamedTuple):
    """Which figure of an evaluation tells the best model."""

    figure: str = "nats_per_token"
    direction: Literal["min", "max"] = "min"

    def loss(self, line: dict[str, Any]) -> float:
        """The figure in the line of an evaluation, turned so that less is better."""
        value = line["validation"][self.figure]
        return value if self.direction == "min" else -value


class History:
    """Lines of figures, appended one by one; what a resumed run will do again is cut off.

    Args:
        up_to_step: where the run goes on.
        writes: whether this process keeps the file; the others only remember.
    """

    def __init__(self, run: Path, up_to_step: int, writes: bool, best_by: BestBy = BestBy()):  # noqa: B008 - frozen
        self._path, self._writes, self.best_by = run / METRICS, writes, best_by
        self.lines = [line for line in read_metrics(run) if line["step"] <= up_to_step]
        if writes:
            write_atomically(self._path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self.lines))

    def add(self, **values: Any) -> None:
        """Append a line."""
        self.lines.append(values)
        if self._writes:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values, ensure_ascii=False) + "\n")

    def add_evaluation(
        self, step: int, figures: dict[str, float], pieces: tuple[float, ...] = (), **values: Any
    ) -> None:
        """Append the line of an evaluation, with the nats of pieces of the validation text where models are compared."""
        self.add(step=step, validation=figures, **values, **({"pieces": list(pieces)} if pieces else {}))

    def evaluations(self) -> list[dict[str, Any]]:
        """The lines of evaluations, oldest first."""
        return [line for line in self.lines if self.best_by.figure in line.get("validation", ())]

    def evaluated(self, step: int) -> bool:
        """Whether the validation text was scored after this step."""
        return any(line["step"] == step for line in self.evaluations())

    def best(self) -> dict[str, Any]:
        """The line of the best evaluation; empty before the first."""
        return min(self.evaluations(), key=self.best_by.loss, default={})

    def before(self) -> dict[str, float]:
        """Figures of the evaluation before the first step; empty without one."""
        return next((line["validation"] for line in self.evaluations() if not line["step"]), {})

    def pieces(self) -> tuple[list[float], list[float]] | None:
        """Nats of the same pieces of the validation text, before the first step and at the best; None where not told."""
        first = next((line for line in self.evaluations() if not line["step"]), {}).get("pieces")
        last = self.best().get("pieces")
        return (first, last) if first and last and len(first) == len(last) else None

    @property
    def best_step(self) -> int:
        """The step of the best evaluation; 0 before the first."""
        return self.best().get("step", 0)

    def evaluations_since_best(self) -> int:
        """How many evaluations in a row were no better than the best."""
        return sum(line["step"] > self.best_step for line in self.evaluations())

    def turned_worse(self) -> bool:
        """Whether validation gets worse: worse than the best by 1 % and two evaluations long; true once a rise."""
        losses = [self.best_by.loss(line) for line in self.evaluations()]
        rising = [index for index in range(2, len(losses) + 1) if _rises(losses[:index])]
        return bool(rising) and rising[-1] == len(losses) and len(losses) - 1 not in rising


def _rises(losses: list[float]) -> bool:
    """
    >>> _rises([2.0, 1.0, 1.02, 1.05]), _rises([2.0, 1.0, 1.05]), _rises([2.0, 1.5, 1.4])
    (True, False, False)
    """
    best = min(losses)
    return len(losses) - 1 - losses.index(best) >= 2 and losses[-1] > best + 0.01 * abs(best)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; one that was cut short at the end is left out, a damaged one is named in a remark.

    Raises:
        InputError: the file cannot be read.
    """
    path, lines, damaged = run / METRICS, [], []
    if not path.exists():
        return lines
    with reading(path), path.open("rb") as file:
        for number, line in _numbered(file):
            try:
                lines.append(_checked(json.loads(line)))
            except (ValueError, RecursionError):
                damaged.append(number)
    if damaged and damaged[-1] == number and not line.endswith(b"\n"):
        damaged.pop()  # killed while it was written
    if damaged:
        more = f" and {len(damaged) - 1:,} more" if len(damaged) > 1 else ""
        remark(f"{path}, line {damaged[0]}{more}: left out, no figures of a run.")
    return lines


def decided_before(run: Path, step: int) -> dict[int, tuple[int, int]]:
    """By step, after which steps a run should end and how many evaluations should come, as far as it got before it was
    stopped: see `pace`.

    Args:
        step: where it goes on.
    """
    lines = [line for line in read_metrics(run) if line["step"] > step]
    names = ("of_steps", "evaluations_left")
    return {line["step"]: (line[names[0]], line[names[1]]) for line in lines if all(name in line for name in names)}


def _numbered(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers; of one that is too long to be ours the beginning."""
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        yield number, line
        while len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
            line = file.readline(_LONGEST_LINE)


def _checked(line: Any) -> dict[str, Any]:
    """A line, if it is one of ours.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(line, dict) or not _is_number(line.get("step"), int) or line["step"] < 0:
        raise ValueError
    for name in ("tokens", "seconds", "seconds_left", *_FIGURES):
        if name in line and not _is_number(line[name], (int, float)):
            raise ValueError
    for name in ("of_steps", "evaluations_left"):
        if name in line and (not _is_number(line[name], int) or line[name] < 1):
            raise ValueError
    line.setdefault("tokens", 0)
    line.setdefault("seconds", 0.0)
    if not math.isfinite(line["tokens"] + line["seconds"]):
        raise ValueError
    if "validation" in line:
        figures = line["validation"]
        if (
            not isinstance(figures, dict)
            or not figures
            or not all(_is_number(each, (int, float)) for each in figures.values())
        ):
            raise ValueError
        pieces = line.get("pieces", [])
        if not isinstance(pieces, list) or not all(_is_number(each, (int, float)) for each in pieces):
            raise ValueError
        for name in ("prompts", "samples"):
            texts = line.get(name, [])
            if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
                raise ValueError
    return line


def _is_number(value: Any, kind: type | tuple[type, ...]) -> bool:
    """Whether it is a number that a run may write; a step that is skipped has a loss that is none, or infinite."""
    return isinstance(value, kind) and not isinstance(value, bool) and not (math.isfinite(value) and abs(value) > 1e18)
