"""The short form of `python -m tests.fuzz`: every kind of file, spoiled a few ways, gives a result or a sentence."""

from pathlib import Path

import pytest

from .runner import Fuzzer
from .targets import TARGETS, make_seeds

EACH = 12
"""Inputs of every kind of file."""


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "seeds"
    make_seeds(folder)
    return folder


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_spoiled_file_gives_a_result_or_a_sentence(target, seeds: Path, tmp_path: Path):
    fuzzer = Fuzzer(seeds, tmp_path, seed=1, only=target.name)
    failures = [fuzzer.run(number) for number in range(EACH * (4 if target.name == "documents" else 1))]
    assert [each for each in failures if each is not None] == []


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_valid_file_is_read(target, seeds: Path, tmp_path: Path):
    fuzzer = Fuzzer(seeds, tmp_path, only=target.name)
    for name in target.files:
        file = fuzzer.copy(target, name)
        target.read(fuzzer.folder, file)
