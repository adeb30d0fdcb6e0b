"""`wenloom features`. torch is loaded when there is work, so that --help answers at once."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from wenloom.cli.options import Device, Json
from wenloom.core.console import print_json, say
from wenloom.core.errors import InputError
from wenloom.core.files import check_free
from wenloom.core.progress import progress

if TYPE_CHECKING:
    from wenloom.explanation.features import Features

_SHOWN = 6


def features(
    model: str,
    /,
    *texts: Annotated[str, Parameter(name="texts")],
    out: Path,
    layer: int | None = None,
    active: int = 32,
    width: float = 8,
    tokens: int = 1_000_000,
    passes: float = 2,
    transcoder: bool = False,
    seed: int = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Find features of a model: directions of its residual stream, of which a few at a time reconstruct it.

    A sparse autoencoder (TopK, Gao et al. 2024) learns from the stream of your text after one block. Every tenth passage is held
    out; on these is measured how much of the stream the features keep, how much of the loss they recover, and which are dead.
    The folder is one of SAELens, with the tokens that each feature promotes and the texts where it is strongest in
    features.json.

        wenloom features runs/quickstart my-texts/ --out sae
        wenloom features runs/mine my-texts/ --out sae --layer 0 --active 16 --width 4
        wenloom features runs/mine my-texts/ --out transcoder --transcoder
        wenloom steer runs/mine --feature sae:7 --out seven.safetensors

    Parameters
    ----------
    model
        A model folder, or a hub model.
    texts
        Files and folders of text, as `wenloom prepare` reads them.
    out
        Folder to write; new or empty.
    layer
        The block after which the stream is read, or whose feed-forward layer. Default: the one in the middle.
    active
        Features that are active at a token (TopK); of a transcoder on average.
    width
        Features per dimension of the stream (expansion factor).
    tokens
        Tokens to learn from, over all passes.
    passes
        How many times each token is learned from; its activations are computed once. A text too short for --tokens is repeated
        more often.
    transcoder
        Features of the block's feed-forward layer: from what it reads they tell what it adds to the stream (Dunefsky et al. 2024).
    seed
        Seed of the initial directions, and of the draws.
    """
    if not texts:
        raise InputError("name the text to learn from: wenloom features MODEL TEXTS --out FOLDER.")
    if tokens < 1 or not 0 < passes <= tokens or not width > 0:
        raise InputError(
            "--tokens, --passes and --width must be above 0, and there can be as many passes as tokens at most."
        )
    check_free(out)
    from wenloom.explanation.features import find_features
    from wenloom.explanation.sparse_coder import save_coder
    from wenloom.explanation.subject import subject_of

    started, subject = time.monotonic(), subject_of(model, device)
    with progress("Learning", tokens / passes, "tokens") as bar:
        found = find_features(
            subject, texts, layer, active, width, tokens, passes, transcoder, seed,
            lambda n, unexplained: bar.advance(n, "" if unexplained != unexplained else f"{100 * unexplained:.1f} % unexplained"),
        )  # fmt: skip
    seconds = time.monotonic() - started
    data = {"figures": found.figures.data(), "seconds": round(seconds, 1), "features": found.found}
    save_coder(found.coder, out, data)
    if json:
        print_json({"model": model, "out": str(out), "layer": found.coder.layer, **data})
        return
    _show(found, out, seconds)


def _show(found: "Features", out: Path, seconds: float) -> None:
    figures, coder = found.figures, found.coder
    where = (
        f"of what block {coder.layer}'s feed-forward layer adds"
        if coder.reads != coder.writes
        else f"after block {coder.layer}"
    )
    say(
        f"{coder.n_features:,} features {where}, {figures.active:.0f} of them active at a token; {seconds:,.0f} s\n"
        f"  variance explained  {figures.explained:7.1%}   on {figures.n_tokens:,} tokens held out\n"
        f"  loss recovered      {figures.recovered:7.1%}   {figures.loss:.3f} nats a token, with the features alone "
        f"{figures.loss_coded:.3f}, with zeros {figures.loss_zero:.3f}\n"
        f"  dead                {figures.dead:7.1%}   silent for {figures.dead_after:,} tokens of training and here"
    )
    ranked = sorted((each for each in found.found if len(each["texts"]) > 1), key=lambda each: -each["mean"])
    for each in ranked[:_SHOWN]:
        promoted = " ".join(token.strip() or "␣" for token in each["promotes"][:5])
        say(f"feature {each['feature']} ({100 * each['frequency']:.2f} % of tokens), promotes: {_line(promoted)}")
        for text in each["texts"][:2]:
            say(f"    …{_line(text['before'])}[{_line(text['token'])}]{_line(text['after'])}…")
    say(f"{out}: the features; all of them with their texts in {out / 'features.json'}")


def _line(text: Any) -> str:
    return str(text).replace("\n", "⏎")
