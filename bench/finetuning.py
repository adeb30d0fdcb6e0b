"""Tuning a real model for conversations, side by side with TRL's SFTTrainer (and PEFT): tokens a second and peak memory.

    WENLOOM_SHARED_DATA=datasets WENLOOM_REAL_MODELS=models python bench/finetuning.py [--methods lora full] [--rounds 5]
    python bench/finetuning.py losses       # what both sides' first steps say of the same rows in the same order

SmolLM2-135M-Instruct learns the replies of alpaca_1k with AdamW, by LoRA of rank 16 beside every linear layer or whole. Rows
are those of `wenloom finetune --task chat --max-length 512`: conversations packed into rows of at most 512 tokens; a step
reads `--batch` of them. TRL gets the same rows in the same order, already encoded, and computes them by `--trl`:

    trl-packed   conversations in one row without padding, row after row (gradient accumulation)
    trl-flat     all rows of a step in one (its padding-free batch)
    trl-padded   conversations apart, eight at a time, filled up to the longest
    ...-bf16     whatever does not learn kept in bfloat16 (LoRA); all in bfloat16, optimizer state too (whole)
    ...-recompute   gradient checkpointing, which TRL has on by default

Products are in bfloat16 by autocast on both sides. Tokens are those of conversations, without padding. Each contestant runs
in a process of its own; `rounds.py` says how they take turns. Memory is the most that the process held (`ru_maxrss`).
Needs `pip install trl peft accelerate`.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from history import Wanted, record
from rounds import MOST_ROUNDS, ROUNDS, Need, Round, Tournament, in_own_process, report_round

DATA = Path(os.environ.get("WENLOOM_SHARED_DATA", "../shared/data"))
MODEL = Path(os.environ.get("WENLOOM_REAL_MODELS", "models")) / "smollm2"
LENGTH, RANK, WARM = 512, 16, 1
"""Most tokens of a row, rank of the adapter, and steps that are not timed."""
RATES = {"lora": 1e-3, "full": 2e-5}
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PEERS = ["trl-packed-bf16", "trl-padded-bf16", "trl-packed", "trl-flat-bf16", "trl-packed-bf16-recompute"]
WANTED = {"lora": (1.3, 1.0), "full": (1.2, 1.0)}
"""Our speed, and how much less memory we take, to TRL's."""
PRODUCTS = 106e6
"""Weights of the blocks: a step takes 4 operations a token for each at least, by LoRA, and 6 whole."""


def ours(method: str, batch: int) -> Any:
    """A training of `wenloom finetune`, set up."""
    from wenloom.tasks.dialogue import DialogueRecipe
    from wenloom.tasks.run_settings import Settings
    from wenloom.tasks.settings import DataSettings, FreshSettings, LearningSettings
    from wenloom.training.parallel import World
    from wenloom.training.settings import TrainSettings
    from wenloom.training.setup import set_up

    data = DataSettings(str(DATA / "alpaca_1k/alpaca_data_1k.json"), max_length=LENGTH)
    training = TrainSettings(batch=batch, learning_rate=RATES[method], weight_decay=0.0, beta2=0.999)
    learning = LearningSettings(method=method, rank=RANK, alpha=2.0 * RANK)  # pyright: ignore[reportArgumentType]
    recipe = DialogueRecipe(Settings("chat", MODEL, data, FreshSettings(), learning, training))
    return set_up(recipe._specified(World())[0], World())


def write_rows(path: Path, batch: int, steps: int) -> None:
    """The first rows that our training reads: of each its conversations, as (tokens, labels)."""
    setup, steps_of_rows = ours("lora", batch), []
    for step in range(steps):
        rows = setup.source.rows(step * batch, (step + 1) * batch)
        texts = []
        for inputs, targets, documents in zip(*(rows[name] for name in ("inputs_BT", "targets_BT", "documents_BT")), strict=True):  # fmt: skip
            found = []
            for number in range(1, int(documents.max()) + 1):
                tokens, learned = inputs[documents == number].tolist(), targets[documents == number].tolist()
                last = [learned[-1]] if learned[-1] != -100 else []  # TRL's labels stand where their token does
                found.append((tokens + last, [-100, *learned][: len(tokens + last)]))
            texts.append(found)
        steps_of_rows.append(texts)
    setup.prefetcher.close()
    path.write_text(json.dumps(steps_of_rows))


def in_steps(seconds: list[float], tokens: list[int]) -> float:
    """Tokens a second over all steps that are timed: steps are of unlike length."""
    return sum(tokens[WARM:]) / sum(seconds[WARM:])


def tokens_of_steps(steps: list[Any]) -> list[int]:
    """Of conversations, without padding."""
    return [sum(len(tokens) for row in step for tokens, _ in row) for step in steps]


def wenloom_round(method: str, steps: list[Any]) -> tuple[dict[str, float], dict[str, Any]]:
    """Our own steps."""
    batch = len(steps[0])
    setup, seconds, losses = ours(method, batch), [], []
    for number in range(len(steps)):
        rows = setup.prefetcher.batch(number * batch)
        started = time.perf_counter()
        losses.append(setup.train_step.step(rows, RATES[method]).loss)
        seconds.append(time.perf_counter() - started)
    setup.prefetcher.close()
    plan = setup.plan.memory
    planned = plan.program + plan.weights + plan.optimizer + plan.gradients + plan.activations + plan.working
    return {"train": in_steps(seconds, tokens_of_steps(steps))}, {"losses": losses, "planned": planned}


def trl_round(name: str, method: str, steps: list[Any]) -> tuple[dict[str, float], dict[str, Any]]:
    """Steps of TRL's SFTTrainer."""
    from datasets import Dataset  # pyright: ignore[reportMissingImports]
    from peft import LoraConfig
    from torch.utils.data import SequentialSampler
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer  # pyright: ignore[reportMissingImports]

    modes, batch = name.split("-")[1:], len(steps[0])
    conversations = [[found for row in step for found in row] for step in steps]
    if "padded" in modes:
        flat = [found for step in conversations for found in step]
        groups = [flat[start : start + 8] for start in range(0, len(flat) - 7, 8)]
        examples = [{"input_ids": tokens, "labels": labels} for group in groups for tokens, labels in group]
        counts, at_once, parts = [sum(len(tokens) for tokens, _ in group) for group in groups], 8, 1
    else:
        examples = [_packed(row) for step in steps for row in step]
        counts = tokens_of_steps(steps)
        at_once, parts = (batch, 1) if "flat" in modes else (1, batch)
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    class InOrder(SFTTrainer):
        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            return SequentialSampler(self.train_dataset)  # pyright: ignore[reportArgumentType]

    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder, per_device_train_batch_size=at_once, gradient_accumulation_steps=parts, max_steps=len(counts),
            use_cpu=True, bf16=True, gradient_checkpointing="recompute" in modes, learning_rate=RATES[method],
            lr_scheduler_type="constant", weight_decay=0.0, adam_beta1=0.9, adam_beta2=0.999, max_grad_norm=1.0,
            report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True, max_length=None,
            padding_free="padded" not in modes, dataloader_num_workers=0,
            model_init_kwargs={"dtype": "bfloat16" if "bf16" in modes else "float32", "attn_implementation": "sdpa"},
        )  # fmt: skip
        adapter = LoraConfig(
            r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, target_modules=LAYERS, task_type="CAUSAL_LM"
        )
        trainer = InOrder(str(MODEL), arguments, train_dataset=Dataset.from_list(examples), callbacks=[Clock()],
                          processing_class=AutoTokenizer.from_pretrained(MODEL),
                          peft_config=adapter if method == "lora" else None)  # fmt: skip
        trainer.train()
    seconds = [end - begin for begin, end in list(pairwise(times))[::2]]
    losses = [each["loss"] for each in trainer.state.log_history if "loss" in each]
    return {"train": in_steps(seconds, counts)}, {"losses": losses}


def _packed(row: list[Any]) -> dict[str, list[int]]:
    return {
        "input_ids": [token for tokens, _ in row for token in tokens],
        "labels": [label for _, labels in row for label in labels],
        "seq_lengths": [len(tokens) for tokens, _ in row],
    }


def measure_one(name: str, method: str, rows: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Tokens a second of a contestant, and how many of it fit into a terabyte: like a rate, more is better."""
    steps = json.loads(rows.read_text())
    figures, more = wenloom_round(method, steps) if name == "wenloom" else trl_round(name, method, steps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return figures | {"memory": 1e12 / peak}, more | {"peak": peak}


def compare(arguments: argparse.Namespace, rows: Path) -> None:
    """Rounds of all contestants by every method."""
    for method in arguments.methods:

        def measure(contestant: str, method: str = method) -> Round | None:
            return in_own_process([__file__, "one", contestant, method, str(rows)], arguments.threads)

        def need(_contestant: str, figure: str, method: str = method) -> Need:
            return Need(flops=PRODUCTS * (4 if method == "lora" else 6)) if figure == "train" else Need()

        found = Tournament(["wenloom", *arguments.trl], measure, need).run(arguments.rounds, arguments.most_rounds)
        speed, memory = WANTED[method]
        ratios = [Wanted(figure, "wenloom", peer, least) for peer in arguments.trl
                  for figure, least in (("train", speed), ("memory", memory))]  # fmt: skip
        record(f"finetuning {method}", "tokens a second, processes in a terabyte", found, ratios)
        for name, rounds in found.rounds.items():
            peaks = [each.more["peak"] for each in rounds]
            planned = rounds[0].more.get("planned") if rounds else None
            said = f", {planned / 1e9:.2f} planned for the steps" if planned else ""
            print(f"  {name:28} {statistics.median(peaks) / 1e9:.2f} GB{said}")


def losses(arguments: argparse.Namespace, rows: Path) -> None:
    """Print each step's loss on both sides; peers whose steps are of other rows are left out."""
    for method in arguments.methods:
        found = {}
        for name in ["wenloom", *(each for each in arguments.trl if "padded" not in each)]:
            done = in_own_process([__file__, "one", name, method, str(rows)], arguments.threads)
            if done is not None:
                found[name] = done.more["losses"]
                apart = max(abs(a - b) for a, b in zip(found[name], found["wenloom"], strict=True))
                values = " ".join(f"{each:.4f}" for each in found[name])
                print(f"  {method} {name:28} {values}  apart {apart:.4f}", flush=True)


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="speed", choices=["speed", "losses", "one"])
    parser.add_argument("one", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--methods", nargs="+", default=list(RATES), choices=list(RATES))
    parser.add_argument("--trl", nargs="*", default=PEERS, help="contestants beside ours")
    parser.add_argument("--batch", type=int, default=4, help="rows of a step")
    parser.add_argument("--steps", type=int, default=6, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--most-rounds", type=int, default=MOST_ROUNDS)
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if arguments.what == "one":
        name, method, rows = arguments.one
        return report_round(lambda: measure_one(name, method, Path(rows)))
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        write_rows(rows, arguments.batch, arguments.steps)
        (compare if arguments.what == "speed" else losses)(arguments, rows)


if __name__ == "__main__":
    main()
