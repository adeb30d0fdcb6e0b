"""What an evaluation can be told: conventions of perplexity, how texts are compared, how models write."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wenloom.core.errors import InputError


@dataclass(frozen=True)
class Convention:
    """What a perplexity depends on besides model and text."""

    join: Literal["raw", "lines", "articles"] = "raw"
    """The data as one text; every line that is not blank as one; or every article of WikiText's layout as one."""
    detokenize: Literal["none", "wikitext"] = "none"
    """Undo WikiText's spaces around punctuation first."""
    context: int | None = None
    """Context length in tokens; default: all that the model takes."""
    stride: int | None = None
    """Tokens that each further window scores; smaller gives more context and takes longer. Default: half the context."""
    bos: bool = True
    """Score the first token too, as what follows the BOS token."""
    windows: Literal["rolling", "blocks"] = "rolling"
    """rolling: every token is scored once, and a window's input ends where its targets begin to be unknown. blocks:
    windows of whole tokens begin every `stride` tokens and the first token of a text or of a disjoint block has
    nothing before it and is left out (transformers' guide; nanoGPT)."""
    denominator: Literal["scored", "original", "harness"] = "scored"
    """Words and bytes of the text that was scored, of the text before detokenizing, or of that with words counted as
    lm-evaluation-harness does (an empty word more at either end)."""


@dataclass(frozen=True)
class OverlapOptions:
    """How predictions are compared with references."""

    tokenize: str | None = None
    """BLEU's tokenizer: 13a, intl, zh, ja-mecab, char, flores200, none; default: by the references' script."""
    lowercase: bool = False
    """BLEU, chrF, TER: ignore case."""
    stemming: bool = True
    """ROUGE: compare the stems of English words."""
    references_by: Literal["mean", "max"] = "mean"
    """ROUGE with several references: mean over them, or max."""


@dataclass(frozen=True)
class Shots:
    """Worked examples before each question (few-shot)."""

    shots: int = 0
    """Worked examples before each question: from the suite's training or dev split where that is there, else from other
    rows; the same ones for every model."""
    shots_seed: int = 1234
    """Seed by which they are drawn."""
    shots_from: Path | None = None
    """A file to take them from, laid out as the one with the questions."""

    def __post_init__(self):
        if self.shots < 0:
            raise InputError(f"--shots {self.shots}: at least 0.")


@dataclass(frozen=True)
class Writing:
    """Tasks that are solved by writing."""

    run_code: bool = False
    """Run the programs that the model writes (HumanEval, MBPP), each in a bounded process of its own."""
    attempts: int = 1
    """Texts per problem; with more than one they are sampled."""
    pass_k: tuple[int, ...] = (1,)
    """The k of pass@k."""
    max_new_tokens: int | None = None
    """Maximum number of tokens of a text; default: what the suite says, else 256."""
    temperature: float = 0.8
    """Sampling temperature, with several attempts."""
