"""Which settings each task and method reads; what it does not is refused by name."""

from collections.abc import Callable
from typing import NamedTuple

from wenloom.tasks.settings import FreshSettings
from wenloom.training.settings import ADAPTERS, TrainSettings
from wenloom.training.unread import Unread

PAIRS = frozenset(["translation", "summarization", "story", "poetry", "code"])
PLAIN_TEXT = frozenset(["fill-mask", "denoising"])
CONVERSATIONS = frozenset(["chat", "preference"])
SOUND = frozenset(["transcription"])


class Case(NamedTuple):
    """What decides which settings are read."""

    task: str
    method: str
    kind: str | None
    """Of the model to begin with: decoder, encoder or encoder-decoder; None where one is made."""
    training: TrainSettings
    """Without gaps."""


def _but(*tasks: str) -> Callable[[Case], bool]:
    return lambda case: case.task not in tasks


def _writes_with_decoder(case: Case) -> bool:
    return case.task in PAIRS and case.kind == "decoder"


_SHAPE = "the model to begin with has a shape and a vocabulary of its own"

UNREAD: tuple[Unread[Case], ...] = (
    Unread("strict", lambda case: case.task in PLAIN_TEXT, "plain text has no rows"),
    Unread("source", lambda case: case.task in PLAIN_TEXT | CONVERSATIONS | SOUND,
           "it names the text of a pair or of what is classified"),
    Unread("target", lambda case: case.task in PLAIN_TEXT | CONVERSATIONS | SOUND,
           "it names the answer of a pair, or the class"),
    Unread("reverse", _but("translation", "summarization"), "it is for translation and summarization"),
    Unread("max_source_tokens", lambda case: case.task in CONVERSATIONS | SOUND,
           "rows of conversations have --max-length, recordings are as long as the model hears"),
    Unread("max_target_tokens", lambda case: case.task not in PAIRS | SOUND and not (case.task == "denoising" and case.kind is None),
           "only pairs have targets of their own (conversations: --max-length)"),
    Unread("max_length", lambda case: case.task not in CONVERSATIONS,
           "it bounds conversations; other tasks have --max-source-tokens and --max-target-tokens"),
    *(Unread(name, lambda case: case.kind is not None, _SHAPE) for name in FreshSettings.__dataclass_fields__),
    Unread("rank", lambda case: case.method not in ADAPTERS, "only --method lora and dora have it"),
    Unread("alpha", lambda case: case.method not in ADAPTERS, "only --method lora and dora have it"),
    Unread("layer_decay", lambda case: case.method == "head", "a head stands above all blocks"),
    Unread("smoothing", lambda case: case.task not in PAIRS | SOUND or _writes_with_decoder(case),
           "it is for texts from texts, by a model with an encoder"),
    Unread("noise", lambda case: case.task not in PAIRS | {"classification"} or _writes_with_decoder(case),
           "it changes the sources of a model with an encoder, and texts to classify"),
    Unread("deletion", lambda case: case.task not in PAIRS | {"classification"} or _writes_with_decoder(case),
           "it changes the sources of a model with an encoder, and texts to classify"),
    Unread("beta", _but("preference"), "it is for preference"),
    Unread("temperature", _but("embedding"), "it is for embedding"),
    Unread("pair_loss", _but("embedding"), "it is for embedding"),
    Unread("matryoshka", _but("embedding"), "it is for embedding"),
    Unread("masking", _but("fill-mask"), "it is for fill-mask"),
    Unread("mask_ratio", _but("fill-mask", "denoising"), "it is for fill-mask and denoising"),
    Unread("pack", _but("chat"), "it is for chat"),
    Unread("document_mask", lambda case: True,
           "packed conversations always see themselves only, other examples stand in rows of their own"),
    Unread("compile", lambda case: case.training.compile == "on",
           "rows of examples have many lengths, and each would be compiled anew"),
)  # fmt: skip
"""Every other setting is read by all."""
