"""The loss that `wenloom plan` and the start of a run tell to expect, against the loss that runs reach.

    WENLOOM_SHARED_DATA=datasets python bench/expected_loss.py [--out runs.jsonl] [CORPUS ...]
    python bench/expected_loss.py --fit runs.jsonl

Thirty runs: five corpora (a play, novels, an encyclopaedia, Chinese poems, program text) by six lengths and sizes, default
vocabulary and settings otherwise. Then the range of each is compared with what was reached; `--fit` also fits the constants
again, to all runs and, for an honest error, to those of the four other corpora. Needs wikitext2, classic_books and
chinese_poetry among the datasets; program text is the standard library of this Python.
"""

import argparse
import gzip
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from wenloom.tokens.shards import Dataset
from wenloom.training.plan import expected_bits_per_byte
from wenloom.training.scratch import CorpusStatistics

DATA = Path(os.environ.get("WENLOOM_SHARED_DATA", "../shared/data"))
RUNS = [("300k", "500k"), ("300k", "2m"), ("1m", "500k"), ("1m", "1500k"), ("2m", "1m"), ("3m", "500k")]
"""Size and tokens."""


def books(count: int) -> list[dict[str, str]]:
    """The first of the classic books."""
    with gzip.open(DATA / "classic_books/books.jsonl.gz", "rt", encoding="utf-8") as file:
        return [{"text": json.loads(next(file))["text"]} for _ in range(count)]


def encyclopaedia() -> list[dict[str, str]]:
    """WikiText-2, an article each."""
    with gzip.open(next((DATA / "wikitext2").glob("*train*.gz")), "rt", encoding="utf-8") as file:
        text = file.read()
    return [{"text": f" = {each}"} for each in text.split("\n = ") if len(each) > 1000]


def poems() -> list[dict[str, str]]:
    """All Chinese poems."""
    with gzip.open(next((DATA / "chinese_poetry").glob("*.jsonl.gz")), "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [{"text": "\n".join([row["title"] or "", *row["paragraphs"]])} for row in rows]


def programs() -> list[dict[str, str]]:
    """The modules of the standard library, those in folders too."""
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    kept = [each for each in files if "site-packages" not in each.parts and "dist-packages" not in each.parts]
    return [{"text": each.read_text("utf-8", "replace")} for each in kept]


def play() -> list[dict[str, str]]:
    """TinyShakespeare as one document."""
    return [{"text": (DATA / "tinyshakespeare/input.txt").read_text("utf-8")}]


CORPORA = {
    "a play": play, "novels": lambda: books(30), "encyclopaedia": encyclopaedia, "Chinese poems": poems, "programs": programs,
}  # fmt: skip


def wenloom(*arguments: object) -> dict[str, Any]:
    """What a command reports."""
    command = [sys.executable, "-m", "wenloom", *map(str, arguments), "--json"]
    done = subprocess.run(command, text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{arguments}: {done.stderr[-1000:]}")
    return json.loads(done.stdout)


def text_sizes(data: Dataset) -> dict[str, float]:
    """What is known of a text beforehand: how far bzip2 packs it (bits per byte), its bytes, and those of a token."""
    split = data.splits["train"]
    return {"packed": CorpusStatistics.of(data).packed_bits(), "bytes_per_token": split.bytes / split.tokens,
            "unique": split.bytes}  # fmt: skip


def reached(run: Path) -> dict[str, float]:
    """What run.toml says of the end."""
    tables = tomllib.loads((run / "run.toml").read_text("utf-8"))
    return {"parameters": tables["model"]["parameters"], "read": tables["result"]["tokens"],
            "bits_per_byte": tables["result"]["validation_bits_per_byte"]}  # fmt: skip


def effective(run: dict[str, Any]) -> float:
    """Bytes read, repeated ones counting less, as the plan counts them."""
    ratio = run["read"] * run["bytes_per_token"] / run["unique"]
    return run["unique"] * (ratio if ratio <= 1 else 1 + 15 * (1 - np.exp(-(ratio - 1) / 15)))


def fitted(runs: list[dict[str, Any]], exponent: float) -> np.ndarray:
    """a, b, c of bits per byte = packed^exponent (a + b N^-0.3 + c D^-0.3), by least squares of the relative error."""
    rows = np.array([[1, run["parameters"] ** -0.3, effective(run) ** -0.3] for run in runs])
    scale = np.array([run["packed"] ** exponent / run["bits_per_byte"] for run in runs])
    return np.linalg.lstsq(rows * scale[:, None], np.ones(len(runs)), rcond=None)[0]


def expected(constants: np.ndarray, run: dict[str, Any], exponent: float) -> float:
    """Bits per byte by that formula."""
    return float(run["packed"] ** exponent * constants @ [1, run["parameters"] ** -0.3, effective(run) ** -0.3])


def fit(runs: list[dict[str, Any]]) -> None:
    """How many runs ended where they were told to, and what other constants would have told."""
    if len({run["corpus"] for run in runs}) < 2:
        raise SystemExit("runs of at least two corpora are needed: each is foretold from the others.")
    told = [
        expected_bits_per_byte(run["parameters"], run["read"] * run["bytes_per_token"], run["unique"], run["packed"])
        for run in runs
    ]
    inside = sum(low <= run["bits_per_byte"] <= high for (low, high), run in zip(told, runs, strict=True))
    print(f"in the range that is told: {inside} of {len(runs)}")
    print("exponent        a      b      c   within 9 of 10 +-   foretold from other corpora, 9 of 10 +-")
    for exponent in np.linspace(0, 1, 11):
        constants = fitted(runs, exponent)
        own = [abs(run["bits_per_byte"] / expected(constants, run, exponent) - 1) for run in runs]
        others = []
        for name in {run["corpus"] for run in runs}:
            left = fitted([run for run in runs if run["corpus"] != name], exponent)
            others += [
                abs(run["bits_per_byte"] / expected(left, run, exponent) - 1) for run in runs if run["corpus"] == name
            ]
        shown = "  ".join(f"{each:6.4g}" for each in constants)
        print(f"{exponent:8.1f}   {shown}   {np.quantile(own, 0.9):16.1%}   {np.quantile(others, 0.9):22.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="*", help=", ".join(CORPORA))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--fit", type=Path)
    options = parser.parse_args()
    if options.fit:
        return fit([json.loads(line) for line in options.fit.read_text().splitlines()])
    for name in options.corpora or CORPORA:
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder)
            (here / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CORPORA[name]()))
            wenloom("prepare", here / "texts.jsonl", "--out", here / "data")
            sizes = text_sizes(Dataset.open(here / "data"))
            for number, (size, tokens) in enumerate(RUNS):
                out = here / f"run{number}"
                wenloom("pretrain", here / "data", "--out", out, "--size", size, "--tokens", tokens, "--evaluations", 1)
                row = {"corpus": name, "size": size, "tokens": tokens, **sizes, **reached(out)}
                print(json.dumps(row), flush=True)
                if options.out:
                    with options.out.open("a") as file:
                        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
