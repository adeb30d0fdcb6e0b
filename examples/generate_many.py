"""Many prompts at once: they are read and continued side by side, and repeat exactly under one seed.

python examples/generate_many.py runs/mine "Once upon a time" "In the beginning"
"""

import sys

import wenloom


def main(name: str, *prompts: str) -> None:
    model = wenloom.load(name)
    answers = model.complete(prompts, num_return_sequences=2, max_new_tokens=40, temperature=0.8, top_p=0.95, seed=7)
    for prompt, continuations in zip(prompts, answers, strict=True):
        print(f"\n{prompt!r}")
        for each in continuations:
            print(f"  [{each.finish_reason}] {each.text!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
