"""The audits that there are."""

from collections.abc import Sequence
from pathlib import Path

from wenloom.core.errors import InputError
from wenloom.evaluation.significance import holm, paired
from wenloom.fairness.audit import Audit, Audited, groups_of
from wenloom.fairness.bbq import BBQ
from wenloom.fairness.crows_pairs import CrowsPairs
from wenloom.fairness.stereoset import StereoSet
from wenloom.fairness.winobias import WinoBias

AUDITS: dict[str, Audit] = {each.name: each for each in (CrowsPairs(), StereoSet(), WinoBias(), BBQ())}


def audits_named(names: Sequence[str], data: Path) -> list[Audit]:
    """The audits of these names; without any, those whose files lie below a folder.

    Raises:
        InputError: an unknown name, or no file.
    """
    for name in names:
        if name not in AUDITS:
            raise InputError(f"--on {name}: known audits are {', '.join(AUDITS)}.")
    chosen = [AUDITS[name] for name in dict.fromkeys(names)]
    if not chosen:
        chosen = [each for each in AUDITS.values() if _is_there(each, data)]
    if not chosen:
        known = "; ".join(f"{each.name}: {each.source}" for each in AUDITS.values())
        raise InputError(f"{data}: no file of an audit lies below it. Name the folder with --data. {known}.")
    return chosen


def _is_there(audit: Audit, data: Path) -> bool:
    try:
        return bool(audit.located(data))
    except InputError:
        return False


def compared(first: Audited, second: Audited) -> list[dict[str, object]]:
    """Two models on the same samples, by group: the difference of the second from the first with interval, and p adjusted over
    the groups (Holm)."""
    found = []
    for group in groups_of(first.compared):
        one, other = first.compared.of(group), second.compared.of(group)
        test = paired(one.values, other.values)
        found.append({
            "suite": first.audit.name, "measure": one.measure, "convention": one.convention, "group": group, "n": len(one.values),
            "difference": test.difference, "low": test.low, "high": test.high, "p": test.p,
        })  # fmt: skip
    for each, adjusted in zip(found, holm([float(row["p"]) for row in found]), strict=True):
        each["p_holm"] = adjusted
    return found
