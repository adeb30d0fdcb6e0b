"""/v1/responses: a conversation goes on, in the words of OpenAI's Responses API."""

from collections.abc import Iterator, Sequence

from wenloom.serving.conversation import Call, Turn
from wenloom.serving.errors import refused
from wenloom.serving.fields import own_options
from wenloom.serving.models import ServedModel
from wenloom.serving.reply import ReplyWanted, reply_run
from wenloom.serving.responses_answer import LOGPROBS, ResponseAnswer
from wenloom.serving.responses_schema import (
    AllowedFunctions,
    FunctionCallItem,
    FunctionOutputItem,
    InputPart,
    MessageItem,
    NamedFunction,
    ReasoningItem,
    ResponseRequest,
)
from wenloom.serving.run import EngineRun
from wenloom.serving.settings import RequestLimits
from wenloom.serving.tools import ChosenTools


def response_run(body: ResponseRequest, served: ServedModel, limits: RequestLimits) -> tuple[EngineRun, ResponseAnswer]:
    """The work of a request, ready for the engine.

    Raises:
        APIError, InputError: it cannot be done.
    """
    for each in body.include or ():
        if each != LOGPROBS:
            raise refused("include", f"include: of what may be included there is {LOGPROBS} alone.")
    if body.top_logprobs is not None and not body.include:
        raise refused("top_logprobs", f"top_logprobs: needs include with {LOGPROBS}.")
    if body.stream_options is not None and not body.stream:
        raise refused("stream_options", "stream_options: needs stream.")
    if body.truncation is not None and own_options(body).get("on_overflow") is not None:
        raise refused("truncation", "truncation: says what on_overflow says: give one of them.")
    wanted = ReplyWanted(
        turns=list(_turns(body)),
        form=None if body.text is None else body.text.format,
        functions=body.tools or (),
        choice=_choice(body),
        parallel=body.parallel_tool_calls if body.tools else None,
        n=1,
        max_tokens=body.max_output_tokens,
        logprobs=(body.top_logprobs or 0) if body.include else None,
        cuts_left=body.truncation == "auto" or own_options(body).get("on_overflow") == "left",
        effort=None if body.reasoning is None else body.reasoning.effort,
        effort_param="reasoning.effort",
        prediction=None,
        turns_param="input",
        form_param="text.format",
    )
    run, reply = reply_run(wanted, body, served, limits)
    return run, ResponseAnswer(body, run, reply)


def _choice(body: ResponseRequest) -> ChosenTools:
    choice = body.tool_choice
    if isinstance(choice, NamedFunction):
        return ChosenTools("required", (choice.name,), True)
    if isinstance(choice, AllowedFunctions):
        return ChosenTools(choice.mode, tuple(each.name for each in choice.tools))
    return ChosenTools(choice or "auto")


def _turns(body: ResponseRequest) -> Iterator[Turn]:
    """Instructions and input; calls belong to the assistant's turn before them."""
    items = body.input
    said = [Turn("user", items)] if isinstance(items, str) else list(_turns_of_items(body))
    if body.instructions:
        is_system = said[0].role == "system"
        content = f"{body.instructions}\n\n{said[0].content}" if is_system else body.instructions
        yield Turn("system", content)
        said = said[1:] if is_system else said
    yield from said


def _turns_of_items(body: ResponseRequest) -> Iterator[Turn]:
    waiting: Turn | None = None
    thought, thought_at = "", ""
    assert not isinstance(body.input, str)
    for number, each in enumerate(body.input):
        param = f"input[{number}]"
        if isinstance(each, FunctionCallItem):
            before = waiting or Turn("assistant", "", (), "", f"{param}.arguments", thought)
            calls = (*before.calls, Call(each.call_id, each.name, each.arguments))
            waiting = before._replace(calls=calls, param=f"{param}.arguments")
            thought, thought_at = "", ""
            continue
        if waiting is not None:
            yield waiting
            waiting = None
        if isinstance(each, ReasoningItem):
            thought, thought_at = "".join(part.text for part in each.content or ()), param
            continue
        if isinstance(each, MessageItem) and each.role == "assistant":
            waiting = Turn("assistant", _text_of(each.content), thought=thought)
            thought, thought_at = "", ""
            continue
        if thought_at:
            break
        if isinstance(each, FunctionOutputItem):
            yield Turn("tool", _text_of(each.output), (), each.call_id, f"{param}.call_id")
        else:
            yield Turn("system" if each.role == "developer" else each.role, _text_of(each.content))
    if thought_at:
        raise refused(thought_at, f"{thought_at}: reasoning comes before the message or the calls that it led to.")
    if waiting is not None:
        yield waiting


def _text_of(content: str | Sequence[InputPart]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)
