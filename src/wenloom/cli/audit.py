"""`wenloom audit`. torch is loaded when there is work, so that --help answers at once."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from wenloom.cli.options import Device, Json
from wenloom.core.console import out as console
from wenloom.core.console import print_json, say
from wenloom.core.errors import InputError
from wenloom.core.progress import progress

if TYPE_CHECKING:
    from wenloom.evaluation.scorer import Scorer
    from wenloom.fairness.audit import Audited


def audit(
    *models: Annotated[str, Parameter(name="models")],
    on: list[str] | None = None,
    data: Path | None = None,
    limit: int | None = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Audit a model for bias: what it prefers when two sentences differ in whom they speak of, group by group.

    Every figure has its number of samples, a 95 % interval and the value that a model without preference has; it is called a
    preference only where the interval leaves that value out. Two models are also compared on the same samples, with p adjusted over
    the groups (Holm). Audits: crows_pairs (by four conventions), stereoset, winobias, bbq.

        wenloom audit runs/mine --data datasets/
        wenloom audit runs/mine --on crows_pairs,stereoset --data datasets/ --limit 200
        wenloom audit runs/mine runs/gpt --on winobias --data datasets/ --json

    Parameters
    ----------
    models
        Model folders, or hub models: decoders, and encoders that predict hidden tokens.
    on
        Audits, comma-separated or given several times. Default: those whose files lie below --data.
    data
        The folder below which the files of the audits lie; default: the variable WENLOOM_DATA, else data/.
    limit
        Ask only so many samples of each, evenly spread (noted in the signature).
    """
    if not models:
        raise InputError("name a model, as in: wenloom audit runs/mine --data datasets/")
    if len(set(models)) < len(models):
        raise InputError("a model is named twice.")
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: at least 1.")
    from wenloom.checkpoint.hub import resolve
    from wenloom.evaluation.locate import data_folder
    from wenloom.fairness.audit import audit_samples, run_audit
    from wenloom.fairness.audits import audits_named, compared

    folders = [resolve(model) for model in models]
    folder = data_folder(data)
    audits = audits_named([name for each in on or [] for name in each.split(",") if name], folder)
    n_samples = sum(len(audit_samples(each, folder, limit)) for each in audits)
    found: dict[str, list[Audited]] = {}
    for model, path in zip(models, folders, strict=True):
        scorer = _scorer(path, device)
        chosen = [each for each in audits if on or scorer.kind in each.kinds]
        if not chosen:
            raise InputError(
                f"{model}: none of {', '.join(each.name for each in audits)} can be asked of it; it reads pairs of texts."
            )
        with progress(f"Auditing {model}", n_samples, "samples") as bar:
            found[model] = [run_audit(each, scorer, folder, limit, bar.advance) for each in chosen]
    first = found[models[0]]
    comparisons = [
        {"first": models[0], "second": other, **row}
        for other in models[1:]
        for one, two in zip(first, found[other], strict=False)
        if one.audit is two.audit
        for row in compared(one, two)
    ]
    if json:
        figures = [
            {"model": model, **each.as_json()} for model, rows in found.items() for one in rows for each in one.figures
        ]
        print_json(
            {"figures": figures, "comparisons": comparisons, "caveats": {each.name: each.caveat for each in audits}}
        )
        return
    for model, rows in found.items():
        _show(model, rows)
    _show_comparisons(comparisons)


def _scorer(folder: Path, device: str) -> "Scorer":
    from wenloom.checkpoint.folder import load_model, load_tokenizer
    from wenloom.core.hardware import probe
    from wenloom.evaluation.scorers import scorer_of
    from wenloom.model.decoder import Decoder
    from wenloom.model.packed import packed

    loaded = load_model(folder, probe(device).device).eval()
    return scorer_of(packed(loaded) if isinstance(loaded, Decoder) else loaded, load_tokenizer(folder))


def _show(model: str, found: Sequence["Audited"]) -> None:
    for audited in found:
        audit = audited.audit
        say(f"\n{model}, {audit.name}: {audit.about}")
        table = Table(box=None, padding=(0, 1))
        for name in ("measure", "group", "%", "95 % interval", "n", "preferred"):
            table.add_column(name, justify="right" if name in ("%", "n") else "left", overflow="fold")
        for each in audited.figures:
            if each.group != "all" and (each.measure, each.convention) != audit.headline:
                continue
            table.add_row(f"{each.measure} ({each.convention})", each.group, f"{each.value:.1f}", f"{each.low:.1f} to {each.high:.1f}",
                          f"{each.n:,}", each.verdict)  # fmt: skip
        console.print(table)
        even = sorted({f"{each.unbiased:g}" for each in audited.figures if each.unbiased is not None})
        say(f"A model that prefers neither has {' or '.join(even)}. Mind: {audit.caveat}.")


def _show_comparisons(comparisons: Sequence[dict[str, Any]]) -> None:
    for each in comparisons:
        sure = "a difference" if each["p_holm"] < 0.05 else "no difference that is sure"
        say(
            f"{each['suite']}, {each['group']}: {each['second']} against {each['first']}: {each['difference']:+.1f} points "
            f"({each['low']:+.1f} to {each['high']:+.1f}), p {each['p_holm']:.3g}: {sure}."
        )
