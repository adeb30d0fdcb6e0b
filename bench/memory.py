"""Memory of training: what the plan predicts against the most that the process then holds (maximum resident set).

    WENLOOM_SHARED_DATA=datasets WENLOOM_REAL_MODELS=models python bench/memory.py

Needs TinyShakespeare and pairs between tabs (tatoeba_cmn_eng) among the datasets, MiniLM and SmolLM2-135M among the
models; rows whose model is missing are left out.
"""

import gzip
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

DATA = Path(os.environ.get("WENLOOM_SHARED_DATA", "../shared/data"))
MODELS = Path(os.environ.get("WENLOOM_REAL_MODELS", "models"))
CHILD = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "wenloom", *sys.argv[1:]], text=True, capture_output=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, done.returncode)
print(done.stderr)
"""


def run(*arguments: object) -> tuple[float, float]:
    """Bytes that the run's announcement predicts, and bytes that it took."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, arguments)], text=True, capture_output=True, check=True
    )
    first, _, said = done.stdout.partition("\n")
    kilobytes, code = map(int, first.split())
    if code:
        raise RuntimeError(said[-500:])
    value, unit = re.findall(r", ([\d.,]+) ([MG])B", said)[-1]
    return float(value.replace(",", "")) * (1e6 if unit == "M" else 1e9), kilobytes * 1024


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        run_quietly("prepare", DATA / "tinyshakespeare/input.txt", "--out", here / "corpus")
        with gzip.open(DATA / "tatoeba_cmn_eng/cmn.txt.gz", "rt", encoding="utf-8") as file:
            lines = [next(file) for _ in range(600)]
        (here / "pairs.tsv").write_text("".join("\t".join(line.split("\t")[:2]) + "\n" for line in lines))
        (here / "labels.tsv").write_text("".join(f"{n % 2}\t{line.split(chr(9))[0]}\n" for n, line in enumerate(lines)))
        corpus, minilm, smollm2 = here / "corpus", MODELS / "minilm", MODELS / "smollm2"
        pairs = ("--task", "translation", "--train", here / "pairs.tsv")
        classes = ("finetune", minilm, "--task", "classification", "--train", here / "labels.tsv")
        rows: dict[str, tuple[object, ...]] = {
            "pretrain, 1m": ("pretrain", corpus, "--size", "1m"),
            "pretrain, 10m": ("pretrain", corpus, "--size", "10m"),
            "pretrain, 10m, recomputed": ("pretrain", corpus, "--size", "10m", "--recompute"),
            "pretrain, 10m, compiled": ("pretrain", corpus, "--size", "10m", "--compile", "on"),
            "pretrain, 30m, GPT-2": ("pretrain", corpus, "--size", "30m", "--arch", "gpt2"),
            "MiniLM, classes": classes,
            "MiniLM, classes, LoRA": (*classes, "--method", "lora"),
            "translation from scratch": ("finetune", *pairs, "--width", 256, "--layers", 3),
            "translation, LoRA": ("finetune", here / "run-translation-from-scratch", *pairs, "--method", "lora"),
            "hidden tokens from scratch": ("finetune", "--task", "fill-mask", "--train", DATA / "tinyshakespeare/input.txt",
                                           "--width", 256, "--layers", 4),
            "SmolLM2, pairs": ("finetune", smollm2, *pairs),
            "SmolLM2, pairs, LoRA": ("finetune", smollm2, *pairs, "--method", "lora"),
        }  # fmt: skip
        print(f"{'':28}{'plan':>10}{'used':>10}  ratio")
        for name, arguments in rows.items():
            if any(model in arguments and not model.exists() for model in (minilm, smollm2)):
                continue
            plan, used = run(*arguments, "--steps", 3, "--out", here / f"run-{re.sub(r'[, ]+', '-', name)}")
            print(f"{name:28}{plan / 1e6:7,.0f} MB{used / 1e6:7,.0f} MB  {plan / used:.2f}", flush=True)


def run_quietly(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "wenloom", *map(str, arguments)], check=True, capture_output=True)


if __name__ == "__main__":
    main()
