"""Training for conversations: to answer, and to answer better."""

import math
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from rich.text import Text

from wenloom.checkpoint.folder import load_model
from wenloom.core.console import remark, remarks
from wenloom.core.errors import InputError
from wenloom.core.progress import progress
from wenloom.core.randomness import derive_seed
from wenloom.generation.engine import Engine
from wenloom.generation.jobs import Continuation
from wenloom.generation.request import GenerationRequest
from wenloom.model.build import Model, can_read_more, with_context
from wenloom.model.decoder import Decoder
from wenloom.model.lora import without_adapter
from wenloom.tasks.classification import share
from wenloom.tasks.lost import Lost
from wenloom.tasks.messages import ChatEncoder, Conversation, Preference, read_conversations, read_preferences
from wenloom.tasks.recipe import SHOWN, EncodedExamples, Figures, Row, TaskRecipe
from wenloom.tasks.rows import RowReader
from wenloom.tasks.settings import DataSettings
from wenloom.tokens.chat import PLAIN_TEMPLATE, ChatRenderer, chat_ids, render
from wenloom.tokens.masked_conversation import MaskedConversation, last_turn, masked_conversations
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.columns import Example, Targets, Tokens, collated
from wenloom.training.cross_entropy import IGNORED
from wenloom.training.dial import Derived
from wenloom.training.objectives import CausalObjective, Objective, PreferenceObjective
from wenloom.training.report import Sample, SamplePreview

_SAMPLE_TOKENS = 200
_MAX_LENGTH = 1024
"""As TRL has it: memory grows with the length of a row, and models that read 8,192 tokens or more would fill a machine."""
_REFERENCE_SHARE = 0.25
"""Part of a budget that may pass before the first step of a preference training, for pairs that are learned; learning from a pair takes some four times
as long as comparing its answers."""
_VALIDATION_SHARE = 0.1
"""Of what is left of it then, for the pairs of validation."""
_LOOKED_AT, _MOST = 500, 0.95
"""Rows whose length tells how much a model must read at once, and the part of them that it reads whole."""
_MEASURED, _LONGEST_REPLY, _LEAST_ROOM = 200, 1024, 32
"""Conversations whose reply is measured at the end, its most tokens, and the room below which there is none."""


class _ChatRecipe(TaskRecipe[Row]):
    """What learning from conversations and from pairs of them have in common."""

    measuring = 0.1
    smaller = "choose a smaller --max-length, --method lora, or --recompute"
    longer = "allow more by --max-length, or take a model that reads more at once"

    def _with_room(self, decoder: Decoder, length: Callable[[Row], int]) -> Decoder:
        """A decoder that reads rows whole, as far as it can be had: one that read little gets a longer context.

        Args:
            length: tokens of a row.
        """
        settings, context = self.settings, decoder.config.context_length
        if settings.learning.method != "full" or not can_read_more(decoder.config):
            return decoder
        wanted, why = settings.data.max_length or context, "--max-length"
        if settings.data.max_length is None and context < _MAX_LENGTH:
            lengths = sorted(map(length, self.train[:: -(-len(self.train) // _LOOKED_AT) or 1]))
            most = lengths[int(_MOST * (len(lengths) - 1))] if lengths else 0
            wanted, why = min(_MAX_LENGTH, 2 ** math.ceil(math.log2(max(1, most)))), "holds 19 of 20 conversations"
        if wanted <= context:
            return decoder
        self.derived.append(Derived("context", f"{wanted:,}", f"{why}; the model read {context:,} tokens at once"))
        return with_context(decoder, wanted)


class DialogueRecipe(_ChatRecipe[Conversation]):
    """Learn the assistant's turns of conversations."""

    def read(self, where: str, reader: RowReader, data: DataSettings) -> list[Conversation]:
        """Conversations in any known shape."""
        return read_conversations(where, reader)

    def question(self, row: Conversation) -> str:
        """All but the last reply."""
        return str(row[:-1])

    def prepared(self, model: Model, tokenizer: TextTokenizer) -> Model:
        """A decoder; one without a chat template gets the plain one, one that reads little a longer context."""
        decoder = _with_template(model, tokenizer, self.settings.base)
        renderer = ChatRenderer(tokenizer)
        return self._with_room(
            decoder, lambda row: max(len(each.tokens) for each in masked_conversations(renderer, row))
        )

    def encode(self, model: Model, tokenizer: TextTokenizer) -> EncodedExamples:
        """Packed, unless asked not to; a validation example stands alone."""
        longest = longest_row(self.settings.data, model)
        encoder = ChatEncoder(tokenizer, longest)
        masked = [each for row in self.train for each in encoder.masked_conversations(row)]
        if masked:
            remarks.print(coloured(tokenizer, masked[0]))
        train = encoder.rows(masked, self.settings.learning.pack)
        validation = encoder.examples(self.validation, pack=False)
        lost = {
            f"conversations have more than {longest} tokens: they lost their last turns": encoder.cut,
            f"conversations have more than {longest} tokens in their first exchange: left out": encoder.dropped,
        }
        return EncodedExamples(train, validation, lost, len(masked) / max(1, len(train)))

    def objective(self, model: Model) -> Objective:
        """Next tokens of the replies."""
        assert isinstance(model, Decoder)
        return CausalObjective(model)

    def show(self, model: Model, tokenizer: TextTokenizer, until: float | None = None) -> SamplePreview:
        """Replies to a few openings."""
        assert isinstance(model, Decoder)
        return replies(model, tokenizer, self.validation[:SHOWN], until)

    def measure(self, model: Model, tokenizer: TextTokenizer) -> Figures:
        """Part of the replies that end with an end token."""
        assert isinstance(model, Decoder)
        engine = Engine(model, tokenizer)
        jobs = []
        for index, row in enumerate(self.validation[:_MEASURED]):
            prompt = chat_ids(tokenizer, row[:-1])
            room = model.config.context_length - len(prompt)
            if room >= _LEAST_ROOM:
                request = GenerationRequest(max_new_tokens=min(_LONGEST_REPLY, room), temperature=0.7, seed=0)
                jobs.append(engine.submit(prompt, request, index))

        def replies() -> Iterator[Continuation]:
            for job in jobs:
                engine.run([job], self.until)
                yield job.result()[0]

        found = self.written(replies(), len(jobs), "replies")
        return {"stopped": share([reply.ended_by == "end token" for reply in found])} if found else {}


class PreferenceRecipe(_ChatRecipe[Preference]):
    """Learn which of two replies people prefer."""

    def read(self, where: str, reader: RowReader, data: DataSettings) -> list[Preference]:
        """Conversations with two endings."""
        return read_preferences(where, reader)

    def question(self, row: Preference) -> str:
        """All but the last reply."""
        return str(row.chosen[:-1])

    def prepared(self, model: Model, tokenizer: TextTokenizer) -> Model:
        """A decoder; one without a chat template gets the plain one, one that reads little a longer context."""
        decoder = _with_template(model, tokenizer, self.settings.base)
        renderer = ChatRenderer(tokenizer)
        return self._with_room(decoder, lambda row: max(len(last_turn(renderer, each).tokens) for each in row))

    def encode(self, model: Model, tokenizer: TextTokenizer) -> EncodedExamples:
        """Pairs, with what the model says of them before it learns."""
        assert isinstance(model, Decoder)
        longest = longest_row(self.settings.data, model)
        renderer, lost = ChatRenderer(tokenizer), Lost()
        made = [_pairs(renderer, rows, longest, lost) for rows in (self.train, self.validation)]
        what = f"pairs have more than {longest} tokens, or do not differ: left out"
        return EncodedExamples(*self._with_references(PreferenceObjective(model), *made), {what: lost})

    def _with_references(
        self, objective: PreferenceObjective, train: list[Example], validation: list[Example]
    ) -> tuple[list[Example], list[Example]]:
        """Note of every pair how much more probable the model finds the preferred answer, before it learns.

        Where a budget does not allow it for all pairs, those drawn last are left out: they would not be learned either.
        """
        settings, now = self.settings, time.monotonic()
        kept: list[list[Example]] = []
        for pairs, most, part, what in (
            (validation, settings.most_validation, _VALIDATION_SHARE, "validate by"),
            (train, settings.most_examples, _REFERENCE_SHARE, "learn from"),
        ):
            drawn = pairs
            if settings.training.budget is not None:
                order = np.random.default_rng(derive_seed(settings.training.seed, "pairs")).permutation(len(pairs))
                drawn = [pairs[index] for index in order[:most]]
            end = settings.deadline
            with without_adapter(objective.model):
                margins = _margins(objective, drawn, None if end is None else now + part * (end - now))
            for example, margin in zip(drawn, margins, strict=False):
                example["reference_B"] = margin
            if len(margins) < len(drawn):
                remark(f"The budget suffices to {what} {len(margins):,} of {len(pairs):,} pairs, drawn at random.")
            kept.append(drawn[: len(margins)])
        return kept[1], kept[0]

    def objective(self, model: Model) -> Objective:
        """DPO."""
        assert isinstance(model, Decoder)
        return PreferenceObjective(model, self.settings.learning.beta)

    def show(self, model: Model, tokenizer: TextTokenizer, until: float | None = None) -> SamplePreview:
        """Replies to a few openings."""
        assert isinstance(model, Decoder)
        return replies(model, tokenizer, [row.chosen for row in self.validation[:SHOWN]], until)

    @torch.inference_mode()
    def measure(self, model: Model, tokenizer: TextTokenizer) -> Figures:
        """Part of the pairs of which the model finds the preferred answer more probable, against where it began."""
        assert isinstance(model, Decoder)
        objective = PreferenceObjective(model)
        renderer, longest = ChatRenderer(tokenizer), longest_row(self.settings.data, model)
        examples = _pairs(renderer, self.validation, longest, Lost())
        margins = _margins(objective, examples, self.until and (time.monotonic() + self.until) / 2)
        assert self.settings.base is not None
        base = load_model(self.settings.base, str(model.embed.weight.device))
        assert isinstance(base, Decoder)
        references = _margins(PreferenceObjective(base), examples[: len(margins)], self.until)
        better = [margin > reference for margin, reference in zip(margins, references, strict=False)]
        return {"preferred": share(better)}


def longest_row(data: DataSettings, model: Model) -> int:
    """Most tokens of a row, where --max-length says nothing: the model's context, 1,024 at most.

    Raises:
        InputError: more than the model reads.
    """
    context = model.config.context_length
    if data.max_length is not None and data.max_length > context:
        raise InputError(f"--max-length {data.max_length}: this model reads {context:,} tokens at once.")
    return data.max_length or min(context, _MAX_LENGTH)


def _with_template(model: Model, tokenizer: TextTokenizer, base: object) -> Decoder:
    if not isinstance(model, Decoder):
        raise InputError(f"{base}: chat needs a model that continues a text (a decoder).")
    if tokenizer.chat_template is None and not tokenizer.other_templates:
        if tokenizer.eos_token is None:
            raise InputError(f"{base}: has neither a chat template nor an end token to make one with.")
        tokenizer.chat_template = PLAIN_TEMPLATE
    return model


def coloured(tokenizer: TextTokenizer, masked: MaskedConversation) -> Text:
    """A conversation as the model reads it; what it learns is green."""
    shown = Text("The first conversation as the model reads it; it learns what is green:\n")
    start = 0
    tokens, learned = masked.tokens[:_SAMPLE_TOKENS], masked.learned[:_SAMPLE_TOKENS]
    while start < len(tokens):
        end = next((i for i in range(start, len(tokens)) if learned[i] != learned[start]), len(tokens))
        text = tokenizer.decode(tokens[start:end])
        shown.append(text, style="bold green" if learned[start] else "dim")
        start = end
    return shown.append("…" if len(masked.tokens) > _SAMPLE_TOKENS else "", style="dim")


def replies(
    model: Decoder, tokenizer: TextTokenizer, conversations: list[Conversation], until: float | None
) -> SamplePreview:
    """What a model answers where the last reply of a conversation stood; `until` as in `TaskRecipe.show`."""
    engine = Engine(model, tokenizer)
    request = GenerationRequest(max_new_tokens=100, temperature=0.7, seed=0)
    openings = [messages[:-1] for messages in conversations]
    jobs = [engine.submit(chat_ids(tokenizer, opening), request) for opening in openings]
    engine.run(jobs, until)
    written = [job.result()[0].text for job in jobs]
    return SamplePreview(
        [Sample(render(tokenizer, opening), text) for opening, text in zip(openings, written, strict=True)]
    )


def _pairs(renderer: ChatRenderer, rows: Sequence[Preference], longest: int, lost: Lost) -> list[Example]:
    """Pairs as a model reads them; those that do not fit count as lost."""
    examples: list[Example] = []
    for chosen, rejected in rows:
        both = last_turn(renderer, chosen), last_turn(renderer, rejected)
        if example := _pair(*both, longest):
            examples.append(example)
        else:
            lost.add(sum(len(each.tokens) for each in both))
    return examples


def _pair(chosen: MaskedConversation, rejected: MaskedConversation, longest: int) -> Example | None:
    """Both conversations; only the last reply counts. None, if they are too long, or do not differ."""
    if chosen.tokens == rejected.tokens or max(len(chosen.tokens), len(rejected.tokens)) > longest:
        return None
    example: Example = {}
    for name, (tokens, learned) in (("chosen", chosen[:2]), ("rejected", rejected[:2])):
        labels = [token if learns else IGNORED for token, learns in zip(tokens, learned, strict=True)]
        if not any(label != IGNORED for label in labels[1:]):
            return None
        example |= {f"{name}_BT": Tokens(tokens[:-1]), f"{name}_labels_BT": Targets(labels[1:])}
    return example | {"targets_B": 1}


@torch.no_grad()
def _margins(objective: PreferenceObjective, examples: Sequence[Example], until: float | None = None) -> list[float]:
    """log P(chosen) - log P(rejected) of every pair; of as many of the first ones as there is time for, of one at least."""
    device = objective.model.eval().embed.weight.device
    names = ("chosen_BT", "chosen_labels_BT", "rejected_BT", "rejected_labels_BT")
    margins: list[float] = []
    with progress("Comparing", len(examples), "pairs") as bar:
        count = 8 if until is None else 1  # the first ones tell how many more there is time for
        began = time.monotonic()
        while len(margins) < len(examples) and count > 0:
            rows = collated(examples[len(margins) : len(margins) + count])
            chosen, chosen_labels, rejected, rejected_labels = (rows[name].to(device) for name in names)
            margins += objective.margin(chosen, chosen_labels, rejected, rejected_labels).tolist()
            bar.advance(len(rows["targets_B"]))
            count, now = min(8, 2 * count), time.monotonic()
            if until is not None:
                count = min(count, int(len(margins) * (until - now) / max(now - began, 1e-9)))
    return margins
