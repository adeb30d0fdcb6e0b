"""Parameters that several commands share."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

from cyclopts import Group, Parameter

from wenloom.core.errors import InputError
from wenloom.generation.request import GenerationRequest
from wenloom.text.documents import ReadOptions

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON document instead of text.")]
Device = Annotated[str, Parameter(help="auto, cpu, cuda or mps.")]
Dtype = Annotated[str, Parameter(help="Dtype of the weights: float32, bfloat16, float16 or float64.")]
Quantize = Annotated[
    str | None, Parameter(help="Quantize the weights while loading: int8 or int4. Less memory, faster.")
]
KVCache = Annotated[str | None, Parameter(help="Dtype of the KV cache: float32, bfloat16 or int8.")]


def flags(title: str, order: int) -> Parameter:
    """Turns a dataclass into flags, under a heading of its own in the help."""
    return Parameter(name="*", group=Group(title, sort_key=order))


def named_flags(names: Sequence[str]) -> str:
    """Options by the names of their fields, as they are typed.

    >>> named_flags(["steps", "keep_every"])
    '--steps, --keep-every'
    """
    return ", ".join(map(flag, names))


def changed(options: Any) -> dict[str, bool]:
    """Which fields of a dataclass of options are not at their default."""
    return {field.name: getattr(options, field.name) != field.default for field in dataclasses.fields(options)}


def refuse_unused(why: str, **given: bool) -> None:
    """
    Args:
        why: what makes these options unused, as in "goes with --num-beams".
        given: options by name, and whether they were given.

    Raises:
        InputError: one was.
    """
    if names := [name for name, is_given in given.items() if is_given]:
        raise InputError(f"{named_flags(names)}: {why}.")


_NAMES = GenerationRequest.__dataclass_fields__
_WORDS = "|".join(name for name in _NAMES if "_" not in name)
_OPTION = re.compile(
    rf"`(\w+)`|\b({'|'.join(name for name in _NAMES if '_' in name)})\b(?:=True)?"
    rf"|(?:(?<=^)|(?<=; )|(?<=, )|(?<=and ))({_WORDS})(?=:| must| needs| is \d| holds| cannot| \d| and \w+ cannot|, \w+ needs)"
)


def as_flags(text: str) -> str:
    """A message about a request's options, for who types them as flags.

    >>> as_flags("top_p must be above 0; seed needs do_sample=True; seed must be text; a seed grows.")
    '--top-p must be above 0; --seed needs --do-sample; --seed must be text; a seed grows.'
    """
    return _OPTION.sub(lambda each: _typed(each[1] or each[2] or each[3], each[0]), text)


def _typed(name: str, written: str) -> str:
    return flag(name) if name in _NAMES else written


@contextmanager
def typed_as_flags() -> Iterator[None]:
    """Errors of the block name options as they are typed."""
    try:
        yield
    except InputError as error:
        raise InputError(as_flags(str(error))) from None


def flag(name: str) -> str:
    """How a field is typed on the command line."""
    return "--" + name.replace("_", "-")


Reading = Annotated[ReadOptions, flags("Reading", 3)]
RecipeName = Annotated[
    str | None,
    Parameter(
        help="Take documents through a recipe: plain, web, web-en, web-zh, books, code, or a TOML file with a table for each step."
    ),
]
RecipeChanges = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set", negative="", help="Change a recipe: step.name=value, step=on (added at the end) or step=off."
    ),
]
