"""`wenloom audit`. torch is loaded when there is work, so that --help answers at once."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from wenloom.cli.keep_results import keep_results
from wenloom.cli.options import Device, Json, flags, refuse_unused
from wenloom.cli.served import Served
from wenloom.core.console import print_json, remark, say
from wenloom.core.errors import InputError, printable
from wenloom.core.files import check_no_folder
from wenloom.core.progress import progress

if TYPE_CHECKING:
    from wenloom.fairness.audit import Audit, Audited
    from wenloom.fairness.audited_model import AskedModel, AuditedModel, DecodedModel
    from wenloom.fairness.representation import Representation
    from wenloom.fairness.sentiment import TextJudge

_CONTRAST = 0.5
"""Weight of the model that another writes in contrast to."""


def audit(
    *models: Annotated[str, Parameter(name="models")],
    on: list[str] | None = None,
    data: Path | None = None,
    limit: int | None = None,
    prompts: Path | None = None,
    corpus: list[str] | None = None,
    predictions: Path | None = None,
    lexicon: str | None = None,
    axis: list[str] | None = None,
    classifier: str | None = None,
    text: list[Path] | None = None,
    benchmark: list[str] | None = None,
    seed: int = 0,
    self_debias: list[str] | None = None,
    contrast: str | None = None,
    out: Path | None = None,
    card: bool = False,
    store: Path | None = None,
    keep: Annotated[bool, Parameter(negative="--no-keep")] = True,
    device: Device = "auto",
    json: Json = False,
    served: Annotated[Served, flags("A model that is served elsewhere", 1)] = Served(),
) -> None:
    """Audit a model for bias: what it prefers when two texts differ in whom they speak of, group by group.

    Every figure has its number of samples, a 95 % interval and the value that a model without preference has; it is called a
    preference only where the interval leaves that value out. Two models are also compared on the same samples, with p adjusted over
    the groups (Holm). Audits: crows_pairs (by four conventions), stereoset, winobias, winogender, bbq, bold (has the model write),
    seat (vectors; its word lists are built in), prompts (your own texts, by --prompts).

        wenloom audit runs/mine --data datasets/
        wenloom audit runs/mine --on crows_pairs,stereoset --data datasets/ --limit 200
        wenloom audit runs/mine --prompts people.txt --axis gender
        wenloom audit --corpus people.txt
        wenloom audit runs/mine runs/old --on winobias --text text.txt --benchmark lambada --data datasets/ --out audit.html
        wenloom audit --api http://localhost:8000/v1 --model mine --on crows_pairs --data datasets/

    Figures go into the results store, which `leaderboard` shows.

    Parameters
    ----------
    models
        Model folders, or hub models: decoders, encoders that predict hidden tokens, models with an encoder and a decoder.
    on
        Audits, comma-separated or given several times. Default: those whose files lie below --data.
    data
        The folder below which the files of the audits lie; default: the variable WENLOOM_DATA, else data/.
    limit
        Use only this many samples of each audit, evenly spread (noted in the signature). Default: all; 1,000 of bold.
    prompts
        Texts of your own, a line each (of jsonl, "text" and, if wanted, "continuation"): the words of one group are exchanged for
        those of the other, and both are compared.
    corpus
        Text files or folders: which groups they mention, how often and with what words. Needs no model.
    predictions
        StereoSet's own file of scores by sentence, which any program may have made, beside the authors' dev.json below --data. Needs
        no model.
    lexicon
        Lexicon of words for groups: en, de, zh, or a TOML file of your own. Default: by the language of the texts, else English.
    axis
        Axes of the lexicon, such as gender; default: all that it has.
    classifier
        For bold: a model of `finetune --task classification` that judges what is written, as FOLDER or FOLDER:CLASS. Default: words
        of the lexicon.
    text
        Text files: bits per byte by passage, so that what a change costs stands beside what it does. Models with an encoder and a
        decoder: jsonl files, each line with a "source" and a "target" (such as a text and its translation).
    benchmark
        Suites of questions with choices, such as lambada or arc_easy, for the same.
    seed
        Seed of the texts that the model writes for bold.
    self_debias
        For bold: ask every model also while it writes with Self-Debias, which makes tokens less probable that this text makes
        more probable, such as "The following text is sexist:".
    contrast
        For bold: ask every other model also while it writes in contrast to this one, such as the model from before debiasing: 1.5
        times the model's logits less 0.5 times this one's.
    out
        Also write a page, such as audit.html.
    card
        Also write the section "Bias, risks and limitations" of every model's README.md.
    store
        The results store (SQLite); default: the variable WENLOOM_RESULTS, else the user's data folder.
    keep
        Add the figures to the results store.
    """
    endpoints = {each.model: each for each in served.endpoints()}
    if endpoints:
        refuse_unused("is of models that are loaded here; the server decides", device=device != "auto")
        refuse_unused("stands in the folder of a model, and this one is served elsewhere", card=card)
        if models:
            raise InputError("--api asks a server: leave the model folders out.")
        models = tuple(endpoints)
    if not models and not corpus and predictions is None:
        raise InputError(
            "name a model, as in: wenloom audit runs/mine --data datasets/; or texts: wenloom audit --corpus FILES"
        )
    if len(set(models)) < len(models):
        raise InputError("a model is named twice.")
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: at least 1.")
    if out is not None:
        check_no_folder(out)
    if not keep:
        refuse_unused("--no-keep leaves the figures out of every store", store=store is not None)
    names = [name for each in on or [] for name in each.split(",") if name]
    if not models and (given := [name for name, value in {"--on": on, "--prompts": prompts, "--text": text, "--card": card,
                                                          "--benchmark": benchmark}.items() if value]):  # fmt: skip
        raise InputError(f"{given[0]} asks a model: name one.")
    if classifier is not None and "bold" not in names and names:
        raise InputError("--classifier goes with --on bold.")
    from wenloom.checkpoint.hub import resolve
    from wenloom.cli.audit_tables import show_report
    from wenloom.evaluation.evaluated_model import RemoteModel
    from wenloom.evaluation.locate import data_folder
    from wenloom.fairness.audited_model import AuditedModel, ServedAuditedModel
    from wenloom.fairness.audits import AuditOptions, audits_named
    from wenloom.fairness.comparison import compared, unlike
    from wenloom.fairness.cost import BenchmarkCost, text_cost
    from wenloom.fairness.report import AuditReport, write_card_section, write_page
    from wenloom.fairness.stereoset_predictions import scored_predictions
    from wenloom.text.documents import find_files

    axes = tuple(name for each in axis or [] for name in each.split(",") if name)
    files = find_files(corpus) if corpus else []
    local = [] if endpoints else [AuditedModel(model, resolve(model), device) for model in models]
    decoded = _decoded(local, names, self_debias, contrast)
    served_models = [ServedAuditedModel(RemoteModel(each)) for each in endpoints.values()]
    subjects: list[AskedModel] = [*local, *served_models, *decoded]
    folder = data_folder(data)
    found: dict[str, list[Audited]] = {}
    if predictions is not None:
        found[str(predictions)] = [scored_predictions(predictions, folder)]
    if subjects:
        options = AuditOptions(prompts, lexicon, axes, None if classifier is None else _judge(classifier, device), seed)
        costs: list[Audit] = [
            *map(text_cost, text or ()),
            *(BenchmarkCost(n) for e in benchmark or () for n in e.split(",") if n),
        ]
        chosen = [] if costs and not names and prompts is None else audits_named(names, folder, options)
        _ask(subjects, [*chosen, *costs], bool(names), folder, limit, found, store, keep)
    pairs = [
        (other.name, one, two)
        for other in subjects[1:]
        for one in found[subjects[0].name]
        for two in found[other.name]
        if one.audit is two.audit
    ]
    comparisons = [
        {"first": subjects[0].name, "second": name, **row} for name, one, two in pairs for row in compared(one, two)
    ]
    not_alike = [(subjects[0].name, name, each) for name, one, two in pairs for each in unlike(one, two)]
    represented = _represented(files, lexicon, axes) if files else []
    report = AuditReport(found, comparisons, represented, not_alike)
    written = [write_card_section(report, each.name, each.folder) for each in local] if card else []
    if out is not None:
        write_page(report, out)
    if json:
        figures = [
            {"model": model, **each.as_json()} for model, rows in found.items() for one in rows for each in one.figures
        ] + [{"model": None, **each.as_json()} for one in represented for each in one.figures]
        print_json({
            "figures": figures, "comparisons": comparisons, "caveats": report.caveats,
            "unlike": [{"first": first, "second": second, **each.as_json()} for first, second, each in not_alike],
            "seconds": {model: {each.audit.name: each.seconds for each in rows} for model, rows in found.items()},
            "corpus": [each.as_json() for each in represented],
        })  # fmt: skip
        return
    show_report(report)
    for path in [*written, *([out] if out is not None else [])]:
        say(f"{path}: written.")


def _ask(
    subjects: "Sequence[AskedModel]",
    audits: "list[Audit]",
    is_named: bool,
    folder: Path,
    limit: int | None,
    found: "dict[str, list[Audited]]",
    store: Path | None,
    keep: bool,
) -> None:
    """Every audit of every model that it can be asked of; figures go into the store as soon as an audit is done.

    Args:
        is_named: the user named the audits, so that one that cannot be asked is an error.
        found: is filled, by model.

    Raises:
        InputError: see `_askable`; nothing has been asked yet then. What each audit raises.
    """
    from wenloom.fairness.swapped_prompts import SwappedPrompts

    counted = [(each, len(each.samples(folder, limit))) for each in audits]
    for each in audits:
        if isinstance(each, SwappedPrompts) and each.unclear:
            remark(f"{len(each.unclear):,} texts name a group, but not so that it could surely be exchanged: left out, such as "
                   f'"{printable(each.unclear[0], 100)}".')  # fmt: skip
    asked = [(subject, _askable(subject, counted, is_named)) for subject in subjects]
    try:
        for subject, chosen in asked:
            with progress(f"Auditing {subject.name}", sum(n for _, n in chosen), "samples") as bar:
                for each, _ in chosen:
                    done = each.run(subject, folder, limit, bar.advance)
                    found.setdefault(subject.name, []).append(done)
                    if keep:
                        keep_results(store, subject, done.results(), None, done.seconds or 0.0)
    except KeyboardInterrupt:
        if keep and found:
            remark("The figures of the audits that were done are in the results store.")
        raise


def _askable(subject: "AskedModel", counted: "list[tuple[Audit, int]]", is_named: bool) -> "list[tuple[Audit, int]]":
    """The audits that a model can be asked, each with its number of samples.

    Raises:
        InputError: none; or the user named one that cannot be asked.
    """
    from wenloom.fairness.audited_model import DecodedModel

    chosen: list[tuple[Audit, int]] = []
    whys: list[str] = []
    for audit, n in counted:
        if (why := audit.why_not(subject)) is None:
            chosen.append((audit, n))
        elif is_named and not isinstance(subject, DecodedModel):
            raise InputError(f"{audit.name} cannot be asked of {subject.name}: {why}.")
        else:
            whys.append(why)
    if not chosen:
        names = ", ".join(each.name for each, _ in counted)
        raise InputError(f"{subject.name}: none of {names} can be asked of it; {whys[0]}.")
    return chosen


def _decoded(
    local: "list[AuditedModel]", names: list[str], self_debias: list[str] | None, contrast: str | None
) -> "list[DecodedModel]":
    """Every model as it writes by other rules.

    Raises:
        InputError: nothing is written.
    """
    given = {"--self-debias": self_debias, "--contrast": contrast}
    if (option := next((name for name, value in given.items() if value), None)) is None:
        return []
    if not local or "bold" not in names:
        raise InputError(f"{option} acts while a model of a folder writes: name one, and --on bold.")
    from wenloom.checkpoint.hub import resolve
    from wenloom.fairness.audited_model import DecodedModel

    made = [DecodedModel(each, "Self-Debias", {"self_debias": tuple(self_debias)}) for each in local if self_debias]
    if contrast is not None:
        how, other = f"in contrast to {Path(contrast).name}", resolve(contrast)
        others = [each for each in local if each.folder.resolve() != other.resolve()]
        if not others:
            raise InputError(f"--contrast {contrast}: is the model itself; name one that differs.")
        made += [DecodedModel(each, how, {"contrastive_beta": _CONTRAST}, other) for each in others]
    return made


def _judge(classifier: str, device: str) -> "TextJudge":
    """A classifier of the user's as what gives texts a value.

    Raises:
        InputError: it has no such class, or it is not said which of several.
    """
    import numpy as np

    from wenloom.checkpoint.folder import load_model, load_tokenizer
    from wenloom.checkpoint.hub import resolve
    from wenloom.core.hardware import probe
    from wenloom.fairness.sentiment import TextJudge
    from wenloom.tasks.classification import classify

    name, colon, label = classifier.rpartition(":")
    if not colon or not Path(name).expanduser().exists():
        name, label = classifier, ""
    folder = resolve(name)
    model, tokenizer = load_model(folder, probe(device).device).eval(), load_tokenizer(folder)
    labels = model.config.labels
    if not labels:
        raise InputError(f"--classifier {name}: has no classes; wenloom finetune --task classification makes one.")
    label = label or next((each for each in labels if each.casefold() in ("positive", "toxic", "1")), "")
    if label not in labels:
        raise InputError(
            f"--classifier {name}: say which class counts, as FOLDER:CLASS; it has {', '.join(labels[:20])}."
        )

    def values(texts: Sequence[str]) -> Any:
        return np.array([100.0 * dict(each.others)[label] for each in classify(model, tokenizer, texts)])

    return TextJudge(f"P({label})", f"{folder.name}:{label}", "%", values)


def _represented(files: list[Path], lexicon: str | None, axes: tuple[str, ...]) -> "list[Representation]":
    from wenloom.fairness.representation import represented
    from wenloom.text.documents import read_documents
    from wenloom.text.encoding import only_utf8
    from wenloom.text.lexicon import language_of
    from wenloom.text.lexicon import lexicon as read_lexicon

    if lexicon is None:
        with only_utf8():
            first = [each.text[:5000] for each, _ in zip(read_documents(files), range(20), strict=False)]
        lexicon = language_of(first)
        remark(f"Words of the lexicon {lexicon}; --lexicon names another.")
    with only_utf8(), progress("Reading", None, "documents") as bar:
        return represented((each.text for each in read_documents(files)), read_lexicon(lexicon), axes, bar.advance)
