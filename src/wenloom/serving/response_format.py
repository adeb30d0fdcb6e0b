"""`response_format`: that a reply is a JSON document, of any kind or by a schema; the engine's grammar sees to it."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from wenloom.core.errors import InputError
from wenloom.generation.request import GenerationRequest
from wenloom.serving.errors import refused
from wenloom.serving.fields import Body, Honoured
from wenloom.serving.models import ServedModel
from wenloom.serving.settings import RequestLimits

CONSTRAINTS = ("json_schema", "regex", "choices", "grammar")
"""The engine's own options that constrain a text."""
AN_OBJECT = '{"type": "object"}'
FormatName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Description = Annotated[
    str, StringConstraints(max_length=4096), Honoured("the model reads it at the end of the system message")
]
Strict = Annotated[bool, Honoured("the schema holds either way")]


class TextFormat(Body):
    """A reply in any form."""

    type: Literal["text"]


class JSONObjectFormat(Body):
    """A reply that is a JSON object."""

    type: Literal["json_object"]


class NamedSchema(Body):
    """A JSON schema, and what it is for."""

    name: Annotated[FormatName, Honoured("the model reads it where there is a description")]
    schema_: Annotated[dict[str, Any], Honoured("null or missing: any JSON object")] | None = Field(
        default=None, alias="schema"
    )
    description: Description | None = None
    strict: Strict | None = None


class JSONSchemaFormat(Body):
    """A reply that obeys a JSON schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[TextFormat | JSONObjectFormat | JSONSchemaFormat, Field(discriminator="type")]


def schema_of(
    form: TextFormat | JSONObjectFormat | NamedSchema | None, limits: RequestLimits, param: str
) -> str | None:
    """The schema that a reply has to obey; None: it is free.

    Raises:
        APIError: the schema is too large.
    """
    if form is None or isinstance(form, TextFormat):
        return None
    if isinstance(form, JSONObjectFormat) or form.schema_ is None:
        return AN_OBJECT
    return checked_source(form.schema_, limits, param)


def checked_source(schema: Mapping[str, Any], limits: RequestLimits, param: str) -> str:
    """A schema as text.

    Raises:
        APIError: it is too large, or cannot be written.
    """
    try:
        source = json.dumps(schema, ensure_ascii=False)
        source.encode()
    except (RecursionError, UnicodeEncodeError) as error:
        raise refused(param, f"{param}: is not JSON ({type(error).__name__}).") from None
    if len(source) > limits.max_schema_kb * 1000:
        raise refused(param, f"{param}: is longer than {limits.max_schema_kb:g} kB.")
    return source


def description_of(form: NamedSchema) -> str | None:
    """What the model is told of a schema."""
    return f"Reply with the JSON document {form.name}: {form.description}" if form.description else None


def prepare_grammar(served: ServedModel, request: GenerationRequest, param: str | None) -> None:
    """Compile what constrains a request, before the engine sees it.

    Args:
        param: the field of the body from which the grammar was made; None: the engine's own option.

    Raises:
        APIError, InputError: no text can satisfy it, it is not valid, or it is too large.
    """
    try:
        served.model.engine.vocabulary.prepare(request)
    except InputError as error:
        kind = (request.constraint or ("",))[0]
        if param is None:
            raise
        raise refused(param, param + str(error).removeprefix(kind)) from None


def check_alone(own: Mapping[str, Any], param: str) -> None:
    """
    Raises:
        APIError: the engine's own options constrain the text, too.
    """
    if given := next((name for name in CONSTRAINTS if own.get(name) not in (None, [])), None):
        raise refused(param, f"{param}: cannot be joined with {given}.")
