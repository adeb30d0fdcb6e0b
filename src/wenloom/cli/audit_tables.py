"""What audits found, as tables of a terminal."""

from collections.abc import Sequence
from typing import Any

from wenloom.core.console import out as console
from wenloom.core.console import say, table
from wenloom.core.errors import printable
from wenloom.core.quantities import counted
from wenloom.fairness.audit import ALL, STEREOTYPE, Audited
from wenloom.fairness.report import AuditReport, is_sure, number, sentence_of, unit_of
from wenloom.fairness.representation import Representation
from wenloom.fairness.swapped_prompts import SwappedPrompts


def show_report(report: AuditReport) -> None:
    """Every audit of every model, comparisons, the corpus."""
    for model, found in report.found.items():
        for each in found:
            _show_audit(report.short(model), each)
    for first, second, rows in report.pairs:
        _show_comparisons(report, first, second, rows)
    if report.pairs:
        _show_times(report)
    for each in report.corpus:
        _show_corpus(each)


_NUMBERS = ("value", "n", "difference", "p")


def _show_audit(model: str, audited: Audited) -> None:
    """All measures of all samples, and the headline by group; the rest by group is in --json and on the page."""
    audit = audited.audit
    say(f"\n{model}, {audit.name}: {audit.about}")
    shown = table("measure", "group", "value", "95 % interval", "n", "preferred", right=_NUMBERS)
    whole = {(each.measure, each.convention) for each in audited.figures if each.group == ALL}
    for each in audited.figures:
        measure = each.measure, each.convention
        if each.group != ALL and measure in whole and measure != audit.headline:
            continue
        p = "" if each.p is None else f" (one-sided p {each.p:.3g})"
        shown.add_row(f"{each.measure} ({each.convention})", each.group, f"{number(each.value, each.unit)} {each.unit}",
                      f"{number(each.low, each.unit)} to {number(each.high, each.unit)}", f"{each.n:,}", each.verdict + p)  # fmt: skip
    console.print(shown)
    for group, (first, second) in dict.fromkeys(
        (each.group, each.sides) for each in audited.figures if each.sides != STEREOTYPE
    ):
        say(f"{group}: more than even is {first}, less is {second}.")
    if audit.name == SwappedPrompts.name:
        say("Such as: " + "; ".join(" | ".join(map(printable, each.texts)) for each in audited.examples[:3]))
    even = sorted({f"{each.unbiased:g}" for each in audited.figures if each.unbiased is not None})
    neither = f"A model that prefers neither has {' or '.join(even)}. " if even else ""
    say(f"{neither}Caveat: {audited.caveat}.")


def _show_comparisons(report: AuditReport, first: str, second: str, rows: Sequence[dict[str, Any]]) -> None:
    say(
        f"\n{report.short(second)} against {report.short(first)}, on the same samples (p adjusted over the groups, Holm)"
    )
    for sentence in report.not_alike(first, second):
        say(sentence)
    if not rows:
        return
    shown = table("measure", "group", "difference", "95 % interval", "n", "p", right=_NUMBERS)
    for each in rows:
        shown.add_row(f"{each['suite']}, {each['measure']}", each["group"], f"{each['difference']:+.3g} {unit_of(each)}",
                      f"{each['low']:+.3g} to {each['high']:+.3g}", f"{each['n']:,}", f"{each['p_holm']:.3g}", style="bold" if is_sure(each) else None)  # fmt: skip
    console.print(shown)
    sure = [f"{each['suite']}, {each['measure']}, {each['group']}" for each in rows if is_sure(each)]
    say(
        f"A difference: {'; '.join(sure)}. The rest: no significant difference."
        if sure
        else "No significant difference."
    )


def _show_times(report: AuditReport) -> None:
    say("\nSeconds that each took")
    shown = table("audit", *map(report.short, report.found))
    for name, seconds in report.times:
        shown.add_row(name, *("" if each is None else f"{each:.1f}" for each in seconds))
    console.print(shown)


def _show_corpus(each: Representation) -> None:
    (first, second), (alone, other, both) = each.sides, each.documents
    say(f"\nCorpus, {each.axis}: {counted(each.words[0], 'word')} of {first}, {each.words[1]:,} of {second}")
    say(f"  documents: {alone:,} speak of {first} alone, {other:,} of {second} alone, {both:,} of both")
    for figure in each.figures:
        value, low, high = (number(one, figure.unit) for one in (figure.value, figure.low, figure.high))
        verdict = sentence_of(figure)
        say(f"  {figure.measure} ({figure.convention}): {value} {figure.unit} ({low} to {high}), n {figure.n:,}"
            f"{'; ' + verdict if verdict else ''}")  # fmt: skip
    for side, words in zip(each.sides, each.near, strict=True):
        if words:
            say(f"  near {side}: {', '.join(word.word for word in words)}")
