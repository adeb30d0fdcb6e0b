"""The types of a request's fields: what users write is brought to the type of the field, or refused with the field's name.

NumPy's numbers and tensors of one number count as numbers, lists, sets, arrays and tensors as sequences; true and
false are no numbers, and text is not a number.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Mapping, Set
from typing import Any, Literal

from wenloom.core.errors import printable
from wenloom.core.foreign import kind_of
from wenloom.generation.options import RequestOptions

MAX_ENTRIES = 2**21
"""Most entries of a list; vocabularies are smaller."""


class WrongTypeError(ValueError):
    """Why a value cannot be what its field holds."""


def whole(value: Any) -> int:
    """A whole number."""
    if type(value) is int and -(2**63) < value < 2**63:  # each token of a prompt
        return value
    value = _plain(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongTypeError("must be a whole number")
    if abs(value) >= 2**63:
        raise WrongTypeError("must be a whole number of at most 18 digits")
    return int(value)


def real(value: Any) -> float:
    """A finite number."""
    value = _plain(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise WrongTypeError("must be a finite number")
    try:
        if math.isfinite(value):
            return value
    except OverflowError:
        pass
    raise WrongTypeError("must be a finite number")


def truth(value: Any) -> bool:
    """True or false."""
    value = _plain(value)
    if not isinstance(value, bool):
        raise WrongTypeError("must be true or false")
    return value


def text(value: Any) -> str:
    """Text of whole characters."""
    if not isinstance(value, str):
        raise WrongTypeError("must be text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise WrongTypeError("holds half of a surrogate pair, which is not a character") from None
    return str(value)


def entries(value: Any) -> list[Any]:
    """The entries of a sequence."""
    if getattr(value, "ndim", 0) and callable(getattr(value, "tolist", None)):
        value = _attempt(value.tolist)
    if not isinstance(value, list | tuple | Set | range):
        raise WrongTypeError("must be a list")
    if len(value) > MAX_ENTRIES:
        raise WrongTypeError(f"holds {len(value):,} entries, at most {MAX_ENTRIES:,} are allowed")
    return list(value)


def texts(value: Any) -> tuple[str, ...]:
    """Texts; one alone counts as a list of one, None as an empty list."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (text(value),)
    return tuple(_each(value, text, "a text or a list of texts"))


def ids(value: Any) -> tuple[int, ...]:
    """Token ids; one alone counts as a list of one, None as an empty list."""
    if value is None:
        return ()
    if isinstance(_plain(value), int):
        return (whole(value),)
    return tuple(_each(value, whole, "a token or a list of tokens"))


def id_lists(value: Any) -> tuple[tuple[int, ...], ...]:
    """Sequences of token ids; a token alone counts as a sequence of one."""
    return () if value is None else tuple(_each(value, ids, "a list of lists of tokens"))


def biases(value: Any) -> tuple[tuple[int, float], ...]:
    """(token, bias) pairs, or a mapping; the tokens may be written as text, as JSON writes them."""

    def pair(each: Any) -> tuple[int, float]:
        token, bias = entries(each)
        if isinstance(token, str) and token.isdecimal() and len(token) < 20:
            token = int(token)
        return whole(token), float(real(bias))

    if value is None:
        return ()
    return tuple(_each(list(value.items()) if isinstance(value, Mapping) else value, pair, "(token, bias) pairs"))


def schema(value: Any) -> str:
    """A JSON document as text, from text or from an object."""
    if not isinstance(value, Mapping):
        return text(value)
    try:
        return text(json.dumps(value, ensure_ascii=False, allow_nan=False, default=_mapping))
    except WrongTypeError:
        raise
    except Exception as error:  # it holds itself, goes too deep, or holds what JSON has not
        raise WrongTypeError(f"is not JSON object ({printable(str(error), 80)})") from None


def _mapping(value: Any) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"it holds {kind_of(value)}")


MOST_STRENGTH = 1e6
"""Of a steering vector."""


def steers(value: Any) -> tuple[str, ...]:
    """Names of steering vectors, `NAME` or `NAME:STRENGTH`; or a mapping from names to strengths."""
    if not isinstance(value, Mapping):
        return texts(value)

    def pair(each: Any) -> str:
        name, strength = each
        if abs(number := real(strength)) > MOST_STRENGTH:
            raise WrongTypeError(f"has a strength beyond {MOST_STRENGTH:g}")
        return f"{text(name)}:{number!r}"

    return tuple(_each(list(value.items()), pair, "names of vectors with their strengths"))


def name_and_strength(text: str) -> tuple[str, float | None]:
    """What `NAME:STRENGTH` says; without a number behind the last colon, the whole is the name.

    >>> name_and_strength("calm:2.5"), name_and_strength("calm"), name_and_strength("d:/calm")
    (('calm', 2.5), ('calm', None), ('d:/calm', None))
    """
    name, colon, strength = text.rpartition(":")
    try:
        return (name, float(strength)) if colon else (text, None)
    except ValueError:
        return text, None


def early_stopping(value: Any) -> bool | str:
    """True, False or "never"."""
    if isinstance(value, str) and value == "never":
        return "never"
    return _renamed(truth, value, 'must be true, false or "never"')


def layers(value: Any) -> tuple[int, ...] | str:
    """Numbers of layers, "low" or "high"."""
    if isinstance(value, str) and value in ("low", "high"):
        return str(value)
    return _renamed(ids, value, 'must be "low", "high" or a list of layers')


def overflow(value: Any) -> str:
    """What happens to a prompt that is longer than the context."""
    if isinstance(value, str) and value in ("left", "error"):
        return str(value)
    raise WrongTypeError('must be "left" or "error"')


_CONVERTERS: dict[Any, Callable[[Any], Any]] = {
    int: whole, float: real, bool: truth, str: text, tuple[str, ...]: texts, tuple[int, ...]: ids,
    tuple[tuple[int, ...], ...]: id_lists, tuple[tuple[int, float], ...]: biases,
    bool | Literal["never"]: early_stopping, tuple[int, ...] | Literal["low", "high"]: layers,
    Literal["left", "error"]: overflow,
}  # fmt: skip
_OBJECTS = ("json_schema", "grammar")


def convert(request: RequestOptions) -> list[str]:
    """Bring every field to the type of its annotation; returns what is wrong with those that cannot be."""
    wrong = []
    for field in dataclasses.fields(request):
        value = getattr(request, field.name)
        if value is field.default:
            continue
        optional, converter = _converter(field.type)
        if field.name in _OBJECTS:
            converter = schema
        elif field.name == "steer":
            converter = steers
        if value is None and optional:
            continue
        try:
            object.__setattr__(request, field.name, converter(value))
        except WrongTypeError as error:
            wrong.append(f"{field.name} {error}, got {shown(value)}")
    return wrong


@functools.cache
def _converter(annotation: Any) -> tuple[bool, Callable[[Any], Any]]:
    """(whether None is allowed, the converter of the rest)."""
    if annotation in _CONVERTERS:
        return False, _CONVERTERS[annotation]
    return True, next(converter for kind, converter in _CONVERTERS.items() if kind | None == annotation)


def shown(value: Any) -> str:
    """A value of a stranger as a few characters of text.

    >>> shown(10**5000)
    'a whole number of more than 4,000 digits'
    """
    if isinstance(value, str | bytes | list | tuple):
        value = value[:60]
    try:
        return printable(repr(value), 60)
    except ValueError:
        return "a whole number of more than 4,000 digits"
    except Exception:
        return kind_of(value)


def _plain(value: Any) -> Any:
    """The Python number behind a NumPy number or a tensor of one number."""
    item = getattr(value, "item", None)
    return _attempt(item) if callable(item) and getattr(value, "ndim", None) == 0 else value


def _attempt(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:  # tensors without content, on a device that is gone
        raise WrongTypeError(f"cannot be read ({printable(str(error), 80)})") from None


def _each(value: Any, convert_one: Callable[[Any], Any], kind: str) -> list[Any]:
    try:
        listed = entries(value)
    except WrongTypeError as error:
        raise WrongTypeError(f"must be {kind}" if "must be a list" in str(error) else str(error)) from None
    found = []
    for number, each in enumerate(listed):
        try:
            found.append(convert_one(each))
        except ValueError as error:
            why = error if isinstance(error, WrongTypeError) else f"must be {kind}"
            raise WrongTypeError(f"must be {kind}: entry {number} {why}") from None
    return found


def _renamed(converter: Callable[[Any], Any], value: Any, message: str) -> Any:
    try:
        return converter(value)
    except WrongTypeError:
        raise WrongTypeError(message) from None
