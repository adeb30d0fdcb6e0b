"""StereoSet's own file of predictions: scores of sentences by their ids, which any program may have made."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wenloom.core.errors import InputError, printable
from wenloom.core.foreign import parsed_json
from wenloom.evaluation.perplexity import data_hash
from wenloom.evaluation.rows import read_text
from wenloom.evaluation.signature import Signature
from wenloom.fairness.audit import VERSION, Audited, AuditFigure, Outcomes
from wenloom.fairness.stereoset import KINDS, StereoSet, preferred

TASKS = ("intrasentence", "intersentence")


class _Sample(NamedTuple):
    target: str
    group: str
    ids: tuple[str, str, str]


def scored_predictions(path: Path, data: Path) -> Audited:
    """LM, SS and ICAT of predictions, by task and of both together, as the authors' table has them.

    Args:
        path: `{"intrasentence": [{"id": ..., "score": ...}, ...], "intersentence": [...]}`; either task may be missing.
        data: the folder below which the authors' dev.json lies, with the ids.

    Raises:
        InputError: a file of another form, or a sentence without a score.
    """
    scores = _scores(path)
    audit = StereoSet()
    gold = next((each for each in audit.located(data) if ".json" in each.suffixes), None)
    if gold is None:
        raise InputError(
            f"{data}: predictions go with the authors' dev.json, which has the ids; name its folder with --data."
        )
    samples = dict(_samples(gold))
    conventions = {task: samples[task] for task in TASKS if scores.get(task) and samples.get(task)}
    if not conventions:
        raise InputError(f"{path}: has no scores of {' or '.join(TASKS)} that {gold} has samples of.")
    if len(conventions) > 1:
        conventions["both"] = [each for task in TASKS for each in samples[task]]
    by_id = {name: score for task in TASKS for name, score in scores.get(task, {}).items()}
    figures, compared = list[AuditFigure](), list[Outcomes]()
    for convention, some in conventions.items():
        if missing := next((each for sample in some for each in sample.ids if each not in by_id), None):
            raise InputError(f"{path}: has no score of the sentence {printable(missing, 60)} of {gold}.")
        values = np.array([[by_id[each] for each in sample.ids] for sample in some])
        found = preferred(values, [each.group for each in some], [each.target for each in some], convention)
        digest = data_hash(repr(some))

        def signed(each: Outcomes, digest: str = digest) -> Signature:
            return Signature.of(f"stereoset.{each.measure}", convention=each.convention, scores="file",
                                n=len(each.values), data=digest, version=VERSION)  # fmt: skip

        figures += audit.figures(found, signed)
        compared.append(found[1])
    audit.headline = "ss", next(iter(conventions))
    return Audited(audit, figures, tuple(compared))


def _scores(path: Path) -> dict[str, dict[str, float]]:
    try:
        table: Any = parsed_json(read_text(path))
        found = {task: {str(each["id"]): float(each["score"]) for each in table.get(task) or []} for task in TASKS}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f'{path}: is no file of StereoSet predictions, which is {{"intrasentence": [{{"id": ..., "score": ...}}, ...]}} ({error!r}).'
        ) from None
    if wrong := next((name for each in found.values() for name, score in each.items() if not np.isfinite(score)), None):
        raise InputError(f"{path}: the score of {printable(wrong, 60)} is no number.")
    return found


def _samples(path: Path) -> Iterator[tuple[str, list[_Sample]]]:
    try:
        document: Any = parsed_json(read_text(path))["data"]
        for task in TASKS:
            made = []
            for row in document.get(task) or []:
                ids = {each["gold_label"]: str(each["id"]) for each in row["sentences"]}
                made.append(_Sample(row["target"], row["bias_type"], (ids[KINDS[0]], ids[KINDS[1]], ids[KINDS[2]])))
            yield task, made
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is not StereoSet's file with ids ({error!r}).") from None
