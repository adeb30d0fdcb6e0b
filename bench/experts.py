"""A mixture of experts against a dense model of equal active size, in equal time on one corpus.

Both are trained by `wenloom pretrain` with the same --size (what a token meets) and the same --budget, one after the other, on the
classic books; the loss is over the same whole validation text. Prints weights, steps, tokens a second, bits per byte and the load
of the busiest expert.

    python bench/experts.py [--size 5m] [--experts 8] [--active 2] [--budget 20min] [--out bench.json]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("WENLOOM_SHARED_DATA", Path(__file__).parents[1] / "../shared/data")).resolve()
BOOKS = DATA / "classic_books" / "books.jsonl.gz"


def wenloom(*words: str) -> None:
    """A command of it, whose words are seen."""
    subprocess.run([sys.executable, "-m", "wenloom", *words], check=True)


def trained(corpus: Path, out: Path, *words: str) -> dict[str, Any]:
    """A run, and what is told of it."""
    wenloom("pretrain", str(corpus), "--out", str(out), "--validation-part", "1", *words)
    tables = tomllib.loads((out / "run.toml").read_text())
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    model, result = tables["model"], tables["result"]
    found = {
        "parameters": model["parameters"],
        "active_parameters": model.get("active_parameters", model["parameters"]),
        "steps": result["steps"],
        "tokens_per_second": result["tokens"] / steps[-1]["seconds"],
        "bits_per_byte": result["validation_bits_per_byte"],
    }
    loads = [line["busiest_expert"] for line in steps[-len(steps) // 10 :] if "busiest_expert" in line]
    return found | ({"busiest_expert": sum(loads) / len(loads)} if loads else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore[reportOptionalMemberAccess]
    parser.add_argument("--size", default="5m")
    parser.add_argument("--experts", default="8")
    parser.add_argument("--active", default="2")
    parser.add_argument("--budget", default="20min")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    common = ("--size", args.size, "--budget", args.budget, "--seed", args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wenloom("prepare", str(BOOKS), "--out", str(folder / "corpus"))
        found = {
            "dense": trained(folder / "corpus", folder / "dense", *common),
            "experts": trained(
                folder / "corpus", folder / "experts", *common, "--experts", args.experts, "--active", args.active
            ),
        }
    for name, each in found.items():
        print(f"{name:10}" + ", ".join(f"{key.replace('_', ' ')} {value:,.4g}" if isinstance(value, float)
                                       else f"{key.replace('_', ' ')} {value:,}" for key, value in each.items()))  # fmt: skip
    if args.out is not None:
        args.out.write_text(json.dumps(vars(args) | {"out": str(args.out)} | found, indent=2) + "\n")


if __name__ == "__main__":
    main()
