"""/v1/chat/completions: a conversation goes on."""

from collections.abc import Iterator, Sequence

from wenloom.serving.chat_answer import ChatAnswer
from wenloom.serving.chat_schema import AssistantMessage, ChatRequest, Content, Message, ToolMessage
from wenloom.serving.conversation import Call, Turn
from wenloom.serving.errors import refused
from wenloom.serving.fields import own_options
from wenloom.serving.models import ServedModel
from wenloom.serving.reply import ReplyWanted, reply_run
from wenloom.serving.response_format import JSONSchemaFormat
from wenloom.serving.run import EngineRun
from wenloom.serving.settings import RequestLimits
from wenloom.serving.tools import choice_of


def chat_run(body: ChatRequest, served: ServedModel, limits: RequestLimits) -> tuple[EngineRun, ChatAnswer]:
    """The work of a request, ready for the engine.

    Raises:
        APIError, InputError: it cannot be done.
    """
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise refused("max_tokens", "max_tokens and max_completion_tokens: give one of them.")
    if body.top_logprobs is not None and not body.logprobs:
        raise refused("top_logprobs", "top_logprobs: needs logprobs.")
    if body.stream_options is not None and not body.stream:
        raise refused("stream_options", "stream_options: needs stream.")
    form = body.response_format
    wanted = ReplyWanted(
        turns=list(turns_of(body.messages)),
        form=form.json_schema if isinstance(form, JSONSchemaFormat) else form,
        functions=[each.function for each in body.tools or ()],
        choice=choice_of(body.tool_choice),
        parallel=body.parallel_tool_calls,
        n=body.n or 1,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        cuts_left=own_options(body).get("on_overflow") == "left",
        effort=body.reasoning_effort,
        effort_param="reasoning_effort",
        prediction=None if body.prediction is None else text_of(body.prediction.content),
        turns_param="messages",
        form_param="response_format",
    )
    run, reply = reply_run(wanted, body, served, limits)
    return run, ChatAnswer(body, run, reply)


def turns_of(messages: Sequence[Message]) -> Iterator[Turn]:
    """The messages of a body.

    Raises:
        APIError: one is empty.
    """
    for number, each in enumerate(messages):
        param = f"messages[{number}]"
        if isinstance(each, ToolMessage):
            yield Turn("tool", text_of(each.content), (), each.tool_call_id, f"{param}.tool_call_id")
        elif isinstance(each, AssistantMessage):
            if None not in (each.reasoning, each.reasoning_content) and each.reasoning != each.reasoning_content:
                raise refused(f"{param}.reasoning", f"{param}.reasoning: says something else than reasoning_content.")
            if each.content is None and not each.tool_calls:
                raise refused(f"{param}.content", f"{param}.content: is required where there are no tool_calls.")
            calls = [Call(call.id, call.function.name, call.function.arguments) for call in each.tool_calls or ()]
            thought = each.reasoning_content or each.reasoning or ""
            yield Turn("assistant", text_of(each.content or ""), calls, "", f"{param}.tool_calls", thought)
        else:
            yield Turn("system" if each.role == "developer" else each.role, text_of(each.content))


def text_of(content: Content) -> str:
    """The text of a message, its pieces one behind the other."""
    return content if isinstance(content, str) else "".join(part.text for part in content)
