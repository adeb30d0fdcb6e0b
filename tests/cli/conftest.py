"""A small world of models and texts, shared by the tests of the command line."""

import functools
from collections.abc import Iterator

import pytest

import wenloom.core.hardware
import wenloom.training.measure
import wenloom.training.setup
from wenloom.cli import quickstart

from ..conftest import story
from .world import World


@pytest.fixture(scope="session")
def quick_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The machine's speed, which every training measures for most of a second, measured once and by less; and a shorter
    text in place of the bundled Shakespeare."""
    with pytest.MonkeyPatch.context() as patch:
        peak = functools.cache(lambda device, dtype: wenloom.core.hardware.matmul_peak(device, dtype, 256))
        for module in (wenloom.training.measure, wenloom.training.setup):
            patch.setattr(module, "matmul_peak", peak)
        whole = quickstart.prepare
        short = tmp_path_factory.mktemp("bundled") / "tinyshakespeare.txt"
        short.write_text("\n".join(map(story, range(20))), encoding="utf-8")
        patch.setattr(quickstart, "prepare", lambda paths, out: whole([str(short)], out))
        yield


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, quick_machine: None) -> World:
    return World(tmp_path_factory.mktemp("world"))
