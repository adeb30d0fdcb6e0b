"""The page of an explanation: the text with heat, what each block would answer, heads, contributions, patching."""

import base64
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from wenloom.core.pages.chart import Axis, Chart, Series
from wenloom.core.pages.page import END_MARK, render
from wenloom.core.quantities import show_percent
from wenloom.explanation.answer_features import AnswerFeature
from wenloom.explanation.attribution import DRAWS, Attribution
from wenloom.explanation.circuits import HEAD_KINDS
from wenloom.explanation.measured import LARGE_ERROR, Measured, lens_data
from wenloom.explanation.neurons import Neuron
from wenloom.explanation.subject import Subject
from wenloom.explanation.trace import Trace
from wenloom.explanation.training_text import TrainingText

MOST_BYTES = 1_900_000
"""Of all attention patterns together, as they are written down."""
_LEVELS = (255, 63, 15, 3)
"""Steps between weights 0 and 1; the first with which patterns keep to `MOST_BYTES`."""
_MOST_PARTS = 24
_STRONGEST = 4
_MOST_PASSAGES = 6
"""Of each kind."""
NOTES = {
    "integrated-gradients": "each token's share of what turns {origin} into this one",
    "gradient-x-input": "how the answer changes with a token's vector, as far as a straight line tells",
    "occlusion": "what is lost when a zero vector stands in place of a token, one at a time",
    "attention-rollout": "where attention could have brought the token from; weak evidence, for it reads weights, not effects",
}


ORIGINS = {"zeros": "a text of zero vectors", "tokens": f"{DRAWS} texts of drawn tokens (their mean)"}
"""What integrated gradients begin at."""


class Unit(NamedTuple):
    """Neighbouring tokens that are shown as one, since they are parts of one character."""

    text: str
    first: int
    last: int
    """Of the input tokens of an attribution."""


def explanation_page(explanation: Measured, model: str) -> str:
    """The page; all of it is in one file, and asks nothing of any network."""
    subject, trace = explanation.inquiry.subject, explanation.trace
    first = explanation.attributions[0]
    units = units_of(subject, first.token_ids)
    lead, lens = explanation.leading, explanation.shown_lens
    data: dict[str, Any] = {
        "tokens": [_marked(each, subject) for each in trace.tokens],
        "nSource": first.n_source,
        "position": explanation.position,
        "lead": lead,
        "units": [[each.first, each.last] for each in units],
        "methods": [_method(each, units) for each in explanation.attributions],
        "lens": None if lens is None else lens_data(lens, subject),
        "lensName": "lens" if explanation.tuned is None else "tuned_lens",
        "attention": attention_data(trace),
        "headScores": None if explanation.heads is None else explanation.heads.data(),
        "explanation": explanation.data(),
    }
    if data["lens"] is not None:
        data["lens"]["pieces"] = [_marked(each, subject) for each in data["lens"]["pieces"]]
        del data["explanation"][data["lensName"]]
    value = first.value
    return render(
        "wenloom.explanation",
        "explanation.html.jinja",
        title=f"Why “{shortened(_marked(explanation.inquiry.target, subject))}”?",
        model=model,
        target=in_line(_marked(explanation.inquiry.target, subject)),
        against=None if explanation.inquiry.against is None else in_line(_marked(explanation.inquiry.against, subject)),
        figures=_figures(explanation, value),
        parts=_parts(first, units),
        methods=data["methods"],
        lead=lead,
        large_error=LARGE_ERROR,
        chart=_chart(explanation),
        lens=lens,
        is_tuned=explanation.tuned is not None,
        contributions=_contributions(explanation),
        patching=_patching(explanation),
        training=None if explanation.training is None else _training(explanation.training),
        known_heads=_known_heads(explanation),
        units_of_stream=_units_of_stream(explanation),
        data=data,
    )


def _units_of_stream(explanation: Measured) -> list[dict[str, Any]]:
    """Sections of neurons and of features, each only where there are some."""
    neurons = [_unit(each, f"blocks.{each.layer}.mlp.hidden", [token for token, _ in each.promotes],
                     [token for token, _ in each.suppresses]) for each in explanation.neurons]  # fmt: skip
    features = [_unit(each, f"{each.place} feature", each.promotes, []) for each in explanation.features]
    made = [("neurons", "Neurons", neurons), ("features", "Features", features)]
    return [{"id": name, "name": shown, "units": units} for name, shown, units in made if units]


def _unit(each: Neuron | AnswerFeature, place: str, promotes: list[str], suppresses: list[str]) -> dict[str, Any]:
    def shown(tokens: Iterable[str]) -> list[str]:
        return [in_line(token) for token in tokens]

    return {
        "place": place, "number": each.number, "activation": each.activation, "effect": each.effect,
        "promotes": shown(promotes), "suppresses": shown(suppresses),
        "texts": [(*shown((x.before, x.token, x.after)), x.activation) for x in each.texts],
    }  # fmt: skip


def _known_heads(explanation: Measured) -> list[dict[str, Any]]:
    """By kind, the heads that score most."""
    if explanation.heads is None:
        return []
    found = []
    for kind in HEAD_KINDS:
        scores = explanation.heads.of(kind)
        best = scores.flatten().argsort(descending=True)[:_STRONGEST].tolist()
        pairs = [divmod(place, scores.shape[1]) for place in best]
        found.append({"kind": kind.replace("_", " "), "heads": [(*pair, float(scores[pair])) for pair in pairs]})
    return found


def units_of(subject: Subject, token_ids: list[int]) -> list[Unit]:
    """Tokens as they can be read: those that hold only a part of a character are joined until it is whole."""
    units, first = [], 0
    for place in range(len(token_ids)):
        text = subject.tokenizer.decode(token_ids[first : place + 1])
        if (text and not text.endswith("\ufffd")) or place - first >= 3 or place == len(token_ids) - 1:
            shown = text if text and "\ufffd" not in text else "".join(map(subject.piece, token_ids[first : place + 1]))
            units.append(Unit(visible(shown), first, place))
            first = place + 1
    return units


def visible(text: str) -> str:
    """Text whose control characters can be seen; line breaks stay.

    >>> visible("a\\x00b")
    'a␀b'
    """
    return "".join(
        chr(0x2400 + ord(char)) if ord(char) < 32 and char not in "\n\t" else "␡" if char == "\x7f" else char
        for char in text
    )


def in_line(text: str) -> str:
    """Text for a line, in which line breaks and a lone blank can be seen, too.

    >>> in_line("\\n"), in_line(" "), in_line("a b")
    ('↵', '␣', 'a b')
    """
    text = visible(text).replace("\n", "↵")
    return text if text.strip() else text.replace(" ", "␣")


def _marked(text: str, subject: Subject) -> str:
    """Text with the token that ends a text as a mark."""
    end = subject.tokenizer.eos_token
    return visible(text.replace(end, END_MARK) if end else text)


def shortened(text: str, most: int = 40) -> str:
    """A text for a title."""
    text = in_line(text).strip()
    return text if len(text) <= most else f"{text[: most - 1]}…"


def attention_data(trace: Trace) -> dict[str, Any]:
    """All patterns as bytes, layer by layer, head by head, row by row (of a decoder each row up to the token itself), deflated."""
    subject = trace.subject
    config = subject.stack.config
    names = [f"{subject.prefix}blocks.{layer}.attention.pattern" for layer in range(config.n_layers)]
    patterns = np.stack([trace[name][0].float().cpu().numpy() for name in names])
    T = patterns.shape[-1]
    kept = (
        patterns[..., np.tril(np.ones((T, T), dtype=bool))]
        if config.causal
        else patterns.reshape(*patterns.shape[:2], -1)
    )
    for levels in _LEVELS:
        packed = base64.b64encode(zlib.compress(np.rint(kept * levels).astype(np.uint8).tobytes(), 9)).decode()
        if len(packed) <= MOST_BYTES:
            break
    else:
        packed = ""  # more tokens than a page can show; the text with its heat remains
    return {
        "layers": len(names),
        "heads": config.n_heads,
        "tokens": T,
        "causal": config.causal,
        "levels": levels,
        "packed": packed,
    }


def _method(each: Attribution, units: list[Unit]) -> dict[str, Any]:
    scores = [float(each.scores[unit.first : unit.last + 1].sum()) for unit in units]
    return {
        "name": each.method.replace("-x-", " × ").replace("-", " "), "note": NOTES[each.method].format(origin=ORIGINS[each.relative_to]), "error": each.error,
        "isWeak": each.is_weak, "scores": [float(f"{score:.5g}") for score in scores],
    }  # fmt: skip


def _parts(first: Attribution, units: list[Unit]) -> list[tuple[str, list[tuple[int, Unit]]]]:
    """Units under the names of the parts of the input that they stand in."""
    bounds = [("source", first.n_source), ("text", first.n_source + first.n_text), ("answer", len(first.token_ids))]
    parts, begin = [], 0
    for name, end in bounds:
        inside = [(n, unit) for n, unit in enumerate(units) if begin <= unit.first < end]
        if inside:
            parts.append((name, inside))
        begin = end
    return parts


def _figures(explanation: Measured, value: float) -> list[tuple[str, str]]:
    log_p = explanation.log_probability
    found = [(f"{100 * np.exp(log_p):.3g} %", "probability of the answer")]
    if explanation.inquiry.against is not None:
        found.append((f"{value:+.2f} nats", "log P, minus that of the other"))
    if (lens := explanation.shown_lens) is not None:
        last, formed = len(lens.top_ids) - 1, lens.formed_at(explanation.position)
        found.append((f"block {formed}", f"of 0 to {last}: from here on the model's first choice stays"))
    return found


def _chart(explanation: Measured) -> Chart | None:
    """Probability of the answer's first token after each block."""
    lenses = {"the answer's first token": explanation.lens}
    if explanation.tuned is not None:
        lenses = {"logit lens": explanation.lens, "tuned lens": explanation.tuned}
    series = [
        Series(name, [(float(block), value) for block, value in enumerate(found.probability[:, explanation.position].tolist())],
               colour, "dotted")
        for colour, (name, found) in enumerate(lenses.items()) if found is not None
    ]  # fmt: skip
    return Chart("probability", [Axis("block")], series) if series else None


def _contributions(explanation: Measured) -> list[dict[str, Any]]:
    found = explanation.contributions
    if found is None:
        return []
    ranked = sorted(zip(found.values, found.names, strict=True), key=lambda pair: -abs(pair[0]))
    most = max(abs(value) for value, _ in ranked) or 1.0
    shown = [{"name": name, "value": value, "width": abs(value) / most} for value, name in ranked[:_MOST_PARTS]]
    if rest := ranked[_MOST_PARTS:]:
        value = sum(value for value, _ in rest)
        shown.append({"name": f"{len(rest)} others", "value": value, "width": min(1.0, abs(value) / most)})
    return shown


def _training(found: TrainingText) -> dict[str, Any]:
    most = max((number for _, number in found.following), default=1)
    reaches = max((abs(each.influence.value) for each in found.passages if each.influence), default=0.0) or 1.0
    shown = [each for each in found.passages if each.has_answer][:_MOST_PASSAGES]
    shown += [each for each in found.passages if not each.has_answer][:_MOST_PASSAGES]
    return {
        "said": said(found),
        "corpus": found.corpus,
        "context": in_line(found.context),
        "following": [(in_line(token), number, number / most) for token, number in found.following],
        "context_count": found.context_count,
        "passages": [
            {
                "source": visible(each.source), "character": each.character, "has_answer": each.has_answer,
                "before": visible(each.before), "found": visible(each.found), "after": visible(each.after),
                "influence": None if each.influence is None else each.influence.value,
                "similarity": None if each.influence is None else each.influence.similarity,
                "width": 0.0 if each.influence is None else abs(each.influence.value) / reaches,
            }
            for each in shown
        ],
    }  # fmt: skip


def said(found: TrainingText) -> list[str]:
    """What the training text has of an answer, in sentences."""
    if not found.context_length:
        return ["Not even the last token of the text stands in the training text."]
    quoted = found.quoted
    if quoted is not None:
        also = f", and in {found.count - 1:,} other places" if found.count > 1 else ""
        first = f"The text and the answer stand word for word in {quoted.source}, from character {quoted.character:,} on{also}."
    elif found.length <= found.n_answer:
        first = "Nowhere in the training text does the answer follow the text's last token."
    else:
        n = found.length - found.n_answer
        first = (
            f"The answer follows the last {_tokens(n)} of the text in the training text {_times(found.count)}; nowhere in it "
            "does it follow more of them."
        )
    share, first_of = found.answer_count / found.context_count, "'s first token" if found.n_answer > 1 else ""
    return [
        first,
        f"The longest end of the text that stands there at all has {_tokens(found.context_length)} and stands there "
        f"{_times(found.context_count)}; {_times(found.answer_count)} ({show_percent(share)}) the answer{first_of} comes next.",
    ]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _tokens(count: int) -> str:
    return "token" if count == 1 else f"{count:,} tokens"


def _patching(explanation: Measured) -> dict[str, Any] | None:
    found = explanation.patching
    if found is None:
        return None
    rows = [
        [(float(f"{effect:.3g}"), min(1.0, abs(effect))) for effect in layer]
        for layer in reversed(found.effects.tolist())
    ]
    return {
        "tokens": [in_line(each) for each in found.tokens],
        "rows": rows,
        "clean": found.clean,
        "corrupted": found.corrupted,
    }
