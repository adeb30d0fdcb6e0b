"""The tools of a request: what the model reads of them, and the grammar that its calls obey."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from wenloom.core.errors import InputError
from wenloom.serving.errors import refused
from wenloom.serving.models import ServedModel
from wenloom.serving.pairs import texts_of
from wenloom.serving.reasoning import Reasoning
from wenloom.serving.settings import RequestLimits
from wenloom.serving.tool_form import ToolForm
from wenloom.serving.tool_grammar import MOST_CALLS, calls_grammar
from wenloom.serving.tool_schema import AllowedChoice, FunctionDefinition, NamedTool, ToolChoice


class ChosenTools(NamedTuple):
    """Whether functions are called, and which may be."""

    mode: str
    """none, auto or required."""
    names: tuple[str, ...] | None = None
    """None: all."""
    is_named: bool = False
    """Whether the client says which one is called."""


def choice_of(choice: ToolChoice | None) -> ChosenTools:
    """What `tool_choice` says."""
    if isinstance(choice, NamedTool):
        return ChosenTools("required", (choice.function.name,), True)
    if isinstance(choice, AllowedChoice):
        allowed = choice.allowed_tools
        return ChosenTools(allowed.mode, tuple(each.function.name for each in allowed.tools))
    return ChosenTools(choice or "auto")


@dataclass(frozen=True)
class ToolUse:
    """What the tools of a request come to."""

    form: ToolForm
    described: Sequence[dict[str, Any]]
    """As chat templates read them."""
    schemas: dict[str, dict[str, Any] | None]
    """Of the arguments of the functions that may be called, by their names."""
    most: int
    """Calls of one reply."""
    is_forced: bool
    """Whether it has to make one."""
    reply: str | None
    """The schema of a reply without calls."""
    is_named: bool

    @functools.cached_property
    def are_text(self) -> dict[str, frozenset[str]]:
        """Of a form with pairs, by the function's name: the arguments that stand as plain text."""
        return {name: texts_of(schema) for name, schema in self.schemas.items()} if self.form.pairs else {}

    def grammar(self, reasoning: Reasoning | None) -> str:
        """What the reply obeys.

        Args:
            reasoning: what may stand before it.

        Raises:
            APIError: the arguments of a function cannot be kept in this form.
        """
        try:
            return calls_grammar(self.form, self.schemas, most=self.most, is_forced=self.is_forced, reply=self.reply, reasoning=reasoning)  # fmt: skip
        except InputError as error:
            raise refused("tools", f"tools: {error}") from None


def tool_use(
    functions: Sequence[FunctionDefinition],
    choice: ChosenTools,
    parallel: bool | None,
    served: ServedModel,
    limits: RequestLimits,
    reply: str | None,
    form_param: str = "response_format",
) -> ToolUse | None:
    """
    Args:
        parallel: whether a reply may make several calls; None: yes.
        reply: the schema of a reply without calls.
        form_param: where the body has that.

    Returns:
        None where no function is called.

    Raises:
        APIError: they cannot be offered, with the field that is to blame.
    """
    known = {each.name: each for each in functions}
    if len(known) < len(functions):
        raise refused("tools", "tools: two functions have one name.")
    if choice.mode != "auto" and not functions and choice.mode != "none":
        raise refused("tool_choice", "tool_choice: needs tools.")
    if not functions and parallel is not None:
        raise refused("parallel_tool_calls", "parallel_tool_calls: needs tools.")
    for name in choice.names or ():
        if name not in known:
            raise refused("tool_choice", f"tool_choice: no function {name} is among the tools.")
    if not functions or choice.mode == "none":
        return None
    form = served.tool_form
    if form is None:
        raise refused("tools", f"tools: the chat template of {served.name} writes calls in a way that this server does not read.")  # fmt: skip
    if reply is not None and choice.mode == "auto" and form.is_first:
        raise refused(form_param, f'{form_param}: this model writes calls as JSON, too: let tool_choice be "none" or "required".')  # fmt: skip
    described = [{"type": "function", "function": _described(each)} for each in functions]
    if len(json.dumps(described)) > limits.max_schema_kb * 1000:
        raise refused("tools", f"tools: are longer than {limits.max_schema_kb:g} kB.")
    for number, each in enumerate(functions):
        if (each.parameters or {}).get("type", "object") != "object":
            raise refused(f"tools[{number}].function.parameters", f"tools[{number}].function.parameters: must be the schema of an object.")  # fmt: skip
    schemas = {name: each.parameters for name, each in known.items() if choice.names is None or name in choice.names}
    most = 1 if choice.is_named or parallel is False else MOST_CALLS
    return ToolUse(form, described, schemas, most, choice.mode == "required", reply, choice.is_named)


def _described(function: FunctionDefinition) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {}} if function.parameters is None else function.parameters
    return {"name": function.name, "description": function.description or "", "parameters": parameters}
