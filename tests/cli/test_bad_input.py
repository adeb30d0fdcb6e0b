"""Whatever a command is given, it answers with a sentence: exit code 2, the file named, no traceback, no control characters."""

import json
import re
from typing import Any

import pytest

from wenloom.cli.commands import COMMANDS

from .calling import Done, call
from .test_options import HERE, TABLES, Changes, options_of, replaced
from .world import SHAPE, World, write

MORE = {
    "plan": [("corpus", "--steps", 1, *SHAPE)],
    "pretrain": [("corpus", "--out", "made", "--steps", 1, *SHAPE), ("--resume", "cut")],
    "finetune": [
        ("run", "--task", "chat", "--train", "messages.jsonl", "--out", "made", "--steps", 1),
        ("bert", "--task", "classification", "--train", "labels.jsonl", "--validation", "labels.jsonl", "--out", "made", "--steps", 1),
        ("--task", "translation", "--train", "pairs.jsonl", "--extra", "few.jsonl", "--tokenizer", "corpus", "--out", "made", "--steps", 1),
        ("--task", "fill-mask", "--train", "texts", "--out", "made", "--steps", 1),
        ("--resume", "cut-pairs"),
    ],
    "evaluate": [("run", "small", "--on", "choices.jsonl"), ("run", "--on", "references.jsonl", "--metric", "rouge")],
}  # fmt: skip
"""Calls beside those of the table of options."""
MADE = ("made", "elsewhere", "made.txt", "made.jsonl", "made.html", "made.sqlite")
BAD = {
    "missing": "gone/nothing.txt",
    "missing, in Chinese": "没有/这个",
    "control characters": "a\x1b[31mb\rc",
    "an empty file": "empty.txt",
    "an empty folder": "empty",
    "a text": "prose.txt",
    "bytes": "bytes.bin",
    "below a file": "prose.txt/below",
    "an empty name": "",
}
"""What stands in place of a file or folder."""


@pytest.mark.parametrize(
    ("command", "typed", "meant"),
    [("transcribe", "--wrods", "--words"), ("pretrain", "--staps", "--steps"), ("generate", "--sede", "--seed")],
)
def test_an_unknown_option_is_answered_alike_by_all_commands(command: str, typed: str, meant: str, world: World):
    """By `transcribe`, too, which takes - for a pipe."""
    said = call(command, "run", "x", typed, cwd=world.store).err
    assert (
        said
        == f"wenloom: Unknown option: {typed}. Did you mean {meant}? (wenloom {command} --help lists what there is)\n"
    )


def test_an_empty_pipe_is_called_empty(world: World):
    done = call("transcribe", world.path("hearing"), "-", cwd=world.store)
    assert (done.code, done.err) == (2, "wenloom: the pipe: is empty.\n")


def calls() -> list[tuple[str, tuple[Any, ...]]]:
    """Good calls of every command, between them with every file and folder that it takes."""
    found = []
    for command in COMMANDS:
        table = TABLES.get(command)
        bases = [*([table.base] if table else []), *MORE.get(command, ())]
        for entry in table.options.values() if table else ():
            if (
                isinstance(entry, Changes)
                and isinstance(entry.given, tuple)
                and set(map(str, entry.given)) & {*HERE, *MADE}
            ):
                base = table.base if entry.base is None else entry.base
                bases.append(replaced((*base, *entry.beside), entry.given))
        found += [(command, base) for base in dict.fromkeys(bases)]
    return found


SPOILT = [
    pytest.param(command, base, at, id=f"{command} {' '.join(map(str, base))} [{base[at]}]")
    for command, base in calls()
    for at, word in enumerate(base)
    if word in HERE or word in MADE
]


def spoilt(base: tuple[Any, ...], at: int, by: str) -> tuple[Any, ...]:
    return (*base[:at], by, *base[at + 1 :])


def assert_a_sentence(done: Done, arguments: object, as_json: bool) -> None:
    assert done.code == 2, (arguments, done)
    assert "Traceback" not in done.err and done.err.strip(), (arguments, done)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", done.err), (arguments, done)
    last = done.err.strip().splitlines()[-1]
    if as_json:
        assert json.loads(done.out)["error"], (arguments, done)
    else:
        assert not done.out, (arguments, done)
    assert re.search(r"wenloom: \S", done.err), (arguments, last)


@pytest.mark.parametrize("command, base, at", SPOILT)
def test_a_bad_file_is_named_in_a_sentence(command: str, base: tuple[Any, ...], at: int, world: World):
    words = [str(word) for word in base]
    folder = world.lay_out({name: kind for name, kind in HERE.items() if name in words})
    write(folder / "empty.txt", "")
    write(folder / "prose.txt", "Once upon a time there was a lamp.\n")
    write(folder / "bytes.bin", bytes(range(256)) * 4)
    (folder / "empty").mkdir()
    with_json = "--json" in options_of(command)
    for number, (kind, name) in enumerate(BAD.items()):
        if base[at] in MADE and kind not in ("below a file",):
            continue  # a name that is not there is what is wanted
        arguments = spoilt(base, at, name)
        as_json = with_json and number % 2 == 0 and "--json" not in words
        done = call(*command.split(), *arguments, *["--json"] * as_json, cwd=folder, stdin="x\n",
                    environment={"WENLOOM_RESULTS": "r.sqlite", "WENLOOM_DATA": "none"})  # fmt: skip
        if done.code == 0 and kind in ("a text", "an empty folder", "an empty name"):
            continue  # some take a text, or make a folder their own
        if command == "watch" and kind == "control characters" and done.code == 0:
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", done.out), (arguments, done)
            continue  # a run may begin there
        assert_a_sentence(done, (kind, command, *arguments), as_json or "--json" in words)
        if name and "gone" in name:
            assert "gone" in done.err, (arguments, done)
