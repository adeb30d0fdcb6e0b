"""Decoding speed of two checkouts of Wenloom, each in a process of its own, taking turns: time of now to time of before.

    git worktree add /tmp/before REVISION
    python bench/two_trees.py --before /tmp/before --model FOLDER --quantize int8 --texts 16

`bench.generation.write_model` makes a folder of random weights. Prints the median ratio of wall and processor time a token
over the rounds, with a bootstrap interval of 95 %.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

WORKER = """
import sys, time
import numpy as np
from wenloom.checkpoint.folder import load_decoder
from wenloom.generation.engine import Engine
from wenloom.generation.request import GenerationRequest
from wenloom.model.quantize import quantize
from wenloom.runtime.native import compiler
from pathlib import Path

folder, bits = Path(sys.argv[1]), int(sys.argv[2])
decoder = load_decoder(folder)
if bits:
    decoder = quantize(decoder, bits)
while compiler.library() is None:
    time.sleep(0.1)

def measure(texts, new, length):
    engine = Engine(decoder, prefix_bytes=0)
    request = GenerationRequest(do_sample=False, max_new_tokens=new, eos_token_id=())
    top = decoder.config.vocab_size
    prompts = [np.random.default_rng(seed).integers(10, top, length).tolist() for seed in range(texts)]
    jobs = [engine.submit(prompt, request) for prompt in prompts]
    while any(not job.result()[0].tokens for job in jobs):
        engine.step()
    begun = sum(len(job.result()[0].tokens) for job in jobs)
    wall, cpu = time.perf_counter(), time.process_time()
    engine.run(jobs)
    n = texts * new - begun
    return (time.perf_counter() - wall) / n, (time.process_time() - cpu) / n

print("ready", flush=True)
for line in sys.stdin:
    print(*measure(*map(int, line.split())), flush=True)
"""


class Tree:
    """A process that imports one checkout."""

    def __init__(self, tree: Path, model: Path, bits: int, threads: int):
        environment = os.environ | {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(model), str(bits)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def measure(self, texts: int, new: int, length: int) -> tuple[float, float]:
        """Seconds of wall and of processor a token."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{texts} {new} {length}\n")
        self._process.stdin.flush()
        wall, cpu = map(float, self._answer().split())
        return wall, cpu

    def close(self) -> None:
        self._process.kill()


def interval(ratios: list[float]) -> str:
    draws = sorted(statistics.median(random.choices(ratios, k=len(ratios))) for _ in range(2000))
    return f"{statistics.median(ratios):.3f} [{draws[50]:.3f}, {draws[-50]:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--now", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--quantize", choices=["int8", "int4"])
    for name, default in (("texts", 1), ("new", 64), ("length", 64), ("rounds", 24), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    bits = {"int8": 8, "int4": 4, None: 0}[given.quantize]
    trees = [Tree(each, given.model, bits, given.threads) for each in (given.before, given.now)]
    walls, cpus, times = [], [], []
    for turn in range(given.rounds + 1):
        found = {}
        for each in trees if turn % 2 else trees[::-1]:
            found[each] = each.measure(given.texts, given.new, given.length)
        (wall_before, cpu_before), (wall, cpu) = (found[each] for each in trees)
        if turn:  # the first one warms up
            walls.append(wall / wall_before)
            cpus.append(cpu / cpu_before)
            times.append(wall_before)
    for each in trees:
        each.close()
    print(f"{given.model.name} {given.quantize or 'fp32'}, {given.texts} texts, prompts of {given.length}, "
          f"{given.threads} threads: wall {interval(walls)}, processor {interval(cpus)}; "
          f"before {statistics.median(times) * 1e6:,.0f} us a token")  # fmt: skip


if __name__ == "__main__":
    main()
