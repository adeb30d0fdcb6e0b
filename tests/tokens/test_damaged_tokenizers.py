"""Damaged and odd tokenizer files: a sentence that names the file, whatever is wrong; no traceback, no noise."""

import base64
import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tokens.test_folders import BASES, CHATML, NAMES, token
from wenloom.core.errors import CheckpointError, InputError, WenloomError
from wenloom.tokens.chat import Message, chat_ids
from wenloom.tokens.tokenizer import TextTokenizer

ODD: list[Any] = [
    None, True, False, 0, -1, 2**31, 2**64, 10**30, 1e400, 0.5, "", "x", "\ud800", "\x00", "[", [], {}, [[]], [None], {"type": "x"},
    {"": {}}, {"content": 5}, "a" * 5000,
]  # fmt: skip


@pytest.fixture(scope="module")
def files() -> dict[str, dict[str, Any]]:
    """Valid files, to be spoilt."""
    named = NAMES["byte-level"]
    return {
        "tokenizer.json": {},
        "tokenizer_config.json": {
            **named, "added_tokens_decoder": {"1": token("<s>"), "400": token("<end>", special=False)}, "model_max_length": 99,
            "additional_special_tokens": ["<img>"], "chat_template": [{"name": "default", "template": CHATML}],
            "tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True, "padding_side": "left",
            "clean_up_tokenization_spaces": True,
        },
        "special_tokens_map.json": {**named, "mask_token": token("<mask>"), "additional_special_tokens": [token("<img>")]},
        "added_tokens.json": {"<more>": 500, "<img>": 501},
    }  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a JSON value; of long lists and objects the first few."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for number, (key, each) in enumerate(inner):
        if number < 12:
            yield from places(each, (*path, key))


def spoilt(value: Any, path: tuple[Any, ...], change: str, odd: Any) -> Any:
    value = copy.deepcopy(value)
    if not path:
        return odd
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    if change == "drop":
        del holder[path[-1]]
    elif change == "nest":
        holder[path[-1]] = [holder[path[-1]]]
    else:
        holder[path[-1]] = odd
    return value


def use(folder: Path) -> None:
    """Everything that is done with a tokenizer."""
    tokenizer = TextTokenizer.from_pretrained(folder)
    for text in ("Hello <s> wörld\n 你好", "", "x" * 300):
        tokenizer.decode(tokenizer.encode(text))
        tokenizer.encode_documents([text], add_special_tokens=True)
    tokenizer(["a", "a b c"], padding=True, truncation=True, max_length=2)
    chat_ids(tokenizer, [Message("user", "a <s>"), Message("assistant", "b")])
    tokenizer.save_pretrained(folder / "again")
    TextTokenizer.from_pretrained(folder / "again")
    assert tokenizer.kind and tokenizer.show(0) is not None and tokenizer.token_bytes(3)


@settings(max_examples=int(os.environ.get("WENLOOM_FUZZ", 150)), suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_spoilt_files_end_in_a_sentence(
    files: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    folder = tmp_path_factory.mktemp("spoilt")
    contents = copy.deepcopy(files) | {
        "tokenizer.json": json.loads(BASES[data.draw(st.sampled_from(list(BASES)))].to_str())
    }
    for name in ("special_tokens_map.json", "added_tokens.json", "tokenizer_config.json"):
        if data.draw(st.integers(0, 3)) == 0:
            del contents[name]
    if "special_tokens_map.json" in contents and data.draw(st.booleans()):
        contents.get("tokenizer_config.json", {}).pop("added_tokens_decoder", None)
    victim = data.draw(st.sampled_from(list(contents)))
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(list(places(contents[victim]))))
        change = data.draw(st.sampled_from(["odd", "odd", "drop", "nest"]))
        contents[victim] = spoilt(contents[victim], path, change, data.draw(st.sampled_from(ODD)))
    for name, content in contents.items():
        text = json.dumps(content)
        if name == victim and data.draw(st.integers(0, 5)) == 0:
            text = text[: data.draw(st.integers(0, len(text)))]
        (folder / name).write_text(text, encoding="utf-8")
    try:
        use(folder)
    except WenloomError as error:
        assert len(str(error)) < 1200 and str(error).isprintable()


def charsmap(data: bytes) -> dict[str, Any]:
    return {"normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()}}


ANY = {"pattern": {"Regex": ""}, "content": "x"}
BROKEN: list[tuple[str, str, dict[str, Any]]] = [
    ("byte-level", "no charsmap", charsmap(b"")), ("byte-level", "a charsmap cut short", charsmap(b"\0\0\0\0")),
    ("byte-level", "a charsmap that lies", charsmap(b"\xff\xff\xff\x7f" + b"x" * 50)),
    ("byte-level", "a replacement of nothing", {"normalizer": {"type": "Replace", **ANY}}),
    ("byte-level", "an empty prefix", {"normalizer": {"type": "Prepend", "prepend": ""}}),
    ("byte-level", "pieces of no length", {"pre_tokenizer": {"type": "FixedLength", "length": 0}}),
    ("byte-level", "a wrong pattern", {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}}),
    ("byte-level", "a token that is none", {"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<q>", "type_id": 0}}],
                                                             "pair": [], "special_tokens": {}}}),
    ("unigram", "no vocabulary", {"model": {"type": "Unigram", "vocab": [], "unk_id": None, "byte_fallback": False}}),
    ("unigram", "an unknown token beyond it", {"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 9, "byte_fallback": False}}),
    ("word-piece", "an unknown token that is not there",
     {"model": {"type": "WordPiece", "unk_token": "?", "vocab": {"a": 0}, "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}}),
    ("byte-level", "a number beyond all vocabularies",
     {"model": {"type": "BPE", "vocab": {"a": 0, "zz": 4294967295}, "merges": []}, "post_processor": None, "added_tokens": []}),
    ("byte-level", "no vocabulary at all", {"model": {"type": "BPE", "vocab": {}, "merges": []}, "post_processor": None, "added_tokens": []}),
]  # fmt: skip


@pytest.mark.parametrize("base, edit", [pytest.param(base, edit, id=name) for base, name, edit in BROKEN])
def test_what_makes_the_library_panic_is_one_sentence_without_noise(
    base: str, edit: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    spec = json.loads(BASES[base].to_str()) | edit
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: "):
        TextTokenizer.from_pretrained(tmp_path)
    heard = capfd.readouterr()
    assert not heard.err and not heard.out


def test_absurd_padding_and_cutting_cost_nothing(tmp_path: Path):
    spec = json.loads(BASES["byte-level"].to_str())
    fill = {"direction": "Left", "pad_to_multiple_of": 0, "pad_id": 3, "pad_type_id": 0, "pad_token": "<pad>"}
    for padding in (
        fill | {"strategy": {"Fixed": 10**12}},
        fill | {"strategy": "BatchLongest", "pad_to_multiple_of": 10**12},
    ):
        (tmp_path / "tokenizer.json").write_text(json.dumps(spec | {"padding": padding}), encoding="utf-8")
        assert TextTokenizer.from_pretrained(tmp_path).encode("a", add_special_tokens=False)


def test_files_of_absurd_size_and_what_is_no_file_are_not_read(tmp_path: Path):
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "vocab.txt"):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        BASES["byte-level"].save(str(folder / "tokenizer.json"))
        path = folder / name
        if name == "vocab.txt":
            (folder / "tokenizer.json").unlink()
        with path.open("ab") as file:
            file.truncate(2**40)
        with pytest.raises(CheckpointError, match=rf"{name}: .*bytes"):
            TextTokenizer.from_pretrained(folder)
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(CheckpointError, match=rf"{name}: is a pipe"):
            TextTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 50_000, "{", "", "\ufeff{", '{"added_tokens": ' + "9" * 6000 + "}"]
)
def test_files_that_are_no_json_are_named(text: str, tmp_path: Path):
    BASES["byte-level"].save(str(tmp_path / "tokenizer.json"))
    for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(CheckpointError, match=name):
            TextTokenizer.from_pretrained(tmp_path)
        (tmp_path / name).unlink()
        BASES["byte-level"].save(str(tmp_path / "tokenizer.json"))


TEMPLATES = ["{{", "{% if %}", "{{ messages[9].content }}", "{{ 1 / 0 }}", "{{ " + "(" * 3000, "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
             "{{ raise_exception(5) }}", "{{ raise_exception() }}", "{% include 'x' %}", "{{ '\\ud800' }}", "{{ [0] * 10**9 }}",
             "{{ cycler.__init__.__globals__ }}", "{{ strftime_now(5) }}", "{{ 10 ** 5000 }}", "{% generation %}", "{{ messages | tojson(indent=10**9) }}"]  # fmt: skip


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_that_fail_end_in_a_sentence(template: str, tmp_path: Path):
    BASES["byte-level"].save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "chat_template.jinja").write_text(template, encoding="utf-8")
    tokenizer = TextTokenizer.from_pretrained(tmp_path)
    with pytest.raises(InputError) as found:
        chat_ids(tokenizer, [Message("user", "a")])
    assert str(found.value).isprintable()


@pytest.mark.parametrize("number", [2**22, 2 * 10**8, 2**31])
def test_ids_far_beyond_the_vocabulary_are_refused_before_anything_is_allocated_by_them(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    vocab = {"<unk>": 0, "a": 1, "b": number}
    spec = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": vocab, "merges": []}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer", "legacy": false}')
    monkeypatch.setattr("wenloom.tokens.folder._configured", lambda *_: pytest.fail("the ids were not checked first"))
    with pytest.raises(CheckpointError, match="are the most"):
        TextTokenizer.from_pretrained(tmp_path)


def test_two_tokens_of_one_number_end_in_a_sentence(tmp_path: Path):
    content = json.loads(BASES["byte-level"].to_str())
    first, second = content["model"]["merges"][:2]
    vocab = content["model"]["vocab"]
    vocab["".join(first)] = vocab["".join(second)]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="cannot be written and read again"):
        TextTokenizer.from_pretrained(tmp_path).literal()
