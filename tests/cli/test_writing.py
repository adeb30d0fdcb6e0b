"""`generate`, `chat` and `next-tokens`: no option is ignored, and a prompt, a line or a turn that fails does so alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from wenloom.checkpoint.folder import save_model
from wenloom.tokens.tokenizer import TextTokenizer

from ..conftest import random_decoder, tiny_config
from .calling import call, refused, succeed


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, tokenizer: TextTokenizer) -> Path:
    folder = tmp_path_factory.mktemp("writing")
    for name, seed in (("run", 0), ("small", 1)):
        save_model(random_decoder(tiny_config(), seed), folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


WRITE = ("generate", "run", "The lamp", "--max-new-tokens", 6)


@pytest.mark.parametrize(
    "options, named",
    [
        (["--greedy", "--temperature", 0.5], ["--greedy", "--temperature 0.5"]),
        (["--greedy", "--top-k", 3, "--min-p", 0.1], ["--greedy", "--top-k 3", "--min-p 0.1"]),
        (["--greedy", "--do-sample"], ["--greedy", "--do-sample"]),
        (["--temperature", 0, "--do-sample"], ["temperature 0", "do_sample"]),
        (["--no-do-sample", "--top-p", 0.5], ["top_p", "do_sample"]),
        (["--n", 2, "--num-return-sequences", 3], ["--n 2", "--num-return-sequences 3"]),
        (["--draft", "small"], ["--draft", "--num-assistant-tokens"]),
        (["--adapters", "small"], ["--adapters", "--adapter"]),
        (["--logprobs", 2], ["--logprobs", "--json"]),
        (["--prompt-logprobs", 2], ["--prompt-logprobs", "--json"]),
        (["--out", "made.jsonl"], ["--out", "--prompts"]),
        (["--json-schema", "{"], ["json_schema", "JSON"]),
    ],
)
def test_options_that_would_be_ignored_are_refused_by_name(here: Path, options: list[Any], named: list[str]):
    said = refused(*WRITE, *options, cwd=here)
    assert all(each in said for each in named), said


@pytest.mark.parametrize(
    "greedy", [["--greedy"], ["--no-do-sample"], ["--temperature", 0], ["--greedy", "--temperature", 0]]
)
def test_every_way_to_say_greedy_is_the_same(here: Path, greedy: list[Any]):
    assert succeed(*WRITE, *greedy, cwd=here) == succeed(*WRITE, "--top-k", 1, cwd=here)


def test_the_prompt_is_repeated_unless_echo_says_otherwise(here: Path):
    plain, without = (succeed(*WRITE, "--seed", 1, *more, cwd=here) for more in ((), ("--no-echo",)))
    assert plain == "The lamp" + without == succeed(*WRITE, "--seed", 1, "--echo", cwd=here)
    several = succeed(*WRITE, "--seed", 1, "--n", 2, "--no-echo", cwd=here)
    assert several.count("--- ") == 2 and "The lamp" not in several
    for echo in ((), ("--echo",)):
        (found,) = json.loads(succeed(*WRITE, "--seed", 1, "--json", *echo, cwd=here))["continuations"]
        assert found["text"] + "\n" == (plain if echo else without)


def test_a_prompt_longer_than_the_context_is_said_or_refused(here: Path):
    """The context is 32 tokens."""
    long = "The lamp was lit. " * 30
    done = call("generate", "run", long, "--max-new-tokens", 2, cwd=here)
    assert done.code == 0 and "the model sees 32" in " ".join(done.err.split())
    assert "more than this model's context of 32" in refused(
        "generate", "run", long, "--on-overflow", "error", cwd=here
    )
    short = json.loads(
        succeed("generate", "run", "The", "--on-overflow", "error", "--max-new-tokens", 90, "--greedy", "--json",
                "--suppress-tokens", 0, cwd=here)
    )["continuations"][0]  # fmt: skip
    assert short["finish_reason"] == "length" and len(short["tokens"]) < 33
    assert "the model sees 32" in " ".join(call("next-tokens", "run", long, cwd=here).err.split())


LINES = [
    ('{"prompt": "The", "seed": 3}', None), ("not json", "not valid JSON"), ('{"prompt": 5}', '"prompt" must be text'), ("", None),
    ('{"prompt": "x", "stop_strings": [5]}', "stop_strings"), ('{"prompt": "x", "top_kk": 5}', "top_kk"), ("[1]", "object"),
    ('{"prompt": "x", "json_schema": {"type": "boolean"}, "id": "q"}', None), ('{"prompt": "x", "regex": "("}', "regex"),
    ('{"prompt": "\\ud800"}', "surrogate"), ('{"prompt": "x", "seed": ' + "9" * 5000 + "}", "digits"), ('{"promt": "x"}', "prompt"),
    ('{"prompt": [5, 6], "temperature": 0}', None), ('{"prompt": [99999]}', "token 99999"), ('{"prompt": "x", "max_new_tokens": null}', "max_new_tokens"),
    ('{"prompt": "春眠"}', None),
]  # fmt: skip


def test_a_bad_line_of_prompts_is_named_and_the_others_are_answered(here: Path):
    """Exit code 2, results kept, the reasons per row in the file and in --json; called again, only what failed is tried."""
    (here / "prompts.jsonl").write_text("\n".join(line for line, _ in LINES) + "\n", encoding="utf-8")
    command = ("generate", "run", "--prompts", "prompts.jsonl", "--max-new-tokens", 4)
    done = call(*command, "--out", "answers.jsonl", "--json", cwd=here)
    assert done.code == 2 and "Traceback" not in done.err
    rows = {row["line"]: row for row in map(json.loads, (here / "answers.jsonl").read_text("utf-8").splitlines())}
    failed = {each["line"]: each["error"] for each in json.loads(done.out)["failed"]}
    said = " ".join(done.err.split())
    for number, (line, reason) in enumerate(LINES, 1):
        if reason is not None:
            assert reason in failed[number] and reason in rows[number]["error"] and f"line {number}: " in said
        elif line:
            assert rows[number]["continuations"] and number not in failed
    written = rows[8]["continuations"][0]["text"]  # four tokens of it
    assert rows[8]["id"] == "q" and written and any(word.startswith(written) for word in ("true", "false"))
    again = call(*command, "--out", "answers.jsonl", cwd=here)
    assert again.code == 2 and f"of {len(failed)} prompts failed" in " ".join(again.err.split())
    alone = here / "alone.jsonl"
    alone.write_text("\n" * 15 + LINES[-1][0], encoding="utf-8")
    shown = json.loads(succeed(*command[:3], alone, *command[4:], "--json", cwd=here))["results"]
    assert len(shown) == 1
    (here / "prompts.jsonl").write_text(LINES[-1][0].replace("春", "夏"), encoding="utf-8")
    (here / "answers.jsonl").write_text(json.dumps(rows[16] | {"line": 1}), encoding="utf-8")
    assert "another prompt" in refused(*command, "--out", "answers.jsonl", cwd=here)


def test_a_turn_that_fails_leaves_the_conversation(here: Path):
    done = call("chat", "run", "--max-new-tokens", 3, "--on-overflow", "error", "--seed", 1, cwd=here,
                stdin="Hi\n" + "long " * 100 + "\n/reset\nHi\n")  # fmt: skip
    assert done.code == 2 and "no reply" in done.err and "1 turns could not be answered" in done.err
    assert len(done.out.splitlines()) >= 2
