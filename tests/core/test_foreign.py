"""Whatever reading a foreign file raises becomes one sentence that names the file."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wenloom.core.errors import CheckpointError, InputError, printable
from wenloom.core.foreign import read_json, read_json_object, reading


class Panic(BaseException):
    """As Rust code raises through its Python binding."""


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), MemoryError(), RecursionError(), Exception("odd"), Panic("at src/lib.rs"), OSError(5, "Bad")],
)
def test_any_exception_names_the_file(error: BaseException):
    sentence = pytest.raises(CheckpointError, match=r"^/some/file: is not a tokenizer \(.+\)\.$")
    with sentence, reading("/some/file", CheckpointError, "is not a tokenizer"):
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), InputError("written for the user")])
def test_what_is_no_fault_of_the_file_passes_through(error: BaseException):
    with pytest.raises(type(error)) as caught, reading("/some/file"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b'{"a": "\\ud83d', b"nul"]
)
def test_damaged_json_is_one_sentence(content: bytes, tmp_path: Path):
    file = tmp_path / "config.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"config\.json: "):
        read_json(file)


@pytest.mark.parametrize("content", ["[]", "null", '"text"', "3", "true"])
def test_json_of_another_kind_is_named(content: str, tmp_path: Path):
    file = tmp_path / "config.json"
    file.write_text(content)
    with pytest.raises(CheckpointError, match="where a JSON object is needed"):
        read_json_object(file, CheckpointError)


@given(st.text())
def test_printable_text_cannot_command_a_terminal(text: str):
    shown = printable(text)
    assert shown.isprintable() and shown.encode().decode() == shown
