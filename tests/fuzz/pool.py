"""Workers of bounded memory, and one parent that outlives what they read."""

import argparse
import json
import multiprocessing
import shutil
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from .runner import Failure, Fuzzer, bound_memory

HANGS = 180.0
"""Seconds after which a worker that says nothing is ended: the alarm did not reach it."""


def _work(seeds: Path, work: Path, seed: int, only: str | None, numbers: range, pipe: Connection) -> None:
    torch.set_num_threads(1)
    fuzzer = Fuzzer(seeds, work, seed, only)
    bound_memory()
    for number in numbers:
        pipe.send(("begins", number, None))
        pipe.send(("ends", number, fuzzer.run(number)))


class _Worker:
    def __init__(self, numbers: range, *how: object):
        self.numbers, self._how, self.current = numbers, how, -1
        self._start(numbers)

    def _start(self, numbers: range) -> None:
        self.pipe, theirs = multiprocessing.get_context("spawn").Pipe(False)
        self.process = multiprocessing.get_context("spawn").Process(target=_work, args=(*self._how, numbers, theirs))
        self.process.start()
        theirs.close()
        self.heard = time.monotonic()

    def restart(self) -> bool:
        """Go on behind the input that ended the process."""
        self.process.kill()
        self.process.join()
        if self.current < 0:
            raise RuntimeError("the worker does not even begin")
        rest = self.numbers[self.numbers.index(self.current) + 1 :]
        if rest:
            self._start(rest)
        return bool(rest)


def fuzz(arguments: argparse.Namespace, seeds: Path, work: Path) -> int:
    """Read the inputs; 1 where one failed."""
    arguments.keep.mkdir(parents=True, exist_ok=True)
    numbers = range(arguments.begin, arguments.begin + arguments.inputs)
    workers = [
        _Worker(numbers[index :: arguments.workers], seeds, work / str(index), arguments.seed, arguments.only)
        for index in range(arguments.workers)
    ]
    kinds: Counter[str] = Counter()
    done, began = 0, time.monotonic()
    again = Fuzzer(seeds, work / "again", arguments.seed, arguments.only)
    log = (arguments.keep / "failures.jsonl").open("a", encoding="utf-8")

    def note(failure: Failure) -> None:
        kinds[failure.kind] += 1
        log.write(json.dumps({**failure._asdict(), "kind": failure.kind}) + "\n")
        log.flush()
        if kinds[failure.kind] <= 3:
            print(f"{failure.number}: {failure.kind}: {failure.what}", flush=True)
            again.make(failure.number)
            shutil.copytree(again.folder, arguments.keep / str(failure.number), dirs_exist_ok=True)

    while workers:
        for worker in list(workers):
            try:
                if worker.pipe.poll(0.05):
                    state, worker.current, failure = worker.pipe.recv()
                    worker.heard = time.monotonic()
                    done += state == "ends"
                    if failure is not None:
                        note(failure)
                    if done % 1000 == 0 and state == "ends":
                        print(f"{done:,} inputs, {sum(kinds.values()):,} failures of {len(kinds)} kinds, "
                              f"{time.monotonic() - began:,.0f} s", flush=True)  # fmt: skip
                    continue
                if time.monotonic() - worker.heard < HANGS and worker.process.is_alive():
                    continue
                what = "hangs" if worker.process.is_alive() else f"died ({worker.process.exitcode})"
            except EOFError:
                worker.process.join(HANGS)  # on a busy machine the end of a process takes seconds
                if worker.process.exitcode == 0:
                    workers.remove(worker)
                    continue
                what = f"died ({worker.process.exitcode})"
            target, file = again.make(worker.current)
            done += 1
            note(Failure(worker.current, target.name, file.name, what, ""))
            if not worker.restart():
                workers.remove(worker)
    print(
        f"{done:,} inputs in {time.monotonic() - began:,.0f} s: {sum(kinds.values()):,} failures of {len(kinds)} kinds."
    )
    for kind, count in kinds.most_common():
        print(f"{count:7,}  {kind}")
    return 1 if kinds else 0
