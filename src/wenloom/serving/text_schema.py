"""The bodies of /v1/tokenize, /v1/detokenize and /v1/score."""

from typing import Annotated

from pydantic import Field

from wenloom.serving.chat_schema import Logged, Message, Name
from wenloom.serving.completion_schema import Token
from wenloom.serving.fields import Body, Honoured
from wenloom.serving.tool_schema import Tools


class TokenizeRequest(Body):
    """The body of /v1/tokenize: a text, or a conversation."""

    model: Name
    prompt: Annotated[str, Honoured("as /v1/completions reads it")] | None = None
    messages: (
        Annotated[list[Message], Field(min_length=1, max_length=4096), Honoured("as /v1/chat/completions reads them")]
        | None
    ) = None
    tools: Tools | None = None
    add_special_tokens: Annotated[bool, Honoured("default true: what stands around a prompt, such as BOS")] | None = (
        None
    )
    return_token_strs: bool | None = None


class DetokenizeRequest(Body):
    """The body of /v1/detokenize."""

    model: Name
    tokens: Annotated[list[Token], Field(max_length=2**20)]
    skip_special_tokens: Annotated[bool, Honoured("default false: special tokens give their names")] | None = None


class ScoreRequest(Body):
    """The body of /v1/score: texts whose log-probabilities are asked for."""

    model: Name
    input: str | Annotated[list[str], Field(min_length=1, max_length=1024)]
    given: Annotated[str, Honoured("stands before each text and is not scored")] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    user: Logged | None = None
