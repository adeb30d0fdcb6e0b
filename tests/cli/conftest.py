"""A small world of models and texts, shared by the tests of the command line."""

import os
from collections.abc import Iterator

import pytest

from wenloom.cli import quickstart

from ..conftest import story
from .world import World


@pytest.fixture(scope="session")
def short_shakespeare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A shorter text in place of the bundled one."""
    with pytest.MonkeyPatch.context() as patch:
        whole = quickstart.prepare
        short = tmp_path_factory.mktemp("bundled") / "tinyshakespeare.txt"
        short.write_text("\n".join(map(story, range(20))), encoding="utf-8")
        patch.setattr(quickstart, "prepare", lambda paths, out: whole([str(short)], out))
        yield


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, short_shakespeare: None) -> World:
    """One for all processes of a run: each has a folder of its own beneath the run's."""
    mine = tmp_path_factory.getbasetemp()
    store = (mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine) / "world"
    store.mkdir(exist_ok=True)
    return World(store)
