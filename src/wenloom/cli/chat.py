"""`wenloom chat`. torch is loaded when there is work, so that --help answers at once."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from wenloom.cli.conversation import COMMANDS, GREETING, Conversation, TurnReader
from wenloom.cli.line_input import LineInput
from wenloom.cli.options import Device, Dtype, KVCache, Quantize, flags, refuse_unused, typed_as_flags
from wenloom.cli.served import Served, served_pieces
from wenloom.cli.steering_files import vector_files
from wenloom.core.console import remark
from wenloom.core.errors import InputError, WenloomError, printable
from wenloom.core.quantities import counted
from wenloom.generation.options import Length, Penalties, Sampling

if TYPE_CHECKING:
    from wenloom.api import LanguageModel

Pieces = Callable[[Conversation], Iterator[str]]
"""Writes the next turn of a conversation, bit by bit."""


def chat(
    folder: Annotated[str | None, Parameter(name="model")] = None,
    /,
    *,
    served: Annotated[Served, flags("A model that is served elsewhere", 4)] = Served(),
    system: str | None = None,
    draft: str | None = None,
    steer: list[str] | None = None,
    history: Annotated[bool, Parameter(name="--history")] = True,
    device: Device = "auto",
    dtype: Dtype = "float32",
    quantize: Quantize = None,
    kv_cache: KVCache = None,
    length: Annotated[Length, flags("Length", 1)] = Length(),
    sampling: Annotated[Sampling, flags("Sampling", 2)] = Sampling(),
    penalties: Annotated[Penalties, flags("Penalties and bans", 3)] = Penalties(),
) -> None:
    """Chat with a model.

    Ctrl-C stops a reply, /quit or Ctrl-D ends. /help lists the commands: reset, undo, retry, set the system prompt or
    an option, save and load. Several lines: end each but the last with a backslash, or put three double quotes around
    them. A model with a chat template is asked in its own way; one without reads a plain transcript of "User:" and
    "Assistant:".

        wenloom chat runs/mine --system "You are a ship's cook." --temperature 0.7
        wenloom chat --api http://localhost:8000/v1 --model mine

    Parameters
    ----------
    folder
        A model folder, or a hub model such as owner/name.
    system
        The system prompt: what the model is told before the first turn.
    draft
        A draft model for speculative decoding: a smaller one with the same vocabulary.
    steer
        Add a steering vector of `wenloom steer` to the residual stream: FILE or FILE:STRENGTH. May be given several times;
        /set steer changes it.
    history
        Keep what you type for the arrow keys of later chats, in ~/.local/state/wenloom/chat_history. Input from a pipe is
        never kept.
    """
    options = {
        field.name: value
        for group in (length, sampling, penalties)
        for field in dataclasses.fields(group)
        if (value := getattr(group, field.name)) != field.default
    }
    if steer:
        options["steer"] = tuple(steer)
    vectors = vector_files(steer or ())
    vectors |= {file.stem: file for file in vectors.values()}
    with typed_as_flags():
        Conversation(options, system)
    lines = LineInput("chat_history" if history else None, tuple(COMMANDS))
    if not history and not lines.is_terminal:
        raise InputError("--no-history: input from a pipe is never kept; leave it out.")
    if (folder is None) == (served.api is None):
        raise InputError("name a model folder, or a server: wenloom chat --api http://localhost:8000/v1 --model NAME")
    if served.api is not None:
        refuse_unused("is of models that are loaded here; the server decides", draft=draft is not None, steer=bool(steer),
                      device=device != "auto", dtype=dtype != "float32", quantize=quantize is not None,
                      kv_cache=kv_cache is not None)  # fmt: skip
        endpoints = served.endpoints()
        if len(endpoints) > 1:
            raise InputError("--model: a chat is with one model.")
        pieces_of, always = partial(served_pieces, endpoints[0]), dict[str, Any]()
    else:
        assert folder is not None
        pieces_of, always = _loaded(folder, device, dtype, draft, quantize, kv_cache, vectors)
    if lines.is_terminal:
        remark(GREETING)
    failed = _converse(pieces_of, Conversation(options, system, always), lines)
    if failed and not lines.is_terminal:
        raise InputError(f"{counted(failed, 'turn')} could not be answered.")


def _loaded(
    folder: str,
    device: str,
    dtype: str,
    draft: str | None,
    quantize: str | None,
    kv_cache: str | None,
    vectors: dict[str, Path],
) -> tuple[Pieces, dict[str, Any]]:
    """What writes the next turn of a model here, and the options of every request."""
    from wenloom.api import load_writer as load
    from wenloom.tokens.chat import STOP_OF_PLAIN

    loaded = load(folder, device, dtype, draft_model=draft, quantize=quantize, kv_cache=kv_cache, steering=vectors)
    always: dict[str, Any] = {}
    if loaded.tokenizer.chat_template is None and not loaded.tokenizer.other_templates:
        always["stop_strings"] = (STOP_OF_PLAIN,)
        remark("This model has no chat template: it goes on with a plain transcript.")
    if draft is not None:
        always["num_assistant_tokens"] = 5
    return partial(_pieces, loaded), always


def _converse(pieces_of: Pieces, conversation: Conversation, lines: LineInput) -> int:
    """Reply until the user ends; returns how many turns failed."""
    failed = 0
    for text in _turns(lines):
        step = conversation.take(text)
        if step.says:
            remark(step.says)
        failed += step.failed
        if step.ends:
            break
        if not step.asks:
            continue
        try:
            reply = _reply(pieces_of(conversation))
        except WenloomError as error:  # of this turn alone
            remark(f"(no reply: {printable(str(error))})")
            conversation.no_reply()
            failed += 1
            continue
        if reply:
            conversation.reply(reply)
        else:
            remark("(the model ended its turn without a word)")
            conversation.no_reply()
    return failed


def _pieces(loaded: "LanguageModel", conversation: Conversation) -> Iterator[str]:
    """The next turn as it comes.

    Raises:
        WenloomError: this conversation cannot continue.
    """
    from wenloom.tokens.chat import chat_ids

    ids = chat_ids(loaded.tokenizer, conversation.messages)
    job = loaded.engine.submit(ids, conversation.request, conversation.attempt)
    if job.unseen:
        limit = loaded.decoder.config.context_length
        remark(f"(the conversation has {len(ids):,} tokens, the model sees the last {limit:,})")
    with contextlib.closing(loaded.engine.stream(job)) as stream:
        for event in stream:
            yield event.text


def _reply(stream: Iterator[str]) -> str:
    """Print a turn as it comes; Ctrl-C ends it. Returns its text."""
    pieces: list[str] = []
    try:
        for text in stream:
            piece = text if any(pieces) else text.lstrip()
            pieces.append(piece)
            sys.stdout.write(piece)
            sys.stdout.flush()
    except KeyboardInterrupt:
        remark(" (stopped)")
    finally:
        stream.close()  # pyright: ignore[reportAttributeAccessIssue] - a generator
    sys.stdout.write("\n")
    return "".join(pieces).strip()


def _turns(lines: LineInput) -> Iterator[str]:
    """What the user says, turn by turn. Ctrl-C forgets what was typed of one."""
    reader = TurnReader()
    while True:
        try:
            line = lines.line("... " if reader.goes_on else "> ")
        except KeyboardInterrupt:
            if not lines.is_terminal:
                raise
            reader.forget()
            remark("\n(Ctrl-D or /quit ends)")
            continue
        text = reader.rest() if line is None else reader.feed(line)
        if text is not None:
            yield text
        if line is None:
            return
