"""A language model gives every text a probability: the product of those of its tokens, each given the ones before.

python examples/score_texts.py runs/mine "The cat sat." "Sat cat the."
"""

import sys

import wenloom


def main(name: str, *texts: str) -> None:
    model = wenloom.load(name)
    for text in texts:
        score = model.score(text)
        print(f"\n{text}")
        for token, log_probability in zip(score.token_ids, score.log_probabilities, strict=True):
            print(f"  {model.tokenizer.decode([token])!r:>16} {log_probability:8.3f} nats")
        print(f"  log P = {score.log_probability:.3f} nats, {score.bits_per_byte:.3f} bits per byte")


if __name__ == "__main__":
    main(*sys.argv[1:])
