"""/v1/chat/completions: a conversation goes on."""

from collections.abc import Iterator, Sequence

from wenloom.serving.chat_answer import ChatAnswer
from wenloom.serving.chat_schema import AssistantMessage, ChatRequest, Content, Message, ToolMessage
from wenloom.serving.context import check_text, check_tokens
from wenloom.serving.conversation import Call, Turn, prompt_ids
from wenloom.serving.errors import refused
from wenloom.serving.fields import own_options
from wenloom.serving.models import ServedModel
from wenloom.serving.response_format import (
    JSONSchemaFormat,
    NamedSchema,
    check_alone,
    description_of,
    prepare_grammar,
    schema_of,
)
from wenloom.serving.run import EngineRun, PreparedPrompt
from wenloom.serving.sampling import check_limits, request_of
from wenloom.serving.settings import RequestLimits
from wenloom.serving.tools import choice_of, tool_use
from wenloom.tokens.chat import STOP_OF_PLAIN


def chat_run(body: ChatRequest, served: ServedModel, limits: RequestLimits) -> tuple[EngineRun, ChatAnswer]:
    """The work of a request, ready for the engine.

    Raises:
        APIError, InputError: it cannot be done.
    """
    n = body.n or 1
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise refused("max_tokens", "max_tokens and max_completion_tokens: give one of them.")
    if body.top_logprobs is not None and not body.logprobs:
        raise refused("top_logprobs", "top_logprobs: needs logprobs.")
    if body.stream_options is not None and not body.stream:
        raise refused("stream_options", "stream_options: needs stream.")
    asked = body.max_completion_tokens or body.max_tokens
    check_limits(body, limits, 1, n, asked)
    turns = list(turns_of(body.messages))
    cuts_left = own_options(body).get("on_overflow") == "left"
    if not cuts_left:
        for each in turns:
            check_text(served, each.content, "messages")
    form = body.response_format
    form = form.json_schema if isinstance(form, JSONSchemaFormat) else form
    schema = schema_of(form, limits, "response_format")
    functions = [each.function for each in body.tools or ()]
    use = tool_use(functions, choice_of(body.tool_choice), body.parallel_tool_calls, served, limits, schema)
    blamed = "tools" if use is not None else "response_format" if schema is not None else None
    if blamed is not None:
        check_alone(own_options(body), blamed)
    ids = prompt_ids(served, turns, use, description_of(form) if isinstance(form, NamedSchema) else None)
    room = limits.max_total_tokens // n
    if served.context is not None:
        if not cuts_left:
            check_tokens(served, len(ids), "messages")
        room = min(room, max(1, served.context - len(ids) + 1))
    is_plain = served.model.tokenizer.chat_template is None
    request = request_of(
        body, served, n, asked or room, logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        more_stop_strings=(STOP_OF_PLAIN,) if is_plain else None,
        json_schema=schema if use is None else None, grammar=use.grammar if use is not None else None,
    )  # fmt: skip
    prepare_grammar(served, request, blamed)
    run = EngineRun(served, [PreparedPrompt(ids, request)])
    return run, ChatAnswer(body, run, use)


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
            if each.content is None and not each.tool_calls:
                raise refused(f"{param}.content", f"{param}.content: is required where there are no tool_calls.")
            calls = [Call(call.id, call.function.name, call.function.arguments) for call in each.tool_calls or ()]
            yield Turn("assistant", text_of(each.content or ""), calls, "", f"{param}.tool_calls")
        else:
            yield Turn("system" if each.role == "developer" else each.role, text_of(each.content))


def text_of(content: Content) -> str:
    """The text of a message, its pieces one behind the other."""
    return content if isinstance(content, str) else "".join(part.text for part in content)
