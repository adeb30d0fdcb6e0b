"""`wenloom explain`. torch is loaded when there is work, so that --help answers at once."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.markup import escape
from rich.text import Text

from wenloom.cli.options import Device, Json
from wenloom.core.console import out as console
from wenloom.core.console import print_json, say, table
from wenloom.core.errors import InputError
from wenloom.core.files import check_no_folder
from wenloom.core.progress import progress

if TYPE_CHECKING:
    from wenloom.explanation.explanation import Explanation
    from wenloom.explanation.neurons import ActiveText

_PARTS = 8
_SHOWN = 400
_PASSAGES, _NEURONS, _PUSHED = 3, 5, 4
_AROUND = 60
"""Characters of a passage before and after what it has in common with the text."""


def explain(
    model: str,
    text: str,
    /,
    *,
    why: str | None = None,
    against: str | None = None,
    corrupted: str | None = None,
    data: Path | None = None,
    neurons: bool = False,
    features: Path | None = None,
    lens: Path | None = None,
    out: Path | None = None,
    steps: int | None = None,
    baseline: Literal["zeros", "tokens"] | None = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Explain an answer: which tokens of the text cause it, in which block it forms, which heads add to it.

    Prints the most important figures; --out writes a page with all of them, which needs no network: every method with its own
    error, every block, every head. The text is a prompt; of a translator, its source; of a classifier, what it classifies; of a
    masked model, a text with one mask.

        wenloom explain runs/quickstart "ROMEO: I am" --out why.html
        wenloom explain runs/mine "The lamp was" --why lit --against read
        wenloom explain runs/mine "2 + 2 =" --why 4 --corrupted "2 + 3 ="
        wenloom explain runs/mine "The lamp was" --data data/mine --neurons
        wenloom explain runs/mine "The lamp was" --features sae --out why.html

    Parameters
    ----------
    model
        A model folder, or a hub model.
    text
        What the model reads.
    why
        The answer to explain: a continuation, a label, the token behind a mask. Default: the most probable one.
    against
        An answer to compare with: explains why the one and not the other.
    corrupted
        Another text of equally many tokens: shows in which blocks and tokens the difference to it is carried.
    data
        A prepared corpus whose training text is searched for the answer, with the influence that it had; it is indexed
        first where it was not. Default: the one that the model was trained on, where that is still there and not too large.
    neurons
        Also show the neurons that the answer depends on: which tokens each pushes, and in which texts of that corpus it is most
        active.
    features
        Also show the features that the answer depends on, of this folder, which `wenloom features` made.
    lens
        Read the blocks through this tuned lens, which `wenloom train-lens` made.
    out
        Write a page with everything.
    steps
        Points of integrated gradients' path, from zero vectors unless --baseline says otherwise. Default: as many as an error of at
        most 1 % demands.
    baseline
        Where that path begins: at zero vectors, or at texts of drawn tokens. Default: at zero vectors, and at drawn tokens where
        those leave a larger error, as in deep models.
    """
    if steps is not None and steps < 1:
        raise InputError(f"--steps {steps}: must be at least 1.")
    if out is not None:
        check_no_folder(out)
    from wenloom.explanation import explanation
    from wenloom.explanation.answer_features import load_features
    from wenloom.explanation.subject import subject_of
    from wenloom.explanation.training_text import corpus_of
    from wenloom.explanation.tuned_lens import load_lens
    from wenloom.training.run_file import RUN, read_run

    subject = subject_of(model, device)
    run = Path(model) if (Path(model) / RUN).is_file() else None
    if data is None and run is not None and subject.predicts == "next token" and not subject.prefix:
        data = corpus_of(run, read_run(run))
    tuned = None
    if lens is not None:
        if subject.predicts != "next token" or subject.prefix:
            raise InputError("--lens is for models that continue their prompt; this one does not.")
        tuned = load_lens(lens)
        tuned.check(subject.model.config, str(lens))
    found_features = None if features is None else load_features(features, subject)
    with progress("Explaining", None, "passes") as bar:
        found = explanation.explain(
            subject, text, why, against, corrupted, steps, baseline, data, run, neurons, tuned, found_features, bar.advance
        )  # fmt: skip
    if out is not None:
        from wenloom.core.files import write_atomically

        write_atomically(out, found.page(model))
    if json:
        print_json({"model": model, **found.data()})
        return
    _show(found, features is not None)
    if out is not None:
        say(f"\n{out}: the page")


def _show(found: "Explanation", has_features: bool) -> None:
    """The text with its scores, where the answer forms, and what adds most to it."""
    from wenloom.explanation.circuits import HEAD_KINDS
    from wenloom.explanation.page import said, units_of

    inquiry, lead = found.inquiry, found.attributions[found.leading]
    line = Text()
    most = float(lead.scores.abs().max()) or 1.0
    for unit in units_of(inquiry.subject, lead.token_ids)[:_SHOWN]:
        score = float(lead.scores[unit.first : unit.last + 1].sum())
        strength = "bold " if abs(score) > most / 2 else "" if abs(score) > most / 8 else "dim "
        line.append(unit.text.replace("\n", "⏎"), style=f"{strength}{'blue' if score >= 0 else 'red'}")
        line.append(f" {score:+.2f}  ", style="dim")
    line.append("→ ", style="dim")
    line.append(inquiry.target.replace("\n", "⏎"), style="bold underline")
    console.print(line)
    against = (
        "" if inquiry.against is None else f", {found.attributions[0].value:+.2f} nats more than {inquiry.against!r}"
    )
    console.print(escape(f"\nprobability {100 * math.exp(found.log_probability):.3g} %{against}"))
    shown = table("method", "completeness error", right=("completeness error",))
    for each in found.attributions:
        first = ", from drawn tokens" if each.relative_to == "tokens" else ""
        first += " (shown above)" if each is lead else ""
        error = (
            "none is defined: weak evidence"
            if each.error is None
            else f"{100 * each.error:,.{1 if each.error < 0.1 else 0}f} %"
        )
        shown.add_row(f"{each.method}{first}", error)
    console.print(shown)
    if (lens := found.shown_lens) is not None:
        last, formed = len(lens.top_ids) - 1, lens.formed_at(found.position)
        through = "" if found.tuned is None else ", read through the tuned lens"
        console.print(f"the answer's place: first choice stays from block {formed} (of 0 to {last}) on{through}")
    if found.contributions is not None:
        ranked = sorted(
            zip(found.contributions.values, found.contributions.names, strict=True), key=lambda x: -abs(x[0])
        )
        shown = ", ".join(f"{name} {value:+.2f}" for value, name in ranked[:_PARTS])
        console.print(escape(f"adds most to the logit{' difference' if inquiry.against is not None else ''}: {shown}"))
    if found.patching is not None:
        effects = found.patching.effects
        layer, place = divmod(int(effects.argmax()), effects.shape[1])
        token = found.patching.tokens[place]
        console.print(
            escape(
                f"carries the difference: {token!r} before block {layer} ({100 * float(effects[layer, place]):.0f} %) ..."
            )
        )
    if found.heads is not None:
        strongest = {kind.replace("_", "-"): found.heads.strongest(kind) for kind in HEAD_KINDS}
        shown = ", ".join(
            f"{kind} blocks.{layer}.attention.{head} {score:.2f}" for kind, (layer, head, score) in strongest.items()
        )
        console.print(f"strongest heads on repeated tokens: {shown}", highlight=False)
    for each in found.neurons[:_NEURONS]:
        pushed = " ".join(repr(token) for token, _ in each.promotes[:_PUSHED])
        line = f"neuron blocks.{each.layer}.mlp.hidden {each.number}: effect {each.effect:+.2f}, raises {pushed}{_active(each.texts)}"
        console.print(escape(line), highlight=False)
    if has_features and not found.features:
        console.print("features: none is active where the answer is read")
    for each in found.features[:_NEURONS]:
        pushed = " ".join(map(repr, each.promotes[:_PUSHED]))
        console.print(
            escape(
                f"feature {each.number} of {each.place}: effect {each.effect:+.2f}, raises {pushed}{_active(each.texts)}"
            ),
            highlight=False,
        )
    if found.training is not None:
        for sentence in said(found.training):
            console.print(escape(sentence), highlight=False)
        for each in found.training.passages[:_PASSAGES]:
            influence = f", influence {each.influence.value:+.2g}" if each.influence is not None else ""
            console.print(
                escape(f"  {each.source}, character {each.character:,}{influence}:"), style="dim", highlight=False
            )
            around = (each.before[-_AROUND:], each.found[-2 * _AROUND :], each.after[:_AROUND])
            before, middle, after = (part.replace("\n", "⏎") for part in around)
            console.print(Text.assemble("    ", (before, "dim"), (middle, "bold"), (after, "dim")))


def _active(texts: "list[ActiveText]") -> str:
    """Where a neuron or a feature is most active."""
    shown = f"; most active at {texts[0].before[-_AROUND // 2 :]}[{texts[0].token}]" if texts else ""
    return shown.replace("\n", "⏎")
