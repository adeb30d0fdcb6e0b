"""However many threads the system grants, the tokens are the same."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from wenloom.model.cache import Segment
from wenloom.model.quantize import quantize
from wenloom.runtime.native import compiler
from wenloom.runtime.native.step import NativeStep
from wenloom.runtime.slots import Slots

from ..conftest import random_decoder, tiny_config

WRITE = """if True:
    import os, sys
    if sys.argv[1] == "one core":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import torch
    from tests.runtime.test_any_threads import written
    print(written(4))
"""
GRANTS = {
    "a limit of one": ("", {"OMP_THREAD_LIMIT": "1"}),
    "a limit of two": ("", {"OMP_THREAD_LIMIT": "2"}),
    "as the system likes": ("", {"OMP_DYNAMIC": "true"}),
    "one core": ("one core", {"OMP_NUM_THREADS": "4"}),
    "one core for each": ("one core", {"OMP_PROC_BIND": "true", "OMP_NUM_THREADS": "4"}),
}


def written(threads: int) -> list[float]:
    """Sums of logits of many texts of uneven length, a step at a time, by so many threads asked for."""
    library = compiler.library(None)
    if library is None:
        pytest.skip("no C compiler")
    torch.set_num_threads(threads)
    found = []
    for decoder in (random_decoder(tiny_config()), quantize(random_decoder(tiny_config()), 4)):
        slots, step = Slots(decoder.config, torch.device("cpu"), decoder.cache_dtype), NativeStep(decoder, library)
        for start, count in ((0, 3), (3, 1), (4, 1)):
            segments = [Segment(slot, start * (slot + 1), count, 0) for slot in range(7)]
            n = count * len(segments)
            _, logits = step.read([5 + i % 90 for i in range(n)], slots, segments, range(n))
            found += logits.double().sum(-1).tolist()
    return found


@pytest.fixture(scope="module")
def alone() -> list[float]:
    before = torch.get_num_threads()
    yield written(1)
    torch.set_num_threads(before)


@pytest.mark.parametrize("grant", GRANTS)
def test_fewer_threads_than_asked_for_do_all_the_work(grant: str, alone: list[float]):
    argument, variables = GRANTS[grant]
    root = Path(__file__).parents[2]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    environment |= variables | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", WRITE, argument]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == str(alone), done.stderr


@pytest.mark.parametrize("threads", [2, 3, 7, 33])
def test_more_threads_than_cores_write_the_same(threads: int, alone: list[float]):
    assert written(threads) == alone


def test_a_step_inside_a_parallel_region_is_whole(alone: list[float]):
    library = compiler.library(None)
    assert library is not None
    openmp = ctypes.CDLL("libgomp.so.1")
    before = openmp.omp_get_max_active_levels()
    openmp.omp_set_max_active_levels(0)  # as inside a region of somebody else's: one thread and no more
    try:
        assert written(4) == alone
    finally:
        openmp.omp_set_max_active_levels(before)
