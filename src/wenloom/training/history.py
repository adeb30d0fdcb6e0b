"""What happened in a run: metrics.jsonl, and what follows from its evaluations."""

import json
from pathlib import Path
from typing import Any

from wenloom.core.files import write_atomically
from wenloom.training.objectives import Loss
from wenloom.training.state import METRICS


class History:
    """Lines of figures, appended one by one; what a resumed run will do again is cut off.

    Args:
        up_to_step: where the run goes on.
        writes: whether this process keeps the file; the others only remember.
    """

    def __init__(self, run: Path, up_to_step: int, writes: bool):
        self._path, self._writes = run / METRICS, writes
        self.lines = [line for line in read_metrics(run) if line["step"] <= up_to_step]
        if writes:
            write_atomically(self._path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self.lines))

    def add(self, **values: Any) -> None:
        """Append a line."""
        self.lines.append(values)
        if self._writes:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values, ensure_ascii=False) + "\n")

    def add_evaluation(self, step: int, loss: Loss, **values: Any) -> None:
        """Append the line of an evaluation."""
        self.add(step=step, validation=loss.figures(), **values)

    def evaluations(self) -> list[dict[str, Any]]:
        """The lines of evaluations, oldest first."""
        return [line for line in self.lines if "validation" in line]

    def evaluated(self, step: int) -> bool:
        """Whether the validation text was scored after this step."""
        return any(line["step"] == step for line in self.evaluations())

    def best(self) -> dict[str, Any]:
        """The line of the best evaluation; empty before the first."""
        return min(self.evaluations(), key=_nats, default={})

    @property
    def best_step(self) -> int:
        """The step of the best evaluation; 0 before the first."""
        return self.best().get("step", 0)

    def evaluations_since_best(self) -> int:
        """How many evaluations in a row were no better than the best."""
        return sum(line["step"] > self.best_step for line in self.evaluations())

    def turned_up(self) -> bool:
        """Whether validation rises: worse than the best by 1 % and two evaluations long; true once a rise."""
        losses = [_nats(line) for line in self.evaluations()]
        rising = [index for index in range(2, len(losses) + 1) if _rises(losses[:index])]
        return bool(rising) and rising[-1] == len(losses) and len(losses) - 1 not in rising


def _nats(line: dict[str, Any]) -> float:
    return line["validation"]["nats_per_token"]


def _rises(losses: list[float]) -> bool:
    """
    >>> _rises([2.0, 1.0, 1.02, 1.05]), _rises([2.0, 1.0, 1.05]), _rises([2.0, 1.5, 1.4])
    (True, False, False)
    """
    best = min(losses)
    return len(losses) - 1 - losses.index(best) >= 2 and losses[-1] > 1.01 * best


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """All lines of metrics.jsonl; a last line that was cut short is left out."""
    lines = []
    if (run / METRICS).exists():
        for line in (run / METRICS).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return lines
