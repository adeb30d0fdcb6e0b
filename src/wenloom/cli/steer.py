"""`wenloom steer`. torch is loaded when there is work, so that --help answers at once."""

import dataclasses
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wenloom.cli.options import Device, Json
from wenloom.core.console import out as console
from wenloom.core.console import print_json, say, table
from wenloom.core.errors import InputError, printable
from wenloom.core.files import check_no_folder
from wenloom.core.foreign import parsed_json
from wenloom.core.progress import progress
from wenloom.core.quantities import counted
from wenloom.text.lines import Line, lines_of, utf8

if TYPE_CHECKING:
    from wenloom.explanation.steered_writing import SteeredWriting
    from wenloom.explanation.steering import Figure, SteeringStudy


def steer(
    model: str,
    /,
    *,
    out: Path,
    toward: list[str] | None = None,
    away_from: list[str] | None = None,
    feature: str | None = None,
    layer: int | None = None,
    cost: float = 0.1,
    neutral: list[str] | None = None,
    words: list[str] | None = None,
    generations: int = 200,
    prompt: list[str] | None = None,
    seed: int = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Make a steering vector: what to add to a model's residual stream so that it writes more like some texts.

    It is the difference between the means of the stream over texts of one kind and of another. In every block it gets the
    strength at which perplexity rises by --cost; the block counts where it changes most how probable held-out texts of
    the two kinds are. With --words the model also writes with it and without, and these words are counted.

        wenloom steer runs/mine --toward calm.txt --away-from wild.txt --out calm.safetensors
        wenloom steer runs/mine --toward "I love it." --away-from "I hate it." --out joy.safetensors --words "love like"
        wenloom steer runs/mine --feature sae:7 --out seven.safetensors
        wenloom generate runs/mine "The evening was" --steer calm.safetensors

    Parameters
    ----------
    model
        A model folder, or a hub model.
    toward
        Texts of the kind that is wanted: a file with one per line (of jsonl, its field "text"), or the text itself. May be
        given several times. 8 texts or more of each kind let some be held out for measuring.
    away_from
        Texts of the other kind, in the same way.
    feature
        Instead of texts: the direction of a feature, as the folder that `wenloom features` made and its number: FOLDER:NUMBER.
    out
        The file to write, such as calm.safetensors; `generate`, `chat` and `serve` take it with --steer.
    layer
        The block after which the vector is added. Default: the one where it has most effect.
    cost
        By how much perplexity may rise, as a part of it; sets the strength.
    neutral
        Texts by which the cost is measured, as for --toward. Default: the model's own.
    words
        Words to count in what the model writes with the vector and without: a file, or the words separated by spaces.
    generations
        With --words: texts to write with the vector, and as many without.
    prompt
        With --words: what these texts go on from; may be given several times. Default: the beginning of a text.
    seed
        Of the texts that the model writes.
    """
    if not cost > 0 or not math.isfinite(cost):
        raise InputError(f"--cost {cost:g}: must be above 0, such as 0.1 for a perplexity that rises by 10 %.")
    if generations < 2:
        raise InputError(f"--generations {generations}: must be at least 2.")
    check_no_folder(out)
    if words is None and prompt is not None:
        raise InputError("--prompt goes with --words: it begins the texts in which these are counted.")
    folder, number = _feature(feature, {"--toward": toward, "--away-from": away_from, "--layer": layer})
    kinds = [texts_of(each or (), name) for name, each in (("--toward", toward), ("--away-from", away_from))]
    others = texts_of(neutral or (), "--neutral")
    listed = [word for text in texts_of(words or (), "--words") for word in text.split()]
    from wenloom.checkpoint.steering import save_steering
    from wenloom.explanation.sparse_coder import load_coder
    from wenloom.explanation.steered_writing import steered_writing
    from wenloom.explanation.steering import find_steering, strengthen
    from wenloom.explanation.subject import subject_of

    subject = subject_of(model, device)
    with progress("Measuring", None, "texts") as bar:
        if folder is None:
            study = find_steering(subject, kinds[0], kinds[1], others, cost, layer, seed, on_texts=bar.advance)
            about = {"toward": kinds[0][0][:200], "away_from": kinds[1][0][:200]}
        else:
            coder = load_coder(folder)
            coder.check(subject.model.config, str(folder))
            if number >= coder.n_features:
                raise InputError(f"--feature {feature}: there are features 0 to {coder.n_features - 1:,}.")
            study = strengthen(subject, coder.layer, coder.decoder_MD[number], others, cost, seed, bar.advance)
            about = {"feature": str(feature)}
    save_steering(dataclasses.replace(study.vector, about={"model": model, **about}), out)
    writing = None
    if listed:
        with progress("Writing", 2 * generations, "texts") as bar:
            writing = steered_writing(
                subject, study.vector, listed, prompt or [""], generations, seed=seed, on_texts=bar.advance
            )
    if json:
        print_json({"model": model, "out": str(out), **_data(study, writing)})
        return
    _show(study, writing, out)


def _feature(feature: str | None, others: dict[str, Any]) -> tuple[Path | None, int]:
    """Folder and number of a feature; no folder where texts are given instead.

    Raises:
        InputError: neither or both, or no number.
    """
    if feature is None:
        if not others["--toward"] or not others["--away-from"]:
            raise InputError(
                "give --toward and --away-from, texts of the kind that is wanted and of the other, or --feature."
            )
        return None, 0
    if wrong := [name for name, value in others.items() if value is not None]:
        raise InputError(f"--feature has a direction and a block of its own: leave out {' and '.join(wrong)}.")
    folder, colon, number = feature.rpartition(":")
    if not colon or not number.isdecimal():
        raise InputError(f"--feature {feature}: must be FOLDER:NUMBER, such as sae:7.")
    return Path(folder).expanduser(), int(number)


_FILE_NAME = re.compile(r"\S*[/\\]\S*|\S+\.\w{1,8}")
"""What was meant as the name of a file, where there is none of it: without a blank, with a folder or an ending."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def texts_of(given: Iterable[str], option: str) -> list[str]:
    """The texts that an option names: lines of files, or the text itself.

    Raises:
        InputError: a file that is not there, or a line that holds no text.
    """
    found: list[str] = []
    for each in given:
        path = Path(each).expanduser()
        if not _is_file(path):
            if not each.strip():
                raise InputError(f"{option} '': is empty.")
            if _FILE_NAME.fullmatch(each) or (path.name and _is_dir(path)):
                raise InputError(f"{option} {printable(each, 200)}: no such file.")
            if _CONTROL.search(each):
                raise InputError(f"{option} {printable(each, 200)}: holds control characters; give a file or a text.")
            found.append(each)
            continue
        lines = [_line(line, path) for line in lines_of(path)]
        if not lines:
            raise InputError(f"{option} {each}: holds no text.")
        found += lines
    return found


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # too long for a name: a text
        return False


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _line(line: Line, path: Path) -> str:
    try:
        text = utf8(line)
        if ".jsonl" not in path.name:
            return text
        row = parsed_json(text)
    except ValueError as error:
        raise InputError(f"{path}, line {line.number}: {error}.") from None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise InputError(f'{path}, line {line.number}: no field "text".')
    return row["text"]


def _data(study: "SteeringStudy", writing: "SteeredWriting | None") -> dict[str, Any]:
    found: dict[str, Any] = {
        "layer": study.vector.layer, "strength": study.vector.strength, "held_out": study.is_held_out,
        "texts": {"toward": study.n_texts[0], "away_from": study.n_texts[1]},
        "effect": study.chosen.effect._asdict(), "cost": study.chosen.cost._asdict(), "perplexity": study.perplexity,
        "blocks": [{"layer": each.layer, "strength": each.strength, "effect": each.effect._asdict(),
                    "cost": each.cost._asdict()} for each in study.trials],
    }  # fmt: skip
    if writing is not None:
        found["writing"] = {
            "words": writing.words_plain._asdict(), "words_steered": writing.words_steered._asdict(),
            "change": writing.change._asdict(), "standard_errors": writing.standard_errors,
            "cost": writing.cost._asdict(), "texts": writing.plain, "texts_steered": writing.steered,
        }  # fmt: skip
    return found


def _show(study: "SteeringStudy", writing: "SteeredWriting | None", out: Path) -> None:
    columns = ("block", "strength", "effect, nats a token", "perplexity")
    shown = table(*columns, right=columns)
    for each in study.trials:
        style = "bold" if each.layer == study.vector.layer else "dim"
        shown.add_row(str(each.layer), f"{each.strength:.3g}", _figure(each.effect), _factor(each.cost), style=style)
    console.print(shown)
    chosen, n = study.chosen, min(study.n_texts)
    on = "texts held out" if study.is_held_out else f"the same {counted(2 * n, 'text')}: give 8 or more of each kind"
    gain = (
        ""
        if math.isnan(chosen.effect.value)
        else f"the wanted kind gains {_figure(chosen.effect)} nats a token on the other; "
    )
    say(
        f"\nafter block {study.vector.layer} with strength {study.vector.strength:.3g}, on {on}: {gain}"
        f"perplexity {study.perplexity:,.3g} {_factor(chosen.cost)}"
    )
    if not math.isnan(chosen.effect.value) and chosen.effect.value <= 2 * (
        chosen.effect.error if study.is_held_out else 0
    ):
        say(
            "That is no more than chance: give more texts of each kind, which differ in what is wanted and in nothing else."
        )
    if writing is not None:
        without, with_it = (
            f"{each.value:.3f} ± {each.error:.3f}" for each in (writing.words_plain, writing.words_steered)
        )
        say(
            f"in {counted(len(writing.plain), 'text')} each: {without} of the words a text without it, {with_it} with it, a change of {writing.standard_errors:.1f} standard errors; "
            f"perplexity of what is written {_factor(writing.cost)}"
        )
        for name, text in (("without", writing.plain[0]), ("with", writing.steered[0])):
            say(f"  {name:8} {' '.join(text.split())[:200]}")
    say(f"{out}: the vector; use it with --steer {out}")


def _figure(figure: "Figure") -> str:
    if math.isnan(figure.value):
        return "-"
    return f"{figure.value:+.3f}" if math.isnan(figure.error) else f"{figure.value:+.3f} ± {figure.error:.3f}"


def _factor(cost: "Figure") -> str:
    """A cost in nats as the part by which perplexity rises."""
    rise, error = 100 * math.expm1(cost.value), 100 * math.exp(cost.value) * cost.error
    return f"{rise:+.1f} %" if math.isnan(error) else f"{rise:+.1f} ± {error:.1f} %"
