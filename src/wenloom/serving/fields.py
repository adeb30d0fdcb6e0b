"""How bodies of requests are typed: no field that is not known, none that is ignored, the engine's options among them."""

import dataclasses
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from wenloom.generation.bounds import bounds_of
from wenloom.generation.request import GenerationRequest
from wenloom.generation.request_checks import MAX_CONSTRAINT, MAX_WORD, MAX_WORDS


class Body(BaseModel):
    """An object of a request: numbers are numbers, and no field is let pass that nobody reads."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclasses.dataclass(frozen=True)
class NotOffered:
    """Marks a field of OpenAI's that is not honoured: null and these values say what happens anyway, others are refused."""

    why: str
    but: tuple[Any, ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: Any) -> Any:
        if value is None or any(value == each and type(value) is type(each) for each in self.but):
            return value
        raise PydanticCustomError("refused", "is not offered: {why}", {"why": self.why})


@dataclasses.dataclass(frozen=True)
class Honoured:
    """Says what is done by a field, where its name does not."""

    how: str


_SAID_OTHERWISE = frozenset(
    "max_new_tokens max_length num_return_sequences stop_strings temperature top_p seed presence_penalty frequency_penalty"
    " logit_bias logprobs prompt_logprobs echo".split()
)
"""Options of the engine that OpenAI's own fields set."""
OWN = tuple(field for field in dataclasses.fields(GenerationRequest) if field.name not in _SAID_OTHERWISE)
"""Options of the engine that are fields of a body under their own names."""
M = TypeVar("M", bound=Body)


def with_engine_options(model: type[M]) -> type[M]:
    """A body that takes the engine's own options beside OpenAI's fields."""
    fields: dict[str, Any] = {
        each.name: (_annotation(each) | None, None) for each in OWN if each.name not in model.model_fields
    }
    return create_model(model.__name__, __base__=model, __doc__=model.__doc__, __module__=model.__module__, **fields)


def own_options(body: Body) -> dict[str, Any]:
    """The engine's own options that a body gives; null is not given."""
    return {each.name: value for each in OWN if (value := getattr(body, each.name, None)) is not None}


_NAME = Annotated[str, Field(max_length=MAX_WORD)]


def _annotation(field: "dataclasses.Field[Any]") -> Any:
    """The type of an option in JSON, with its bounds."""
    if field.name in ("json_schema", "grammar"):
        return Annotated[str, Field(max_length=MAX_CONSTRAINT)] | dict[str, Any]
    if field.name == "steer":
        return _NAME | Annotated[list[_NAME], Field(max_length=MAX_WORDS)] | Annotated[dict[_NAME, float], Field(max_length=MAX_WORDS)]  # fmt: skip
    members = [each for each in _members(field.type) if each is not type(None)]
    bounds = bounds_of(field)
    if bounds is None:
        return Union[tuple(_in_json(each) for each in members)]  # noqa: UP007 - made of a tuple
    if bounds.is_open and not bounds.zero_is_off:
        return Annotated[members[0], Field(gt=bounds.low, le=bounds.high)]
    return Annotated[members[0], Field(ge=0 if bounds.zero_is_off else bounds.low, le=bounds.high)]


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) not in (None, tuple, Literal) else (annotation,)


def _in_json(kind: Any) -> Any:
    """A list for a tuple, and texts of bounded length."""
    if kind is str:
        return Annotated[str, Field(max_length=MAX_WORD)]
    if get_origin(kind) is tuple:
        inner = _in_json(get_args(kind)[0])
        return list[int] if inner is int else Annotated[list[inner], Field(max_length=MAX_WORDS)]
    return kind
