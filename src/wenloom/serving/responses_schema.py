"""The body of /v1/responses: what OpenAI's Responses API takes, as far as a server can that keeps nothing."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, JsonValue, StringConstraints, Tag

from wenloom.serving.chat_schema import (
    Cached,
    Logged,
    LogitBias,
    Metadata,
    Name,
    Penalty,
    Seed,
    Stop,
    Temperature,
    Tokens,
    TopP,
)
from wenloom.serving.fields import Body, Honoured, NotOffered, with_engine_options
from wenloom.serving.reasoning import Effort
from wenloom.serving.response_format import JSONObjectFormat, NamedSchema, TextFormat
from wenloom.serving.tool_schema import FunctionDefinition, FunctionName

Own = Annotated[str, StringConstraints(max_length=256), Honoured("the client's own; nothing is kept by it")]
Status = Annotated[str, StringConstraints(max_length=64), Honoured("what is sent back counts as it stands")]
CallId = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class InputPart(Body):
    """A piece of a message, sent for the first time or sent back."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: Annotated[list[JsonValue] | None, NotOffered("no reply of this server has one", but=([],))] = None
    logprobs: Annotated[list[JsonValue], Honoured("figures of an earlier reply, which say nothing to the model")] | None = None  # fmt: skip


class MessageItem(Body):
    """What was said."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[InputPart]
    id: Own | None = None
    status: Status | None = None
    phase: Annotated[str | None, NotOffered("replies have no phases")] = None


class FunctionCallItem(Body):
    """What was called."""

    type: Literal["function_call"]
    call_id: CallId
    name: FunctionName
    arguments: Annotated[str, StringConstraints(max_length=1_000_000)]
    id: Own | None = None
    status: Status | None = None


class FunctionOutputItem(Body):
    """What a function gave back."""

    type: Literal["function_call_output"]
    call_id: CallId
    output: str | list[InputPart]
    id: Own | None = None
    status: Status | None = None


class ReasoningPart(Body):
    """A piece of what was thought."""

    type: Literal["reasoning_text"]
    text: str


class ReasoningItem(Body):
    """What was thought before the item that follows."""

    type: Literal["reasoning"]
    content: (
        Annotated[
            list[ReasoningPart],
            Honoured("given to the chat template, which may leave out what was thought in earlier turns"),
        ]
        | None
    ) = None
    summary: Annotated[list[JsonValue] | None, NotOffered("no reply of this server has one", but=([],))] = None
    encrypted_content: Annotated[str | None, NotOffered("reasoning is returned as it is")] = None
    id: Own | None = None
    status: Status | None = None


def _kind_of(item: Any) -> Any:
    return item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", None)


InputItem = Annotated[
    Annotated[MessageItem, Tag("message")] | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionOutputItem, Tag("function_call_output")] | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(_kind_of, custom_error_type="unknown_type", custom_error_message=(
        "must be message, reasoning, function_call or function_call_output")),
]  # fmt: skip


class ResponseFunction(FunctionDefinition):
    """A function that the model may call."""

    type: Literal["function"]


class NamedFunction(Body):
    """A function that is meant."""

    type: Literal["function"]
    name: FunctionName


class AllowedFunctions(Body):
    """The choice among some of the functions."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedFunction], Field(min_length=1, max_length=128)]


class NamedSchemaFormat(NamedSchema):
    """A reply that obeys a JSON schema."""

    type: Literal["json_schema"]


class TextConfig(Body):
    """The form of the text."""

    format: Annotated[TextFormat | JSONObjectFormat | NamedSchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Annotated[str | None, NotOffered("replies are as long as the model makes them", but=("medium",))] = None


class ReasoningConfig(Body):
    """How much the model thinks before it replies."""

    effort: Annotated[Effort, Honoured("where the chat template takes it; 400 where it does not")] | None = None
    summary: Annotated[str | None, NotOffered("reasoning is returned as it is")] = None
    generate_summary: Annotated[str | None, NotOffered("reasoning is returned as it is")] = None
    context: Annotated[str | None, NotOffered("the chat template says which turns keep it", but=("auto",))] = None
    mode: Annotated[str | None, NotOffered("there is one", but=("standard",))] = None


class ResponseStreamOptions(Body):
    """What a stream tells beside the text."""

    include_obfuscation: Annotated[bool | None, NotOffered("events are not padded", but=(False,))] = None


_STATELESS = "the server keeps nothing: send the whole conversation as input"


@with_engine_options
class ResponseRequest(Body):
    """The body of /v1/responses: OpenAI's fields, and the engine's options under their own names."""

    model: Name
    input: str | Annotated[list[InputItem], Field(min_length=1, max_length=4096)]
    instructions: Annotated[str, Honoured("begin the system message")] | None = None
    max_output_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: list[Annotated[str, StringConstraints(max_length=256)]] | None = None
    text: TextConfig | None = None
    tools: Annotated[list[ResponseFunction], Field(max_length=128)] | None = None
    tool_choice: (
        Literal["none", "auto", "required"]
        | Annotated[NamedFunction | AllowedFunctions, Field(discriminator="type")]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningConfig | None = None
    truncation: Annotated[Literal["auto", "disabled"], Honoured("auto goes on without the beginning of a long conversation")] | None = None  # fmt: skip
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    stop: Annotated[Stop | Annotated[list[Stop], Field(max_length=1024)] | None, Honoured("as in chat completions")] = (
        None
    )
    seed: Annotated[Seed | None, Honoured("as in chat completions")] = None
    presence_penalty: Annotated[Penalty | None, Honoured("as in chat completions")] = None
    frequency_penalty: Annotated[Penalty | None, Honoured("as in chat completions")] = None
    logit_bias: Annotated[LogitBias | None, Honoured("as in chat completions")] = None
    user: Logged | None = None
    safety_identifier: Logged | None = None
    metadata: Metadata | None = None
    prompt_cache_key: Cached | None = None
    store: Annotated[bool | None, NotOffered("nothing is kept", but=(False,))] = None
    previous_response_id: Annotated[str | None, NotOffered(_STATELESS)] = None
    conversation: Annotated[JsonValue, NotOffered(_STATELESS)] = None
    background: Annotated[bool | None, NotOffered(_STATELESS, but=(False,))] = None
    background_options: Annotated[JsonValue, NotOffered(_STATELESS)] = None
    prompt: Annotated[JsonValue, NotOffered("the server has no stored prompts")] = None
    context_management: Annotated[JsonValue, NotOffered("conversations are not compacted", but=([],))] = None
    max_tool_calls: Annotated[JsonValue, NotOffered("the server runs no tools itself")] = None
    image: Annotated[JsonValue, NotOffered("replies are text")] = None
    moderation: Annotated[JsonValue, NotOffered("replies are not judged")] = None
    access_programs: Annotated[JsonValue, NotOffered("the server has none")] = None
    service_tier: Annotated[str | None, NotOffered("all requests are served alike", but=("auto", "default"))] = None
    prompt_cache_retention: Annotated[str | None, NotOffered("prompts are kept in memory", but=("in_memory",))] = None
    prompt_cache_options: Annotated[dict[str, Any] | None, NotOffered("the cache has no options")] = None
