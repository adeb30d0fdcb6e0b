"""`wordloom generate`. torch is loaded when there is work, so that --help answers at once."""

import sys
import time
from typing import Annotated

from cyclopts import Parameter

from wordloom.cli.options import Device, Json
from wordloom.core.console import print_json, remark
from wordloom.core.errors import InputError


def generate(
    model: str,
    prompt: str | None = None,
    /,
    *,
    max_new_tokens: int = 200,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float = 0.95,
    greedy: Annotated[bool, Parameter(negative="")] = False,
    seed: int | None = None,
    stop: list[str] | None = None,
    n: int = 1,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Let a model write.

    The text appears as it is written. Without a prompt, one is read from a pipe; without either, the model
    begins a text of its own.

        wordloom generate runs/quickstart "ROMEO:"
        wordloom generate runs/quickstart "ROMEO:" --n 3 --temperature 1.1 --seed 7
        echo "Once upon a time" | wordloom generate runs/mine --greedy --stop "."

    Parameters
    ----------
    model
        A model folder, or a hub model such as owner/name.
    prompt
        The text to continue.
    max_new_tokens
        Most tokens to write.
    temperature
        Below 1 is safer, above 1 is wilder; 0 is greedy.
    top_k
        Draw only among the k most probable tokens.
    top_p
        Draw only among the most probable tokens that together have this probability.
    greedy
        Always take the most probable token.
    seed
        Repeat a result: the same seed writes the same text.
    stop
        Stop before this text; may be given several times.
    n
        Write this many continuations.
    """
    if prompt is None:
        prompt = "" if sys.stdin.isatty() else _piped()
    greedy = greedy or temperature == 0
    if n < 1:
        raise InputError(f"--n {n}: must be at least 1.")
    if greedy and n > 1:
        raise InputError(f"--n {n}: several greedy texts would all be the same; leave --greedy out.")
    from wordloom.api import load

    loaded = load(model, device)
    options = {
        "max_new_tokens": max_new_tokens, "do_sample": not greedy, "temperature": temperature or 1.0,
        "top_k": top_k, "top_p": top_p, "stop": stop or (),
    }  # fmt: skip
    texts = []
    for number in range(n):
        stream = loaded.stream(prompt, seed=None if seed is None else seed + number, **options)
        if json:
            texts.append("".join(stream))
            continue
        if n > 1:
            sys.stdout.write(f"{'' if not number else chr(10)}--- {number + 1} ---\n")
        sys.stdout.write(prompt)
        started, length = time.monotonic(), 0
        for piece in stream:
            sys.stdout.write(piece)
            sys.stdout.flush()
            length += len(piece)
        sys.stdout.write("\n")
        sys.stdout.flush()
        if sys.stderr.isatty():
            remark(f"({length:,} characters in {time.monotonic() - started:.1f} s)")
    if json:
        print_json({"model": model, "prompt": prompt, "continuations": texts})


def _piped() -> str:
    """Standard input, without the line break that `echo` adds."""
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"standard input: byte {error.start} is not valid UTF-8.") from None
