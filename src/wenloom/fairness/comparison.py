"""Two models on the same samples, and what is not alike in how they were measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wenloom.evaluation.signature import Difference, Signature, differences
from wenloom.evaluation.significance import holm, paired
from wenloom.fairness.audit import Audited, groups_of

_OF_THE_ANSWERS = {"n"}
"""What follows from the answers of a model: how many of them count."""
_STILL_COMPARED = {"dtype"}
"""What changes how exact a figure is, not what it says."""


@dataclass(frozen=True)
class Unlike:
    """In what figures of two models were not measured alike."""

    suite: str
    measures: tuple[str, ...]
    is_whole: bool
    """Whether these are all of its measures."""
    differences: tuple[Difference, ...]

    @property
    def is_tested(self) -> bool:
        """Whether a paired test says something of them nevertheless."""
        return all(each.field in _STILL_COMPARED for each in self.differences)

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        told = [each._asdict() for each in self.differences]
        return {"suite": self.suite, "measures": list(self.measures), "differences": told, "tested": self.is_tested}


def unlike(first: Audited, second: Audited) -> list[Unlike]:
    """What is not alike in an audit of two models, by measures of which the same is to be said."""
    other, found = _signatures(second), dict[tuple[Difference, ...], list[str]]()
    for key, signature in _signatures(first).items():
        if key in other and (gaps := _gaps(signature, other[key])):
            measures = found.setdefault(gaps, [])
            measures += [key[0]] if key[0] not in measures else []
    n_measures = len({measure for measure, _ in other})
    return [Unlike(first.audit.name, tuple(each), len(each) == n_measures, gaps) for gaps, each in found.items()]


def told(found: Sequence[Unlike], first: str, second: str) -> list[str]:
    """What is not alike in sentences, one for each way in which figures differ.

    Args:
        first, second: how the models are called.
    """
    sentences = []
    for gaps in dict.fromkeys(each.differences for each in found):
        alike = [each for each in found if each.differences == gaps]
        gap = "; ".join(
            f"{each.field} is {each.first} of {first} and {each.second} of {second}"
            f"{f' ({each.meaning})' if each.meaning else ''}"
            for each in gaps
        )
        where = ", ".join(
            each.suite if each.is_whole else f"{each.suite} ({', '.join(each.measures)})" for each in alike
        )
        end = "Paired tests hold all the same" if alike[0].is_tested else "No paired test"
        sentences.append(f"Not measured alike: {gap}. {end}: {where}.")
    return sentences


def compared(first: Audited, second: Audited) -> list[dict[str, object]]:
    """Two models on the same samples, by measure and group: the difference of the second from the first with interval, and p
    adjusted over the groups (Holm); nats per token as percent of perplexity. Nothing of an audit without samples that can be paired,
    and nothing of a measure that says something else of the second model, see `unlike`."""
    found = list[dict[str, object]]()
    signatures = _signatures(first), _signatures(second)
    for one, two in zip(first.compared, second.compared, strict=False):
        key = one.measure, one.convention
        if not all(each.field in _STILL_COMPARED for each in _gaps(*(each[key] for each in signatures))):
            continue
        rows = []
        told = {each.group for each in first.figures if each.measure == one.measure}
        for group in [each for each in groups_of(one) if each in told]:
            before, after = one.of(group), two.of(group)
            test = paired(before.means, after.means)
            shown, measure, unit = _unchanged, one.measure, one.unit
            if unit == "nats":  # of a token: a difference is the logarithm of a ratio of perplexities
                shown, measure, unit = _percent, "perplexity", "%"
            rows.append({
                "suite": first.audit.name, "measure": measure, "convention": one.convention, "group": group,
                "n": len(before.values), "unit": unit, "difference": shown(test.difference), "low": shown(test.low),
                "high": shown(test.high), "p": test.p,
            })  # fmt: skip
        for each, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
            found.append({**each, "p_holm": adjusted})
    return found


def _unchanged(value: float) -> float:
    return value


def _percent(nats: float) -> float:
    return 100 * math.expm1(nats)


def _signatures(audited: Audited) -> dict[tuple[str, str], Signature]:
    """Of every measure and convention."""
    found: dict[tuple[str, str], Signature] = {}
    for each in audited.figures:
        found.setdefault((each.measure, each.convention), each.signature)
    return found


def _gaps(first: Signature, second: Signature) -> tuple[Difference, ...]:
    return tuple(each for each in differences(first, second) if each.field not in _OF_THE_ANSWERS)
