"""`wenloom chat`. torch is loaded when there is work, so that --help answers at once."""

import dataclasses
import sys
from typing import Annotated

from wenloom.cli.options import Device, Dtype, KVCache, Quantize, flags
from wenloom.core.console import remark, remarks
from wenloom.core.errors import InputError
from wenloom.generation.request import GenerationRequest, Length, Penalties, Sampling


def chat(
    model: str,
    /,
    *,
    system: str | None = None,
    draft: str | None = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    quantize: Quantize = None,
    kv_cache: KVCache = None,
    length: Annotated[Length, flags("Length", 1)] = Length(),
    sampling: Annotated[Sampling, flags("Sampling", 2)] = Sampling(),
    penalties: Annotated[Penalties, flags("Penalties and bans", 3)] = Penalties(),
) -> None:
    """Talk with a model.

    Ctrl-C stops a reply, /reset begins anew, /quit or Ctrl-D ends. A model with a chat template is asked in its own
    way; one without reads a plain transcript of "User:" and "Assistant:".

        wenloom chat runs/mine --system "You are a ship's cook." --temperature 0.7

    Parameters
    ----------
    model
        A model folder, or a hub model such as owner/name.
    system
        What the model is told before the first turn.
    draft
        A smaller model with the same vocabulary that drafts, five tokens at a time.
    """
    options = {**dataclasses.asdict(length), **dataclasses.asdict(sampling), **dataclasses.asdict(penalties)}
    GenerationRequest(**options)
    from wenloom.api import load
    from wenloom.tokens.chat import STOP_OF_PLAIN, Message, chat_ids

    loaded = load(model, device, dtype, companion=draft, quantize=quantize, kv_cache=kv_cache)
    if loaded.tokenizer.chat_template is None and not loaded.tokenizer.other_templates:
        options["stop_strings"] = (*length.stop_strings, STOP_OF_PLAIN)
        remark("This model has no chat template: it goes on with a plain transcript.")
    if draft is not None:
        options["num_assistant_tokens"] = 5
    request = GenerationRequest(**options)
    opening = [Message("system", system)] if system else []
    turns: list[Message] = [*opening]
    limit = loaded.decoder.config.context_length
    while (line := _asked()) is not None:
        if line == "/reset":
            turns = [*opening]
            remark("(a new conversation)")
            continue
        turns.append(Message("user", line))
        ids = chat_ids(loaded.tokenizer, turns)
        if len(ids) > limit:
            remark(f"(the conversation has {len(ids):,} tokens: its beginning is out of the model's sight, {limit:,})")
        job = loaded.engine.submit(ids, request)
        pieces = []
        stream = loaded.engine.stream(job)
        try:
            for _, _, piece in stream:
                piece = piece.lstrip() if not "".join(pieces) else piece
                pieces.append(piece)
                sys.stdout.write(piece)
                sys.stdout.flush()
        except KeyboardInterrupt:
            stream.close()
            remark(" (stopped)")
        sys.stdout.write("\n")
        turns.append(Message("assistant", "".join(pieces).strip()))


def _asked() -> str | None:
    """The user's next turn; None at the end."""
    while True:
        try:
            if sys.stdin.isatty():
                line = remarks.input("[bold blue]> [/]")
            else:
                line = sys.stdin.readline()
                if not line:
                    return None
        except EOFError:
            return None
        except KeyboardInterrupt:
            return None
        except UnicodeDecodeError as error:
            raise InputError(f"standard input: byte {error.start} is not valid UTF-8.") from None
        if (line := line.strip()) == "/quit":
            return None
        if line:
            return line
