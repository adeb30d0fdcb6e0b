"""Refusals in the shape of the OpenAI API, which its clients raise as exceptions of their own."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from wenloom.core.errors import InputError, WenloomError, printable
from wenloom.generation.request import GenerationRequest

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_OURS_TO_THEIRS = {
    "max_new_tokens": "max_tokens", "num_return_sequences": "n", "stop_strings": "stop", "prompt_logprobs": "logprobs",
    "predicted_text": "prediction",
}  # fmt: skip


class APIError(WenloomError):
    """A request that is not answered.

    Args:
        status: of HTTP.
        param: the field that is to blame.
        code: the reason in one word, for programs.
        retry_after: seconds after which the client may ask again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ):
        super().__init__(message)
        self.status, self.param, self.code, self.retry_after = status, param, code, retry_after

    def body(self) -> dict[str, Any]:
        """The JSON document of the refusal."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The answer of the server."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(), self.status, headers)


def refused(param: str, message: str, code: str | None = None) -> APIError:
    """A field with a value that cannot be honoured."""
    return APIError(400, message, param=param, code=code)


def as_api_error(error: BaseException) -> APIError:
    """What a client is told of an error: what it can mend with 400, all else with 500 and no details."""
    if isinstance(error, APIError):
        return error
    if isinstance(error, InputError):
        message = str(error)
        words = re.findall(r"\w+", message)
        named = next((word for word in words if word in GenerationRequest.__dataclass_fields__), None)
        return APIError(400, message, param=None if named is None else _OURS_TO_THEIRS.get(named, named))
    if isinstance(error, WenloomError):
        return APIError(500, str(error))
    return APIError(500, "the server failed at this request; its log says why.")


def of_validation(error: RequestValidationError) -> APIError:
    """The first thing that is wrong with a body, of several kinds that it could be of, by the one that it is longest: a
    object of an unknown kind comes first, then a value of the right type that is out of bounds."""
    found = [(path_of(each["loc"], error.body, each["type"]), each) for each in error.errors()]
    path, worst = max(found, key=lambda each: (each[1]["type"] == "literal_error" and each[0][-1:] == ["type"],
                                               not each[1]["type"].endswith("_type"), len(each[0]),
                                               [step for step in each[0] if isinstance(step, int)]))  # fmt: skip
    if worst["type"].startswith("union_tag"):
        path.append(str(worst["ctx"]["discriminator"]).strip("'"))
    if worst["type"] == "unknown_type":
        path.append("type")
    param = _spelled(path) or None
    name = "the body" if param is None else param
    if worst["type"] == "extra_forbidden":
        return APIError(400, f"Unrecognized request argument supplied: {name}", param=param, code="unknown_parameter")
    if worst["type"] in ("missing", "union_tag_not_found"):
        return APIError(400, f"{name}: is required.", param=param, code="missing_required_parameter")
    said = str(worst["msg"]).removeprefix("Value error, ").rstrip(".")
    return APIError(400, f"{name}: {printable(said[:1].lower() + said[1:], 400)}.", param=param, code="invalid_value")


def path_of(location: Sequence[str | int], body: Any, kind: str) -> list[str | int]:
    """The steps into a body that a validator's location stands for; it names the members of unions between them."""
    found: list[str | int] = []
    here = body
    for number, step in enumerate(location[1:], 2):
        is_last = number == len(location)
        if isinstance(here, Mapping) and (step in here or (is_last and kind == "missing")):
            found.append(step)
            here = here.get(step)
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            found.append(step)
            here = here[step]
    return found


def _spelled(path: Sequence[str | int]) -> str:
    """A path as people write it.

    >>> _spelled(["messages", 0, "role"])
    'messages[0].role'
    """
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{printable(step, 80)}" for step in path)
    return text.removeprefix(".")
