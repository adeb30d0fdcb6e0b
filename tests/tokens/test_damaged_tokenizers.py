"""Damaged and odd tokenizer files: a sentence that names the file, whatever is wrong; no traceback, no noise."""

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
from wenloom.core.errors import WenloomError
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
