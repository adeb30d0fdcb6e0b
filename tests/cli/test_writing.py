"""`generate`, `chat` and `next-tokens`: no option is ignored, and a prompt, a line or a turn that fails does so alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from wenloom.checkpoint.folder import save_model
from wenloom.tokens.tokenizer import TextTokenizer

from ..conftest import random_decoder, tiny_config
from .calling import call, refused, succeed
from .world import World


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
        (["--temperature", 0, "--do-sample"], ["--temperature 0", "--do-sample"]),
        (["--no-do-sample", "--top-p", 0.5], ["--top-p", "--do-sample"]),
        (["--n", 2, "--num-return-sequences", 3], ["--n 2", "--num-return-sequences 3"]),
        (["--draft", "small"], ["--draft", "--num-assistant-tokens"]),
        (["--adapters", "small"], ["--adapters", "--adapter"]),
        (["--logprobs", 2], ["--logprobs", "--json"]),
        (["--prompt-logprobs", 2], ["--prompt-logprobs", "--json"]),
        (["--out", "made.jsonl"], ["--out", "--prompts"]),
        (["--json-schema", "{"], ["--json-schema", "JSON"]),
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


def test_the_prompt_is_repeated_only_where_echo_asks(here: Path):
    plain, echoed = (succeed(*WRITE, "--seed", 1, *more, cwd=here) for more in ((), ("--echo",)))
    assert echoed == "The lamp" + plain and not plain.startswith("The lamp")
    several = succeed(*WRITE, "--seed", 1, "--n", 2, cwd=here)
    assert several.count("--- ") == 2 and "The lamp" not in several
    for echo, shown in (((), plain), (("--echo",), echoed)):
        (found,) = json.loads(succeed(*WRITE, "--seed", 1, "--json", *echo, cwd=here))["continuations"]
        assert found["text"] + "\n" == shown


PERSON = json.dumps({"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}, "required": ["name"],
                     "additionalProperties": False})  # fmt: skip
CONSTRAINTS = [
    (("--json-schema", PERSON), "--json-schema"),
    (("--regex", "[a-f]{4} [a-f]{4}"), "--regex"),
    (("--choices", "a lamp is lit", "--choices", "the night is dark"), "--choices"),
    (("--grammar", 'start: "once " /[a-z]{5}/ " upon"'), "--grammar"),
]


@pytest.mark.parametrize("constraint, named", CONSTRAINTS)
@pytest.mark.parametrize("more", [(), ("--n", 2), ("--echo",), ("--num-beams", 3, "--no-do-sample")], ids=str)
def test_what_obeys_no_constraint_in_full_ends_with_an_error(
    here: Path, constraint: tuple[str, ...], named: str, more: tuple[Any, ...]
):
    command = ("generate", "run", "The", *constraint, *more, *("--seed", 1) * ("--num-beams" not in more))
    whole = call(*command, "--max-new-tokens", 60, cwd=here)
    assert (whole.code, whole.err) == (0, ""), whole
    cut = call(*command, "--max-new-tokens", 2, cwd=here)
    said = " ".join(cut.err.split())
    assert (
        cut.code == 2 and cut.out and f"not obey {named}: it was cut off after 2 tokens; raise --max-new-tokens" in said
    )
    as_json = call(*command, "--max-new-tokens", 2, "--json", cwd=here)
    assert as_json.code == 2 and json.loads(as_json.out)["continuations"][0]["finish_reason"] == "length"


def test_json_is_whole_or_the_exit_code_says_so(here: Path):
    """Whatever the limit."""
    codes = set()
    for limit in range(1, 24):
        done = call(
            "generate", "run", "x", "--json-schema", PERSON, "--max-new-tokens", limit, "--seed", limit, cwd=here
        )
        codes.add(done.code)
        try:
            json.loads(done.out)
        except ValueError:
            assert done.code == 2, done
        else:
            assert done.code == 0, done
    assert codes == {0, 2}


def test_a_line_of_prompts_that_is_cut_off_is_an_error_and_tried_anew(here: Path):
    (here / "people.jsonl").write_text(json.dumps({"prompt": "x", "json_schema": json.loads(PERSON)}), encoding="utf-8")
    command = ("generate", "run", "--prompts", "people.jsonl", "--out", "people-out.jsonl", "--seed", 1)
    done = call(*command, "--max-new-tokens", 3, cwd=here)
    (row,) = map(json.loads, (here / "people-out.jsonl").read_text(encoding="utf-8").splitlines())
    assert done.code == 2 and "json_schema" in row["error"] and row["continuations"][0]["text"]
    succeed(*command, "--max-new-tokens", 60, cwd=here)
    (row,) = map(json.loads, (here / "people-out.jsonl").read_text(encoding="utf-8").splitlines())
    assert json.loads(row["continuations"][0]["text"]) and "error" not in row


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
    ('{"prompt": "x", "json_schema": {"type": "boolean"}, "max_new_tokens": 9, "id": "q"}', None), ('{"prompt": "x", "regex": "("}', "regex"),
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
    assert rows[8]["id"] == "q" and rows[8]["continuations"][0]["text"] in ("true", "false")
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
    assert done.code == 2 and "no reply" in done.err and "1 turn could not be answered" in done.err
    assert len(done.out.splitlines()) >= 2


def test_a_file_that_is_named_as_a_text_is_not_embedded_as_its_name(world: World):
    here = world.lay_out({"run": "decoder", "texts.txt": "few:source"})
    refused = call("embed", "run", "texts.txt", cwd=here)
    assert refused.code == 2 and "--file texts.txt embeds what stands in it" in refused.err
    assert call("embed", "run", "--file", "texts.txt", cwd=here).code == 0
