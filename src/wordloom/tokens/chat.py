"""From the turns of a conversation to the text that a model reads."""

from typing import NamedTuple

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from wordloom.core.errors import InputError
from wordloom.tokens.tokenizer import TextTokenizer


class Message(NamedTuple):
    """One turn."""

    role: str
    """system, user or assistant."""
    content: str


_PLAIN = {"system": "", "user": "User: ", "assistant": "Assistant: "}
STOP_OF_PLAIN = "\nUser:"
"""Where a reply of a model without a template ends: it would go on with the other's turn."""


def render(tokenizer: TextTokenizer, messages: list[Message]) -> str:
    """The conversation so far, up to where the assistant's reply begins.

    By the tokenizer's own chat template, run in a sandbox; without one as a plain transcript.

    Raises:
        InputError: the template fails on these messages.
    """
    if tokenizer.chat_template is None:
        lines = [f"{_PLAIN.get(each.role, each.role + ': ')}{each.content}\n" for each in messages]
        return "".join(lines) + "Assistant:"
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _refuse
    names = {name: getattr(tokenizer, name) or "" for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    try:
        template = environment.from_string(tokenizer.chat_template)
        turns = [each._asdict() for each in messages]
        return template.render(messages=turns, add_generation_prompt=True, **names)
    except (TemplateError, TypeError, ValueError) as error:
        raise InputError(f"the model's chat template cannot be used: {error}") from None


def _refuse(message: str) -> None:
    raise TemplateError(message)
