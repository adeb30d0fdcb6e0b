"""How a model writes the calls of functions."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_TAG = re.compile(r"<[^<>]{1,40}>|\[[A-Z_]{1,40}\]")


@dataclass(frozen=True)
class Pairs:
    """Arguments that are no JSON object, but pairs of a name and a value, each `begin NAME neck VALUE end`.

    A value that can only be a text stands there as it is, any other as JSON.
    """

    begin: str
    neck: str
    end: str


@dataclass(frozen=True)
class ToolForm:
    """What stands around names and arguments of calls.

    A reply with calls is `begin NAME neck ARGUMENTS (between NAME neck ARGUMENTS)* end`, the arguments a JSON object or pairs.
    """

    begin: str
    neck: str
    between: str | None
    """None: a reply makes one call at most."""
    end: str
    is_in_template: bool = True
    """Whether the template writes tools and calls; else the server does, in messages."""
    arguments_as_text: bool = False
    """How the template reads arguments."""
    pairs: Pairs | None = None
    """None: arguments are a JSON object."""
    id_begin: str | None = None
    """What stands before a call's id, where that may stand between the name and the neck."""
    special: tuple[tuple[str, int], ...] = ()
    """Names and ids of the special tokens in it."""

    @property
    def trigger(self) -> str:
        """Where a reply turns into calls: the first tag of the beginning, or all of it."""
        tag = self._tag
        return tag or self.begin

    @property
    def rest(self) -> str:
        """What stands between the trigger and a name."""
        return self.begin.lstrip().removeprefix(self.trigger) if self._tag else ""

    @property
    def is_first(self) -> bool:
        """Whether calls can only begin a reply: they have no tag that text before them lacks."""
        return self._tag is None

    @property
    def _tag(self) -> str | None:
        begin = self.begin.lstrip()
        special = max((name for name, _ in self.special if begin.startswith(name)), key=len, default=None)
        found = _TAG.match(begin)
        return special or (found.group() if found else None)

    def written(self, calls: Sequence[tuple[str, str]]) -> str:
        """Names and arguments as a reply."""
        between = f"{self.end}\n{self.begin}" if self.between is None else self.between
        return self.begin + between.join(f"{name}{self.neck}{arguments}" for name, arguments in calls) + self.end


TOLD = ToolForm(
    '<tool_call>\n{"name": "', '", "arguments": ', '}\n</tool_call>\n<tool_call>\n{"name": "', "}\n</tool_call>", False
)
"""For templates that know no tools: as models of the families Hermes, Qwen and SmolLM3 write them."""
_TOLD = """# Tools

You may call one or more functions to help with the request. These are the functions, one JSON object a line:
<tools>
{tools}
</tools>

For each call, reply with its name and arguments as a JSON object between tags:
<tool_call>
{{"name": NAME, "arguments": ARGUMENTS}}
</tool_call>"""


def told_of(tools: Sequence[dict[str, Any]]) -> str:
    """What a model is told of tools where its template does not tell it."""
    return _TOLD.format(tools="\n".join(json.dumps(each, ensure_ascii=False) for each in tools))
