"""Documents through a recipe: steps on all cores, block by block, each block kept on disk, then all documents compared.

Blocks are cut by size in the order of reading, so that neither the number of processes nor an interruption changes what comes out.
"""

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from wenloom.text.document import Document, ReadOptions
from wenloom.text.recipe import Recipe
from wenloom.text.refusals import Refusals
from wenloom.text.sifted import Sifted
from wenloom.text.worker import BLOCK_CHARACTERS, Worker, in_blocks

_FEW_CHARACTERS = 2 * BLOCK_CHARACTERS
"""Up to which one process is faster than starting several."""


_worker: Worker | None = None


def _start(recipe: Recipe, reading: ReadOptions) -> None:
    global _worker
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = Worker(recipe, reading)


def _end_with_parent() -> None:
    """A process that waits for blocks would wait for ever where its parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(path: Path, documents: Sequence[Document]) -> None:
    assert _worker is not None
    _worker(path, documents)


def sift(
    files: Sequence[Path],
    reading: ReadOptions,
    recipe: Recipe,
    work: Path,
    on_bytes: Callable[[int], None] = lambda n: None,
    refusals: Refusals | None = None,
    validation_files: Sequence[Path] = (),
    processes: int | None = None,
    limit: int | None = None,
) -> Sifted:
    """Take documents through a recipe.

    Args:
        work: a folder where blocks are kept; those that lie there already are not done again. It belongs to these files, options
            and recipe alone.
        processes: default: one a core.
        limit: documents of each file to look at; default: all.

    Raises:
        InputError: see `documents.read_documents`; or a step cannot be made.
    """
    work.mkdir(parents=True, exist_ok=True)
    Worker(recipe, reading)  # what cannot be made is said before anything is read
    options, blocks, n_validation = (on_bytes, refusals or Refusals(strict=not reading.skip_bad)), list[Path](), 0
    with _pool(recipe, reading, processes, [*validation_files, *files]) as submit:
        for group in (validation_files, files):
            for documents in in_blocks(group, reading, *options, limit):
                path = work / f"{len(blocks):06}.npz"
                blocks.append(path)
                if not path.exists():
                    submit(path, documents)
            n_validation = n_validation or len(blocks) if group is validation_files else n_validation
    return Sifted(blocks, n_validation if validation_files else 0, recipe)


@contextlib.contextmanager
def _pool(recipe: Recipe, reading: ReadOptions, processes: int | None,
          files: Sequence[Path]) -> Iterator[Callable[[Path, list[Document]], None]]:  # fmt: skip
    """What takes a block to a free process, and waits while all of them have two."""
    count = (
        processes or len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else processes or os.cpu_count() or 1
    )
    if count == 1 or (processes is None and sum(file.stat().st_size for file in files) < _FEW_CHARACTERS):
        yield Worker(recipe, reading)
        return
    context, waiting = multiprocessing.get_context("spawn"), set[Future[None]]()
    with ProcessPoolExecutor(count, context, _start, (recipe, reading)) as pool:

        def submit(path: Path, documents: list[Document]) -> None:
            nonlocal waiting
            while len(waiting) >= 2 * count:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                _raised(done)
            waiting.add(pool.submit(_work, path, documents))

        try:
            yield submit
            _raised(waiting)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _raised(done: set[Any]) -> None:
    for each in done:
        each.result()
