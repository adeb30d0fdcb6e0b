"""Everything a person can set about a task's training; the text under a field is its help text."""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from wenloom.core.errors import InputError
from wenloom.model.presets import EncoderArchitecture, PairArchitecture
from wenloom.training.settings import AdapterSettings


@dataclass(frozen=True)
class DataSettings:
    """Which examples a model learns from."""

    train: str | None = None
    """Examples: jsonl (or a JSON list; several comma-separated), a table (.csv, .tsv), or two files of lines as
    train.en,train.de; each may be compressed."""
    validation: str | None = None
    """Validation examples, in the same format; default: a fiftieth of the others, 1,000 at most."""
    extra: str | None = None
    """More examples, for training but never for validation, such as back-translations."""
    source: str | None = None
    """Field (or column) of the text that is read; default: the names that the task knows."""
    target: str | None = None
    """Field (or column) of the text that is to be written."""
    reverse: bool = False
    """Swap sources and targets."""
    strict: Annotated[bool, Parameter(negative="--skip-bad")] = False
    """Stop at the first row that cannot be used; without it (--skip-bad) such rows are left out, counted and
    named (run.toml lists them)."""
    max_source_tokens: int = 512
    """Most tokens of a source; a longer one loses its end. fill-mask, denoising: tokens that are seen at once."""
    max_target_tokens: int = 256
    """Most tokens of a target; a longer one is left out."""

    max_length: int | None = None
    """chat, preference: most tokens of a row, which several conversations share; default: what the model reads at once,
    1,024 at most. A longer conversation loses its last turns; one whose first exchange is longer is left out."""

    def __post_init__(self):
        for name in ("max_source_tokens", "max_target_tokens", "max_length"):
            if getattr(self, name) is not None and getattr(self, name) < 2:
                raise InputError(f"--{name.replace('_', '-')} must be at least 2, got {getattr(self, name)}.")


@dataclass(frozen=True)
class FreshSettings:
    """The shape of a model that is made for the task, where none is given to begin with."""

    arch: PairArchitecture | EncoderArchitecture | None = None
    """For texts from texts marian (the original Transformer, the default), bart (learned positions) or t5 (pre-norm,
    biases by distance); for hidden tokens bert (the default), roberta or distilbert."""
    layers: int = 3
    """Blocks; with a decoder, as many of it again (of transcription: half as many)."""
    width: int = 256
    """Width of the residual stream (d_model)."""
    heads: int = 4
    """Attention heads; the width must be a multiple."""
    vocab_size: int | None = None
    """Tokens of the vocabulary, one for both sides; default: about four times the square root of the
    text's bytes, 8,192 at most (for fill-mask half the root), and every character that 99 % of the text needs;
    for transcription of more than 100 different words the characters alone."""
    tokenizer: str | None = None
    """Take the vocabulary of this folder (a model or a prepared corpus) instead of learning one."""
    dropout: float = 0.1
    """Dropout rate."""

    def __post_init__(self):
        if self.tokenizer is not None and self.vocab_size is not None:
            raise InputError("--tokenizer brings its own vocabulary: leave out --vocab-size.")
        for name in ("layers", "width", "heads"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.dropout < 1:
            raise InputError(f"--dropout must be at least 0 and below 1, got {self.dropout}.")


@dataclass(frozen=True)
class LearningSettings(AdapterSettings):
    """How the examples are learned."""

    layer_decay: float = 1.0
    """Learning rate of each block as a part of the one above it."""
    smoothing: float = 0.1
    """Label smoothing of a model with an encoder: the part of the probability that goes to all other tokens."""
    noise: float = 0.0
    """Part of the tokens of sources (of an encoder) and of texts to classify that become another, chosen anew each time."""
    deletion: float = 0.0
    """Part of the same tokens that is left out, chosen anew each time."""
    beta: float = 0.1
    """preference: beta of DPO: how strongly the model is held near the one it began as; smaller is freer."""
    temperature: float = 0.05
    """embedding: temperature of the contrastive loss; smaller weighs the hardest texts more."""
    pair_loss: Literal["cosent", "cosine"] = "cosent"
    """embedding, of scored pairs: cosent (the order of the pairs) or cosine (squared distance of cosine and score)."""
    matryoshka: str | None = None
    """embedding: also learn vectors of these fewer dimensions, as in 64,128 (Matryoshka)."""
    masking: Literal["token", "word", "span"] = "word"
    """fill-mask: what is hidden together: a token, all tokens of a word, or a few words in a row."""
    mask_ratio: float = 0.15
    """fill-mask, denoising: the part of the tokens that is to be predicted."""
    pack: bool = True
    """chat: put several conversations into one row, each seeing itself only."""

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"--layer-decay must be above 0 and at most 1, got {self.layer_decay}.")
        for name in ("noise", "deletion"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"--{name} must be at least 0 and below 1, got {getattr(self, name)}.")
        if not 0 < self.mask_ratio < 1:
            raise InputError(f"--mask-ratio must be above 0 and below 1, got {self.mask_ratio}.")
        if self.beta <= 0:
            raise InputError(f"--beta must be above 0, got {self.beta}.")
        if self.temperature <= 0:
            raise InputError(f"--temperature must be above 0, got {self.temperature}.")
        if any(each < 1 for each in self.matryoshka_dimensions):
            raise InputError(f"--matryoshka {self.matryoshka}: must be numbers of at least 1, as in 64,128.")
        if not 0 <= self.smoothing < 1:
            raise InputError(f"--smoothing must be at least 0 and below 1, got {self.smoothing}.")

    @property
    def matryoshka_dimensions(self) -> tuple[int, ...]:
        """The numbers of --matryoshka; 0 for what is none."""
        return tuple(
            int(each) if each.strip().isdecimal() else 0 for each in (self.matryoshka or "").split(",") if each
        )
