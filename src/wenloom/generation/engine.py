"""The engine: many requests at once, each step reading what all of them ask for.

A decoding strategy is a generator. It yields what it wants read (`ForwardRequest`: a text, and after how many of its last
tokens it wants scores) and is sent the scores (`ForwardResult`). The engine gathers the reads of every strategy that is
under way and reads them in one pass over the weights: each step is {text: number of tokens}, so that a long prompt
in chunks, a prompt whose beginning is known, a guess of several tokens and plain decoding are one case. What a
strategy gets does not depend on what else is read.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import torch

from wenloom.checkpoint.steering import SteeringVector
from wenloom.core.errors import InputError, WenloomError, printable
from wenloom.core.foreign import kind_of
from wenloom.core.memory import reuse_freed_memory
from wenloom.generation.events import Event, News
from wenloom.generation.jobs import NOT_OURS, Continuation, EngineLoad, ForwardRequest, Job, as_failure
from wenloom.generation.request import GenerationRequest, request_from
from wenloom.generation.request_types import shown
from wenloom.generation.sequence_group import SequenceGroup
from wenloom.generation.steering import steering_of
from wenloom.generation.steps import read, schedule
from wenloom.generation.strategies import sequence_groups_for
from wenloom.generation.turns import Turns
from wenloom.generation.vocabulary import Vocabulary
from wenloom.model.decoder import Decoder
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.runtime.runner import ModelRunner
from wenloom.runtime.window import context_of, view_of
from wenloom.tokens.tokenizer import TextTokenizer


class Engine:
    """Runs requests, many at once; one that fails does so alone, whatever it fails of.

    ```python
    engine = Engine(decoder, tokenizer)
    job = engine.submit([1, 2, 3], GenerationRequest(max_new_tokens=20))
    for index, token, text in engine.stream(job):
        print(text, end="")
    ```

    Several threads may submit, step, stream and cancel; they take turns.

    Args:
        model: in evaluation mode; one with an encoder writes from what that reads.
        tokenizer: for stop strings, grammars and words; token-level requests do without.
        draft_model: a smaller model with the same vocabulary, for drafts and contrastive decoding.
        adapters: the model with other adapters, by the names that requests choose them by; see
            `checkpoint.adapter.with_adapter`.
        steering: vectors by the names that requests choose them by, see `checkpoint.steering`; with adapters, too.
        max_slots: texts that are under way at a time; more wait.
        chunk: tokens of prompts read in one step, so that a long prompt does not hold up the others.
        prefix_bytes: memory for what is known of earlier prompts' beginnings.
        cache_dtype: number type of keys and values, int8 with a scale per token and head; default
            `Decoder.cache_dtype`.
    """

    def __init__(
        self,
        model: Decoder | EncoderDecoder,
        tokenizer: TextTokenizer | None = None,
        *,
        draft_model: Decoder | None = None,
        adapters: Mapping[str, Decoder | EncoderDecoder] | None = None,
        steering: Mapping[str, SteeringVector] | None = None,
        max_slots: int = 16,
        chunk: int = 512,
        prefix_bytes: int = 256 * 2**20,
        cache_dtype: torch.dtype | None = None,
    ):
        if draft_model is not None and isinstance(model, EncoderDecoder):
            raise InputError("a second model cannot help one that has an encoder.")
        if draft_model is not None and draft_model.config.vocab_size != model.config.vocab_size:
            sizes = f"{draft_model.config.vocab_size:,} and {model.config.vocab_size:,}"
            raise InputError(f"the second model must have the vocabulary of the first, not another ({sizes} tokens).")
        if steering and isinstance(model, EncoderDecoder):
            raise InputError("steer: vectors are for models that continue their prompt; this one has an encoder.")
        self.steering = dict(steering or {})
        for name, vector in self.steering.items():
            vector.check(model.config, name)
        reuse_freed_memory()
        self.vocabulary, self.chunk = Vocabulary(model.config, tokenizer), chunk
        both = [each for each in (model, draft_model) if each is not None]
        self.models = [ModelRunner(each, max_slots, prefix_bytes, cache_dtype) for each in both]
        self._adapters = {
            name: ModelRunner(each, max_slots, prefix_bytes, cache_dtype) for name, each in (adapters or {}).items()
        }
        self._waiting: deque[SequenceGroup] = deque()
        self._running: list[SequenceGroup] = []
        self._turns = Turns()
        self._left: list[Job] = []
        """Cancelled in the midst of a step, as an abandoned stream is wherever Python collects it."""
        self._stepping = False

    @property
    def decoder(self) -> Decoder:
        """The model that writes."""
        return self.models[0].decoder

    # --- for those who ask ---

    def submit(
        self, prompt: str | Sequence[int], request: GenerationRequest | Mapping[str, Any], seed_index: int = 0
    ) -> Job:
        """Put a request in line.

        Args:
            prompt: text, or token ids; for a model with an encoder, what that reads.
            request: or its options as a mapping.
            seed_index: tells requests of one seed apart: two with the same seed and index write the same.

        Raises:
            InputError: the request cannot be run by this engine, or its prompt is empty, not of the vocabulary, or too
                long for `on_overflow="error"`.
            WenloomError: the tokenizer or the grammar's compiler failed; the cause is kept.
        """
        if isinstance(request, Mapping):
            request = request_from(request)
        if not isinstance(request, GenerationRequest):
            raise InputError(f"a request must be a GenerationRequest or a mapping, got {kind_of(request)}.")
        try:
            ids = self.vocabulary.prompt_ids(prompt)
            with self._turns:
                return self._submit(prompt, ids, request, seed_index)
        except NOT_OURS:
            raise
        except BaseException as error:
            raise as_failure(error) from error

    def attempt(
        self, prompt: str | Sequence[int], request: GenerationRequest | Mapping[str, Any], seed_index: int = 0
    ) -> Job:
        """Submit one of many: a request that `submit` refuses comes back failed, with the reason in it."""
        try:
            return self.submit(prompt, request, seed_index)
        except WenloomError as error:
            n = request.num_return_sequences if isinstance(request, GenerationRequest) else 1
            job = Job([], GenerationRequest(), [Continuation() for _ in range(n)])
            job.fail(error)
            return job

    def _submit(self, prompt: str | Sequence[int], ids: list[int], request: GenerationRequest, seed_index: int) -> Job:
        source = None
        if self.models[0].encode is not None:
            source, ids = ids, self._first_of_decoder(len(ids), request)
        room, context = request.room(len(ids)), context_of(self.decoder.config)
        if context is not None and request.on_overflow == "error":
            if len(ids) > context:
                raise InputError(f"the prompt has {len(ids):,} tokens, more than this model's context of {context:,}: "
                                 'shorten it, or let on_overflow="left" go on without its beginning.')  # fmt: skip
            room = min(room, context - len(ids) + 1)
        continuations = [
            Continuation(stream=self.vocabulary.stream(ids, request)) for _ in range(request.num_return_sequences)
        ]
        job = Job(ids, request, continuations, source=source, unseen=view_of(self.decoder.config, len(ids)).first)
        runners = (self._runner_for(request), *self.models[1:])
        job.steering = steering_of(request.steer, self.steering, runners[0].device)
        sequence_groups = sequence_groups_for(runners, self.vocabulary, job, room, seed_index)
        for sequences in sequence_groups:
            for runner, width in sequences.width.items():
                if width > runner.max_slots:
                    raise InputError(
                        f"{width} texts at a time are more than this engine has room for ({runner.max_slots})."
                    )
                if runner.weights_changed():
                    self._forget(runner)
        if request.echo:
            echoed = prompt if isinstance(prompt, str) else self.vocabulary.tokenizer_for("echo").decode(ids)
            for each in continuations:
                each.begin_with(echoed)
        job.sequence_groups = len(sequence_groups)
        self._waiting += sequence_groups
        return job

    def forget(self) -> None:
        """Read everything anew, also the texts under way: the weights have changed.

        Changes that PyTorch counts (optimizers, `load_state_dict`, replaced layers and tensors) are noticed when the
        next request comes. Those behind its back need this call: through `.data`, or NumPy's view of the memory.
        """
        with self._turns:
            for runner in self._runners:
                self._forget(runner)

    def _forget(self, runner: ModelRunner) -> None:
        runner.forget()
        for sequences in self._running:
            for text in sequences.texts:
                if text.runner is runner:
                    text.known, sequences.readings = 0, [None] * len(sequences.reads)
                    if text.encoder_kv is not None:
                        sequences.job.encoder_kv = None
                        text.encoder_kv = sequences.encoded()

    def _runner_for(self, request: GenerationRequest) -> ModelRunner:
        """The model, with the adapter that a request asks for.

        Raises:
            InputError: there is no adapter of that name.
        """
        if request.adapter is None:
            return self.models[0]
        if request.adapter not in self._adapters:
            known = ", ".join(self._adapters) or "none"
            raise InputError(f"adapter {shown(request.adapter)}: this engine has {printable(known, 300)}.")
        return self._adapters[request.adapter]

    @property
    def _runners(self) -> list[ModelRunner]:
        return [*self.models, *self._adapters.values()]

    def _first_of_decoder(self, n_source: int, request: GenerationRequest) -> list[int]:
        config = self.decoder.config
        encoder = config.encoder
        assert encoder is not None and config.decoder_start_token_id is not None
        if encoder.n_positions is not None and n_source > encoder.n_positions:
            raise InputError(f"{n_source:,} tokens do not fit: this model's encoder reads {encoder.n_positions:,}.")
        for name, neutral in (("guidance_scale", 1), ("prompt_logprobs", None), ("echo", False), ("steer", ()),
                              ("self_debias", ())):  # fmt: skip
            if getattr(request, name) != neutral:
                raise InputError(f"{name} is for models that continue their prompt; this one has an encoder.")
        return [config.decoder_start_token_id]

    def cancel(self, job: Job) -> None:
        """Stop a request now and free its slots; what was written stays."""
        if self._stepping and self._turns.mine:
            self._left.append(job)
            return
        with self._turns:
            self._end(job)

    def run(self, jobs: Sequence[Job], until: float | None = None) -> None:
        """Step until these are done.

        Args:
            until: when, by `time.monotonic`, those that are not done are cancelled; what was written stays.

        Raises:
            InputError: one of them is another engine's.
        """
        while not all(job.done for job in jobs):
            if until is not None and time.monotonic() >= until:
                for job in jobs:
                    if not job.done:
                        self.cancel(job)
            elif not self.step() and not all(job.done for job in jobs):
                raise InputError("a request can only be run by the engine that it was submitted to.")

    def stream(self, job: Job) -> Generator[Event, None, None]:
        """What comes of a request, as it comes; stopping early cancels it.

        Raises:
            WenloomError: the request failed.
        """
        events = self._stream(job)
        next(events)  # begun: from here on, Python tells when nobody wants it any more
        return events  # pyright: ignore[reportReturnType]

    def _stream(self, job: Job) -> Generator[Event | None, None, None]:
        news = self.events(job)
        try:
            yield None
            while not job.done:
                yield from news()
                self.step()
            yield from news()
            job.result()
        finally:
            self.cancel(job)

    def events(self, job: Job) -> Callable[[], list[Event]]:
        """What tells, each time it is called, what has come since."""
        since = News(job)

        def news() -> list[Event]:
            with self._turns:
                return since()

        return news

    @property
    def slots_in_use(self) -> int:
        """Texts under way, of all models."""
        return sum(runner.in_use for runner in self._runners)

    @property
    def load(self) -> EngineLoad:
        """How busy it is; read in the midst of a step, the figures may be a step apart."""
        runners = self._runners
        return EngineLoad(
            waiting=len(self._waiting), running=len(self._running), slots_in_use=self.slots_in_use,
            slots=sum(runner.max_slots for runner in runners),
            cache_bytes=sum(runner.slots.n_used * runner.slots.page_bytes for runner in runners),
        )  # fmt: skip

    # --- one step ---

    @torch.inference_mode()
    def step(self) -> bool:
        """Let every request that is under way take its next step; False if there is none."""
        with self._turns:
            self._stepping = True
            try:
                self._admit()
                for runner in self._runners:
                    if work := schedule(runner, self._running, self.chunk):
                        read(runner, work, self._fail)
                for sequences in list(self._running):
                    if len(sequences.arrived) == len(sequences.reads) and sequences.job.error is None:
                        self._advance(sequences)
            finally:
                self._stepping = False
                while self._left:
                    self._end(self._left.pop())
            return bool(self._running or self._waiting)

    def _admit(self) -> None:
        while self._waiting:
            sequences = self._waiting[0]
            fits = all(
                sum(each.width.get(runner, 0) for each in self._running) + wanted <= runner.max_slots
                for runner, wanted in sequences.width.items()
            )
            first_reads = any(
                each.job is sequences.job and not any(text.known for text in each.texts) for each in self._running
            )
            if not fits or (first_reads and sequences.index > 0):  # the first of several reads the prompt for all
                return
            self._waiting.popleft()
            self._running.append(sequences)
            self._advance(sequences)

    def _advance(self, sequences: SequenceGroup) -> None:
        """Hand over what was read, until the strategy asks again or ends."""
        assert sequences.strategy is not None
        try:
            answers = [sequences.arrived[index] for index in range(len(sequences.reads))]
            sequences.arrived = {}
            sequences.reads = sequences.strategy.send(answers) if sequences.reads else next(sequences.strategy)
            sequences.readings = [None] * len(sequences.reads)
            for read in sequences.reads:
                self._look_up(read, sequences)
        except StopIteration:
            self._finish(sequences)
        except NOT_OURS:
            raise
        except BaseException as error:
            self._fail(sequences.job, error)

    def _fail(self, job: Job, error: BaseException) -> None:
        """This request alone fails."""
        job.fail(error)
        self._end(job)

    def _end(self, job: Job) -> None:
        """Take a request out, with all that it holds."""
        for sequences in [each for each in self._running if each.job is job]:
            self._finish(sequences)
        for sequences in [each for each in self._waiting if each.job is job]:
            self._waiting.remove(sequences)
            job.sequence_groups -= 1
        for each in job.continuations:
            if each.finish_reason is None:
                each.break_off("cancelled")

    def _finish(self, sequences: SequenceGroup) -> None:
        for text in list(sequences.texts):
            sequences.close(text)
        self._running.remove(sequences)
        sequences.job.sequence_groups -= 1
        if sequences.strategy is not None:
            sequences.strategy.close()  # it holds the group that holds it

    def _look_up(self, read: ForwardRequest, sequences: SequenceGroup) -> None:
        """Bring a text's view up to date and take what is known of its beginning from the cache."""
        text, runner, job, use_cache = read.text, read.text.runner, sequences.job, sequences.job.request.use_cache
        view = view_of(runner.decoder.config, len(text.tokens), text.steering.key)
        if view != text.view or not use_cache:
            text.view, text.known = view, 0
        visible = len(text.tokens) - view.first
        if use_cache and text.known == 0 and read.logits == 1 and text.encoder_kv is None:
            text.known = runner.prefixes.restore(text.tokens, view, text.slot, visible - 1)
            if sequences.index == 0 and len(text.tokens) == len(job.prompt):
                job.n_reused = text.known
        text.known = min(text.known, visible - read.logits)
