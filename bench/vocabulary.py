"""Bits per byte with the default vocabulary and with others, at equal training time.

    WENLOOM_SHARED_DATA=datasets python bench/vocabulary.py [--seconds 60] [--seeds 2] [--vocabularies N ...] [CORPUS ...]

Each arm gets the same seconds of processor time for its steps, as many as short runs of two lengths say that they hold (of each
length the least of three): unlike wall time, that tells arms apart on a machine that others use, too. Models have `--size` parameters with their embeddings. The
other arm is the vocabulary of the power of two nearest to the square root of the bytes, merged from bytes by frequency,
which was the default before; `--vocabularies` adds sizes that are merged from bytes, too. Needs chinese_poetry, udhr2 and
classic_books among the datasets.
"""

import argparse
import gzip
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wenloom.text.corpus import read_corpus
from wenloom.text.documents import ReadOptions, find_files
from wenloom.tokens.prepare import PrepareOptions, prepare
from wenloom.tokens.shards import Dataset
from wenloom.tokens.train import train_tokenizer

VALIDATED = 500_000
"""Bytes of validation text that are scored, about: of the books there are millions."""
BATCH = 16
"""Sequences of a step: by default they grow with the steps, and runs of other lengths would not tell what a step takes."""
SHORT, LONG, TRIES = 20, 320, 3
"""Steps of the runs that time a step, and how often each is made."""
DATA = Path(os.environ.get("WENLOOM_SHARED_DATA", "../shared/data"))


def rows(name: str) -> Iterator[dict[str, Any]]:
    """Of a dataset that is a gzipped file of JSON lines."""
    with gzip.open(next((DATA / name).glob("*.jsonl.gz")), "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def poems(count: int | None) -> list[str]:
    """The first Tang poems, or everything."""
    chosen = [row for row in rows("chinese_poetry") if count is None or row["collection"] == "全唐诗"]
    return ["\n".join([row["title"] or "", *row["paragraphs"]]) for row in chosen[:count]]


CORPORA = {
    "4,000 Tang poems": lambda: poems(4000),
    "Chinese poetry": lambda: poems(None),
    "UDHR, Japanese": lambda: [row["text"] for row in rows("udhr2") if "/jpn" in row["file"]],
    "UDHR, Korean": lambda: [row["text"] for row in rows("udhr2") if "/kor" in row["file"]],
    "UDHR, Thai": lambda: [row["text"] for row in rows("udhr2") if "/tha" in row["file"]],
    "UDHR, English": lambda: [row["text"] for row in rows("udhr2") if "/eng" in row["file"]],
    "English books": lambda: [row["text"] for row in rows("classic_books")],
}


def prepared(file: Path, vocabulary: str, out: Path) -> Dataset:
    """The corpus with a vocabulary: `default`, `square root`, or a number of tokens."""
    if vocabulary == "default":
        return prepare([str(file)], out).dataset
    corpus = read_corpus(find_files([str(file)]), ReadOptions(), PrepareOptions.validation, file.parent)
    root = 2 ** min(16, max(9, round(math.log2(corpus.n_bytes) / 2)))
    size = root if vocabulary == "square root" else int(vocabulary)
    tokenizer = train_tokenizer(corpus.learning_sample(), "bpe", size, exact=False)
    return prepare([str(file)], out, tokenizer=tokenizer).dataset


def trained(data: Dataset, out: Path, size: str, steps: int, seed: int) -> tuple[float, float]:
    """Seconds of processor time that a run took, and its bits per byte."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "wenloom", "pretrain", data.folder, "--out", out, "--size", size, "--steps", steps]
    command += [
        "--batch",
        BATCH,
        "--seed",
        seed,
        "--evaluations",
        1 if steps <= LONG else 4,
        "--compile",
        "off",
        "--json",
    ]
    command += ["--validation-part", min(1.0, VALIDATED / data.splits["validation"].bytes)]
    done = subprocess.run([str(each) for each in command], text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-1000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, json.loads(done.stdout)["validation"]["bits_per_byte"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="*", help=", ".join(CORPORA))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--size", default="1m")
    parser.add_argument("--vocabularies", nargs="*", default=[])
    options = parser.parse_args()
    print(f"{'':18}{'vocabulary':>12}{'tokens':>8}{'steps':>7}{'bits/byte':>11}  seeds", flush=True)
    for name in options.corpora or CORPORA:
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder)
            file = here / "texts.jsonl"
            file.write_text("".join(json.dumps({"text": text}) + "\n" for text in CORPORA[name]()))
            for number, vocabulary in enumerate(["square root", "default", *options.vocabularies]):
                data = prepared(file, vocabulary, here / f"data{number}")
                short, long = (
                    min(trained(data, here / f"{number}-{n}-{k}", options.size, n, 0)[0] for k in range(TRIES))
                    for n in (SHORT, LONG)
                )
                steps = max(50, round(options.seconds / (long - short) * (LONG - SHORT)))
                found = [
                    trained(data, here / f"{number}-run-{seed}", options.size, steps, seed)[1]
                    for seed in range(options.seeds)
                ]
                print(f"{name:18}{vocabulary:>12}{data.tokenizer().vocab_size:8,}{steps:7,}{statistics.fmean(found):11.4f}  "
                      + " ".join(f"{each:.4f}" for each in found), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
