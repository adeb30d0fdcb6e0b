"""A conversation without its terminal: turns of several lines, slash commands, and what is said so far."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wenloom.cli.prompts import zero_is_greedy
from wenloom.core.errors import InputError, WenloomError
from wenloom.core.files import write_atomically
from wenloom.core.foreign import json_text, parsed_json, read_json_object
from wenloom.core.nearest import nearest
from wenloom.core.quantities import counted
from wenloom.generation.options import Length, Penalties, Sampling
from wenloom.generation.request import request_from

if TYPE_CHECKING:
    from wenloom.tokens.chat import Message

COMMANDS = {
    "/help": "show this list",
    "/reset": "begin a new conversation",
    "/undo": "take back the last turn and its reply",
    "/retry": "ask for another reply to the last turn",
    "/system": "TEXT sets the system prompt, - removes it; alone shows it",
    "/save": "FILE writes the conversation as JSON, which finetune --task chat also reads",
    "/load": "FILE goes on with a saved conversation",
    "/set": "NAME VALUE sets an option such as temperature 0.7; NAME default resets it; alone shows what is set",
    "/quit": "end (or Ctrl-D)",
}
"""What each command does."""
GREETING = '/help lists the commands. Several lines: end each but the last with \\, or put """ around them.'
HELP = (
    "\n".join(f"{name:8} {what}" for name, what in COMMANDS.items())
    + '\nEnd a line with \\ to go on in the next, or put """ around several lines.'
    + "\nCtrl-C stops a reply. A turn that begins with / is typed with two: //like this."
)
SETTABLE = (*(name for group in (Length, Sampling, Penalties) for name in group.__dataclass_fields__), "steer")
"""Options that `/set` knows."""
_FENCE = '"""'


class TurnReader:
    """Puts lines together into turns: a line that ends with a backslash goes on, and so do all between two \"\"\"."""

    def __init__(self):
        self._lines: list[str] = []
        self._is_fenced = False

    @property
    def goes_on(self) -> bool:
        """Whether the turn is not complete yet."""
        return self._is_fenced or bool(self._lines)

    def feed(self, line: str) -> str | None:
        """The turn that this line completes; None where it goes on, or holds nothing."""
        line = line.rstrip("\r\n")
        if not self.goes_on and line.lstrip().startswith(_FENCE):
            self._is_fenced, line = True, line.lstrip().removeprefix(_FENCE)
        if self._is_fenced:
            self._is_fenced = not line.rstrip().endswith(_FENCE)
            self._lines.append(line if self._is_fenced else line.rstrip().removesuffix(_FENCE))
            return None if self._is_fenced else self.rest()
        if line.endswith("\\"):
            self._lines.append(line[:-1])
            return None
        self._lines.append(line)
        return self.rest()

    def rest(self) -> str | None:
        """What was begun, complete or not."""
        text = "\n".join(self._lines).strip()
        self.forget()
        return text or None

    def forget(self) -> None:
        """Begin a new turn."""
        self._lines, self._is_fenced = [], False


class TurnOutcome(NamedTuple):
    """What a turn leads to."""

    says: str = ""
    """What the user is told."""
    asks: bool = False
    """The model is to reply to `Conversation.messages`."""
    ends: bool = False
    failed: bool = False
    """The command could not be carried out; nothing has changed."""


class Conversation:
    """What was said, and how the model replies.

    Args:
        options: of the user, by name, those at their defaults left out.
        system: the system prompt.
        always: options of every request that the user does not set.

    Raises:
        InputError: the options are out of range or at odds.
    """

    def __init__(self, options: dict[str, Any], system: str | None = None, always: dict[str, Any] | None = None):
        self.system, self.turns = system, list["Message"]()
        self.attempt = 0
        """How often the last turn was asked before: draws of one seed differ by it."""
        self._always = always or {}
        self._before: list[Message] = []
        self._files: set[Path] = set()
        self._apply(options)

    def _apply(self, options: dict[str, Any]) -> None:
        request = request_from(zero_is_greedy({**self._always, **options}))
        stops = self._always.get("stop_strings", ())
        self.request = dataclasses.replace(request, stop_strings=tuple(dict.fromkeys((*request.stop_strings, *stops))))
        self.options = options

    @property
    def messages(self) -> "list[Message]":
        """What the model reads."""
        from wenloom.tokens.chat import Message

        return [*([Message("system", self.system)] if self.system else []), *self.turns]

    def take(self, text: str) -> TurnOutcome:
        """Take a turn of the user: a command, or what the model is to reply to."""
        from wenloom.tokens.chat import Message

        if text.startswith("/") and not text.startswith("//"):
            name, *argument = text.split(maxsplit=1)
            if name not in COMMANDS:
                near = nearest(name, COMMANDS)
                hint = f"did you mean {near[0]}?" if near else "/help lists what there is."
                return TurnOutcome(f"{name}: no such command; {hint} (// sends a text that begins with /)", failed=True)
            try:
                return getattr(self, "_" + name[1:])("".join(argument))
            except WenloomError as error:
                return TurnOutcome(str(error).replace("`", ""), failed=True)
        self._before, self.attempt = list(self.turns), 0
        self.turns.append(Message("user", text.removeprefix("/") if text.startswith("//") else text))
        return TurnOutcome(asks=True)

    def reply(self, text: str) -> None:
        """The model has replied."""
        from wenloom.tokens.chat import Message

        self.turns.append(Message("assistant", text))

    def no_reply(self) -> None:
        """The model could not reply: the conversation is what it was before."""
        self.turns = self._before

    def _help(self, argument: str) -> TurnOutcome:
        return TurnOutcome(HELP)

    def _quit(self, argument: str) -> TurnOutcome:
        return TurnOutcome(ends=True)

    def _reset(self, argument: str) -> TurnOutcome:
        self.turns = []
        return TurnOutcome("a new conversation")

    def _undo(self, argument: str) -> TurnOutcome:
        if not self.turns:
            raise InputError("there is nothing to take back.")
        asked = self.turns[-2].content
        self.turns = self.turns[:-2]
        return TurnOutcome(f"took back: {_short(asked)}")

    def _retry(self, argument: str) -> TurnOutcome:
        if not self.turns:
            raise InputError("there is nothing to reply to yet.")
        self._before = list(self.turns)
        self.turns = self.turns[:-1]
        self.attempt += 1
        greedy = "the most probable reply comes again; /set temperature 0.8 draws another"
        return TurnOutcome("" if self.request.do_sample else greedy, asks=True)

    def _system(self, argument: str) -> TurnOutcome:
        if not argument:
            return TurnOutcome(f"system prompt: {self.system}" if self.system else "there is no system prompt")
        self.system = None if argument == "-" else argument
        return TurnOutcome(
            "the system prompt holds from the next turn on" if self.system else "no system prompt any more"
        )

    def _save(self, argument: str) -> TurnOutcome:
        if not argument:
            raise InputError("name a file: /save FILE")
        if not self.turns:
            raise InputError("there is nothing to save yet.")
        path = Path(argument).expanduser()
        if path.exists() and path.resolve() not in self._files:
            raise InputError(f"{path}: exists; choose another name.")
        row = {"messages": [each._asdict() for each in self.messages]}
        write_atomically(path, json_text(row | ({"options": self.options} if self.options else {})) + "\n")
        self._files.add(path.resolve())
        return TurnOutcome(f"{path}: {counted(len(self.turns) // 2, 'turn')} saved")

    def _load(self, argument: str) -> TurnOutcome:
        if not argument:
            raise InputError("name a file: /load FILE")
        from wenloom.tasks.messages import checked, conversation_of

        path = Path(argument).expanduser()
        row = read_json_object(path)
        options = row.get("options", {})
        if not isinstance(options, dict):
            raise InputError(f'{path}: "options" must be an object.')
        try:
            messages = checked(conversation_of(row))
            if unknown := [name for name in options if name not in SETTABLE]:
                raise ValueError(f"there is no option {unknown[0]}")
            self._apply(options)
        except ValueError as error:  # InputError is one
            raise InputError(f"{path}: {str(error).rstrip('.')}.") from None
        self.system = "\n\n".join(each.content for each in messages if each.role == "system") or None
        self.turns = [each for each in messages if each.role != "system"]
        self._files.add(path.resolve())
        self.attempt = 0
        return TurnOutcome(
            f"{path}: {counted(len(self.turns) // 2, 'turn')}; the last reply: {_short(self.turns[-1].content)}"
        )

    def _set(self, argument: str) -> TurnOutcome:
        if not argument:
            return TurnOutcome(
                "\n".join(f"{name} = {shown(value)}" for name, value in self.options.items()) or "nothing is set"
            )
        typed, _, value = argument.partition(" ")
        name, value = typed.lstrip("-").replace("-", "_"), value.strip()
        if name not in SETTABLE:
            near = " or ".join(nearest(name, SETTABLE, 2))
            raise InputError(f"{typed}: no such option" + (f"; did you mean {near}?" if near else "."))
        if not value:
            return TurnOutcome(f"{name} = {shown(getattr(self.request, name))}")
        others = {each: given for each, given in self.options.items() if each != name}
        self._apply(others if value == "default" else others | {name: _value(value)})
        return TurnOutcome(f"{name} = {shown(getattr(self.request, name))}")


def _value(text: str) -> Any:
    """What a user typed: a number, true, false or a list as JSON writes them, or a text."""
    try:
        return parsed_json(text)
    except ValueError:
        return text


def shown(value: Any) -> str:
    """A value as `/set` takes it."""
    return "not set" if value is None else json_text(value)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:59] + "…"
