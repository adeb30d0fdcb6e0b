"""`wenloom score`. torch is loaded when there is work, so that --help answers at once."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from wenloom.cli.options import Device, Json
from wenloom.core.console import out as console
from wenloom.core.console import print_json, progress, say
from wenloom.core.errors import InputError
from wenloom.text.clean import normalize
from wenloom.text.documents import ReadOptions, find_files, read_documents

if TYPE_CHECKING:
    from wenloom.evaluation.perplexity import Score
    from wenloom.tokens.tokenizer import TextTokenizer

_SHOWN = 400


def score(
    model: str,
    text: str | None = None,
    /,
    *,
    file: Path | None = None,
    stride: int | None = None,
    bos: Annotated[bool, Parameter(negative="--no-bos")] = True,
    html: Path | None = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Tell how probable a model finds a text: log P(x1..xn) = Σ log P(xi | x<i).

    Prints the log-probability of every token and of the whole, perplexity and bits per byte. A text longer
    than the context is read in overlapping windows. A masked model (BERT) gives the pseudo-log-likelihood: every token
    from all others.

        wenloom score runs/quickstart "To be, or not to be, that is the question."
        wenloom score runs/mine --file chapter.txt --stride 64
        wenloom score runs/mine --file chapter.txt --html surprise.html

    Parameters
    ----------
    model
        A model folder, or a hub model.
    text
        The text to score.
    file
        Score the text of this file instead.
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
    from wenloom.checkpoint.folder import load_model
    from wenloom.checkpoint.hub import resolve
    from wenloom.core.hardware import probe
    from wenloom.evaluation.perplexity import score as score_text
    from wenloom.evaluation.pseudo import pseudo_score
    from wenloom.model.decoder import Decoder
    from wenloom.model.encoder import Encoder
    from wenloom.tokens.tokenizer import TextTokenizer

    folder = resolve(model)
    loaded, tokenizer = load_model(folder, probe(device).device), TextTokenizer.from_pretrained(folder)
    with progress("Scoring", None, "tokens") as bar:
        if isinstance(loaded, Encoder):
            if stride is not None:
                raise InputError("--stride is for models that read from left to right; this one is an encoder.")
            if not bos:
                raise InputError("--no-bos is for models that read from left to right; this one is an encoder.")
            result = pseudo_score(loaded, tokenizer, text, on_tokens=bar.advance)
        elif isinstance(loaded, Decoder):
            result = score_text(loaded, tokenizer, text, stride, bos, on_tokens=bar.advance)
        else:
            raise InputError(f"{model}: has an encoder and a decoder: it scores pairs of texts, not one.")
    if html is not None:
        _write_page(html, model, tokenizer, result)
    if json:
        tokens = [
            {"token": token, "text": tokenizer.decode([token]), "log_probability": value}
            for token, value in zip(result.token_ids, result.log_probabilities, strict=True)
        ]
        print_json({"model": model, **result.figures(), "per_token": tokens})
        return
    console.print(_heat(tokenizer, result))
    if isinstance(loaded, Encoder):
        say(
            f"\npseudo-log-likelihood {result.log_probability:,.3f} nats over {len(result.token_ids):,} tokens\n"
            f"pseudo-perplexity {result.perplexity:,.2f} per token: every token from all others; not to be compared with a "
            "perplexity"
        )
        return
    say(
        f"\nlog P {result.log_probability:,.3f} nats over {len(result.token_ids):,} tokens, {result.scored_bytes:,} bytes\n"
        f"perplexity {result.perplexity:,.2f} per token, {result.bits_per_byte:.3f} bits per byte\n"
        f"context {result.context_length:,}, stride {result.stride:,}, "
        f"{'first token scored after BOS' if result.bos else 'first token not scored (no BOS)'}"
    )


def _write_page(path: Path, name: str, tokenizer: "TextTokenizer", result: "Score") -> None:
    import jinja2

    from wenloom.core.files import write_atomically
    from wenloom.evaluation.perplexity import pieces

    environment = jinja2.Environment(loader=jinja2.PackageLoader("wenloom.evaluation"), autoescape=True)
    page = environment.get_template("heat.html.jinja").render(
        model=name, n=len(result.token_ids), perplexity=result.perplexity, bits=result.bits_per_byte,
        tokens=pieces(tokenizer, result),
    )  # fmt: skip
    write_atomically(path, page)


def _heat(tokenizer: "TextTokenizer", result: "Score") -> Text:
    """Every token with its log-probability under it in colour: green expected, red surprising."""
    line = Text()
    pairs = list(zip(result.token_ids, result.log_probabilities, strict=True))
    for token, value in pairs[:_SHOWN]:
        surprise = -value / math.log(2)
        style = "green" if surprise < 2 else "yellow" if surprise < 6 else "red"
        line.append(tokenizer.show(token), style=f"bold {style}")
        line.append(f" {value:.2f}  ", style="dim")
    if len(pairs) > _SHOWN:
        line.append(f"... {len(pairs) - _SHOWN:,} more tokens (all of them with --json)", style="dim")
    return line
