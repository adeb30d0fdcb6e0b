"""When did it form? The scores of known heads over the checkpoints that a run has kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wenloom.checkpoint.folder import load_model, load_tokenizer
from wenloom.core.errors import InputError
from wenloom.core.pages.chart import Axis, Chart, Series
from wenloom.explanation.circuits import HEAD_KINDS, HeadKind, HeadScores, head_scores
from wenloom.explanation.influence import kept_models
from wenloom.explanation.subject import Subject
from wenloom.training.comparison import Finding
from wenloom.training.run_file import read_run

FORMED = 0.5
"""Score from which on a head counts as one of its kind: more than half of its attention goes there."""
_NAMES: dict[HeadKind, str] = {
    "induction": "induction", "previous_token": "previous token", "duplicate_token": "duplicate token",
}  # fmt: skip


@dataclass(frozen=True)
class HeadHistory:
    """Scores of all heads at the kept checkpoints of a run."""

    name: str
    """Of the run."""
    steps: list[int]
    scores: list[HeadScores]

    def strongest(self, kind: HeadKind) -> list[float]:
        """By checkpoint, the score of the head that scores most there."""
        return [each.strongest(kind)[2] for each in self.scores]

    def formed(self, kind: HeadKind) -> int | None:
        """Which checkpoint is the first from which on a head scores more than `FORMED`; None: not at the last one."""
        values, first = self.strongest(kind), None
        for number in reversed(range(len(values))):
            if values[number] <= FORMED:
                break
            first = number
        return first


def head_history(run: Path, on_checkpoint: Callable[[int], None] = lambda n: None) -> HeadHistory:
    """Measure the heads of every kept checkpoint of a run.

    Args:
        on_checkpoint: told that one more is done.

    Raises:
        InputError: the folder holds no run, the run has kept no whole model, or it is no decoder's.
    """
    read_run(run)
    tokenizer, found = load_tokenizer(run), []
    kept = kept_models(run)
    if not kept:
        raise InputError(f"{run}: keeps no checkpoint with a whole model; train with --keep-every STEPS to keep some.")
    for _, folder in kept:
        found.append(head_scores(Subject(load_model(folder).eval(), tokenizer)))
        on_checkpoint(1)
    return HeadHistory(run.resolve().name, [step for step, _ in kept], found)


def when_formed(history: HeadHistory) -> str:
    """When induction formed, in a sentence."""
    values, first, last = history.strongest("induction"), history.formed("induction"), history.scores[-1]
    layer, head, value = last.strongest("induction")
    if first is None:
        return f"{history.name}: no induction head at step {history.steps[-1]:,}; block {layer}, head {head} comes nearest ({value:.2f})."
    by_then = f"at step {history.steps[first]:,} it scores {values[first]:.2f}"
    when = (
        f"is there from the first kept checkpoint on: {by_then}"
        if first == 0
        else f"formed after step {history.steps[first - 1]:,}, where the strongest head scores {values[first - 1]:.2f}; {by_then}"
    )
    return f"{history.name}: induction {when}. At the end block {layer}, head {head} does it ({value:.2f})."


def head_findings(histories: Sequence[HeadHistory]) -> Finding:
    """Curves of the strongest heads for the page of runs, and when induction formed in each."""
    alone = len(histories) == 1
    series = [
        Series(_NAMES[kind] if alone else history.name, [(float(step), value) for step, value in zip(history.steps, history.strongest(kind), strict=True)],
               number + place, "dotted")
        for number, history in enumerate(histories) for place, kind in enumerate(HEAD_KINDS if alone else HEAD_KINDS[:1])
    ]  # fmt: skip
    return Finding(
        "Heads" if alone else "Induction",
        "strongest head on random tokens that are read twice: part of its attention that goes where such a head looks",
        [when_formed(history) for history in histories],
        Chart("score", [Axis("step")], series),
    )
