"""What a model writes after many prompts, kept in the file of samples as it goes."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from wenloom.core.progress import progress
from wenloom.evaluation.scorer import Advance
from wenloom.evaluation.suite import EvaluatedModel, EvaluationRequest, SampleLog, in_chunks
from wenloom.generation.request import GenerationRequest

Encode = Callable[[str], list[int]]


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
    stops: tuple[str, ...], max_new_tokens: int = 256, encode: Encode | None = None,
) -> tuple[list[list[str]], dict[str, int]]:  # fmt: skip
    """What the model writes after each prompt, `attempts` times; and how many prompts did not fit, if any did not.

    Args:
        max_new_tokens: where the request does not say it.
        encode: how a prompt becomes tokens, where not as a plain text.
    """
    writing = request.writing
    sampling: dict[str, Any] = {"do_sample": False}
    if writing.attempts > 1:
        sampling = {"do_sample": True, "temperature": writing.temperature, "seed": 0}
    most = max_new_tokens if writing.max_new_tokens is None else writing.max_new_tokens
    wanted = GenerationRequest(max_new_tokens=most, stop_strings=stops, **sampling)
    samples = request.log({"attempts": writing.attempts, "max_new_tokens": most, **sampling})
    with progress(f"{name}: writing", len(prompts) - len(samples.known), "texts") as bar:
        texts = written(model, prompts, samples, wanted, attempts, bar.advance, encode)
    cut_off = sum(samples.known[number].get("cut_off", 0) > 0 for number in range(len(prompts)))
    return texts, {"questions_cut_off": cut_off} if cut_off else {}


def written(
    model: EvaluatedModel,
    prompts: Sequence[Prompt],
    samples: SampleLog,
    request: GenerationRequest,
    attempts: int = 1,
    on_text: Advance = lambda n: None,
    encode: Encode | None = None,
) -> list[list[str]]:
    """What the model writes after each prompt, `attempts` times; going on where an earlier call stopped."""
    for numbers in in_chunks(len(prompts), samples, 64):
        jobs = [
            [
                model.engine.submit(
                    encode(each.lead + each.prompt) if encode else each.lead + each.prompt,
                    request,
                    number * attempts + attempt,
                )
                for attempt in range(attempts)
            ]
            for number, each in ((number, prompts[number]) for number in numbers)
        ]
        model.engine.run([job for each in jobs for job in each])
        samples.add(
            [
                {"number": number, "prompt": prompts[number].prompt, "examples": list(prompts[number].examples),
                 "written": [job.result()[0].text for job in each], "cut_off": each[0].unseen}
                for number, each in zip(numbers, jobs, strict=True)
            ]
        )  # fmt: skip
        on_text(len(numbers))
    return [samples.known[number]["written"] for number in range(len(prompts))]
