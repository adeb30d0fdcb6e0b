"""The command `wenloom`. Commands are imported when they are called, so that --help answers at once."""

import inspect
import os
import re
import sys
from importlib import import_module
from pathlib import Path
from textwrap import wrap
from typing import Any, NoReturn

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Toml

from wenloom.cli.outcome import DEBUG, discard_output, failed, open_streams, our_fault
from wenloom.core.console import out
from wenloom.core.errors import InputError, WenloomError
from wenloom.core.version import __version__

_COMMANDS = {
    "quickstart": "Train a small model on Shakespeare in a few minutes and see what it can do.",
    "prepare": "Turn files of text into a corpus that training reads: clean, split, tokenize.",
    "plan": "Tell what a training run would take: time, memory, disk, and the loss to expect.",
    "pretrain": "Train a model from scratch on a prepared corpus.",
    "finetune": "Train a model for a task: translation, chat, classification and others.",
    "translate": "Translate a text, or a file line by line.",
    "summarize": "Summarize a text, or each line of a file.",
    "write": "Write a story, a poem or a program, and check it.",
    "fill": "Tell what may stand where a token is hidden.",
    "classify": "Tell the class of a text, or of each line of a file.",
    "rescore": "Choose among the hypotheses of a speech recogniser with a language model.",
    "report": "Lay several training runs side by side on one page.",
    "generate": "Let a model write.",
    "chat": "Talk with a model.",
    "detect": "Tell whether a text bears a watermark.",
    "quantize": "Write a model again with weights of 8 or 4 bits.",
    "next": "Show the tokens a model expects next.",
    "score": "Tell how probable a model finds a text.",
    "evaluate": "Tell how good a model is: on benchmarks, on your own data, or texts against references.",
    "leaderboard": "Make a page of all results, yours beside published ones.",
    "diff-signature": "Tell why two figures cannot be compared.",
    "doctor": "Prove the installation on small known cases, and say what is slow or missing.",
    "info": "Tell what is in a folder: model, run or corpus.",
    "tokenizer train": "Learn a vocabulary from text, in any language.",
    "tokenizer report": "Bytes, characters and words per token, by language.",
    "import llama2c": "Convert a llama2.c model (.bin) and its tokenizer into a model folder.",
}
_GROUPS = {
    "tokenizer": "Train a tokenizer, or report how well one fits a text.",
    "import": "Convert a model of another program into a model folder.",
}


def build_app(arguments: list[str]) -> App:
    """The command tree.

    Only the command that `arguments` call is described by its own docstring, which costs importing it; the
    others are known by one line each.
    """
    app = App(
        name="wenloom",
        help=(
            "Grow, use and understand your own language model.\n\n"
            "From nothing, in a few minutes: `wenloom quickstart`. From your own text:\n\n"
            "```\nwenloom prepare my-texts/ --out data/mine\n"
            "wenloom pretrain data/mine --out runs/mine\n"
            'wenloom generate runs/mine "Once upon a time"\n```'
        ),
        version=__version__,
        suppress_keyboard_interrupt=False,
        help_format="markdown",
        default_parameter=Parameter(negative_iterable=()),
    )
    groups = {name: App(name=name, help=text, help_format="markdown") for name, text in _GROUPS.items()}
    for group in groups.values():
        app.command(group)
    for path, summary in _COMMANDS.items():
        *group, name = path.split()
        module, function = module_of(path)
        called = arguments[: len(group) + 1] == path.split()
        parent = groups[group[0]] if group else app
        parent.command(f"{module}:{function}", name=name, help=_described(module, function) if called else summary)
    return app


def _described(module: str, function: str) -> str:
    """What a command's docstring says before its parameters, with fences around examples, which keep their lines so."""
    text = (inspect.getdoc(getattr(import_module(module), function)) or "").partition("\nParameters\n")[0]
    return re.sub(r"(?:^    \S.*\n?)+", _fenced, text, flags=re.MULTILINE)


def _fenced(block: re.Match[str]) -> str:
    """Examples as a terminal of 80 columns shows them: what is longer goes on behind a backslash, as the shell reads it."""
    lines = [" \\\n".join(wrap(line, 75, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False))
             for line in inspect.cleandoc(block[0]).splitlines()]  # fmt: skip
    return "\n".join(("```", *lines, "```", ""))


def module_of(command: str) -> tuple[str, str]:
    """Where a command is written: module and function.

    >>> module_of("import llama2c")
    ('wenloom.cli.import_', 'llama2c')
    """
    words = command.replace("-", "_").split()
    return f"wenloom.cli.{'import_' if words[0] == 'import' else words[0]}", words[-1]


def main() -> NoReturn:
    """Run one command. Exit codes: 0 done, 1 a fault of Wenloom itself, 2 bad input, 130 stopped by the user."""
    arguments = sys.argv[1:]
    as_json = "--json" in arguments
    open_streams()
    try:
        config = _config_file(arguments)
        app = build_app(arguments)
        app.config, app.console = config, out
        app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
        code = 0
    except WenloomError as error:
        code = failed(str(error), error.exit_code, as_json and not error.is_reported)
    except CycloptsError as error:
        asked = " ".join(("wenloom", *_called(arguments), "--help"))
        code = failed(f"{error} ({asked} lists what there is)", 2, as_json)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        discard_output()
        code = 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code = failed(f"{where}{(error.strerror or str(error)).lower()}.", 2, as_json)
    except MemoryError:
        code = failed("this needs more memory than there is: take a smaller model, batch, context or file.", 2, as_json)
    except KeyboardInterrupt:
        code = failed("stopped.", 130, as_json)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        code = failed(our_fault(error), 1, as_json)
    sys.exit(code)


def _called(arguments: list[str]) -> list[str]:
    """The command that the arguments call, as far as there is one."""
    return next((path.split() for path in _COMMANDS if arguments[: len(path.split())] == path.split()), [])


def _config_file(arguments: list[str]) -> tuple[Toml, ...]:
    """Take `--config FILE` out of the arguments: its [settings] fill in what the flags leave open."""
    if "--config" not in arguments:
        return ()
    at = arguments.index("--config")
    if at + 1 >= len(arguments):
        raise InputError("--config: name a TOML file with a table [settings], such as the run.toml of a run.")
    path = arguments[at + 1]
    del arguments[at : at + 2]
    if not Path(path).is_file():
        raise InputError(f"--config {path}: no such file.")
    return (_Settings(path, root_keys=("settings",), use_commands_as_keys=False, must_exist=True),)


class _Settings(Toml):
    """The [settings] of a file, which may be the run.toml of an earlier version."""

    def _load_config(self, path: Path) -> dict[str, Any]:
        from wenloom.training.run_file import renamed

        tables = super()._load_config(path)
        settings = tables.get("settings")
        return tables | {"settings": renamed(settings)} if isinstance(settings, dict) else tables
