"""What a suite is: samples of a dataset, and `run(model, samples) -> figures`, each with interval and signature.

The file of samples makes an evaluation resumable: a header says what was asked of which model, then comes a line per
sample, and a second call scores only what is missing.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from wenloom.core.errors import InputError
from wenloom.core.files import write_atomically
from wenloom.core.foreign import parsed_json
from wenloom.evaluation.evaluated_model import EvaluatedModel
from wenloom.evaluation.locate import DATA_FOLDER, data_folder, files_in, found_below
from wenloom.evaluation.options import Convention, OverlapOptions, Writing
from wenloom.evaluation.shots import Drawn
from wenloom.evaluation.signature import Signature
from wenloom.text.refusals import Refusals

CHUNK = 2048
"""Questions that are scored between two writes of the samples."""


@dataclass(frozen=True)
class MetricResult:
    """One value of one metric on one dataset."""

    task: str
    dataset: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    """Samples."""
    signature: Signature
    higher_is_better: bool = True
    is_headline: bool = False
    """What publications report of this dataset."""
    details: dict[str, Any] = field(default_factory=dict)
    best: float | None = None
    """See `results.Result`."""

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {**asdict(self), "signature": str(self.signature)}


class SampleLog:
    """The file of an evaluation's samples, one JSON object a line after a header; see the module."""

    def __init__(self, path: Path, header: dict[str, Any]):
        self.path, self._header = path, header
        self.known: dict[int, dict[str, Any]] = {}
        """What an earlier call left, by number."""
        if path.exists():
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            if lines and _parsed(lines[0]) == json.loads(json.dumps(header)):
                rows = [_parsed(line) for line in lines[1:]]  # the last line may be cut off
                self.known = {row["number"]: row for row in rows if row is not None and "number" in row}

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows; the first call writes the header, or brings an old file of the same evaluation in order."""
        self.known |= {row["number"]: row for row in rows}
        if self._header is not None:
            whole = [self._header, *self.known.values()]
            write_atomically(self.path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in whole))
            self._header = None
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row = parsed_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


class EvaluationRequest(NamedTuple):
    """What is asked of a suite besides the model."""

    data: str
    """Hash of the samples' file, for signatures."""
    log: Callable[[dict[str, Any]], SampleLog]
    """The file of samples of an evaluation; what they depend on besides model and data goes into its header."""
    convention: Convention
    metrics: list[str]
    comparing: OverlapOptions
    writing: Writing
    drawn: Drawn = Drawn()
    """The worked examples before the questions."""


@dataclass(frozen=True)
class Suite(ABC):
    """A dataset that models are scored on."""

    name: str
    task: str
    dataset: str
    files: tuple[str, ...] = ()
    """Names that its file may have, without .gz."""
    about: str = ""
    where: str = ""
    """Where it can be had."""

    example_files: tuple[str, ...] = field(default=(), kw_only=True)
    """Names that the file of its training or dev split may have, from which worked examples are drawn."""
    in_order: bool = field(default=False, kw_only=True)
    """Whether the first examples are taken, as they were published for that, instead of drawn ones."""

    format: str = field(default="", kw_only=True)
    """After what its prompts are written, for signatures."""
    beside: Path | None = field(default=None, kw_only=True)
    """A folder where its files are looked for first."""

    kind: ClassVar[str]
    """choice, text, answer, written, program or rows: which options it reads, and what its samples are."""
    takes_examples: ClassVar[bool] = False
    """Whether its samples are `shots.Askable`."""

    def kind_of(self, path: Path) -> str:
        """The kind of the samples of a file."""
        return self.kind

    @abstractmethod
    def read(self, path: Path, refusals: Refusals | None = None) -> list[Any]:
        """The samples of its file.

        Args:
            refusals: told of rows that are left out.

        Raises:
            InputError: a row that does not fit, if the refusals are strict; no row that does.
        """

    @abstractmethod
    def run(self, model: EvaluatedModel, samples: Sequence[Any], request: EvaluationRequest) -> list[MetricResult]:
        """Score a model, going on where an earlier call stopped; shows its progress."""

    def check(self, request: EvaluationRequest, limit: int | None) -> None:
        """
        Raises:
            InputError: options that do not fit.
        """
        return

    def per_sample(
        self, rows: Sequence[dict[str, Any]], samples: Sequence[Any], request: EvaluationRequest
    ) -> tuple[str, np.ndarray] | None:
        """What decides between two models, and its value for every sample; None where there is no such thing.

        Args:
            rows: what the file of samples holds.
        """
        return None

    def find(self, folder: Path | None = None) -> Path:
        """The suite's file, anywhere below the data folder.

        Raises:
            InputError: not there; says where it can be had.
        """
        root = data_folder(folder)
        if found := self._found(self.files, root):
            return found
        raise InputError(
            f"{self.name}: none of {', '.join(self.files)} (or .gz) below {root}."
            f"{f' It can be had from {self.where};' if self.where else ''} name the folder with --data or the variable "
            f"{DATA_FOLDER}."
        )

    def find_examples(self, path: Path, folder: Path | None = None) -> Path | None:
        """The file of its training or dev split, beside the suite's file or below the data folder.

        Args:
            path: what `find` told.
        """
        for name in self.example_files:
            if found := found_below(path.parents[name.count("/")], [name], self.name):
                return found
        return self._found(self.example_files, data_folder(folder))

    def data_files(self, path: Path) -> list[Path]:
        """The files that `find` stands for."""
        return [file for file, _ in files_in(path)]

    def signed(self, request: EvaluationRequest) -> dict[str, object]:
        """What signatures of all its figures say besides metric and data."""
        return {**request.drawn.signed(), "format": self.format or None}

    def _found(self, names: Sequence[str], root: Path) -> Path | None:
        for place in (self.beside, root):
            if place is not None and (found := found_below(place, names, self.name)):
                return found
        return None


def by_group(groups: Sequence[str], values: np.ndarray) -> dict[str, dict[str, float]]:
    """Details of a figure: mean and number of every group (a subject, a paradigm), in order; none where there is but one."""
    names = sorted(set(groups))
    if len(names) < 2:
        return {}
    owners = np.array(groups)
    return {
        "groups": {name: round(float(values[owners == name].mean()), 2) for name in names},
        "group_sizes": {name: int((owners == name).sum()) for name in names},
    }


def in_chunks(total: int, samples: SampleLog, size: int = CHUNK) -> Iterator[list[int]]:
    """Numbers of the samples that are still missing, some at a time."""
    missing = [number for number in range(total) if number not in samples.known]
    for begin in range(0, len(missing), size):
        yield missing[begin : begin + size]
