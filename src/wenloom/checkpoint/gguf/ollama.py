"""A Modelfile for Ollama: where the GGUF file is, how a conversation is written, and with what options to write."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wenloom.checkpoint.generation import generation_options
from wenloom.core.console import remark
from wenloom.core.errors import InputError
from wenloom.core.files import write_atomically
from wenloom.model.config import ModelConfig
from wenloom.tokens.templates import render_template
from wenloom.tokens.tokenizer import TextTokenizer

_OPTIONS = {"temperature": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p",
            "repetition_penalty": "repeat_penalty", "max_new_tokens": "num_predict"}  # fmt: skip
"""Options of generation_config.json, and Ollama's."""
_LONGEST = 8192
"""Tokens of context to ask for; longer ones take memory that few machines have to spare."""
_WORDS = {"system": "qSYSTEMq", "user": "qUSERq", "assistant": "qASSISTANTq"}
"""What is put into a template to see what it writes around it."""
_TALKS = ["u", "su", "uau", "suau", "uauau"]
"""Conversations on which the pieces are tried, by the first letters of the roles."""


@dataclass(frozen=True)
class _Pieces:
    """What a chat template writes between what people say."""

    begin: str
    """Before a conversation without system message."""
    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    generation: str
    """After the last turn, before the reply."""

    def text(self, roles: Sequence[str]) -> str:
        """A conversation, as Ollama would write it."""
        turns = [f"{getattr(self, role)[0]}{_WORDS[role]}{getattr(self, role)[1]}" for role in roles]
        return "".join([self.begin if roles[0] != "system" else "", *turns, self.generation])

    def in_go(self) -> str:
        """The same as a template of Go."""
        turns = [f'{"else " if number else ""}if eq .Role "{role}" }}}}{_go(before)}{{{{ .Content }}}}{_go(after)}{{{{ '
                 for number, (role, (before, after)) in enumerate(
                     (role, getattr(self, role)) for role in ("system", "user", "assistant"))]  # fmt: skip
        begin = f'{{{{ if ne (index .Messages 0).Role "system" }}}}{_go(self.begin)}{{{{ end }}}}' if self.begin else ""
        return f"{begin}{{{{ range .Messages }}}}{{{{ {''.join(turns)}end }}}}{{{{ end }}}}{_go(self.generation)}"


def _go(text: str) -> str:
    """Text that Go does not take for a command."""
    return text.replace("{{", '{{ "{{" }}')


def write_modelfile(text: TextTokenizer, config: ModelConfig, folder: Path, gguf: Path) -> Path:
    """Write a Modelfile beside a GGUF file, and return where.

    Args:
        folder: of the model, whose generation_config.json says how its author would have it write.

    Raises:
        InputError: one is there already.
        WenloomError: the disk refused.
    """
    path = gguf.with_name("Modelfile")
    if path.exists():
        raise InputError(f"{path}: is there already; move it away, or leave --ollama out.")
    asked = generation_options(folder, {*_OPTIONS, "do_sample", "stop_strings"})
    options = {_OPTIONS[name]: value for name, value in asked.items() if name in _OPTIONS}
    if asked.get("do_sample") is False:
        options["temperature"] = 0
    if config.context_length <= _LONGEST:
        options["num_ctx"] = config.context_length
    lines = [f"FROM ./{gguf.name}", *(f"PARAMETER {name} {value}" for name, value in options.items())]
    stops = asked.get("stop_strings") or []
    lines += [f'PARAMETER stop "{stop}"' for stop in ([stops] if isinstance(stops, str) else stops)]
    if text.chat_template is None:
        template = "{{ .Prompt }}"
    elif (pieces := _pieces(text)) is None:
        remark(f"{path}: no TEMPLATE, because the model's chat template does more than to put words around what is said; Ollama "
               "guesses one.")  # fmt: skip
        template = None
    else:
        template = pieces.in_go()
    if template is not None and '"""' not in template:
        lines.append(f'TEMPLATE """{template}"""')
    write_atomically(path, "\n".join(lines) + "\n")
    return path


def _pieces(text: TextTokenizer) -> _Pieces | None:
    """What a template writes around what is said; None where it does more than that."""
    adds_bos = bool(text.bos_token) and text.encode("")[:1] == [text.bos_token_id]

    def render(roles: str, asks: bool = True) -> str:
        names = [next(role for role in _WORDS if role[0] == letter) for letter in roles]
        messages = [{"role": role, "content": _WORDS[role]} for role in names]
        values = {
            **text.special_tokens,
            "messages": messages,
            "add_generation_prompt": asks,
            "tools": None,
            "documents": None,
        }
        written = render_template(text.chat_template or "", values)
        return written.removeprefix(text.bos_token or "") if adds_bos else written

    def around(roles: str, asks: bool = True) -> list[str]:
        return re.split("|".join(_WORDS.values()), render(roles, asks))

    try:
        first, between, again, last = around("uau")
        after = around("u", False)[-1]
        opening, system_end, _ = around("su")
    except (InputError, ValueError):
        return None
    before = _common_end(first, again)
    if not (last.startswith(after) and between.startswith(after) and system_end.endswith(before)):
        return None
    pieces = _Pieces(
        first.removesuffix(before),
        (opening, system_end.removesuffix(before)),
        (before, after),
        (between.removeprefix(after), again.removesuffix(before)),
        last.removeprefix(after),
    )
    talks = [[next(role for role in _WORDS if role[0] == letter) for letter in roles] for roles in _TALKS]
    alike = all(pieces.text(names) == render(roles) for roles, names in zip(_TALKS, talks, strict=True))
    return pieces if alike else None


def _common_end(one: str, other: str) -> str:
    length = 0
    while length < min(len(one), len(other)) and one[-1 - length] == other[-1 - length]:
        length += 1
    return one[len(one) - length :]
