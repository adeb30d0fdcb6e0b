"""`wenloom chat`. torch is loaded when there is work, so that --help answers at once."""

import dataclasses
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from wenloom.cli.conversation import COMMANDS, GREETING, Conversation, TurnReader
from wenloom.cli.line_input import LineInput
from wenloom.cli.options import Device, Dtype, KVCache, Quantize, flags, typed_as_flags
from wenloom.cli.steering_files import vector_files
from wenloom.core.console import remark
from wenloom.core.errors import InputError, WenloomError, printable
from wenloom.core.quantities import counted
from wenloom.generation.options import Length, Penalties, Sampling

if TYPE_CHECKING:
    from wenloom.api import LanguageModel


def chat(
    model: str,
    /,
    *,
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

    Parameters
    ----------
    model
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
    from wenloom.api import load_writer as load
    from wenloom.tokens.chat import STOP_OF_PLAIN

    loaded = load(model, device, dtype, draft_model=draft, quantize=quantize, kv_cache=kv_cache, steering=vectors)
    always = {}
    if loaded.tokenizer.chat_template is None and not loaded.tokenizer.other_templates:
        always["stop_strings"] = (STOP_OF_PLAIN,)
        remark("This model has no chat template: it goes on with a plain transcript.")
    if draft is not None:
        always["num_assistant_tokens"] = 5
    if lines.is_terminal:
        remark(GREETING)
    failed = _converse(loaded, Conversation(options, system, always), lines)
    if failed and not lines.is_terminal:
        raise InputError(f"{counted(failed, 'turn')} could not be answered.")


def _converse(loaded: "LanguageModel", conversation: Conversation, lines: LineInput) -> int:
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
            reply = _reply(loaded, conversation)
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


def _reply(loaded: "LanguageModel", conversation: Conversation) -> str:
    """Write the next turn as it comes; returns its text.

    Raises:
        WenloomError: this conversation cannot continue.
    """
    from wenloom.tokens.chat import chat_ids

    ids = chat_ids(loaded.tokenizer, conversation.messages)
    job = loaded.engine.submit(ids, conversation.request, conversation.attempt)
    if job.unseen:
        limit = loaded.decoder.config.context_length
        remark(f"(the conversation has {len(ids):,} tokens, the model sees the last {limit:,})")
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
