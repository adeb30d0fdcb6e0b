"""Text at scale beside datatrove, rensa, datasketch and text-dedup: documents per second and core, recall and precision on planted truth, memory.

    python bench/data.py --books ../shared/data/classic_books/books.jsonl.gz --pages ../shared/data/web_pages/pages.jsonl.gz

The corpus is made of the books and pages: near duplicates, exact ones, menus and pages in other languages are planted, and it is
known where. The peers are measured where they are installed (pip install datatrove spacy rensa datasketch text-dedup), in the same process and by
the time of the processor, so that a busy machine does not count.
"""

import argparse
import contextlib
import gzip
import importlib
import itertools
import json
import multiprocessing
import random
import resource
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from wenloom.text.document import Document, ReadOptions
from wenloom.text.html import visible_text
from wenloom.text.recipe import Recipe, load_recipe
from wenloom.text.sift import sift
from wenloom.text.sifted import Sifted
from wenloom.text.steps import STEPS
from wenloom.text.steps.step import Kept

FILTERS = {
    "gopher": ("gopher_quality_filter", "GopherQualityFilter"),
    "repetition": ("gopher_repetition_filter", "GopherRepetitionFilter"),
    "c4": ("c4_filters", "C4QualityFilter"),
    "fineweb": ("fineweb_quality_filter", "FineWebQualityFilter"),
}


def rows(path: Path) -> list[dict[str, Any]]:
    """Of a packed file of JSON lines."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def _originals(books: list[str], rng: random.Random) -> Iterator[str]:
    """Stretches of books that do not overlap, without end: every round exchanges the letters in another way, so that texts keep
    their shape and no two rounds have words in common."""
    letters = list("abcdefghijklmnopqrstuvwxyz")
    for round_ in itertools.count():
        others = random.Random(round_).sample(letters, len(letters)) if round_ else letters
        exchanged = str.maketrans("".join(letters), "".join(others))
        for book in books:
            at = 3000
            while at < len(book) - 800:
                size = rng.choice((800, 2000, 4000, 8000))
                yield book[at : at + size].translate(exchanged)
                at += size


def make_corpus(books: list[str], pages: list[str], megabytes: float, out: Path) -> list[str]:
    """Write a messy corpus; returns which original each document comes from: one in ten is nearly an earlier one, one in twenty
    the same, one in twenty a page with its menus."""
    rng, groups, size = random.Random(0), list[str](), 0
    originals, recent = _originals(books, rng), list[tuple[str, str]]()
    with out.open("w", encoding="utf-8") as file:
        while size < megabytes * 1e6:
            kind, number = rng.random(), len(groups)
            if kind < 0.15 and recent:
                group, text = rng.choice(recent)
                words = text.split(" ")
                for _ in range(max(1, len(words) // 200) if kind < 0.1 else 0):
                    words[rng.randrange(len(words))] = rng.choice(("elsewhere", "nobody", "1,234"))
                text = " ".join(words)
            elif kind < 0.2:
                which = rng.randrange(len(pages))
                group, text = f"page {which}", f"{pages[which]}\n{number}"
            else:
                group, text = str(number), next(originals)
                recent.append((group, text))
                del recent[: len(recent) - 2000]
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            groups.append(group)
            size += len(text.encode())
    return groups


def seconds(work: Callable[[], object]) -> float:
    """Of the processor."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


class Spent:
    """Time of the processor and memory of this process and all that it starts, while it is entered."""

    def __init__(self) -> None:
        self.seconds, self.gigabytes = 0.0, 0.0
        """Memory: the most at once, each page shared by n processes counted as 1/n in each (PSS)."""
        self._done = threading.Event()

    def __enter__(self) -> "Spent":
        self._begun, self._thread = self._time(), threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.seconds = self._time() - self._begun

    @staticmethod
    def _time() -> float:
        return sum(
            each.ru_utime + each.ru_stime
            for each in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )

    def _watch(self) -> None:
        import psutil

        me = psutil.Process()
        is_done = False
        while not is_done:
            total = 0
            for each in (me, *me.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    total += each.memory_full_info().pss
            self.gigabytes = max(self.gigabytes, total / 1e9)
            is_done = self._done.wait(0.2)


def bench_filters(texts: Sequence[str]) -> None:
    """Speed and decisions of each filter beside datatrove's."""
    try:
        theirs_of: Any = importlib.import_module("datatrove.data").Document
        split_into_parts: Any = importlib.import_module("datatrove.utils.text").split_into_parts
    except ImportError:
        print("datatrove is not installed: its filters are left out.")
        return
    total_ours = total_theirs = 0.0
    for name, (module, kind) in FILTERS.items():
        judge = getattr(importlib.import_module(f"datatrove.pipeline.filters.{module}"), kind)()
        step, verdicts, results = STEPS[name](), list[bool](), list[bool]()

        def theirs(judge: Any = judge, verdicts: list[bool] = verdicts) -> None:
            for text in texts:
                split_into_parts.cache_clear()
                verdicts.append(judge.filter(theirs_of(text=text, id="0")) is True)

        def ours(step: Any = step, results: list[bool] = results) -> None:
            for text in texts:
                results.append(isinstance(step(Document(text, "", {"language": "en"})), Kept))

        their_time, our_time = seconds(theirs), seconds(ours)
        total_ours, total_theirs = total_ours + our_time, total_theirs + their_time
        differ = sum(a != b for a, b in zip(verdicts, results, strict=True))
        print(f"  {name:12} {len(texts) / our_time:9,.0f} documents/s, datatrove {len(texts) / their_time:7,.0f}: {their_time / our_time:5.1f} x; "
              f"{differ} of {len(texts)} decisions differ")  # fmt: skip
    print(f"  all          {total_theirs / total_ours:.1f} x")


def bench_minhash(texts: Sequence[str]) -> None:
    """Signatures of 112 permutations from text, sequences of five words."""
    import re

    step = STEPS["near_duplicates"]()
    step.note(texts[:10])
    ours = seconds(lambda: step.note(texts))
    print(f"  wenloom      {len(texts) / ours:9,.0f} documents/s")
    word = re.compile(r"\w+")

    def grams(text: str) -> list[str]:
        words = word.findall(text.lower())
        return [" ".join(words[at : at + 5]) for at in range(max(1, len(words) - 4))]

    def rensa() -> None:
        made_of: Any = importlib.import_module("rensa").RMinHash
        for text in texts:
            made = made_of(num_perm=112, seed=1)
            made.update(grams(text))
            made.digest()

    def datasketch() -> None:
        made_of: Any = importlib.import_module("datasketch").MinHash
        for text in texts:
            made_of(num_perm=112).update_batch([gram.encode() for gram in grams(text)])

    def text_dedup() -> None:
        theirs: Any = importlib.import_module("text_dedup.minhash")
        permutations = tuple(theirs.RNG.randint(low, 2**32 - 5, 112, np.uint32) for low in (1, 0))
        for text in texts:
            theirs.embed_func(
                text, 0, num_perm=112, ngram_size=5, min_length=0, hashranges=[(8 * band, 8 * band + 8) for band in range(14)],
                permutations=permutations, hash_func=theirs.xxh3_32hash, dtype=np.uint32, max_hash=np.uint32(2**32 - 1),
                modulo_prime=np.uint32(2**32 - 5),
            )  # fmt: skip

    for name, work in (("rensa", rensa), ("datasketch", datasketch), ("text-dedup", text_dedup)):
        try:
            importlib.import_module(name.replace("-", "_"))
            theirs = seconds(work)
        except ImportError:
            print(f"  {name} is not installed.")
            continue
        print(f"  {name:12} {len(texts) / theirs:9,.0f} documents/s: {theirs / ours:.1f} x")


def bench_planted(books: list[str], pages: list[str], megabytes: float, recipe: Recipe, processes: int | None) -> None:
    """Found and false near duplicates, time and memory of a whole recipe."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "corpus.jsonl")
        groups = make_corpus(books, pages, megabytes, source)
        begun = time.monotonic()
        there, dropped = Counter[str](), list[str]()
        with Spent() as spent:
            sifted = sift([source], ReadOptions(), recipe, Path(folder, "work"), processes=processes)
            for group, decided in zip(groups, sifted.decided(), strict=True):
                if decided.step in ("near_duplicates", "duplicates"):
                    dropped.append(group)
                there[group] += decided.step in ("", "near_duplicates", "duplicates")
        took = time.monotonic() - begun
        truth = sum(count - 1 for count in there.values() if count)
        right = sum(min(count, there[group] - 1) for group, count in Counter(dropped).items())
        print(f"  {megabytes:,.0f} MB, {len(groups):,} documents, {truth:,} of them planted duplicates: recall {right / truth:.4f}, precision "
              f"{right / len(dropped):.4f}; {spent.seconds:.0f} s of the processor ({1e3 * spent.seconds / megabytes:.0f} s a GB), "
              f"{took:.0f} s in all; at most {spent.gigabytes:.2f} GB in all processes", flush=True)  # fmt: skip


CORPUS_STEPS = ("duplicates", "repeated_lines", "exact_substrings", "near_duplicates")


def _compared(source: Path, work: Path, steps: Sequence[str], processes: int | None) -> tuple[float, float, int]:
    """Seconds of the processor, gigabytes, and how many documents are dropped or cut."""
    recipe, blocks = Recipe("steps", {step: {} for step in steps}), sorted(work.glob("*.npz"))
    with Spent() as spent:
        sifted = (
            Sifted(blocks, 0, recipe) if blocks else sift([source], ReadOptions(), recipe, work, processes=processes)
        )
    changed = sum(len(verdict.dropped) + len(verdict.cut) for verdict in sifted.verdicts.values())
    return spent.seconds, spent.gigabytes, changed


def bench_corpus_steps(books: list[str], pages: list[str], megabytes: float, processes: int | None) -> None:
    """All steps that compare documents, from the text on, and then each alone on what all of them noted; in fresh processes."""
    with tempfile.TemporaryDirectory() as folder:
        source, work = Path(folder, "corpus.jsonl"), Path(folder, "work")
        count = len(make_corpus(books, pages, megabytes, source))
        print(f"  {megabytes:,.0f} MB, {count:,} documents:")
        for steps in (CORPUS_STEPS, *((step,) for step in CORPUS_STEPS)):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                took, gigabytes, changed = pool.submit(_compared, source, work, steps, processes).result()
            print(f"    {steps[0] if len(steps) == 1 else 'text and all':16} {took:6.0f} s of the processor, at most {gigabytes:.2f} GB; "
                  f"{changed:,} documents dropped or cut", flush=True)  # fmt: skip


def main() -> None:
    """Run everything that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--books", type=Path, required=True)
    parser.add_argument("--pages", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, nargs="*", default=[20.0])
    parser.add_argument("--processes", type=int, default=None)
    parser.add_argument("--only-recipe", action="store_true", help="leave out the peers")
    parser.add_argument("--recipe", default="plain")
    parser.add_argument(
        "--corpus-steps", action="store_true", help="time and memory of each step that compares documents, nothing else"
    )
    given = parser.parse_args()
    books = [row["text"].replace("\r\n", "\n") for row in rows(given.books)]
    pages = [visible_text(row["html"]) for row in rows(given.pages)]
    if given.corpus_steps:
        print("Steps that compare documents:")
        for megabytes in given.megabytes:
            bench_corpus_steps(books, pages, megabytes, given.processes)
        return
    texts = [book[at : at + 3000] for book in books for at in range(3000, min(len(book), 33_000), 3000)]
    if not given.only_recipe:
        print("Filters:")
        bench_filters(texts)
        print("MinHash:")
        bench_minhash(texts)
    recipe = load_recipe(given.recipe)
    if "near_duplicates" not in recipe.values:
        recipe = load_recipe(given.recipe, ("near_duplicates=on",))
    print(f"Recipe {given.recipe}:")
    for megabytes in given.megabytes:
        bench_planted(books, pages, megabytes, recipe, given.processes)


if __name__ == "__main__":
    main()
