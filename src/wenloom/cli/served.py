"""Models that are asked over the OpenAI API instead of being loaded: the options for that, and turns of a chat."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from wenloom.core.endpoint import Endpoint, EndpointError
from wenloom.core.errors import InputError
from wenloom.core.quantities import counted
from wenloom.generation.request import GenerationRequest

if TYPE_CHECKING:
    from wenloom.cli.conversation import Conversation

_THEIRS = {"max_new_tokens": "max_tokens", "stop_strings": "stop"}
"""Our options under OpenAI's names."""


@dataclasses.dataclass(frozen=True)
class Served:
    """Where a model is served."""

    api: str | None = None
    """Ask a server of the OpenAI API instead of a model here: its address, as in http://localhost:8000/v1. The key, if it wants
    one, is read from the variable OPENAI_API_KEY."""
    model: list[str] | None = None
    """With --api: the model's name at the server."""

    def __post_init__(self):
        if self.api is None and self.model:
            raise InputError(
                "--model names a model of a server: give its address by --api too, or name a folder without --model."
            )
        if self.api is not None and not self.model:
            raise InputError("--api: name the model of the server by --model.")

    def endpoints(self, at_once: int = 8) -> list[Endpoint]:
        """One for each model.

        Raises:
            InputError: no address of HTTP.
        """
        return [Endpoint(self.api or "", each, at_once=at_once) for each in dict.fromkeys(self.model or ())]


def told(endpoint: Endpoint) -> str:
    """What a server has counted, for people."""
    count = endpoint.count
    return f"{counted(count.requests, 'request')}, {count.prompt:,} tokens read, {count.written:,} written"


def body_of(request: GenerationRequest, attempt: int = 0) -> dict[str, Any]:
    """The options of a request that are not at their default, under OpenAI's names where it has them.

    Args:
        attempt: asks for another answer than the attempts before, where there is a seed.
    """
    body: dict[str, Any] = {}
    for field in dataclasses.fields(request):
        value = getattr(request, field.name)
        if value != field.default and field.name != "do_sample":
            body[_THEIRS.get(field.name, field.name)] = list(value) if isinstance(value, tuple) else value
    if not request.do_sample:
        body["temperature"] = 0
    if "logit_bias" in body:
        body["logit_bias"] = {str(token): bias for token, bias in request.logit_bias}
    if "seed" in body:
        body["seed"] += attempt
    return body


def served_pieces(endpoint: Endpoint, conversation: "Conversation") -> Iterator[str]:
    """The next turn as it comes.

    Raises:
        EndpointError: the server refuses or breaks off.
    """
    messages = [{"role": each.role, "content": each.content} for each in conversation.messages]
    for event in endpoint.stream(
        "chat/completions", {"messages": messages, **body_of(conversation.request, conversation.attempt)}
    ):
        try:
            choices = event.get("choices") or []
            piece = choices[0]["delta"].get("content") if choices else None
        except (KeyError, IndexError, TypeError, AttributeError):
            raise EndpointError(f"{endpoint.url}: sent an event that is none of a chat completion.") from None
        if piece:
            yield str(piece)
