"""The body of /v1/chat/completions."""

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, StringConstraints

from wenloom.serving.fields import Body, Honoured, NotOffered, with_engine_options
from wenloom.serving.reasoning import Effort
from wenloom.serving.response_format import ResponseFormat
from wenloom.serving.tool_schema import ToolCall, ToolChoice, Tools

Penalty = Annotated[float, Field(ge=-2, le=2)]
Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, Field(ge=1, le=1024)]
Tokens = Annotated[int, Field(ge=1, le=1_000_000)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=10_000)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
LogitBias = dict[Annotated[str, StringConstraints(pattern=r"^\d{1,10}$")], Annotated[float, Field(ge=-100, le=100)]]
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
    Field(max_length=16), Honoured("written into the access log"),
]  # fmt: skip
Logged = Annotated[str, StringConstraints(max_length=512), Honoured("written into the access log")]
Cached = Annotated[
    str, StringConstraints(max_length=512),
    Honoured("every prompt is looked up in the one cache that there is; the key need not help to find it"),
]  # fmt: skip


class StreamOptions(Body):
    """What a stream tells beside the text."""

    include_usage: bool | None = None
    include_obfuscation: Annotated[bool | None, NotOffered("chunks are not padded", but=(False,))] = None


class TextPart(Body):
    """A piece of a message."""

    type: Literal["text"]
    text: str


Content = str | list[TextPart]
Speaker = Annotated[Name, NotOffered("chat templates know roles, not names")]


class SystemMessage(Body):
    """What the model is told; OpenAI's newer models call the role developer."""

    role: Literal["system", "developer"]
    content: Content
    name: Speaker | None = None


class UserMessage(Body):
    """What a person says."""

    role: Literal["user"]
    content: Content
    name: Speaker | None = None


Thought = Annotated[
    str, StringConstraints(max_length=1_000_000),
    Honoured("given to the chat template, which may leave out what was thought in earlier turns"),
]  # fmt: skip


class AssistantMessage(Body):
    """What the model said."""

    role: Literal["assistant"]
    content: Content | None = None
    name: Speaker | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] | None = None
    reasoning: Thought | None = None
    reasoning_content: Thought | None = None
    refusal: Annotated[str | None, NotOffered("no reply of this server has one")] = None
    annotations: Annotated[list[JsonValue] | None, NotOffered("no reply of this server has one", but=([],))] = None
    audio: Annotated[JsonValue, NotOffered("messages are text")] = None
    function_call: Annotated[JsonValue, NotOffered("it is superseded by tool_calls")] = None


class ToolMessage(Body):
    """What a function gave back."""

    role: Literal["tool"]
    content: Content
    tool_call_id: Annotated[str, StringConstraints(min_length=1, max_length=256)]


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class Prediction(Body):
    """A text that the reply is expected to resemble."""

    type: Literal["content"]
    content: Annotated[Content, Honoured("its words are proposed to the model, and verified; the reply is the same")]


@with_engine_options
class ChatRequest(Body):
    """The body of /v1/chat/completions: OpenAI's fields, and the engine's options under their own names."""

    model: Name
    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)]
    max_completion_tokens: Tokens | None = None
    max_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    n: Count | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=1024)] | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Annotated[Effort, Honoured("where the chat template takes it; 400 where it does not")] | None = (
        None
    )
    prediction: Prediction | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Logged | None = None
    safety_identifier: Logged | None = None
    metadata: Metadata | None = None
    prompt_cache_key: Cached | None = None
    service_tier: Annotated[str | None, NotOffered("all requests are served alike", but=("auto", "default"))] = None
    store: Annotated[bool | None, NotOffered("nothing is kept", but=(False,))] = None
    modalities: Annotated[list[str] | None, NotOffered("replies are text", but=(["text"],))] = None
    verbosity: Annotated[str | None, NotOffered("replies are as long as the model makes them", but=("medium",))] = None
    prompt_cache_retention: Annotated[str | None, NotOffered("prompts are kept in memory", but=("in_memory",))] = None
    prompt_cache_options: Annotated[dict[str, Any] | None, NotOffered("the cache has no options")] = None
    audio: Annotated[JsonValue, NotOffered("replies are text")] = None
    web_search_options: Annotated[JsonValue, NotOffered("the server asks nobody else")] = None
    moderation: Annotated[JsonValue, NotOffered("replies are not judged")] = None
    functions: Annotated[JsonValue, NotOffered("it is superseded by tools", but=([],))] = None
    function_call: Annotated[JsonValue, NotOffered("it is superseded by tool_choice", but=("none",))] = None
