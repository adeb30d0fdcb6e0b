"""Training for tasks that turn texts into texts."""

from typing import cast, get_args

from wenloom.core.errors import InputError
from wenloom.core.randomness import generator
from wenloom.evaluation.overlap import rouge, sacrebleu_score
from wenloom.model.build import Model, build
from wenloom.model.decoder import Decoder
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.presets import PairArchitecture, encoder_decoder_from_scratch
from wenloom.tasks.apply import PairWriter
from wenloom.tasks.pairs import PAIR_TASKS, Pair, PairEncoder, bounds, read_pairs
from wenloom.tasks.plain_text import fresh_tokenizer
from wenloom.tasks.recipe import SHOWN, EncodedExamples, Figures, TaskRecipe
from wenloom.tasks.rows import RowReader
from wenloom.tasks.run_settings import Settings
from wenloom.tasks.settings import DataSettings, FreshSettings
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.objectives import CausalObjective, EncoderDecoderObjective, Objective
from wenloom.training.report import Sample, SamplePreview

_MEASURED = 200
"""Examples whose answers are measured at the end."""


class PairRecipe(TaskRecipe[Pair]):
    """Translation and summarization: from scratch (with an encoder) or from a model of either kind."""

    needs_base = False
    measuring = 0.1

    def read(self, where: str, reader: RowReader, data: DataSettings) -> list[Pair]:
        """Pairs, turned round with --reverse."""
        pairs = read_pairs(where, PAIR_TASKS[self.settings.task], reader, data.source, data.target)
        if data.reverse:
            return [Pair(target, (pair.source,)) for pair in pairs for target in pair.targets]
        return pairs

    def question(self, row: Pair) -> str:
        """The source."""
        return row.source

    def answers(self, row: Pair) -> tuple[str, ...]:
        """The targets."""
        return row.targets

    def bounds(self, model: Model) -> tuple[int, int]:
        """Most tokens of a source and of a target, see `pairs.bounds`."""
        return bounds(model.config, self.settings.data.max_source_tokens, self.settings.data.max_target_tokens)

    def encode(self, model: Model, tokenizer: TextTokenizer) -> EncodedExamples:
        """Every target of a pair is learned; validation is by the first."""
        max_source_tokens, max_target_tokens = self.bounds(model)
        encoder = PairEncoder(
            model.config, tokenizer, PAIR_TASKS[self.settings.task], max_source_tokens, max_target_tokens
        )
        train = encoder.examples([(pair.source, target) for pair in self.train for target in pair.targets])
        validation = encoder.examples([(pair.source, pair.targets[0]) for pair in self.validation])
        if model.config.encoder is not None:
            self.change = self.noise(model, tokenizer)
        lost = {
            f"sources have more than {max_source_tokens} tokens: they lost their end": encoder.cut,
            f"targets have more than {max_target_tokens} tokens: left out": encoder.dropped,
        }
        return EncodedExamples(train, validation, lost)

    def objective(self, model: Model) -> Objective:
        """Next tokens of the target."""
        if isinstance(model, EncoderDecoder):
            return EncoderDecoderObjective(model, self.settings.learning.smoothing)
        assert isinstance(model, Decoder)
        return CausalObjective(model)

    def prepared(self, model: Model, tokenizer: TextTokenizer) -> Model:
        """Any model that writes."""
        if model.config.kind == "encoder":
            raise InputError(f"{self.settings.base}: is an encoder, which cannot write; {self.settings.task} needs to.")
        return model

    def fresh(self) -> tuple[Model, TextTokenizer]:
        """An encoder-decoder with a vocabulary of its own."""
        texts = [text for pair in self.train for text in (pair.source, *pair.targets)]
        return fresh_pair_model(pair_tokenizer(texts, self.settings.fresh), self.settings)

    def measure(self, model: Model, tokenizer: TextTokenizer) -> Figures:
        """BLEU or ROUGE of greedy answers, against all references."""
        task, rows = PAIR_TASKS[self.settings.task], self.validation[:_MEASURED]
        writer = PairWriter(model, tokenizer, task, *self.bounds(model))
        answers = writer.write([row.source for row in rows], self.until)
        found = [answer.text.strip() for answer in self.written(answers, len(rows), "texts")]
        if not found:
            return {}
        rows = rows[: len(found)]
        fewest = min(len(row.targets) for row in rows)
        references = [[row.targets[number] for row in rows] for number in range(fewest)]
        is_bleu = task.metric == "bleu"
        scores = [sacrebleu_score("bleu", found, references)] if is_bleu else rouge(found, references)
        return {each.metric: (each.value, (each.interval.high - each.interval.low) / 2) for each in scores}

    def show(self, model: Model, tokenizer: TextTokenizer, until: float | None = None) -> SamplePreview:
        """The most probable answers to a few sources."""
        sources = [pair.source for pair in self.validation[:SHOWN]]
        writer = PairWriter(model, tokenizer, PAIR_TASKS[self.settings.task], *self.bounds(model))
        found = [answer.text.strip() for answer in writer.write(sources, until)]
        return SamplePreview([Sample(f"{source}\n→ ", text) for source, text in zip(sources, found, strict=True)])


def pair_tokenizer(texts: list[str], fresh: FreshSettings) -> TextTokenizer:
    """One vocabulary for both sides, which closes every text with the end token.

    Raises:
        InputError: the tokenizer to take has no end token or no padding.
    """
    tokenizer = fresh_tokenizer(fresh, texts, factor=4, most=8192)
    if tokenizer.eos_token_id is None or tokenizer.pad_token_id is None:
        raise InputError(f"--tokenizer {fresh.tokenizer}: has no end token or no padding token.")
    end = str(tokenizer.eos_token)
    return tokenizer.extended([], tokenizer.special_tokens, f"$A {end}", f"$A {end} $B {end}")


def fresh_pair_model(tokenizer: TextTokenizer, settings: Settings) -> tuple[Model, TextTokenizer]:
    """An encoder-decoder for a vocabulary.

    Raises:
        InputError: the architecture is another.
    """
    fresh, data = settings.fresh, settings.data
    assert tokenizer.eos_token_id is not None and tokenizer.pad_token_id is not None
    arch = fresh.arch or "marian"
    if arch not in get_args(PairArchitecture):
        raise InputError(f"--arch {arch}: {settings.task} takes {', '.join(get_args(PairArchitecture))}.")
    config = encoder_decoder_from_scratch(
        cast(PairArchitecture, arch), vocab_size=tokenizer.vocab_size, n_layers=fresh.layers, d_model=fresh.width,
        n_heads=fresh.heads, context_length=max(data.max_source_tokens, data.max_target_tokens),
        dropout=fresh.dropout, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = build(config)
    model.initialise(generator(settings.training.seed, "weights"))
    return model, tokenizer
