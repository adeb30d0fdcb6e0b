"""`wenloom chat`. torch is loaded when there is work, so that --help answers at once."""

import dataclasses
import sys
from typing import TYPE_CHECKING, Annotated

from wenloom.cli.options import Device, Dtype, KVCache, Quantize, flags
from wenloom.cli.prompts import zero_is_greedy
from wenloom.core.console import remark, remarks
from wenloom.core.errors import InputError, WenloomError, printable
from wenloom.generation.options import Length, Penalties, Sampling
from wenloom.generation.request import GenerationRequest

if TYPE_CHECKING:
    from wenloom.api import LanguageModel
    from wenloom.tokens.chat import Message


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
    """Chat with a model.

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
    options = zero_is_greedy(
        {**dataclasses.asdict(length), **dataclasses.asdict(sampling), **dataclasses.asdict(penalties)}
    )
    GenerationRequest(**options)
    from wenloom.api import load
    from wenloom.tokens.chat import STOP_OF_PLAIN, Message

    loaded = load(model, device, dtype, draft_model=draft, quantize=quantize, kv_cache=kv_cache)
    if loaded.tokenizer.chat_template is None and not loaded.tokenizer.other_templates:
        options["stop_strings"] = (*length.stop_strings, STOP_OF_PLAIN)
        remark("This model has no chat template: it goes on with a plain transcript.")
    if draft is not None:
        options["num_assistant_tokens"] = 5
    request = GenerationRequest(**options)
    opening = [Message("system", system)] if system else []
    turns: list[Message] = [*opening]
    failed = 0
    while (line := _asked()) is not None:
        if line == "/reset":
            turns = [*opening]
            remark("(a new conversation)")
            continue
        turns.append(Message("user", line))
        try:
            reply = _reply(loaded, turns, request)
        except WenloomError as error:  # of this turn alone
            remark(f"(no reply: {printable(str(error))})")
            turns.pop()
            failed += 1
            continue
        turns.append(Message("assistant", reply))
    if failed and not sys.stdin.isatty():
        raise InputError(f"{failed:,} turns could not be answered.")


def _reply(loaded: "LanguageModel", turns: "list[Message]", request: GenerationRequest) -> str:
    """Write the next turn as it comes; returns its text.

    Raises:
        WenloomError: this conversation cannot be gone on with.
    """
    from wenloom.tokens.chat import chat_ids

    ids = chat_ids(loaded.tokenizer, turns)
    job = loaded.engine.submit(ids, request)
    if job.unseen:
        limit = loaded.decoder.config.context_length
        remark(f"(the conversation has {len(ids):,} tokens: its beginning is out of the model's sight, {limit:,})")
    pieces: list[str] = []
    stream = loaded.engine.stream(job)
    try:
        for event in stream:
            piece = event.text if any(pieces) else event.text.lstrip()
            pieces.append(piece)
            sys.stdout.write(piece)
            sys.stdout.flush()
    except KeyboardInterrupt:
        stream.close()
        remark(" (stopped)")
    sys.stdout.write("\n")
    return "".join(pieces).strip()


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
