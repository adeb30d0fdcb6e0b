"""The llama2.c importer against the project's own reference output."""

from pathlib import Path

import pytest

from wenloom.api import LanguageModel
from wenloom.checkpoint.llama2c import read_decoder, read_tokenizer
from wenloom.core.errors import CheckpointError


@pytest.mark.shared_data
def test_greedy_text_is_exact(shared_data: Path):
    source = shared_data / "weights" / "stories260K"
    model = LanguageModel(read_decoder(source / "stories260K.bin"), read_tokenizer(source / "tok512.bin"))
    expected = (source / "expected_greedy_200.txt").read_text(encoding="utf-8")
    assert model.generate(do_sample=False, max_new_tokens=200) == expected
    assert model.generate(do_sample=False, max_new_tokens=200, use_cache=False) == expected
    assert model.tokenizer.decode(model.tokenizer.encode("Lily's dog, 小狗")) == "Lily's dog, 小狗"


@pytest.mark.parametrize("content", [b"", b"short", b"\x00" * 28, b"\xff" * 400])
def test_other_files_are_refused(content: bytes, tmp_path: Path):
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.bin"):
        read_decoder(tmp_path / "model.bin")
    with pytest.raises(CheckpointError, match=r"model\.bin"):
        read_tokenizer(tmp_path / "model.bin")


@pytest.mark.shared_data
def test_truncated_files_are_refused(shared_data: Path, tmp_path: Path):
    for name, read in (("stories260K.bin", read_decoder), ("tok512.bin", read_tokenizer)):
        data = (shared_data / "weights" / "stories260K" / name).read_bytes()
        (tmp_path / name).write_bytes(data[:-3])
        with pytest.raises(CheckpointError, match=r"header asks for|cannot be read"):
            read(tmp_path / name)
