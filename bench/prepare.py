"""What `wenloom prepare` costs beside learning a vocabulary and encoding with `tokenizers` alone.

Both in one run, each in a process of its own, alternating; the baseline has the texts in memory before its
clock starts. Prints seconds, their ratio and peak memory, and writes them to JSON.

    python bench/prepare.py [--rounds 3] [--out bench.json]
"""

import argparse
import gzip
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("WENLOOM_SHARED_DATA", Path(__file__).parents[1] / "../shared/data")).resolve()
CORPORA = {"classic_books": ["text"], "chinese_poetry": ["title", "paragraphs"]}


def baseline(folder: Path, fields: list[str], vocab_size: int) -> float:
    """Seconds that `tokenizers` alone needs."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    texts = []
    for file in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        texts += ["\n".join(_text(row[field]) for field in fields) for row in rows]
    started = time.perf_counter()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    for start in range(0, len(texts), 1000):
        tokenizer.encode_batch_fast(texts[start : start + 1000])
    return time.perf_counter() - started


def _text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "\n".join(value)


def ours(folder: Path, fields: list[str], out: Path) -> float:
    """Seconds that the command needs, from its start to its end."""
    command = [sys.executable, "-m", "wenloom", "prepare", str(folder), "--out", str(out)]
    for field in fields:
        command += ["--text-field", field]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def in_own_process(*arguments: str) -> dict[str, float]:
    """Run one measurement in a fresh interpreter, which reports seconds and peak memory."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Baseline and command alternate."""
    from wenloom.tokens.shards import Dataset

    folder, fields = DATA / name, CORPORA[name]
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "corpus"
        ours(folder, fields, out)  # warms the disk cache, and tells the vocabulary size
        vocab_size = Dataset.open(out).tokenizer().vocab_size
        results: dict[str, list[dict[str, float]]] = {"tokenizers": [], "wenloom": []}
        for _ in range(rounds):
            results["tokenizers"].append(in_own_process("--baseline", name, str(vocab_size)))
            shutil.rmtree(out)
            results["wenloom"].append(in_own_process("--ours", name, str(out)))
        started = time.perf_counter()
        ours(folder, fields, out)
        again = time.perf_counter() - started
    seconds = {tool: statistics.median(each["seconds"] for each in runs) for tool, runs in results.items()}
    peak = {tool: max(each["peak_mb"] for each in runs) for tool, runs in results.items()}
    return {
        "corpus": name, "vocab_size": vocab_size, "seconds": seconds, "ratio": seconds["wenloom"] / seconds["tokenizers"],
        "peak_mb": peak, "second_call_seconds": again, "rounds": rounds,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    parser.add_argument("--baseline", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--ours", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.baseline or arguments.ours:
        name = (arguments.baseline or arguments.ours)[0]
        if arguments.baseline:
            seconds, who = baseline(DATA / name, CORPORA[name], int(arguments.baseline[1])), resource.RUSAGE_SELF
        else:
            seconds, who = ours(DATA / name, CORPORA[name], Path(arguments.ours[1])), resource.RUSAGE_CHILDREN
        print(json.dumps({"seconds": seconds, "peak_mb": resource.getrusage(who).ru_maxrss / 1024}))
        return
    if not DATA.is_dir():
        sys.exit(f"no datasets at {DATA}; set WENLOOM_SHARED_DATA")
    rows = [measure(name, arguments.rounds) for name in CORPORA]
    for row in rows:
        print(
            f"{row['corpus']}: tokenizers alone {row['seconds']['tokenizers']:.1f} s, wenloom prepare "
            f"{row['seconds']['wenloom']:.1f} s, ratio {row['ratio']:.2f}; peak {row['peak_mb']['wenloom']:.0f} MB "
            f"(tokenizers {row['peak_mb']['tokenizers']:.0f} MB); second call {row['second_call_seconds']:.2f} s"
        )
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
