"""Parameters that several commands share."""

from typing import Annotated

from cyclopts import Group, Parameter

from wordloom.text.documents import ReadOptions
from wordloom.tokens.prepare import PrepareOptions
from wordloom.training.settings import ModelSettings, TrainSettings

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON document instead of text.")]
Device = Annotated[str, Parameter(help="auto, cpu, cuda or mps.")]


def _flat(kind: type, title: str, order: int) -> object:
    """A dataclass as flags, under a heading of its own in the help."""
    return Annotated[kind, Parameter(name="*", group=Group(title, sort_key=order))]


Reading = _flat(ReadOptions, "Reading", 3)
Preparing = _flat(PrepareOptions, "Corpus", 2)
Model = _flat(ModelSettings, "Model", 2)
Training = _flat(TrainSettings, "Training", 3)
