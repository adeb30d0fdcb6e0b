"""`wenloom plan`. torch is loaded when there is work, so that --help answers at once."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from wenloom.cli.options import Json, flags
from wenloom.core.clock import command_began
from wenloom.core.console import out, print_json, say, visible
from wenloom.core.errors import InputError
from wenloom.training.settings import ModelSettings, TrainSettings

if TYPE_CHECKING:
    from wenloom.training.plan import TrainingPlan


def plan(
    data: Path | None = None,
    /,
    *,
    model: Annotated[ModelSettings, flags("Model", 2)] = ModelSettings(),
    training: Annotated[TrainSettings, flags("Training", 3)] = TrainSettings(),
    vocab_size: Annotated[
        int | None, Parameter(help="Tokens in the vocabulary, where there is no corpus; default: 8,192.")
    ] = None,
    json: Json = False,
) -> None:
    """Estimate what a training run takes on this machine: time, memory, disk and the loss to expect.

    Takes the options of `wenloom pretrain` that decide these, times a few steps and trains nothing. Each number comes with its
    formula.

        wenloom plan data/mine --budget 30min
        wenloom plan --size 10m
        wenloom plan --tokens 1b --arch gpt2

    Parameters
    ----------
    data
        Folder made by `wenloom prepare`; without one, the plan assumes made-up text.
    """
    from wenloom.tokens.shards import Dataset
    from wenloom.training.pace import deadline
    from wenloom.training.parallel import World
    from wenloom.training.scratch import CorpusStatistics, scratch_run
    from wenloom.training.setup import set_up
    from wenloom.training.unread import PLAN, refuse

    if data is not None and vocab_size is not None:
        raise InputError(f"--vocab-size has no effect here: {data} has a vocabulary of its own.")
    refuse((model, training), PLAN, training)
    corpus = CorpusStatistics.of(Dataset.open(data)) if data else CorpusStatistics.imagined(vocab_size or 8192)
    world = World()
    spec = scratch_run(corpus, model, training, world)
    setup = set_up(replace(spec, deadline=deadline(spec.training, command_began())), world)
    setup.prefetcher.close()
    print_json(as_json(setup.plan)) if json else _show(setup.plan.lines())


def as_json(plan: "TrainingPlan") -> dict[str, object]:
    """The plan for machines."""
    return asdict(plan) | {
        "derived": [each._asdict() for each in plan.derived],
        "timetable": asdict(plan.timetable) | {"evaluate_at": sorted(plan.timetable.evaluate_at)},
        "disk": plan.disk,
    }


def _show(rows: list[tuple[str, str, str]]) -> None:
    """What, how much, how it comes about; on a terminal what is too long for its column goes on in the next line of it."""
    if not out.is_terminal:
        return say("\n".join(f"{what:22}{how_much:42}{why}".rstrip() for what, how_much, why in rows))
    from rich.table import Column, Table
    from rich.text import Text

    table = Table.grid(Column(no_wrap=True), Column(ratio=4), Column(ratio=5, style="dim"), padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    out.print(table)
