"""Training speed and time to a loss, side by side with nanoGPT and the HF Trainer.

Speed: every contestant makes optimizer steps at the same shape (GPT-2 architecture, same batch) in a process of
its own; `rounds.py` says how they take turns, what is thrown away and what is no result. Figures go into `bench/history`;
`make bench-report` shows them. Time to a loss: nanoGPT's own train.py with its CPU recipe on
TinyShakespeare, then `wenloom pretrain` on the same characters with a third of that time and with all of it.

    python bench/training.py speed --nanogpt ../nanoGPT [--shapes cpu 10m 124m] [--rounds 5]
    python bench/training.py loss --nanogpt ../nanoGPT [--minutes 30] [--out loss.json]

Contestants of `speed`: nanogpt (as it comes: fp32, eager), nanogpt-bf16, nanogpt-bf16-compile, hf (Trainer as it
comes), hf-bf16, hf-bf16-compile, wenloom-adamw (the optimizer of the others) and wenloom (Muon, the default).
The Trainer needs `pip install accelerate`.
"""

import argparse
import importlib.resources
import json
import math
import os
import pickle
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from history import Wanted, record
from rounds import MOST_ROUNDS, ROUNDS, Need, Round, Tournament, in_own_process, report_round


class Shape(NamedTuple):
    """A GPT-2 shaped model and its batch."""

    vocab_size: int
    layers: int
    width: int
    heads: int
    context: int
    batch: int
    steps: int
    """Timed steps in one round."""


SHAPES = {
    "cpu": Shape(65, 4, 128, 4, 64, 12, 300),  # nanoGPT's CPU recipe
    "10m": Shape(65, 6, 384, 6, 256, 16, 6),
    "124m": Shape(50304, 12, 768, 12, 512, 2, 4),
}
PEERS = ["nanogpt", "nanogpt-bf16", "nanogpt-bf16-compile", "hf", "hf-bf16", "hf-bf16-compile"]
OURS = ["wenloom-adamw", "wenloom"]
WANTED = {"cpu": 1.5, "10m": 1.3, "124m": 1.6}
"""Our speed with AdamW, to nanoGPT's best."""
RECIPE = ["--device=cpu", "--compile=False", "--log_interval=1", "--block_size=64", "--batch_size=12", "--n_layer=4",
          "--n_head=4", "--n_embd=128", "--max_iters=2000", "--lr_decay_iters=2000", "--dropout=0.0", "--eval_iters=20",
          "--eval_interval=2000"]  # fmt: skip
"""nanoGPT's README, "I only have a macbook"; evaluated only at its beginning and end, which is to its advantage."""


# --- speed, one contestant in one process ---


def seconds_of_step(step: Callable[[], object], count: int) -> float:
    """Median of `count` steps after two that warm up (and compile)."""
    times = []
    for number in range(count + 2):
        started = time.perf_counter()
        step()
        if number > 1:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def nanogpt_step(shape: Shape, bf16: bool, compiled: bool, checkout: Path) -> float:
    import torch

    sys.path.insert(0, str(checkout))
    from model import GPT, GPTConfig  # pyright: ignore[reportMissingImports]

    model = GPT(GPTConfig(block_size=shape.context, vocab_size=shape.vocab_size, n_layer=shape.layers,
                          n_head=shape.heads, n_embd=shape.width, dropout=0.0, bias=False))  # fmt: skip
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), "cpu")
    computed = torch.compile(model) if compiled else model

    def step() -> None:
        x, y = torch.randint(shape.vocab_size, (2, shape.batch, shape.context))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            _, loss = computed(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return seconds_of_step(step, shape.steps)


def hf_step(shape: Shape, bf16: bool, compiled: bool) -> float:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

    config = GPT2Config(vocab_size=shape.vocab_size, n_positions=shape.context, n_embd=shape.width, n_layer=shape.layers,
                        n_head=shape.heads, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=0, eos_token_id=0)  # fmt: skip
    rows = [{"input_ids": ids, "labels": ids} for ids in torch.randint(shape.vocab_size, (256, shape.context))]
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=shape.batch, max_steps=shape.steps + 3, use_cpu=True, bf16=bf16,
            torch_compile=compiled, report_to=[], save_strategy="no", logging_steps=10**6, disable_tqdm=True,
        )  # fmt: skip
        Trainer(GPT2LMHeadModel(config), arguments, train_dataset=rows, callbacks=[Clock()]).train()  # pyright: ignore
    return statistics.median(b - a for a, b in pairwise(times[2:]))


def wenloom_step(shape: Shape, optimizer: str) -> float:
    """The step of `wenloom pretrain`, set up and timed by the code that a run uses."""
    from wenloom.tokens.shards import TokenStream
    from wenloom.training.parallel import World
    from wenloom.training.scratch import CorpusStatistics, scratch_run
    from wenloom.training.settings import ModelSettings, TrainSettings
    from wenloom.training.setup import set_up

    tokens = np.random.default_rng(0).integers(0, shape.vocab_size, 2**17, dtype=np.uint32)
    corpus = CorpusStatistics(shape.vocab_size, TokenStream([tokens]), None, 0, 4.0, None, math.inf, None, None)
    model = ModelSettings(arch="gpt2", layers=shape.layers, width=shape.width, heads=shape.heads, context=shape.context,
                          dropout=0.0)  # fmt: skip
    training = TrainSettings(budget="1h", batch=shape.batch, optimizer=optimizer)  # pyright: ignore[reportArgumentType]
    setup = set_up(scratch_run(corpus, model, training, World()), World())
    position = 0

    def step() -> None:
        nonlocal position
        setup.train_step.step(setup.prefetcher.batch(position), 1e-4)
        position += shape.batch

    seconds = seconds_of_step(step, shape.steps)
    setup.prefetcher.close()
    return seconds


def measure_one(name: str, shape: Shape, checkout: Path | None) -> tuple[dict[str, float], dict[str, Any]]:
    """Tokens per second of a contestant."""
    kind, *modes = name.split("-")
    if kind == "nanogpt":
        assert checkout is not None
        seconds = nanogpt_step(shape, "bf16" in modes, "compile" in modes, checkout)
    elif kind == "hf":
        seconds = hf_step(shape, "bf16" in modes, "compile" in modes)
    else:
        seconds = wenloom_step(shape, "adamw" if "adamw" in modes else "muon")
    return {"train": shape.batch * shape.context / seconds}, {}


def flops_per_token(shape: Shape) -> float:
    """Of a training step: 6 per weight in a matrix product, 12 per layer, token of context and unit of width."""
    products = 12 * shape.layers * shape.width**2 + shape.vocab_size * shape.width
    return 6 * products + 12 * shape.layers * shape.width * shape.context


def speed(arguments: argparse.Namespace) -> None:
    """Rounds of all contestants at every shape."""
    peers = [each for each in arguments.contestants if arguments.nanogpt or not each.startswith("nanogpt")]
    checkout = ["--nanogpt", str(arguments.nanogpt)] if arguments.nanogpt else []
    for name in arguments.shapes:
        shape = SHAPES[name]

        def measure(contestant: str, name: str = name) -> Round | None:
            return in_own_process([__file__, "one", contestant, name, *checkout], arguments.threads)

        def need(_contestant: str, _figure: str, shape: Shape = shape) -> Need:
            return Need(
                flops=flops_per_token(shape) - 6 * shape.layers * shape.width * shape.context
            )  # attention, halved

        tournament = Tournament(peers, measure, need).run(arguments.rounds, arguments.most_rounds)
        ratios = [Wanted("train", "wenloom", "wenloom-adamw", 0.9)]
        for who, least in (("nanogpt", WANTED[name]), ("hf", None)):
            if best := tournament.best("train", [each for each in peers if each.startswith(who)]):
                ratios += [Wanted("train", ours, best, least if ours == "wenloom-adamw" else None) for ours in OURS]
        record(f"training {name}", "tokens a second", tournament, ratios)
        for each, rates in tournament.figures().items():
            share = rates["train"].median * flops_per_token(shape) / tournament.peaks()["flops"].median
            print(f"  {each:22} {share:.0%} of the matmul peak")


# --- time to a loss ---


def nanogpt_run(checkout: Path, folder: Path, text: str) -> dict[str, float]:
    """nanoGPT's CPU recipe; its loss is then scored over the whole validation text."""
    import torch

    shutil.copytree(checkout, folder, ignore=shutil.ignore_patterns(".git"))
    data = folder / "data/shakespeare_char"
    characters = sorted(set(text))
    number = {character: index for index, character in enumerate(characters)}
    ids = np.array([number[character] for character in text], dtype=np.uint16)
    cut = int(0.9 * len(text))
    ids[:cut].tofile(data / "train.bin")
    ids[cut:].tofile(data / "val.bin")
    meta = {"vocab_size": len(characters), "stoi": number, "itos": dict(enumerate(characters))}
    (data / "meta.pkl").write_bytes(pickle.dumps(meta))
    command = [sys.executable, "train.py", "config/train_shakespeare_char.py", *RECIPE, "--out_dir=out"]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    times = [
        float(ms) / 1e3 for ms in re.findall(r"^iter \d+: loss [\d.]+, time ([\d.]+)ms", done.stdout, re.MULTILINE)
    ]
    reported = float(re.findall(r"val loss ([\d.]+)", done.stdout)[-1])

    sys.path.insert(0, str(folder))
    from model import GPT, GPTConfig  # pyright: ignore[reportMissingImports]

    saved = torch.load(folder / "out/ckpt.pt", weights_only=False)
    model = GPT(GPTConfig(**saved["model_args"]))
    model.load_state_dict(saved["model"])
    model.eval()
    total, count, T = 0.0, 0, 64
    tokens = torch.from_numpy(ids[cut:].astype(np.int64))
    whole = (len(tokens) - 1) // T * T
    with torch.no_grad():
        for x, y in zip(
            tokens[:whole].view(-1, T).split(256), tokens[1 : whole + 1].view(-1, T).split(256), strict=True
        ):
            total += float(model(x, y)[1]) * y.numel()
            count += y.numel()
    inner = sorted(times)[len(times) // 2] * len(times)  # without the two evaluations
    return {"seconds": min(sum(times), inner), "reported_loss": reported, "loss": total / count}


def wenloom_run(data: Path, out: Path, seconds: float) -> dict[str, Any]:
    """`wenloom pretrain` as it comes, with a budget."""
    command = [sys.executable, "-m", "wenloom", "pretrain", str(data), "--out", str(out), "--budget", f"{seconds:.1f}s",
               "--evaluations", "1", "--json"]  # fmt: skip
    started = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result = json.loads(done.stdout)
    return {
        "budget": seconds, "seconds": result["training_seconds"], "wall_seconds": time.perf_counter() - started,
        "loss": result["validation"]["nats_per_character"],
    }  # fmt: skip


def loss(arguments: argparse.Namespace) -> dict[str, Any]:
    text = (importlib.resources.files("wenloom.text") / "tinyshakespeare.txt").read_text()
    with tempfile.TemporaryDirectory() as temporary:
        room = Path(temporary)
        (room / "text.txt").write_text(text)
        prepare = [sys.executable, "-m", "wenloom", "prepare", str(room / "text.txt"), "--out", str(room / "data")]
        subprocess.run([*prepare, "--kind", "char"], check=True, capture_output=True)
        peer = nanogpt_run(arguments.nanogpt, room / "nanogpt", text)
        print(
            f"nanoGPT's CPU recipe: {peer['seconds']:.0f} s to {peer['loss']:.3f} ({peer['reported_loss']:.3f} by its own sample)"
        )
        runs = []
        budgets = [peer["seconds"] / 3, peer["seconds"]] + [60 * arguments.minutes] * bool(arguments.minutes)
        for number, budget in enumerate(budgets):
            runs.append(wenloom_run(room / "data", room / f"run{number}", budget))
            print(f"wenloom, {budget:.0f} s: {runs[-1]['loss']:.3f} after {runs[-1]['seconds']:.0f} s of training "
                  f"({runs[-1]['wall_seconds']:.0f} s with start and evaluation)")  # fmt: skip
    return {"nanogpt": peer, "wenloom": runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "loss", "one"])
    parser.add_argument("one", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument(
        "--nanogpt", type=Path, help="a checkout of nanoGPT; without it speed is compared to the Trainer's"
    )
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--contestants", nargs="+", default=[*PEERS, *OURS], choices=[*PEERS, *OURS])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--most-rounds", type=int, default=MOST_ROUNDS)
    parser.add_argument("--threads", type=int, help="of PyTorch; default: as it decides")
    parser.add_argument("--minutes", type=float, default=0.0, help="loss: a third run of this length")
    parser.add_argument("--out", type=Path, help="loss: write the figures to this JSON file")
    arguments = parser.parse_args()
    if arguments.nanogpt:
        arguments.nanogpt = arguments.nanogpt.resolve()
        if not (arguments.nanogpt / "train.py").exists():
            sys.exit(f"{arguments.nanogpt}: is not a checkout of nanoGPT (it has no train.py)")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if arguments.what == "one":
        name, shape = arguments.one
        report_round(lambda: measure_one(name, SHAPES[shape], arguments.nanogpt))
    elif arguments.what == "speed":
        speed(arguments)
    elif arguments.nanogpt is None:
        sys.exit("loss: needs --nanogpt, a checkout of nanoGPT.")
    else:
        report = loss(arguments)
        if arguments.out:
            arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
