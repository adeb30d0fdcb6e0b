"""What a run learns from and is validated on, as the loop sees it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from wenloom.checkpoint.card import write_card
from wenloom.text.card_page import PAGE
from wenloom.tokens.shards import Dataset, TokenStream
from wenloom.tokens.sizes import TextSizes
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.history import BestBy
from wenloom.training.memorization import CopiedSpan, longest_overlap
from wenloom.training.objectives import Loss, evaluate
from wenloom.training.parallel import World


class Evaluation(Protocol):
    """What validation found."""

    def figures(self) -> dict[str, float]:
        """By name."""
        ...

    @property
    def pieces(self) -> tuple[float, ...]:
        """The nats of consecutive pieces of the data, to compare models on; empty where they are not told apart."""
        ...


class TrainingData(Protocol):
    """A prepared corpus, or the examples of a task."""

    tokenizer: TextTokenizer
    bytes_per_token: float | None
    """UTF-8 bytes of a token that is learned, on average; None where targets are no text."""
    command: str
    """The command that goes on with a run."""
    validation_size: Loss
    """Tokens, bytes and characters of the validation data; its nats are 0."""
    best: BestBy
    """Which figure tells the best model."""

    def limit(self, part: float) -> None:
        """Score only this part of all validation data from now on, at least one target; above 0, at most 1."""
        ...

    def evaluate(self, objective: nn.Module, device: str, world: World, on_tokens: Callable[[int], None]) -> Evaluation:
        """Figures over the validation data; calls `on_tokens` with the number of targets done."""
        ...

    def table(self) -> dict[str, Any]:
        """What run.toml says of it."""
        ...

    def overlap(self, texts: list[str]) -> CopiedSpan | None:
        """The longest stretch of these texts that was learned from word for word; None where nobody looked."""
        ...

    def write_card(self, folder: Path, tables: dict[str, dict[str, Any]], samples: list[str]) -> None:
        """Write the model card."""
        ...


class CorpusData:
    """A prepared corpus: every token is predicted from those before it."""

    command, best = "pretrain", BestBy()

    def __init__(self, dataset: Dataset, tokenizer: TextTokenizer, context: int, most: int | None = None):
        """
        Args:
            most: validation tokens that are read; None: all.
        """
        self._dataset, self.tokenizer, self._context = dataset, tokenizer, context
        train = dataset.splits["train"]
        self.bytes_per_token: float | None = train.bytes / max(1, train.tokens)
        self._most = most
        self._read(most)
        self._whole = self.validation_size.tokens

    def _read(self, most: int | None) -> None:
        split, sizes = self._dataset.splits["validation"], TextSizes(self.tokenizer)
        self._stream = self._dataset.stream("validation")
        if most is not None and most < split.tokens:
            self._stream = TokenStream([self._stream.window(0, most)])
            whole = sizes.of([self._stream.window(0, most).tolist()])
            read = Loss(0.0, most, whole.bytes, whole.characters)
        else:
            read = Loss(0.0, split.tokens, split.bytes, split.characters)
        unpredicted = sizes.of([self._stream.window(0, 1).tolist()])
        self.validation_size = Loss(0.0, read.tokens - 1, read.bytes - unpredicted.bytes,
                                    read.characters - unpredicted.characters)  # fmt: skip

    def limit(self, part: float) -> None:
        """Score the beginning of the validation text alone."""
        self._read(self._most if part >= 1 else 1 + max(1, round(part * self._whole)))

    def evaluate(self, objective: nn.Module, device: str, world: World, on_tokens: Callable[[int], None]) -> Loss:
        """See `objectives.evaluate`."""
        return evaluate(
            objective,
            self._stream,
            self.validation_size,
            self._context,
            device=device,
            on_tokens=on_tokens,
            world=world,
        )

    def table(self) -> dict[str, Any]:
        """Where the text comes from, and how much of it there is."""
        dataset = self._dataset
        return {
            "folder": str(dataset.folder.resolve()),
            "key": dataset.key,
            "sources": [source["file"] for source in dataset.manifest["sources"]],
            "split": dataset.manifest["split_rule"],
            **{f"{name}_{what}": getattr(split, what)
               for name, split in dataset.splits.items() for what in ("documents", "bytes", "characters", "tokens")},
            **self._scored(),
            **({"data_cards": cards} if (cards := self._cards()) else {}),
        }  # fmt: skip

    def _cards(self) -> list[str]:
        """Of a corpus that went through a recipe, or those of a mixture that did, the pages that tell what was dropped."""
        folders = [part.dataset.folder for part in self._dataset.parts] or [self._dataset.folder]
        return [str(folder.resolve() / PAGE) for folder in folders if (folder / PAGE).is_file()]

    def _scored(self) -> dict[str, int]:
        """The size of what is scored, where that is not all."""
        size = self.validation_size
        if len(self._stream) == self._dataset.splits["validation"].tokens:
            return {}
        return {"scored_tokens": size.tokens, "scored_bytes": size.bytes, "scored_characters": size.characters}

    def overlap(self, texts: list[str]) -> CopiedSpan | None:
        """By search of the training tokens."""
        stream = self._dataset.stream("train")
        overlaps = [longest_overlap(self.tokenizer.encode(text), stream) for text in texts]
        return max(overlaps, key=lambda overlap: len(overlap.tokens))

    def write_card(self, folder: Path, tables: dict[str, dict[str, Any]], samples: list[str]) -> None:
        """See `checkpoint.card`."""
        write_card(folder, tables, samples)


@dataclass(frozen=True, kw_only=True)
class LossBySource(Loss):
    """The loss over the validation text of a mixture, and that of each source."""

    sources: dict[str, Loss]

    def figures(self) -> dict[str, float]:
        """Of all, and by source: `web_bits_per_byte`."""
        return super().figures() | {f"{name}_bits_per_byte": loss.bits_per_byte for name, loss in self.sources.items()}


class MixtureData(CorpusData):
    """A mixture: validated on the text of every source, each by itself."""

    def __init__(self, dataset: Dataset, tokenizer: TextTokenizer, context: int):
        self._sources = {part.name: CorpusData(part.dataset, tokenizer, context) for part in dataset.parts}
        super().__init__(dataset, tokenizer, context)
        self._add_up()

    def _add_up(self) -> None:
        sizes = [source.validation_size for source in self._sources.values()]
        tokens, n_bytes, characters = (
            sum(getattr(size, name) for size in sizes) for name in ("tokens", "bytes", "characters")
        )
        self.validation_size = Loss(0.0, tokens, n_bytes, characters)

    def limit(self, part: float) -> None:
        """Of every source."""
        for source in self._sources.values():
            source.limit(part)
        self._add_up()

    def evaluate(self, objective: nn.Module, device: str, world: World, on_tokens: Callable[[int], None]) -> Loss:
        """All sources, one after the other."""
        losses = {name: source.evaluate(objective, device, world, on_tokens) for name, source in self._sources.items()}
        size = self.validation_size
        return LossBySource(
            sum(loss.nats for loss in losses.values()), size.tokens, size.bytes, size.characters,
            tuple(nats for loss in losses.values() for nats in loss.pieces), sources=losses,
        )  # fmt: skip

    def _scored(self) -> dict[str, int]:
        size = self.validation_size
        return {"scored_tokens": size.tokens, "scored_bytes": size.bytes, "scored_characters": size.characters}

    def table(self) -> dict[str, Any]:
        """See `CorpusData.table`; and the shares of the sources."""
        return super().table() | {"mixture": [f"{part.name}:{part.share:.4g}" for part in self._dataset.parts]}


def corpus_data(dataset: Dataset, tokenizer: TextTokenizer, context: int) -> CorpusData:
    """What a corpus, or a mixture of some, is to a run."""
    return (MixtureData if "mixture" in dataset.manifest else CorpusData)(dataset, tokenizer, context)


@dataclass(frozen=True, kw_only=True)
class LossWithKept(Loss):
    """The loss over the text that is learned, and that over a text that is not to be forgotten."""

    kept: Loss

    def figures(self) -> dict[str, float]:
        """Of both; the second's are called kept."""
        return super().figures() | {f"kept_{name}": value for name, value in self.kept.figures().items()}


class CorpusDataWithKept(CorpusData):
    """A corpus that is learned beside another, which keeps what the model knows; of that one's validation text as many
    tokens are read as the first one has."""

    def __init__(self, dataset: Dataset, kept: Dataset, tokenizer: TextTokenizer, context: int):
        super().__init__(dataset, tokenizer, context)
        self._kept = CorpusData(kept, tokenizer, context, self.validation_size.tokens + 1)

    def limit(self, part: float) -> None:
        """Of both texts."""
        super().limit(part)
        self._kept.limit(part)

    def evaluate(self, objective: nn.Module, device: str, world: World, on_tokens: Callable[[int], None]) -> Loss:
        """Both validation texts, one after the other."""
        loss = super().evaluate(objective, device, world, on_tokens)
        kept = self._kept.evaluate(objective, device, world, lambda count: None)
        return LossWithKept(**asdict(loss), kept=kept)

    def table(self) -> dict[str, Any]:
        """See `CorpusData.table`; of the kept text where it comes from."""
        kept = self._kept.table()
        return super().table() | {f"kept_{name}": kept[name] for name in ("folder", "key", "sources")}
