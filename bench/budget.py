"""Wall time against `--budget`, for pretraining and for every task: the whole command, from its start to its end.

    WENLOOM_SHARED_DATA=datasets WENLOOM_REAL_MODELS=models python bench/budget.py --budget 60 --repeat 5 [TASK ...]

Every round runs each task once. Needs TinyShakespeare, tatoeba_cmn_eng, dialogsum, alpaca_1k, hh_rlhf_harmless, chinese_poetry,
tinystories_small and audio/yesno.zip among the datasets, MiniLM and SmolLM2-135M among the models. A task passes where the
median is at most 5 % above the budget.
"""

import argparse
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

DATA = Path(os.environ.get("WENLOOM_SHARED_DATA", "../shared/data"))
MODELS = Path(os.environ.get("WENLOOM_REAL_MODELS", "models"))


def lay_out(here: Path) -> dict[str, list[object]]:
    """The arguments of every task, with small files made of the datasets."""
    play = DATA / "tinyshakespeare/input.txt"
    wenloom("prepare", play, "--out", here / "corpus")
    with gzip.open(DATA / "tatoeba_cmn_eng/cmn.txt.gz", "rt", encoding="utf-8") as file:
        lines = [line.split("\t") for line in file]
    (here / "pairs.tsv").write_text("".join(f"{english}\t{chinese}\n" for english, chinese, *_ in lines))
    (here / "labels.tsv").write_text("".join(f"{'?' in each[0]}\t{each[0]}\n" for each in lines[:10_000]))
    with gzip.open(DATA / "tinystories_small/tiny_stories.txt.gz", "rt", encoding="utf-8") as file:
        stories = [each.strip() for each in file.read().split("\n") if len(each) > 80]
    rows = [{"prompt": " ".join(each.split()[:6]), "text": each} for each in stories]
    (here / "stories.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with zipfile.ZipFile(DATA / "audio/yesno.zip") as archive:
        archive.extractall(here / "sound")
    spoken = [(each, " ".join("no yes".split()[int(word)] for word in each.stem.split("_")))
              for each in sorted((here / "sound").rglob("[01]_*.wav"))]  # fmt: skip
    (here / "spoken.tsv").write_text("".join(f"{path}\t{said}\n" for path, said in [("path", "text"), *spoken]))
    smollm2, minilm = MODELS / "smollm2", MODELS / "minilm"
    dialogues, poems = DATA / "dialogsum/dialogsum.train.jsonl.gz", DATA / "chinese_poetry/poems.jsonl.gz"
    return {
        "pretrain": ["pretrain", here / "corpus"],
        "translation": ["finetune", "--task", "translation", "--train", here / "pairs.tsv"],
        "summarization": ["finetune", smollm2, "--task", "summarization", "--train", dialogues, "--method", "lora"],
        "chat": ["finetune", smollm2, "--task", "chat", "--train", DATA / "alpaca_1k/alpaca_data_1k.json"],
        "preference": ["finetune", smollm2, "--task", "preference", "--method", "lora",
                       "--train", DATA / "hh_rlhf_harmless/harmless_base_test.jsonl.gz"],
        "classification": ["finetune", minilm, "--task", "classification", "--train", here / "labels.tsv"],
        "embedding": ["finetune", minilm, "--task", "embedding", "--train", here / "pairs.tsv"],
        "transcription": ["finetune", "--task", "transcription", "--train", here / "spoken.tsv"],
        "fill-mask": ["finetune", "--task", "fill-mask", "--train", play],
        "denoising": ["finetune", "--task", "denoising", "--train", play],
        "story": ["finetune", "--task", "story", "--train", here / "stories.jsonl"],
        "poetry": ["finetune", "--task", "poetry", "--train", poems],
        "code": ["finetune", smollm2, "--task", "code", "--train", DATA / "alpaca_1k/code_alpaca_2k.json.gz"],
    }  # fmt: skip


def wenloom(*arguments: object) -> tuple[float, str]:
    """Seconds that a command took, and what it said."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "wenloom", *map(str, arguments)], text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{arguments}: {done.stderr[-1000:]}")
    return time.monotonic() - started, done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*")
    parser.add_argument("--budget", type=int, default=60, help="seconds")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument(
        "--log", type=Path, help="a folder for what each command that took too long said, and its metrics"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        tasks = lay_out(here)
        seconds: dict[str, list[float]] = {name: [] for name in options.tasks or tasks}
        for _ in range(options.repeat):
            for name, taken in seconds.items():
                seconds_taken, said = wenloom(*tasks[name], "--budget", f"{options.budget}s", "--out", here / "run")
                taken.append(seconds_taken)
                median, most = statistics.median(taken), 1.05 * options.budget
                if options.log is not None and seconds_taken > most:
                    options.log.mkdir(parents=True, exist_ok=True)
                    (options.log / f"{name}-{len(taken)}.txt").write_text(said)
                    shutil.copy(here / "run/metrics.jsonl", options.log / f"{name}-{len(taken)}.jsonl")
                shutil.rmtree(here / "run")
                print(f"{name:16}{taken[-1]:8.1f} s; median of {len(taken)}: {median:6.1f} s, {min(taken):.1f} to {max(taken):.1f} s"
                      f"{'' if median <= most else '  too long'}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
