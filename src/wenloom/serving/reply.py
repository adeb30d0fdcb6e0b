"""The run of a reply to a conversation, whichever endpoint asks for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from wenloom.serving.context import check_text, check_tokens
from wenloom.serving.conversation import Turn, prompt_of
from wenloom.serving.errors import refused
from wenloom.serving.fields import own_options
from wenloom.serving.models import ServedModel
from wenloom.serving.reasoning import Effort, effort_values
from wenloom.serving.reply_reader import ReplyForm
from wenloom.serving.response_format import (
    JSONObjectFormat,
    NamedSchema,
    TextFormat,
    check_alone,
    description_of,
    prepare_grammar,
    schema_of,
)
from wenloom.serving.run import EngineRun, PreparedPrompt
from wenloom.serving.sampling import AnyRequest, check_limits, request_of
from wenloom.serving.settings import RequestLimits
from wenloom.serving.tool_grammar import document_grammar
from wenloom.serving.tool_schema import FunctionDefinition
from wenloom.serving.tools import ChosenTools, tool_use
from wenloom.tokens.chat import STOP_OF_PLAIN


@dataclass(frozen=True)
class ReplyWanted:
    """What an endpoint's body says in words of its own."""

    turns: Sequence[Turn]
    form: TextFormat | JSONObjectFormat | NamedSchema | None
    functions: Sequence[FunctionDefinition]
    choice: ChosenTools
    parallel: bool | None
    n: int
    max_tokens: int | None
    logprobs: int | None
    cuts_left: bool
    """Whether the beginning of a conversation that is too long is left out."""
    effort: Effort | None
    """How much to think."""
    effort_param: str
    """Where the body has it."""
    prediction: str | None
    """What the reply is expected to resemble."""
    turns_param: str
    """Where the body has the turns."""
    form_param: str
    """Where it has the form."""


def reply_run(
    wanted: ReplyWanted, body: AnyRequest, served: ServedModel, limits: RequestLimits
) -> tuple[EngineRun, ReplyForm]:
    """The work of a request, ready for the engine, and how its reply is read.

    Raises:
        APIError, InputError: it cannot be done.
    """
    check_limits(body, limits, 1, wanted.n, wanted.max_tokens)
    if not wanted.cuts_left:
        for each in wanted.turns:
            check_text(served, each.content, wanted.turns_param)
    schema = schema_of(wanted.form, limits, wanted.form_param)
    use = tool_use(wanted.functions, wanted.choice, wanted.parallel, served, limits, schema, wanted.form_param)
    blamed = "tools" if use is not None else wanted.form_param if schema is not None else None
    if blamed is not None:
        check_alone(own_options(body), blamed)
    told = description_of(wanted.form) if isinstance(wanted.form, NamedSchema) else None
    prompt = prompt_of(served, wanted.turns, use, told, _values(wanted, served))
    ids, form = prompt.ids, ReplyForm(prompt.reasoning, use)
    grammar = None
    if use is not None:
        grammar = use.grammar(form.reasoning)
    elif schema is not None and form.reasoning is not None:
        grammar = document_grammar(schema, form.reasoning)
    room = limits.max_total_tokens // wanted.n
    if served.context is not None:
        if not wanted.cuts_left:
            check_tokens(served, len(ids), wanted.turns_param)
        room = min(room, max(1, served.context - len(ids) + 1))
    is_plain = served.model.tokenizer.chat_template is None
    request = request_of(
        body, served, wanted.n, wanted.max_tokens or room, logprobs=wanted.logprobs,
        more_stop_strings=(STOP_OF_PLAIN,) if is_plain else None, on_overflow="left" if wanted.cuts_left else None,
        json_schema=schema if grammar is None else None, grammar=grammar, predicted_text=wanted.prediction or None,
        shown_special_tokens=form.special or None,
    )  # fmt: skip
    prepare_grammar(served, request, blamed)
    return EngineRun(served, [PreparedPrompt(ids, request)], form.reasoning), form


def _values(wanted: ReplyWanted, served: ServedModel) -> dict[str, object]:
    """What the template is told beside the turns.

    Raises:
        APIError: it cannot be told how much to think.
    """
    if wanted.effort is None:
        return {}
    found = effort_values(served.chat, wanted.effort)
    if found is None:
        raise refused(
            wanted.effort_param,
            f"{wanted.effort_param}: the chat template of {served.name} cannot be told {wanted.effort}.",
        )
    return found
