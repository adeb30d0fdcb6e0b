"""`wenloom score`. torch is loaded when there is work, so that --help answers at once."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.text import Text

from wenloom.cli.options import Device, Json, refuse_unused
from wenloom.core.console import out as console
from wenloom.core.console import print_json, say
from wenloom.core.errors import InputError
from wenloom.core.progress import progress
from wenloom.core.quantities import counted
from wenloom.text.clean import normalize
from wenloom.text.documents import ReadOptions, find_files, read_documents

if TYPE_CHECKING:
    from wenloom.evaluation.scorer import Scorer
    from wenloom.tokens.tokenizer import TextTokenizer

_SHOWN = 400


def score(
    model: str,
    text: str | None = None,
    /,
    *,
    file: Path | None = None,
    given: str | None = None,
    stride: int | None = None,
    bos: Annotated[bool, Parameter(negative="--no-bos")] = True,
    html: Path | None = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Compute the log-probability of a text: log P(x1..xn) = Σ log P(xi | x<i).

    Prints the log-probability of every token and of the whole, perplexity and bits per byte. A text longer
    than the context is read in overlapping windows. A masked model (BERT) gives the pseudo-log-likelihood: every token
    from all others. With --given: log P(text | what is given), which is all that a model with an encoder and a decoder
    (a translator) has to say.

        wenloom score runs/quickstart "To be, or not to be, that is the question."
        wenloom score runs/mine --file chapter.txt --stride 64
        wenloom score runs/mine --file chapter.txt --html surprise.html
        wenloom score runs/en-de "Ein Mann schläft." --given "A man is sleeping."

    Parameters
    ----------
    model
        A model folder, or a hub model.
    text
        The text to score.
    file
        Score the text of this file instead.
    given
        What is known before: the text before it, or the source of which it is a translation or summary.
    stride
        Tokens that each further window scores; smaller gives more context and takes longer. Default: half
        the context.
    bos
        Score the first token too, as what follows the BOS token.
    html
        Write a page too, on which every token is coloured by how surprising it is.
    """
    if (text is None) == (file is None):
        raise InputError("give a text to score, or --file.")
    if file is not None:
        documents = list(read_documents(find_files([str(file)]), ReadOptions()))
        if len(documents) != 1:
            raise InputError(f"{file}: holds {len(documents)} documents; score takes one text.")
        text = normalize(documents[0].text)
    assert text is not None
    from wenloom.checkpoint.folder import load_model, load_tokenizer
    from wenloom.checkpoint.hub import resolve
    from wenloom.core.hardware import probe
    from wenloom.evaluation.scorer import Windows
    from wenloom.evaluation.scorers import scorer_of

    folder = resolve(model)
    tokenizer = load_tokenizer(folder)
    scorer = scorer_of(load_model(folder, probe(device).device), tokenizer)
    if scorer.kind == "masked":
        refuse_unused("is for models that read from left to right; this one is an encoder",
                      stride=stride is not None, no_bos=not bos)  # fmt: skip
    if given is not None:
        refuse_unused("goes with a text by itself, not with one that is --given another",
                      stride=stride is not None, no_bos=not bos, html=html is not None)  # fmt: skip
        _given(model, scorer, given, text, json)
        return
    if scorer.kind == "pairs":
        raise InputError(f"{model}: has an encoder and a decoder: it scores a text --given its source, not one alone.")
    with progress("Scoring", scorer.n_tokens(text), "tokens") as bar:
        result = scorer.text(text, Windows(stride, bos), bar.advance)
    if html is not None:
        from wenloom.core.files import write_atomically
        from wenloom.evaluation.heat import heat_page

        write_atomically(html, heat_page(model, tokenizer, result, is_pseudo=scorer.kind == "masked"))
    if json:
        print_json({"model": model, **result.figures(),
                    "per_token": _per_token(tokenizer, result.token_ids, result.log_probabilities)})  # fmt: skip
        return
    console.print(_heat(tokenizer, result.token_ids, result.log_probabilities))
    if scorer.kind == "masked":
        say(
            f"\npseudo-log-likelihood {result.log_probability:,.3f} nats over {counted(len(result.token_ids), 'token')}\n"
            f"pseudo-perplexity {result.perplexity:,.2f} per token: every token from all others; not to be compared with a "
            "perplexity"
        )
        return
    say(
        f"\nlog P {result.log_probability:,.3f} nats over {counted(len(result.token_ids), 'token')}, {counted(result.scored_bytes, 'byte')}\n"
        f"perplexity {result.perplexity:,.2f} per token, {result.bits_per_byte:.3f} bits per byte\n"
        f"context {result.context_length:,}, stride {result.stride:,}, "
        f"{'first token scored after BOS' if result.bos else 'first token not scored (no BOS)'}"
    )


def _per_token(
    tokenizer: "TextTokenizer", token_ids: list[int], log_probabilities: list[float]
) -> list[dict[str, Any]]:
    return [
        {"token": token, "text": tokenizer.decode([token]), "log_probability": value}
        for token, value in zip(token_ids, log_probabilities, strict=True)
    ]


def _given(model: str, scorer: "Scorer", given: str, text: str, json: bool) -> None:
    """Show log P(text | given)."""
    from wenloom.evaluation.scorer import TextInContext

    asked = TextInContext(given, text, is_whole=scorer.kind == "pairs")
    found = scorer.continuations([[asked]])[0][0]
    if not found.token_ids:
        raise InputError("the text is empty.")
    if json:
        print_json({
            "model": model, "given": given, "log_probability": found.log_probability, "tokens": len(found.token_ids),
            "bytes": found.n_bytes, "characters": found.n_characters, "is_greedy": found.is_greedy,
            "given_tokens_cut_off": found.cut_off,
            "per_token": _per_token(scorer.tokenizer, found.token_ids, found.log_probabilities),
        })  # fmt: skip
        return
    console.print(_heat(scorer.tokenizer, found.token_ids, found.log_probabilities))
    greedy = "; it is what the model would write" * found.is_greedy
    say(
        f"\nlog P {found.log_probability:,.3f} nats over {counted(len(found.token_ids), 'token')}, given the other text{greedy}"
    )


def _heat(tokenizer: "TextTokenizer", token_ids: list[int], log_probabilities: list[float]) -> Text:
    """Every token with its log-probability under it in colour: green expected, red surprising."""
    line = Text()
    pairs = list(zip(token_ids, log_probabilities, strict=True))
    for token, value in pairs[:_SHOWN]:
        surprise = -value / math.log(2)
        style = "green" if surprise < 2 else "yellow" if surprise < 6 else "red"
        line.append(tokenizer.show(token), style=f"bold {style}")
        line.append(f" {value:.2f}  ", style="dim")
    if len(pairs) > _SHOWN:
        line.append(f"... {len(pairs) - _SHOWN:,} more tokens (all of them with --json)", style="dim")
    return line
