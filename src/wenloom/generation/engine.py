"""The engine: many requests at once, each step reading what all of them ask for.

A decoding strategy is a generator. It yields what it wants read (`Read`: a text, and after how many of its last
tokens it wants scores) and is sent the scores (`Reading`). The engine gathers the reads of every strategy that is
under way and reads them in one pass over the weights: each step is {text: number of tokens}, so that a long prompt
in chunks, a prompt whose beginning is known, a guess of several tokens and plain decoding are one case. What a
strategy gets does not depend on what else is read.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from wenloom.core.errors import InputError, WenloomError
from wenloom.core.memory import reuse_freed_memory
from wenloom.generation.constraints import Forms
from wenloom.generation.jobs import Continuation, Job, Read, Reading
from wenloom.generation.lanes import Lane, Wanted
from wenloom.generation.prefixes import BLOCK
from wenloom.generation.reader import Reader
from wenloom.generation.request import GenerationRequest
from wenloom.generation.strategies import lanes_for
from wenloom.generation.stream import TextStream
from wenloom.generation.window import view_of
from wenloom.model.cache import Memory, Segment
from wenloom.model.decoder import Decoder
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.tokens.tokenizer import TextTokenizer


class Engine:
    """Runs requests, many at once.

    ```python
    engine = Engine(decoder, tokenizer)
    job = engine.submit([1, 2, 3], GenerationRequest(max_new_tokens=20))
    for index, token, text in engine.stream(job):
        print(text, end="")
    ```

    Args:
        model: in evaluation mode; one with an encoder writes from what that reads.
        tokenizer: for stop strings, forms and words; token-level requests do without.
        companion: a smaller model with the same vocabulary, for drafts and contrastive decoding.
        adapters: the model with other adapters, by the names that requests choose them by; see
            `checkpoint.adapter.with_adapter`.
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
        companion: Decoder | None = None,
        adapters: Mapping[str, Decoder | EncoderDecoder] | None = None,
        max_slots: int = 16,
        chunk: int = 512,
        prefix_bytes: int = 256 * 2**20,
        cache_dtype: torch.dtype | None = None,
    ):
        if companion is not None and isinstance(model, EncoderDecoder):
            raise InputError("a second model cannot help one that has an encoder.")
        if companion is not None and companion.config.vocab_size != model.config.vocab_size:
            sizes = f"{companion.config.vocab_size:,} and {model.config.vocab_size:,}"
            raise InputError(f"the second model must have the vocabulary of the first, not another ({sizes} tokens).")
        reuse_freed_memory()
        self.tokenizer, self.chunk = tokenizer, chunk
        both = [each for each in (model, companion) if each is not None]
        self.models = [Reader(each, max_slots, prefix_bytes, cache_dtype) for each in both]
        self._adapters = {
            name: Reader(each, max_slots, prefix_bytes, cache_dtype) for name, each in (adapters or {}).items()
        }
        self._forms: dict[frozenset[int], Forms] = {}
        self._breakers: dict[tuple[str, ...], frozenset[int]] = {}
        self._waiting: deque[Lane] = deque()
        self._running: list[Lane] = []

    @property
    def decoder(self) -> Decoder:
        """The model that writes."""
        return self.models[0].decoder

    # --- for those who ask ---

    def submit(self, prompt: str | Sequence[int], request: GenerationRequest, seed_index: int = 0) -> Job:
        """Put a request in line.

        Args:
            prompt: text, or token ids; for a model with an encoder, what that reads.
            seed_index: tells requests of one seed apart: two with the same seed and index write the same.

        Raises:
            InputError: the request cannot be run by this engine, or its prompt is empty or not of the vocabulary.
        """
        ids, source = self._prompt_ids(prompt), None
        if self.models[0].encode is not None:
            source, ids = ids, self._first_of_decoder(len(ids), request)
        room = request.room(len(ids))
        n = request.num_return_sequences
        continuations = [Continuation(stream=self._text_stream(ids, request)) for _ in range(n)]
        job = Job(ids, request, continuations, source=source)
        lanes = lanes_for(self, job, room, seed_index)
        for lane in lanes:
            for reader, width in lane.width.items():
                if width > reader.max_slots:
                    raise InputError(
                        f"{width} texts at a time are more than this engine has room for ({reader.max_slots})."
                    )
        job.lanes = len(lanes)
        self._waiting += lanes
        return job

    def encoded(self, job: Job) -> Memory | None:
        """What a job's source is to the decoder, read when its first text begins; None without an encoder."""
        reader = self.reader_for(job.request)
        if job.memory is None and reader.encode is not None:
            job.memory = reader.encode(torch.tensor([job.source], device=reader.device))
        return job.memory

    def reader_for(self, request: GenerationRequest) -> Reader:
        """The model, with the adapter that a request asks for.

        Raises:
            InputError: there is no adapter of that name.
        """
        if request.adapter is None:
            return self.models[0]
        if request.adapter not in self._adapters:
            known = ", ".join(self._adapters) or "none"
            raise InputError(f"adapter {request.adapter!r}: this engine has {known}.")
        return self._adapters[request.adapter]

    @property
    def _readers(self) -> list[Reader]:
        return [*self.models, *self._adapters.values()]

    def _first_of_decoder(self, n_source: int, request: GenerationRequest) -> list[int]:
        config = self.decoder.config
        encoder = config.encoder
        assert encoder is not None and config.decoder_start_token_id is not None
        if encoder.positions != "relative" and n_source > encoder.context_length:
            raise InputError(f"{n_source:,} tokens do not fit: this model's encoder reads {encoder.context_length:,}.")
        for name, neutral in (("guidance_scale", 1), ("prompt_logprobs", None), ("echo", False)):
            if getattr(request, name) != neutral:
                raise InputError(f"{name} is for models that go on with their prompt; this one has an encoder.")
        return [config.decoder_start_token_id]

    def cancel(self, job: Job) -> None:
        """Stop a request now and free its slots; what was written stays."""
        for lane in [each for each in self._running if each.job is job]:
            self._finish(lane)
        for lane in [each for each in self._waiting if each.job is job]:
            self._waiting.remove(lane)
            job.lanes -= 1
        for each in job.continuations:
            each.finish_reason = each.finish_reason or "cancelled"

    def run(self, jobs: Sequence[Job]) -> None:
        """Step until these are done."""
        while not all(job.done for job in jobs):
            self.step()

    def stream(self, job: Job) -> Generator[tuple[int, int, str], None, None]:
        """(continuation, token, new text) as they come; stopping early cancels the request.

        Raises:
            WenloomError: the request failed.
        """
        news = self.events(job)
        try:
            while True:
                yield from news()
                if job.done:
                    break
                self.step()
            job.result()
        finally:
            self.cancel(job)

    def events(self, job: Job) -> Callable[[], Iterator[tuple[int, int, str]]]:
        """What tells, each time it is called, what has come since: (continuation, token, new text)."""
        told = [0] * len(job.continuations)

        def since() -> Iterator[tuple[int, int, str]]:
            for index, each in enumerate(job.continuations):
                while told[index] < len(each.tokens):
                    told[index] += 1
                    piece = each.stream.take() if each.stream and told[index] == len(each.tokens) else ""
                    yield index, each.tokens[told[index] - 1], piece

        return since

    @property
    def slots_in_use(self) -> int:
        """Texts under way, of all models."""
        return sum(reader.in_use for reader in self._readers)

    # --- one step ---

    @torch.inference_mode()
    def step(self) -> bool:
        """Let every request that is under way take its next step; False if there is none."""
        self._admit()
        for reader in self._readers:
            if work := self._work_for(reader):
                self._read(reader, work)
        for lane in list(self._running):
            if len(lane.arrived) == len(lane.reads):
                self._advance(lane)
        return bool(self._running or self._waiting)

    def _admit(self) -> None:
        while self._waiting:
            lane = self._waiting[0]
            fits = all(
                sum(each.width.get(reader, 0) for each in self._running) + wanted <= reader.max_slots
                for reader, wanted in lane.width.items()
            )
            first_reads = any(
                each.job is lane.job and not any(text.known for text in each.texts) for each in self._running
            )
            if not fits or (first_reads and lane.index > 0):  # the first of several reads the prompt for all
                return
            self._waiting.popleft()
            self._running.append(lane)
            self._advance(lane)

    def _advance(self, lane: Lane) -> None:
        """Hand over what was read, until the strategy asks again or ends."""
        assert lane.strategy is not None
        try:
            answers = [lane.arrived[index] for index in range(len(lane.reads))]
            lane.arrived = {}
            lane.reads = lane.strategy.send(answers) if lane.reads else next(lane.strategy)
            lane.readings = [None] * len(lane.reads)
            for read in lane.reads:
                self._look_up(read, lane.job.request.use_cache)
        except StopIteration:
            self._finish(lane)
        except WenloomError as error:  # this request alone fails
            lane.job.error = error
            self.cancel(lane.job)

    def _finish(self, lane: Lane) -> None:
        for text in list(lane.texts):
            lane.close(text)
        self._running.remove(lane)
        lane.job.lanes -= 1

    def _look_up(self, read: Read, use_cache: bool) -> None:
        """Bring a text's view up to date and take what is known of its beginning from the cache."""
        text, reader = read.text, read.text.reader
        view = view_of(reader.decoder.config, len(text.tokens))
        if view != text.view or not use_cache:
            text.view, text.known = view, 0
        visible = len(text.tokens) - view.first
        reader.slots.reserve(text.slot + 1, visible)
        if use_cache and text.known == 0 and read.logits == 1 and text.memory is None:
            text.known = reader.prefixes.restore(text.tokens, view, reader.slots, text.slot, visible - 1)
        text.known = min(text.known, visible - read.logits)

    def _work_for(self, reader: Reader) -> list[tuple[Lane, int, Segment]]:
        """What to read in one step: (lane, which of its reads, segment); short reads first, then chunks of prompts."""
        waiting = [
            (lane, index, len(read.text.tokens) - read.text.view.first - read.text.known)
            for lane in self._running
            for index, read in enumerate(lane.reads)
            if read.text.reader is reader and index not in lane.arrived
        ]
        waiting.sort(key=lambda each: each[2] > _SHORT)
        budget, work = self.chunk, []
        for lane, index, count in waiting:
            if count > _SHORT:
                count = min(count, budget)
                budget -= count
            if count > 0:
                text = lane.reads[index].text
                visible = len(text.tokens) - text.view.first
                work.append((lane, index, Segment(text.slot, text.known, count, visible, text.memory)))
        return work

    def _read(self, reader: Reader, work: list[tuple[Lane, int, Segment]]) -> None:
        started = time.perf_counter()
        tokens: list[int] = []
        wanted: list[Wanted] = []
        layers = sorted({layer for lane, index, _ in work for layer in lane.reads[index].layers})
        for lane, index, segment in work:
            text, read = lane.reads[index].text, lane.reads[index]
            begin = text.view.first + segment.start
            tokens += text.tokens[begin : begin + segment.count]
            text.known += segment.count
            missing = segment.length - text.known  # read in later steps
            rows = min(segment.count, read.logits - missing)
            if rows > 0:
                wanted.append(Wanted(lane, index, len(tokens) - rows, len(tokens), segment.count > 1))
        rows = [row for each in wanted for row in range(each.begin, each.end)]
        self._deliver(wanted, *reader.read(tokens, [segment for _, _, segment in work], rows, layers))
        reader.timed(len(tokens), time.perf_counter() - started)

    def _deliver(self, wanted: list[Wanted], logits: Tensor, hidden_ND: Tensor, early: dict[int, Tensor]) -> None:
        """Scores to those who asked; kept until a read is complete."""
        done = 0
        for lane, index, begin, end, is_prompt in wanted:
            read, here = lane.reads[index], slice(done, done + end - begin)
            done += end - begin
            parts = [
                logits[here],
                *([hidden_ND[begin:end]] if read.hidden else []),
                *(early[n][here] for n in read.layers),
            ]
            before = lane.readings[index]
            whole = parts if before is None else [torch.cat(pair) for pair in zip(before, parts, strict=True)]
            if len(whole[0]) < read.logits:
                lane.readings[index] = whole
                continue
            at_block = (len(read.text.tokens) - read.text.view.first) % BLOCK == 0
            is_kept = read.text.memory is None and lane.job.request.use_cache
            if read.logits == 1 and is_kept and (at_block or is_prompt):
                reader = read.text.reader
                reader.prefixes.remember(read.text.tokens, read.text.view, reader.slots, read.text.slot)
            scores, *others = whole
            hidden = others.pop(0) if read.hidden else None
            lane.arrived[index] = Reading(scores, hidden, dict(zip(read.layers, others, strict=True)))

    # --- what strategies need of the vocabulary ---

    def endings(self, request: GenerationRequest) -> frozenset[int]:
        """Tokens that end a continuation."""
        return frozenset(self.decoder.config.eos_token_ids if request.eos_token_id is None else request.eos_token_id)

    def forms(self, endings: frozenset[int]) -> Forms:
        """The compiler of forms for these end tokens."""
        if endings not in self._forms:
            self._forms[endings] = Forms(self.needed_tokenizer("a form"), self.decoder.config.vocab_size, endings)
        return self._forms[endings]

    def breakers(self, texts: tuple[str, ...]) -> frozenset[int]:
        """Tokens that hold one of these texts."""
        if texts not in self._breakers:
            wanted = [text.encode() for text in texts]
            vocabulary = self.needed_tokenizer("dry_sequence_breakers").token_bytes(self.decoder.config.vocab_size)
            found = (token for token, data in enumerate(vocabulary) if any(each in data for each in wanted))
            self._breakers[texts] = frozenset(found)
        return self._breakers[texts]

    def needed_tokenizer(self, what: str) -> TextTokenizer:
        """The tokenizer.

        Raises:
            InputError: there is none; says what needs it.
        """
        if self.tokenizer is None:
            raise InputError(f"{what} needs tokenizer=, to know the text of the tokens.")
        return self.tokenizer

    def _text_stream(self, prompt: list[int], request: GenerationRequest) -> TextStream | None:
        if self.tokenizer is None:
            if request.stop_strings:
                self.needed_tokenizer("stop_strings")
            return None
        return TextStream(self.tokenizer, prompt, request.stop_strings)

    def _prompt_ids(self, prompt: str | Sequence[int]) -> list[int]:
        config = self.decoder.config
        if not isinstance(prompt, str):
            ids = list(prompt)
        elif self.models[0].encode is None:
            ids = self.needed_tokenizer("a text").prompt_ids(prompt)
        else:
            ids = self.needed_tokenizer("a text").encode(prompt)
        vocab_size = config.vocab_size if config.encoder is None else config.encoder.vocab_size
        if not ids:
            raise InputError(
                "a prompt needs at least one token; begin with the model's BOS token to write from nothing."
            )
        if not all(0 <= token < vocab_size for token in ids):
            raise InputError(f"token {max(ids, key=abs)} is not in the model's vocabulary of {vocab_size:,}.")
        return ids


_SHORT = 16
"""Reads up to this many tokens (decoding, guesses) go before chunks of prompts."""
