"""`wenloom chat` without a model: turns of several lines, slash commands, the history; and one talk on a real terminal."""

import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from wenloom.checkpoint.folder import save_model
from wenloom.cli.conversation import COMMANDS, Conversation, TurnReader
from wenloom.core.errors import InputError
from wenloom.tasks.messages import read_conversations
from wenloom.tasks.rows import RowReader
from wenloom.tokens.chat import Message
from wenloom.tokens.tokenizer import TextTokenizer

from ..conftest import random_decoder, tiny_config


def turns_of(*lines: str) -> list[str]:
    reader = TurnReader()
    found = [reader.feed(line) for line in lines]
    return [turn for turn in (*found, reader.rest()) if turn is not None]


@pytest.mark.parametrize(
    "lines, turns",
    [
        (["Hello\n", "", "  ", "你好"], ["Hello", "你好"]),
        (["one \\", "two\\", "three", "four"], ["one \ntwo\nthree", "four"]),
        (['"""', "def f():", "", "    return 1", '"""', "next"], ["def f():\n\n    return 1", "next"]),
        (['"""one line"""', '""""""', "x"], ["one line", "x"]),
        (['"""a \\', "/reset", 'b"""  '], ["a \\\n/reset\nb"]),
        (["the end comes \\"], ["the end comes"]),
        (['"""', "within", "a text"], ["within\na text"]),
        (['said """so"""'], ['said """so"""']),
    ],
)
def test_lines_become_turns(lines: list[str], turns: list[str]):
    assert turns_of(*lines) == turns


def test_what_is_forgotten_is_no_part_of_the_next_turn():
    reader = TurnReader()
    reader.feed('"""never')
    assert reader.goes_on
    reader.forget()
    assert not reader.goes_on and reader.feed("mind") == "mind"


def talked(*exchanges: tuple[str, str], **options: object) -> Conversation:
    conversation = Conversation(dict(options), "Be brief.")
    for asked, reply in exchanges:
        assert conversation.take(asked).asks
        conversation.reply(reply)
    return conversation


TWO = (("one?", "One."), ("two?", "Two."))


def test_undo_and_reset_take_back_turns_and_keep_the_system_prompt():
    conversation = talked(*TWO)
    assert "two?" in conversation.take("/undo").says
    assert [each.content for each in conversation.messages] == ["Be brief.", "one?", "One."]
    conversation.take("/reset")
    assert conversation.messages == [Message("system", "Be brief.")]
    assert conversation.take("/undo").failed and conversation.take("/retry").failed


def test_retry_asks_the_same_with_another_draw_and_keeps_the_old_reply_where_none_comes():
    conversation = talked(*TWO, seed=1)
    step = conversation.take("/retry")
    assert step.asks and not step.says and conversation.attempt == 1 and conversation.messages[-1].content == "two?"
    conversation.no_reply()
    assert conversation.messages[-1].content == "Two."
    conversation.take("/retry")
    conversation.reply("Deux.")
    assert conversation.attempt == 2 and [each.content for each in conversation.turns] == [
        "one?",
        "One.",
        "two?",
        "Deux.",
    ]
    conversation.take("three?")
    assert conversation.attempt == 0
    assert "most probable" in talked(*TWO, temperature=0).take("/retry").says


def test_a_turn_without_a_reply_leaves_the_conversation_as_it_was():
    conversation = talked(*TWO)
    conversation.take("three?")
    conversation.no_reply()
    assert conversation.turns == talked(*TWO).turns


@pytest.mark.parametrize("typed", ["/rest", "/Reset", "/undo2", "/", "/etc/passwd is a file"])
def test_an_unknown_command_never_goes_to_the_model(typed: str):
    conversation = talked(*TWO)
    step = conversation.take(typed)
    assert step.failed and not step.asks and "no such command" in step.says and conversation.turns == talked(*TWO).turns


def test_the_nearest_command_is_named_and_two_slashes_send_one():
    conversation = talked()
    assert "/system?" in conversation.take("/sistem x").says and "/help" in conversation.take("/xyzzy").says
    assert conversation.take("//etc is a folder").asks and conversation.turns[-1].content == "/etc is a folder"


def test_help_names_every_command_and_each_is_there():
    said = talked().take("/help").says
    for name in COMMANDS:
        assert name in said and callable(getattr(Conversation, "_" + name[1:]))


def test_the_system_prompt_is_shown_set_and_removed():
    conversation = talked(*TWO)
    assert "Be brief." in conversation.take("/system").says
    conversation.take("/system You are\na cook.")
    assert conversation.messages[0] == Message("system", "You are\na cook.")
    conversation.take("/system -")
    assert conversation.messages[0].role == "user" and "no system prompt" in conversation.take("/system").says


def test_options_are_set_shown_and_reset_and_a_wrong_one_changes_nothing():
    conversation = Conversation({"top_p": 0.9}, always={"stop_strings": ("\nUser:",)})
    assert (
        conversation.take("/set temperature 0.7").says == "temperature = 0.7"
        and conversation.request.temperature == 0.7
    )
    assert conversation.take("/set --max-new-tokens 5").says == "max_new_tokens = 5"
    conversation.take("/set stop_strings END")
    assert conversation.request.stop_strings == ("END", "\nUser:")
    before = conversation.request
    for wrong, said in (("top_p 7", "top_p must be"), ("temperature warm", "temperature must be"), ("temprature 1", "temperature?"),
                        ("num_beams 3", "no such option"), ("seed -1", "seed")):  # fmt: skip
        step = conversation.take(f"/set {wrong}")
        assert step.failed and said in step.says and "`" not in step.says and conversation.request == before
    assert "top_p = 0.9" in conversation.take("/set").says
    conversation.take("/set top_p default")
    assert conversation.request.top_p != 0.9 and "top_p" not in conversation.options
    conversation.take("/set temperature 0")
    assert conversation.request.do_sample is False
    conversation.take("/set temperature 0.5")
    assert conversation.request.do_sample is True
    with pytest.raises(InputError, match="top_p"):
        Conversation({"top_p": 7})


def test_a_saved_conversation_comes_back_and_is_a_row_to_learn_from(tmp_path: Path):
    conversation = talked(*TWO, ("三？", "三。"), seed=3, temperature=0.5)
    path = tmp_path / "talk.jsonl"
    assert "3 turns" in conversation.take(f"/save {path}").says
    (row,) = read_conversations(str(path), RowReader(strict=True))
    assert list(row) == conversation.messages
    other = Conversation({}, "Another.")
    assert "三。" in other.take(f"/load {path}").says
    assert other.messages == conversation.messages and other.request == conversation.request
    other.take("/undo")
    assert not other.take(f"/save {path}").failed  # the file that it came from


def test_a_file_that_was_there_is_not_replaced_and_a_bad_one_changes_nothing(tmp_path: Path):
    conversation = talked(*TWO)
    (path := tmp_path / "mine.txt").write_text("mine")
    assert "exists" in conversation.take(f"/save {path}").says and path.read_text() == "mine"
    assert (
        conversation.take("/save").failed
        and conversation.take("/load").failed
        and talked().take(f"/save {path}x").failed
    )
    for content in ("", "{", "[]", "{}", '{"messages": []}', '{"messages": [{"role": "user", "content": "x"}]}',
                    '{"messages": [{"role": "cook", "content": "x"}, {"role": "assistant", "content": "y"}]}',
                    json.dumps({"prompt": "x", "response": "y", "options": {"top_p": 7}}),
                    json.dumps({"prompt": "x", "response": "y", "options": {"top_pp": 0.7}}),
                    json.dumps({"prompt": "x", "response": "y", "options": [1]})):  # fmt: skip
        path.write_text(content)
        step = conversation.take(f"/load {path}")
        assert step.failed and str(path) in step.says, content
        assert conversation.messages == talked(*TWO).messages and not conversation.options
    assert "no such file" in conversation.take("/load gone.json").says


def test_a_talk_on_a_terminal(tmp_path: Path, tokenizer: TextTokenizer):
    """The greeting, a turn of two lines, an unknown command, Ctrl-C at the prompt, the history with its mode, Ctrl-D."""
    save_model(random_decoder(tiny_config(), 0), tmp_path / "run")
    tokenizer.save_pretrained(tmp_path / "run")
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "wenloom", "chat", "run", "--max-new-tokens", "4", "--seed", "1"]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "TERM": "xterm"}
    process = subprocess.Popen(command, cwd=tmp_path, stdin=follower, stdout=follower, stderr=follower, env=environment,
                               start_new_session=True)  # fmt: skip
    os.close(follower)
    seen = ""

    def until(pattern: str) -> str:
        nonlocal seen
        while not (found := re.search(pattern, seen)):
            assert select.select([leader], [], [], 60)[0], seen
            seen += os.read(leader, 4096).decode(errors="replace")
        before, seen = seen[: found.end()], seen[found.end() :]
        return before

    assert "/help" in until(r"> ")
    os.write(leader, b"one \\\n")
    until(r"\.\.\. ")
    os.write(leader, b"two\n")
    until(r"> \S*$")
    os.write(leader, b"/rest\n")
    assert "did you mean /reset?" in until(r"reset\?[^>]*> ")
    os.write(leader, b"never mi")
    until("never mi")
    for _ in range(60):  # CPython loses it while readline takes in a key: press it again
        process.send_signal(signal.SIGINT)
        if select.select([leader], [], [], 1)[0]:
            break
    until(r"Ctrl-D[^>]*> ")
    os.write(leader, b"\x04")
    assert process.wait(60) == 0
    os.close(leader)
    history = tmp_path / "state/wenloom/chat_history"
    lines = history.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("_HiStOrY")] == ["one \\", "two", "/rest"]
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
