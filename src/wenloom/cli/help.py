"""What `--help` shows: the options that people use first, in the words of a terminal and not of Python."""

import ast
import inspect
import re
from collections.abc import Callable
from importlib import import_module
from textwrap import wrap
from typing import Any

from attrs import define, evolve
from cyclopts.help import DefaultFormatter, HelpEntry, HelpPanel, InlineText
from cyclopts.help.specs import ColumnSpec, NameRenderer, get_default_parameter_columns
from rich.text import Text

from wenloom.cli.commands import module_of

HELP_ALL = "--help-all"
_TRAINING = "--budget --epochs --steps --batch --learning-rate --device --seed"
USED_FIRST = {
    command: tuple(options.split())
    for command, options in {
        "prepare": "--out --recipe --set --try --ablate --keep-dropped --kind --vocab-size --validation --validation-files --tokenizer --text-field "
        "--separator --encoding --html --skip-bad --json",
        "plan": "--size --arch --context --budget --tokens --epochs --steps --batch --vocab-size --device --json",
        "pretrain": f"--out --resume --init --method --size --arch --context --tokens {_TRAINING} --json",
        "finetune": f"--task --out --train --validation --method --resume {_TRAINING} --json",
        "generate": "--max-new-tokens --temperature --top-p --greedy --seed --n --stop --echo --json-schema --prompts --out "
        "--device --quantize --json",
        "chat": "--system --max-new-tokens --temperature --top-p --seed --repetition-penalty --draft --history --device "
        "--quantize",
        "serve": "--host --port --api-key-file --no-auth --adapter --draft --max-concurrent-requests --rate --access-log --device "
        "--quantize",
        "transcribe": "--format --out --language --translate --prompt --words --num-beams --device --json",
        "evaluate": "--on --list --data --limit --shots --predictions --references --metric --out --max-new-tokens --device --json",
        "audit": "--on --data --limit --prompts --corpus --lexicon --axis --text --benchmark --out --card --api --model --device --json",
    }.items()
}
"""Of commands with many options those that `--help` shows; `--help-all` shows the others, too."""
SHARED = (
    ("--config", "FILE", "Read options from a TOML file; those given here win."),
    ("--save-config", "FILE", "Write the options given here, and those of --config, into a TOML file."),
)
"""Options that every command has, with the name of their value and their help."""


def described(command: str) -> str:
    """What a command's docstring says before its parameters, with fences around examples, which keep their lines so."""
    text = (inspect.getdoc(_function(command)) or "").partition("\nParameters\n")[0]
    return re.sub(r"(?:^    \S.*\n?)+", _fenced, text, flags=re.MULTILINE)


def _function(command: str) -> Callable[..., None]:
    module, function = module_of(command)
    return getattr(import_module(module), function)


def _fenced(block: re.Match[str]) -> str:
    """Examples as a terminal of 80 columns shows them: what is longer goes on behind a backslash, as the shell reads it."""
    lines = [" \\\n".join(wrap(line, 75, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False))
             for line in inspect.cleandoc(block[0]).splitlines()]  # fmt: skip
    return "\n".join(("```", *lines, "```", ""))


def _columns(console: Any, options: Any, entries: list[HelpEntry]) -> tuple[ColumnSpec, ...]:
    """Those of cyclopts, but that of the names holds its longest one: none is cut."""
    words = [word for each in entries for label in each.display_labels_with_metavar for word in label.split()]
    longest = 2 + max(map(len, words), default=0)  # behind the indent of a second line

    def of_names(column: ColumnSpec) -> ColumnSpec:
        if column.max_width is None or column.max_width >= longest:
            return column
        return evolve(column, renderer=NameRenderer(longest), max_width=longest, no_wrap=True)

    return tuple(map(of_names, get_default_parameter_columns(console, options, entries)))


@define(kw_only=True)
class HelpPage(DefaultFormatter):
    """Writes the help of a command.

    Args:
        command: its words.
        is_whole: show every option.
    """

    command: str
    is_whole: bool
    column_specs: Any = _columns

    def render_usage(self, console: Any, options: Any, usage: Any) -> None:
        """The first line, with the names of arguments that may be left out."""
        super().render_usage(console, options, re.sub(r"\[ARGS(\.\.\.)?\]", self._optional, str(usage)))

    def _optional(self, _: re.Match[str]) -> str:
        parameters = inspect.signature(_function(self.command)).parameters.values()
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = [each.name.upper() + "..." * (each.kind is each.VAR_POSITIONAL) for each in parameters
                 if each.kind is each.VAR_POSITIONAL or (each.kind in kinds and each.default is not each.empty)]  # fmt: skip
        return " ".join(f"[{name}]" for name in names)

    def __call__(self, console: Any, options: Any, panel: HelpPanel) -> None:
        """Write one panel."""
        shown = USED_FIRST.get(self.command)
        entries = [
            plain(each)
            for each in panel.entries
            if self.is_whole or shown is None or each.positional_label or set(each.positive_names) & {*shown}
        ]
        if panel.title == "Parameters":
            entries += [_entry(*each) for each in SHARED]
            if shown is not None and not self.is_whole:
                entries.append(_entry(HELP_ALL, None, "Show the other options, too."))
        if entries:
            super().__call__(console, options, panel.copy(entries=entries))


def _entry(name: str, metavar: str | None, text: str) -> HelpEntry:
    return HelpEntry(positive_names=(name,), metavar=metavar, description=InlineText(Text(text)))


_METAVARS = (("......", "..."), ("STR", "TEXT"), ("BOOL|CHOICE", "CHOICE"), ("INT...|CHOICE", "CHOICE|INT..."))


def plain(entry: HelpEntry) -> HelpEntry:
    """An entry without Python: names of options as they are typed, defaults in words."""
    metavar = entry.metavar
    for python, word in _METAVARS:
        metavar = metavar and metavar.replace(python, word)
    description = entry.description
    markup = getattr(getattr(description, "primary_renderable", None), "markup", None)
    if markup is not None:
        description = InlineText.from_format(in_flags(markup), "markdown")
    negatives = tuple(each for each in entry.negative_names if not each.startswith("--no-no-"))
    return entry.copy(
        negative_names=negatives, metavar=metavar, description=description, default=in_words(entry.default)
    )


def in_flags(text: str) -> str:
    """The names of options of generation that have several words, as they are typed.

    >>> in_flags("With `dry_multiplier`: growth."), in_flags("a run.toml or chat_history")
    ('With --dry-multiplier: growth.', 'a run.toml or chat_history')
    """
    from wenloom.generation.options import RequestOptions

    names = RequestOptions.__dataclass_fields__
    return re.sub(r"`?\b([a-z]+(?:_[a-z0-9]+)+)\b`?",
                  lambda each: "--" + each[1].replace("_", "-") if each[1] in names else each[0], text)  # fmt: skip


def in_words(default: str | None) -> str | None:
    """A default as one would say it; None where it says nothing.

    >>> in_words("0.8"), in_words("True"), in_words("False"), in_words("()"), in_words("('\\\\n', ':')")
    ('0.8', 'on', None, None, 'line break :')
    """
    if default in (None, "False", "None", "()", "[]", "", '""', "''"):
        return None
    if default == "True":
        return "on"
    if default.startswith(("(", "[")):
        values = ast.literal_eval(default.replace("\n", "\\n"))
        return " ".join("line break" if each == "\n" else str(each) for each in values)
    return default
