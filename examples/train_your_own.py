"""From texts to a model of one's own: prepare, pretrain, generate.

python examples/train_your_own.py my-texts runs/mine 60s
"""

import sys
from pathlib import Path

import wenloom
from wenloom.tokens.prepare import prepare
from wenloom.training.pretrain import pretrain
from wenloom.training.settings import TrainSettings


def main(texts: str, out: str, budget: str = "60s") -> None:
    corpus = Path(f"{out}-corpus")
    prepare([texts], corpus)  # reads, cleans, removes duplicates, learns a vocabulary, tokenizes

    result = pretrain(corpus, Path(out), training=TrainSettings(budget=budget))
    print(f"{result.steps} steps, {result.loss.bits_per_byte:.3f} bits per byte on the validation text")

    model = wenloom.load(out)
    print(model.generate("The", max_new_tokens=60, seed=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
