"""`--config` and `--save-config`: one mechanism for every command; the command line wins; what is wrong is named with its line."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from wenloom.checkpoint.folder import save_model
from wenloom.cli.commands import COMMANDS
from wenloom.generation.bounds import bounds_of
from wenloom.generation.options import RequestOptions
from wenloom.tokens.tokenizer import TextTokenizer

from ..conftest import random_decoder, tiny_config
from .calling import call, refused, succeed
from .test_options import options_of


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, tokenizer: TextTokenizer) -> Path:
    folder = tmp_path_factory.mktemp("configured")
    save_model(random_decoder(tiny_config(), 0), folder / "run")
    tokenizer.save_pretrained(folder / "run")
    return folder


GENERATE = ("generate", "run", "The lamp")


@pytest.mark.parametrize(
    "text", ["max-new-tokens = 5\nseed = 3\n", "[settings]\nmax_new_tokens = 5\nseed = 3\n[data]\nkey = 'x'\n"]
)
def test_options_of_a_file_are_those_of_the_command_line_which_wins(here: Path, text: str):
    (here / "c.toml").write_text(text)
    given = succeed(*GENERATE, "--max-new-tokens", 5, "--seed", 3, cwd=here)
    assert succeed(*GENERATE, "--config", "c.toml", cwd=here) == given
    assert succeed(*GENERATE, "--config=c.toml", "--seed", 4, cwd=here) == succeed(
        *GENERATE, "--max-new-tokens", 5, "--seed", 4, cwd=here
    )


@pytest.mark.parametrize(
    "text",
    ['model = "run"\nprompt = "The lamp"\nseed = 3\n', '[settings]\nbase = "run"\nprompt = "The lamp"\nseed = 3\n'],
)
def test_what_a_command_is_about_may_stand_in_its_file(here: Path, text: str):
    (here / "c.toml").write_text(text)
    assert succeed("generate", "--config", "c.toml", cwd=here) == succeed(*GENERATE, "--seed", 3, cwd=here)
    (here / "c.toml").write_text(text.replace('"run"', '"no such folder"'))
    assert succeed("generate", "run", "--config", "c.toml", cwd=here) == succeed(*GENERATE, "--seed", 3, cwd=here)
    (here / "c.toml").write_text(text.replace('"run"', '["run", "run"]'))
    assert "is one value, not a list" in refused("generate", "--config", "c.toml", cwd=here)


def test_what_was_given_is_saved_and_gives_the_same_again(here: Path):
    (here / "c.toml").write_text('max-new-tokens = 50\nstop = ["q", "z"]\nlogit_bias = [[66, 2.5]]\n')
    (here / "saved.toml").unlink(missing_ok=True)
    given = (
        "--config",
        "c.toml",
        "--max-new-tokens",
        7,
        "--seed",
        3,
        "--no-use-cache",
        "--json-schema",
        '{"type": "boolean"}',
    )
    first = succeed(*GENERATE, *given, "--save-config", "saved.toml", cwd=here)
    saved = tomllib.loads((here / "saved.toml").read_text(encoding="utf-8"))["settings"]
    assert saved == {"max_new_tokens": 7, "stop": ["q", "z"], "logit_bias": [[66, 2.5]], "seed": 3, "use_cache": False,
                     "json_schema": '{"type": "boolean"}'}  # fmt: skip
    assert succeed(*GENERATE, "--config", "saved.toml", "--save-config", "saved.toml", cwd=here) == first
    (here / "mine.toml").write_text("mine = 1")
    assert "was not written by --save-config" in refused(*GENERATE, "--save-config", "mine.toml", cwd=here)
    assert (here / "mine.toml").read_text() == "mine = 1"


WRONG: list[tuple[str | bytes, list[str]]] = [
    ("seed = 1\ntemprature = 0.5\n", ["c.toml, line 2", "no option temprature", "did you mean temperature?"]),
    ("[settings]\n# x\ntop-pp = 1\n", ["c.toml, line 3", "top_p"]),
    ("[settings]\nseed = 1\nxyzzy = 1\n", ["c.toml, line 3", "no option xyzzy"]),
    ("[generate]\nseed = 1\n", ["c.toml, line 1", "no table [generate]"]),
    ("seed = 1\n[settings]\nseed = 1\n", ["c.toml, line 1", "before [settings]"]),
    ('seed = 1\ntop_p = "x"\n', ["c.toml, line 2", "top_p x: must be a number"]),
    ("json = 3\n", ["c.toml, line 1", "must be true or false"]),
    ('on-overflow = "up"\n', ["c.toml, line 1", "left, error"]),
    ("bad_words_ids = [[5, 6]]\n", ["c.toml, line 1", "lists within lists"]),
    ("[seed]\nx = 1\n", ["c.toml, line 1", "not a table"]),
    ("top-p = 1\ntop_p = 1\n", ["c.toml, line 1", "twice"]),
    ("seed = \n", ["c.toml", "not valid TOML", "line 1"]),
    (b"\xff\xfe", ["c.toml", "not valid UTF-8"]),
    ("mode = 'run'\n", ["c.toml, line 1", "no option mode; did you mean model?"]),
]


@pytest.mark.parametrize("content, said", WRONG)
def test_what_is_wrong_in_a_file_is_named_with_its_line(here: Path, content: Any, said: list[str]):
    (here / "c.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    sentence = refused(*GENERATE, "--config", "c.toml", cwd=here)
    assert all(each in sentence for each in said), sentence


def test_a_file_that_is_not_there_or_not_named_is_refused(here: Path):
    assert "gone.toml: no such file" in refused(*GENERATE, "--config", "gone.toml", cwd=here)
    assert "run: is a folder" in refused(*GENERATE, "--config", "run", cwd=here)
    for words in (("--config",), ("--config", "--json"), ("--save-config",), ("--config", "a", "--config", "b")):
        assert words[0] in refused(*GENERATE, *(word for word in words if word != "--json"), cwd=here)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_a_file_and_names_what_it_does_not_know(here: Path, command: str):
    (here / "c.toml").write_text("frobnicate = 1\n")
    done = call(*command.split(), "--config", "c.toml", cwd=here)
    assert done.code == 2 and "c.toml, line 1: wenloom" in done.err and "frobnicate" in done.err
    name = options_of(command)[-1].removeprefix("--")
    (here / "c.toml").write_text(f"{name[:-1] + name[-1] * 2} = 1\n")
    assert "did you mean" in call(*command.split(), "--config", "c.toml", cwd=here).err


@pytest.mark.parametrize(
    "words, said",
    [
        ("generate", "MODEL is missing"),
        ("quantize m", "--out is missing"),
        ("generate m --seed", "--seed needs a value"),
        ("generate m --top-p x", "--top-p x: must be a number"),
        ("generate m --on-overflow up", "one of left, error"),
        ("generate m --n 1 --n 2", "--n: give it once"),
        ("generate m x y z", "too many arguments: y z"),
        ("generat", "did you mean generate?"),
        ("tokenizer trian", "did you mean train?"),
        ("generate m --top-pp 1", "--top-p?"),
    ],
)
def test_a_command_line_that_cannot_be_used_gets_a_sentence(here: Path, words: str, said: str):
    sentence = refused(*words.split(), cwd=here)
    assert said in sentence and "--help lists what there is" in sentence
    assert json.loads(call(*words.split(), "--json", cwd=here).out)["exit_code"] == 2


SLIPS = [
    ("runs/mien", "runs/mine"),
    ("rusn/mine", "runs/mine"),
    ("a-long-mdoel-name", "a-long-model-name"),
    ("runs/deep/x", ""),
]


@pytest.mark.parametrize("typed, meant", SLIPS)
def test_a_mistyped_folder_is_no_question_for_the_hub(
    tmp_path: Path, typed: str, meant: str, monkeypatch: pytest.MonkeyPatch
):
    for name in ("runs/mine", "a-long-model-name"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("the hub was asked"))
    for command in ("info", "generate", "score"):
        said = refused(command, typed, *("x",) * (command != "info"), cwd=tmp_path)
        assert f"{typed}: no such folder" in said and (f"did you mean {meant}?" in said) == bool(meant)


BOUNDED = [name for name, field in RequestOptions.__dataclass_fields__.items() if bounds_of(field)]


@pytest.mark.parametrize("name", BOUNDED)
def test_every_error_about_an_option_names_it_as_it_is_typed(here: Path, name: str):
    flag = "--" + name.replace("_", "-")
    said = refused(*GENERATE, f"{flag}=-99999999999999999999", cwd=here)
    assert flag in said and (flag == f"--{name}" or name not in said)
    assert not re.search(
        rf"(?<!-)\b({'|'.join(each for each in RequestOptions.__dataclass_fields__ if '_' in each)})\b", said
    )


@pytest.mark.parametrize(
    "option, said",
    [("--regex=(", "--regex: unclosed group"), ("--grammar=start: x", "unknown name"), ("--json-schema=[", "JSON")],
)
def test_errors_of_grammars_give_the_reason_and_the_flag(here: Path, option: str, said: str):
    sentence = refused(*GENERATE, option, cwd=here)
    assert said in sentence and sentence.split("wenloom: ")[1].startswith(option.partition("=")[0])
