"""BLiMP, our scorer beside lm-evaluation-harness, on the same random model of about 10 M parameters.

The harness reads the same folder through transformers (`--model hf`), with its default batch size of 1 and with 64; its
figures are for every tenth pair, timed from its first request to its last (building tasks is not counted), and the
pairs of ours are the same ones. Then the whole of BLiMP by `wenloom evaluate`'s way.

    WENLOOM_SHARED_DATA=... python bench/evaluation.py [--out evaluation.json]

Needs `pip install 'wenloom[harness]'` and transformers.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

STEP = 10


def write_model(folder: Path, texts: list[str]) -> int:
    from wenloom.checkpoint.folder import write_model_files
    from wenloom.core.randomness import generator
    from wenloom.model.decoder import Decoder
    from wenloom.model.presets import from_scratch
    from wenloom.tokens.train import train_tokenizer

    tokenizer = train_tokenizer(texts, "bpe", 4096)
    config = from_scratch("llama", vocab_size=tokenizer.vocab_size, n_layers=5, d_model=384, n_heads=6, n_kv_heads=6,
                          context_length=512, bos_token_id=0, eos_token_id=0, pad_token_id=1)  # fmt: skip
    decoder = Decoder(config)
    decoder.initialise(generator(0, "bench"))
    write_model_files(decoder, folder)
    tokenizer.save_pretrained(folder)
    return decoder.n_parameters()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    from lm_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]
    from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]

    import wenloom
    from wenloom.evaluation.choice import answer_all
    from wenloom.evaluation.scorers import DecoderScorer
    from wenloom.evaluation.suites import SUITES
    from wenloom.model.packed import packed

    suite = SUITES["blimp"]
    questions = suite.read(suite.find(Path(os.environ.get("WENLOOM_SHARED_DATA", "../shared/data"))))
    part = questions[::STEP]
    times: dict[str, list[float]] = {"wenloom": [], "lm-eval, batch 64": [], "lm-eval, batch 1": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        n_parameters = write_model(folder, [choice for each in questions for choice in each.choices])
        model = wenloom.load(folder)
        right: dict[str, float] = {}
        for number in range(arguments.rounds):
            started = time.perf_counter()
            found = answer_all(DecoderScorer(packed(model.decoder), model.tokenizer), part)
            times["wenloom"].append(time.perf_counter() - started)
            right["wenloom"] = found.accuracy("raw").value
            for name, size in (("lm-eval, batch 64", 64), ("lm-eval, batch 1", 1)):
                if size == 1 and number:
                    continue
                make: Any = HFLM
                judge = make(pretrained=str(folder), device="cpu", batch_size=size, dtype="float32")
                requests: Any = [Instance("loglikelihood", {}, ("", c), 0) for each in part for c in each.choices]
                started = time.perf_counter()
                scores = [total for total, _ in judge.loglikelihood(requests, disable_tqdm=True)]
                times[name].append(time.perf_counter() - started)
                wins = [good > bad for good, bad in zip(scores[::2], scores[1::2], strict=True)]
                right[name] = 100 * sum(wins) / len(wins)
        started = time.perf_counter()
        answer_all(DecoderScorer(packed(model.decoder), model.tokenizer), questions)
        whole = time.perf_counter() - started
    print(f"{n_parameters / 1e6:.1f} M parameters, {len(part):,} of {len(questions):,} pairs; seconds, accuracy")
    ours = statistics.median(times["wenloom"])
    for name, values in times.items():
        seconds = statistics.median(values)
        print(f"  {name:<20} {seconds:8.1f}  {right[name]:.2f} %  {seconds / ours:.2f}x")
    print(f"  whole BLiMP: {whole:.0f} s")
    if arguments.out:
        arguments.out.write_text(json.dumps({"times": times, "whole": whole, "accuracy": right}, indent=2) + "\n")


if __name__ == "__main__":
    main()
