"""What a steering vector changes in what a model writes: words counted in texts with it and without, and their perplexity."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wenloom.checkpoint.steering import SteeringVector
from wenloom.core.errors import InputError
from wenloom.explanation.steering import FOR_WRITERS, Figure, mean_log_probabilities, mean_of_changes
from wenloom.explanation.subject import Subject
from wenloom.generation.engine import Engine
from wenloom.generation.request import GenerationRequest

_AT_ONCE = 32
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
"""Scripts that put no blanks between words."""


@dataclass(frozen=True)
class SteeredWriting:
    """Texts with a vector and without."""

    plain: list[str]
    steered: list[str]
    words_plain: Figure
    """Counted words per text."""
    words_steered: Figure
    change: Figure
    """Of the count, by the vector."""
    cost: Figure
    """Nats per token by which texts with the vector are less probable to the model without it than its own are."""

    @property
    def standard_errors(self) -> float:
        """The change in its standard errors."""
        if self.change.error > 0:
            return self.change.value / self.change.error
        return math.copysign(math.inf, self.change.value) if self.change.value else 0.0


def steered_writing(
    subject: Subject,
    vector: SteeringVector,
    words: Sequence[str],
    prompts: Sequence[str] = ("",),
    n: int = 200,
    max_new_tokens: int = 40,
    seed: int = 0,
    on_texts: Callable[[int], None] = lambda n: None,
) -> SteeredWriting:
    """Write n texts with a vector and n without, and count words in them.

    Args:
        words: counted whatever their case, as whole words where their script has blanks.
        prompts: taken in turn; not counted themselves. An empty one begins a text.
        max_new_tokens: of each text; drawn from the model's own distribution.
        on_texts: told how many texts were written.

    Raises:
        InputError: no words, no prompts, fewer than two texts, or a model that does not write on.
    """
    decoder, counted = subject.writer(FOR_WRITERS), counter(words)
    if n < 2 or not prompts:
        raise InputError("steering is measured by at least two texts after at least one prompt.")
    engine = Engine(decoder, subject.tokenizer, steering={"vector": vector}, max_slots=_AT_ONCE)
    texts: list[list[str]] = []
    scores: list[list[float]] = []
    for steer in ((), (f"vector:{vector.strength!r}",)):
        request = GenerationRequest(max_new_tokens=max_new_tokens, temperature=1.0, top_p=1.0, seed=seed, steer=steer)
        jobs = [engine.submit(prompts[number % len(prompts)], request, number) for number in range(n)]
        for job in jobs:
            engine.run([job])
            on_texts(1)
        texts.append([job.result()[0].text for job in jobs])
        rows = [[*job.prompt, *job.result()[0].tokens] for job in jobs]
        scores.append(mean_log_probabilities(decoder, rows))
    counts = [[float(counted(text)) for text in each] for each in texts]
    plain, steered = (mean_of_changes(each, [0.0] * n) for each in counts)
    before, after = (mean_of_changes(each, [0.0] * n) for each in scores)
    return SteeredWriting(
        texts[0], texts[1], plain, steered,
        Figure(steered.value - plain.value, math.hypot(plain.error, steered.error)),
        Figure(before.value - after.value, math.hypot(before.error, after.error)),
    )  # fmt: skip


def counter(words: Sequence[str]) -> Callable[[str], int]:
    """What counts words in a text.

    Raises:
        InputError: there are none.

    >>> counter(["good", "好"])("Good goods, 很好，好")
    3
    """
    patterns = [
        re.escape(word.casefold()) if _UNSPACED.search(word) else rf"(?<!\w){re.escape(word.casefold())}(?!\w)"
        for word in {each.strip() for each in words}
        if word
    ]
    if not patterns:
        raise InputError("no words to count.")
    pattern = re.compile("|".join(sorted(patterns, key=len, reverse=True)))
    return lambda text: len(pattern.findall(text.casefold()))
