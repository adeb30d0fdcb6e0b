"""Vectors of texts per second, side by side with sentence-transformers on the same folder.

Each contestant runs in a process of its own with two threads; rounds alternate, so that a slow minute of the machine hits both.
Timed is everything from texts to vectors, tokenizing included, by the clock and by the processor's, which counts where others use
the machine, too; the vectors are compared.

    python bench/embedding.py MODEL --texts texts.txt [--peer PYTHON] [--rounds 5] [--out embedding.json]

PYTHON is the interpreter of an environment with sentence-transformers; MODEL a folder that both read.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CONTESTANTS = ("wenloom", "sentence-transformers")


def embedder(name: str, folder: str) -> Callable[[list[str]], np.ndarray[Any, Any]]:
    if name == "wenloom":
        from wenloom.runtime.embedder import load_embedder

        return load_embedder(Path(folder)).embed
    from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]

    model = SentenceTransformer(folder, device="cpu")
    return lambda texts: model.encode(texts, show_progress_bar=False)


def contestant(name: str, folder: str, texts: Path, vectors: Path) -> None:
    """Embed all texts once for every line of standard input; answer with the seconds, and those of the processor."""
    import torch

    torch.set_num_threads(2)
    embed, given = embedder(name, folder), texts.read_text(encoding="utf-8").split("\n")
    np.save(vectors, embed(given[:200]))  # warms up
    print("ready", flush=True)
    for _ in sys.stdin:
        started, worked = time.perf_counter(), time.process_time()
        embed(given)
        print(time.perf_counter() - started, time.process_time() - worked, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--peer", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--contestant", choices=CONTESTANTS)
    parser.add_argument("--vectors", type=Path)
    given = parser.parse_args()
    if given.contestant:
        contestant(given.contestant, given.model, given.texts, given.vectors)
        return
    scratch = Path(tempfile.mkdtemp())
    running: dict[str, subprocess.Popen[str]] = {}
    for name in CONTESTANTS:
        python = sys.executable if name == "wenloom" else given.peer
        command = [
            python,
            __file__,
            given.model,
            "--texts",
            given.texts,
            "--contestant",
            name,
            "--vectors",
            scratch / f"{name}.npy",
        ]
        environment = os.environ | {"OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "true", "HF_HUB_OFFLINE": "1"}
        running[name] = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
    seconds, worked = ({name: list[float]() for name in CONTESTANTS} for _ in range(2))
    for name, process in running.items():
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise SystemExit(f"{name} did not start.")
    for _ in range(given.rounds):
        for name, process in running.items():
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            for kept, each in zip((seconds, worked), process.stdout.readline().split(), strict=True):
                kept[name].append(float(each))
    for process in running.values():
        process.communicate()
    ours, theirs = (np.load(scratch / f"{name}.npy") for name in CONTESTANTS)
    n_texts = len(given.texts.read_text(encoding="utf-8").split("\n"))
    ratios, by_processor = (
        [b / a for a, b in zip(*(kept[name] for name in CONTESTANTS), strict=True)] for kept in (seconds, worked)
    )
    found = {"model": given.model, "texts": n_texts, "largest_difference": float(np.abs(ours - theirs).max()), "ratio": statistics.median(ratios),
             "ratios": ratios, "processor_ratio": statistics.median(by_processor), "processor_ratios": by_processor, "texts_per_second": {name: n_texts / statistics.median(each) for name, each in seconds.items()}}  # fmt: skip
    print(json.dumps(found, indent=1))
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
