"""Steering a model toward kind words: `python bench/steering.py MODEL [--generations 200] [--cost 0.1]`.

Sentences that praise and sentences that complain, alike but for what they say; the vector between them is made by
`find_steering`, and the words of praise are counted in what the model writes with it and without, as many of them again
that stand in no sentence it was made of.
"""

import argparse
import itertools
import math
import time

from wenloom.explanation.steered_writing import counter, steered_writing
from wenloom.explanation.steering import Figure, find_steering
from wenloom.explanation.subject import subject_of

SUBJECTS = ("film", "meal", "book", "hotel", "teacher", "concert", "garden", "town", "phone", "walk")
PRAISE = (
    "The {} was wonderful, and I enjoyed every minute.", "I love this {}; it made me so happy.", "What a beautiful {}!",
    "Everyone says that the {} is excellent.", "My {} is the best I have ever had.",
)  # fmt: skip
BLAME = (
    "The {} was terrible, and I regretted every minute.", "I hate this {}; it made me so angry.", "What an ugly {}!",
    "Everyone says that the {} is awful.", "My {} is the worst I have ever had.",
)  # fmt: skip
SEEN = "wonderful enjoyed enjoy love happy beautiful excellent best".split()
UNSEEN = (
    "amazing great good delicious lovely fantastic perfect nice glad joy delight delightful pleasant brilliant".split()
)
PROMPTS = ("The", "I think that", "We went there and it", "My friend told me that the", "In my opinion, the")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("model")
    arguments.add_argument("--generations", type=int, default=200)
    arguments.add_argument("--cost", type=float, default=0.1)
    given = arguments.parse_args()
    subject, started = subject_of(given.model), time.perf_counter()
    toward, away = (
        [form.format(name) for name, form in itertools.product(SUBJECTS, forms)] for forms in (PRAISE, BLAME)
    )
    study = find_steering(subject, toward, away, cost=given.cost)
    for each in study.trials:
        print(
            f"block {each.layer:2}  strength {each.strength:6.2f}  effect {shown(each.effect)}  cost {shown(each.cost)}"
        )
    print(f"chosen: block {study.chosen.layer}; on other texts: effect {shown(study.chosen.effect)} nats a token, perplexity "
          f"of own texts {study.perplexity:.2f} x {math.exp(study.chosen.cost.value):.3f}; {time.perf_counter() - started:.0f} s")  # fmt: skip
    found = steered_writing(subject, study.vector, [*SEEN, *UNSEEN], PROMPTS, given.generations)
    for name, words in (("all words", [*SEEN, *UNSEEN]), ("words of none of the sentences", UNSEEN)):
        counts = [[counter(words)(text) for text in texts] for texts in (found.plain, found.steered)]
        plain, steered = (sum(each) / len(each) for each in counts)
        variance = sum(sum((n - mean) ** 2 for n in each) / (len(each) - 1) / len(each)
                       for each, mean in zip(counts, (plain, steered), strict=True))  # fmt: skip
        print(f"{name}: {plain:.3f} a text without, {steered:.3f} with, {(steered - plain) / math.sqrt(variance):.1f} standard errors")  # fmt: skip
    print(f"perplexity of what is written: x {math.exp(found.cost.value):.3f} ± {math.exp(found.cost.value) * found.cost.error:.3f}")  # fmt: skip
    for text in (*found.plain[:3], "---", *found.steered[:6]):
        print(" ", " ".join(text.split()))
    print(f"{time.perf_counter() - started:.0f} s")


def shown(figure: Figure) -> str:
    return f"{figure.value:+.3f} ± {figure.error:.3f}"


if __name__ == "__main__":
    main()
