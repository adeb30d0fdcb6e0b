"""Tools in the body of a request: functions that the model may call, and which of them it has to."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from wenloom.serving.fields import Body, Honoured

FunctionName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class FunctionDefinition(Body):
    """A function: its name, what it does, and the schema of its arguments."""

    name: FunctionName
    description: Annotated[str, StringConstraints(max_length=20_000)] | None = None
    parameters: Annotated[dict[str, Any], Honoured("null or missing: no arguments")] | None = None
    strict: Annotated[bool, Honoured("the schema holds either way")] | None = None


class FunctionTool(Body):
    """A function as a tool; there are no others."""

    type: Literal["function"]
    function: FunctionDefinition


class FunctionReference(Body):
    """A function that is meant."""

    name: FunctionName


class NamedTool(Body):
    """A tool that is meant."""

    type: Literal["function"]
    function: FunctionReference


class AllowedTools(Body):
    """Some of the tools."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=128)]


class AllowedChoice(Body):
    """The choice among some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


Tools = Annotated[list[FunctionTool], Field(max_length=128)]
ToolChoice = (
    Literal["none", "auto", "required"] | Annotated[NamedTool | AllowedChoice, Field(discriminator="type")]
)  # fmt: skip


class CalledFunction(Body):
    """What was called: arguments are a JSON object as text."""

    name: FunctionName
    arguments: Annotated[str, StringConstraints(max_length=1_000_000)]


class ToolCall(Body):
    """A call of an earlier reply."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    type: Literal["function"] = "function"
    function: CalledFunction
    index: Annotated[int, Honoured("streams have it; the order says the same")] | None = None
