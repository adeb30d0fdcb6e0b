"""What a model writes after many prompts, kept in the file of samples as it goes."""

from collections.abc import Sequence
from typing import Any, Protocol

from wenloom.core.progress import progress
from wenloom.evaluation.evaluated_model import EvaluatedModel
from wenloom.evaluation.scorer import Advance
from wenloom.evaluation.suite import EvaluationRequest, SampleLog, in_chunks
from wenloom.generation.request import GenerationRequest


class Prompt(Protocol):
    """What a model goes on from."""

    @property
    def lead(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def examples(self) -> tuple[int, ...]: ...


def written_texts(
    name: str, model: EvaluatedModel, prompts: Sequence[Prompt], request: EvaluationRequest, attempts: int,
    stops: tuple[str, ...], max_new_tokens: int = 256, as_turns: bool = False,
) -> tuple[list[list[str]], dict[str, int]]:  # fmt: skip
    """What the model writes after each prompt, `attempts` times; and how many prompts did not fit, if any did not.

    Args:
        max_new_tokens: where the request does not say it.
        as_turns: each prompt is what a user says to a model for conversations.
    """
    writing = request.writing
    sampling: dict[str, Any] = {"do_sample": False}
    if writing.attempts > 1:
        sampling = {"do_sample": True, "temperature": writing.temperature, "seed": 0}
    most = max_new_tokens if writing.max_new_tokens is None else writing.max_new_tokens
    wanted = GenerationRequest(max_new_tokens=most, stop_strings=stops, **sampling)
    samples = request.log({"attempts": writing.attempts, "max_new_tokens": most, **sampling})
    with progress(f"{name}: writing", len(prompts) - len(samples.known), "texts") as bar:
        texts = written(model, prompts, samples, wanted, attempts, bar.advance, as_turns)
    cut_off = sum(samples.known[number].get("cut_off", 0) > 0 for number in range(len(prompts)))
    return texts, {"questions_cut_off": cut_off} if cut_off else {}


def written(
    model: EvaluatedModel,
    prompts: Sequence[Prompt],
    samples: SampleLog,
    request: GenerationRequest,
    attempts: int = 1,
    on_text: Advance = lambda n: None,
    as_turns: bool = False,
) -> list[list[str]]:
    """What the model writes after each prompt, `attempts` times; going on where an earlier call stopped."""
    for numbers in in_chunks(len(prompts), samples, 64):
        asked = [
            (number * attempts + attempt, prompts[number].lead + prompts[number].prompt)
            for number in numbers
            for attempt in range(attempts)
        ]
        found = model.write(asked, request, as_turns)
        samples.add(
            [
                {"number": number, "prompt": prompts[number].prompt, "examples": list(prompts[number].examples),
                 "written": [each.text for each in mine], "cut_off": mine[0].unseen}
                for place, number in enumerate(numbers)
                for mine in [found[place * attempts : (place + 1) * attempts]]
            ]
        )  # fmt: skip
        on_text(len(numbers))
    return [samples.known[number]["written"] for number in range(len(prompts))]
