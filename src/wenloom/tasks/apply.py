"""A model that was trained for a task, at its work: many texts at once."""

from collections.abc import Iterator, Sequence
from typing import Any

from wenloom.core.errors import InputError
from wenloom.generation.engine import Engine
from wenloom.generation.jobs import Continuation
from wenloom.generation.request import GenerationRequest, request_from
from wenloom.model.build import Model
from wenloom.model.encoder import Encoder
from wenloom.tasks.pairs import PairEncoder, PairTask, bounds
from wenloom.tokens.tokenizer import TextTokenizer

_AT_ONCE = 64


class PairWriter:
    """Writes what a task asks for.

    ```python
    writer = PairWriter(load_model(folder), TextTokenizer.from_pretrained(folder), TRANSLATION)
    for answer in writer.write(["A dog runs.", "Two men sit."], num_beams=5):
        print(answer.text)
    ```

    Raises:
        InputError: the model cannot write.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: TextTokenizer,
        task: PairTask,
        max_source_tokens: int | None = None,
        max_new_tokens: int | None = None,
    ):
        if isinstance(model, Encoder):
            raise InputError(f"this model is an encoder, which cannot write; {task.name} needs to.")
        self.tokenizer, self.task = tokenizer, task
        self.engine = Engine(model, tokenizer, max_slots=_AT_ONCE)
        config = model.config
        max_source_tokens, target = bounds(config, max_source_tokens, max_new_tokens)
        if max_new_tokens is not None and target < max_new_tokens:
            raise InputError(f"--max-new-tokens {max_new_tokens}: this model's context allows {target} at most.")
        self.encoder = PairEncoder(config, tokenizer, task, max_source_tokens, target)

    def request(self, **options: Any) -> GenerationRequest:
        """The most probable text, unless the options say otherwise; with beams, weighed by length^1."""
        return request_from({"do_sample": False, "max_new_tokens": self.encoder.max_target_tokens} | options)

    def write(self, sources: Sequence[str], until: float | None = None, **options: Any) -> Iterator[Continuation]:
        """An answer per source, in order, as soon as those before are done; sources of similar length run together.

        Args:
            until: see `Engine.run`.
            options: as in `GenerationRequest`.
        """
        request = self.request(**options)
        ids = self.encoder.sources(sources)
        width = _AT_ONCE // max(1, request.num_beams)
        stretch = 16 * width
        for start in range(0, len(ids), stretch):
            indices = sorted(range(start, min(start + stretch, len(ids))), key=lambda index: -len(ids[index]))
            jobs = {index: self.engine.submit(ids[index], request, index) for index in indices}
            try:
                for index in range(start, start + len(indices)):
                    self.engine.run([jobs[index]], until)
                    yield jobs[index].result()[0]
            finally:  # who does not want the rest leaves nothing under way
                for job in jobs.values():
                    if not job.done:
                        self.engine.cancel(job)
