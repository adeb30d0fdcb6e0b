"""The body of /v1/completions."""

from typing import Annotated

from pydantic import Field

from wenloom.serving.chat_schema import (
    Count,
    Logged,
    LogitBias,
    Name,
    Penalty,
    Seed,
    Stop,
    StreamOptions,
    Temperature,
    TopP,
)
from wenloom.serving.fields import Body, Honoured, NotOffered, with_engine_options

Token = Annotated[int, Field(ge=0, le=2**31 - 1)]
Ids = Annotated[list[Token], Field(min_length=1, max_length=2**20)]


@with_engine_options
class CompletionRequest(Body):
    """The body of /v1/completions: OpenAI's fields, and the engine's options under their own names."""

    model: Name
    prompt: Annotated[
        str | Ids | Annotated[list[str], Field(min_length=1, max_length=1024)]
        | Annotated[list[Ids], Field(min_length=1, max_length=1024)] | None,
        Honoured("a text, token ids, or a list of either; null begins a text"),
    ] = None  # fmt: skip
    max_tokens: Annotated[int, Field(ge=0, le=1_000_000), Honoured("default 16; 0 together with echo")] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    n: Count | None = None
    best_of: Count | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=1024)] | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Logged | None = None
    suffix: Annotated[str | None, NotOffered("the models write on from the end of a text", but=("",))] = None
