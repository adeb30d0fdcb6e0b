"""The tokens that steer a model of Whisper's kind, found by their names (Radford et al. 2022, figure 1)."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wenloom.checkpoint.generation import GENERATION
from wenloom.core.errors import CheckpointError, InputError
from wenloom.core.foreign import read_json_object
from wenloom.model.config import ModelConfig
from wenloom.tokens.tokenizer import TextTokenizer

SECONDS_PER_STAMP = 0.02
"""What one token of time is, and one place of the encoder."""
CTC_BLANK, CTC_WEIGHT = "ctc_blank_token_id", "ctc_weight"
"""Under this name generation_config.json says that the encoder has a CTC head; others ignore it."""
_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
_MARKS = '"#()*+/:;<=>@[\\]^_`{|}~「」『』'
"""Characters that stand for no speech, with a few that come in groups, as Whisper's authors chose them."""
_GROUPS = "<< >> <<< >>> -- --- -( -[ (' (\" (( )) ((( ))) [[ ]] {{ }} ♪♪ ♪♪♪".split()
_NOTES = "♩♪♫♬♭♮♯"


@dataclass(frozen=True)
class SpeechTokens:
    """Numbers of tokens by what they do."""

    start: int
    """Opens a transcript (<|startoftranscript|>)."""
    end: int
    """Closes it (<|endoftext|>)."""
    previous: int
    """Opens what was said before (<|startofprev|>)."""
    no_speech: int
    """Its probability is that of no speech."""
    no_times: int
    """Says that no times are wanted."""
    transcribe: int
    translate: int
    languages: dict[str, int]
    """By code; empty where a model knows English only."""
    suppressed: tuple[int, ...]
    """Never written."""
    suppressed_first: tuple[int, ...]
    """Not written as the first."""
    alignment_heads: tuple[tuple[int, int], ...]
    """(layer, head) of the decoder whose attention follows the sound."""
    ctc_blank: int | None = None
    """The blank of a CTC head on the encoder, whose output matrix is the token embedding; None: there is no such head."""
    ctc_weight: float = 0.5
    """How much that head counts beside the decoder where nobody says otherwise."""

    @property
    def first_time(self) -> int:
        """The token of second 0; those of later times follow."""
        return self.no_times + 1

    def opening(self, language: str | None, translate: bool, times: bool) -> list[int]:
        """How a transcript begins.

        Raises:
            InputError: the model does not know the language, or does not translate.
        """
        ids = [self.start]
        if not self.languages:
            if translate or language not in (None, "en"):
                raise InputError("this model knows English only: it takes no other --language and does not translate.")
        else:
            if language not in self.languages:
                raise InputError(f"language {language!r} is not known to this model; it knows {', '.join(sorted(self.languages))}.")  # fmt: skip
            ids += [self.languages[language], self.translate if translate else self.transcribe]
        return ids if times else [*ids, self.no_times]


def speech_tokens(
    folder: Path, config: ModelConfig, tokenizer: TextTokenizer, said: dict[str, Any] | None = None
) -> SpeechTokens:  # fmt: skip
    """The tokens of a folder.

    What generation_config.json or config.json says of suppressed tokens and alignment heads counts; else the rules of
    Whisper's authors: marks that stand for no speech, and all heads of the later half of the layers.

    Args:
        said: what is said of decoding, in place of the folder's files.

    Raises:
        CheckpointError: the tokenizer lacks a token that every such model has.
    """
    ids = tokenizer.backend.get_vocab(with_added_tokens=True)

    def of(*names: str) -> int:
        found = next((ids[name] for name in names if name in ids), None)
        if found is None:
            raise CheckpointError(f"{folder}: the tokenizer has no {names[0]}, so this is no model that transcribes.")
        return found

    end = of("<|endoftranscript|>", "<|endoftext|>")
    start, translate = of("<|startoftranscript|>"), of("<|translate|>")
    languages = {found[1]: number for name, number in ids.items()
                 if (found := _LANGUAGE.fullmatch(name)) and start < number < translate}  # fmt: skip
    said = said_of_decoding(folder) if said is None else said
    is_multilingual = said.get("is_multilingual")
    if is_multilingual is None:
        is_multilingual = config.vocab_size >= 51865
    control = (start, of("<|startofprev|>"), of("<|startoflm|>"), of("<|transcribe|>"), translate,
               of("<|nospeech|>", "<|nocaptions|>"))  # fmt: skip
    is_said = isinstance(said.get("suppress_tokens"), list)
    suppressed = _numbers(said["suppress_tokens"], config) if is_said else _no_speech_marks(tokenizer)
    first = _numbers(said.get("begin_suppress_tokens"), config)
    half = config.n_layers // 2
    heads = said.get("alignment_heads")
    return SpeechTokens(
        start=start,
        end=end,
        previous=control[1],
        no_speech=control[5],
        no_times=of("<|notimestamps|>"),
        transcribe=control[3],
        translate=translate,
        languages=languages if is_multilingual else {},
        suppressed=tuple(sorted({*suppressed, *control})),
        suppressed_first=first or (*tokenizer.encode(" ", add_special_tokens=False), end),
        alignment_heads=_heads(heads, config)
        or tuple((layer, head) for layer in range(half, config.n_layers) for head in range(config.n_heads)),
        ctc_blank=next(iter(_numbers([said.get(CTC_BLANK)], config)), None),
        ctc_weight=_share(said.get(CTC_WEIGHT)),
    )


def said_of_decoding(folder: Path) -> dict[str, Any]:
    """What the folder's files say of decoding, generation_config.json before config.json."""
    said: dict[str, Any] = {}
    for name in ("config.json", GENERATION):
        if (folder / name).exists():
            raw = read_json_object(folder / name, CheckpointError)
            said |= {key: value for key, value in raw.items() if value is not None}
    return said


def _share(value: Any) -> float:
    """From 0 to 1; what is no such number counts half."""
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else 0.5


def _numbers(value: Any, config: ModelConfig) -> tuple[int, ...]:
    """A list of tokens; others are left out."""
    many = value if isinstance(value, list) else []
    return tuple(each for each in many if type(each) is int and 0 <= each < config.vocab_size)


def _heads(value: Any, config: ModelConfig) -> tuple[tuple[int, int], ...]:
    pairs = value if isinstance(value, list) else []
    return tuple(
        (pair[0], pair[1])
        for pair in pairs
        if isinstance(pair, list) and len(pair) == 2 and all(type(each) is int for each in pair)
        and 0 <= pair[0] < config.n_layers and 0 <= pair[1] < config.n_heads
    )  # fmt: skip


def _no_speech_marks(tokenizer: TextTokenizer) -> set[int]:
    """Tokens of marks that nobody says, alone and behind a blank, and of a dash or quote behind a blank."""
    found = {tokenizer.encode(each, add_special_tokens=False)[0] for each in (" -", " '")}
    for mark in (*_MARKS, *_GROUPS, *_NOTES):
        for spelling in (mark, f" {mark}"):
            ids = tokenizer.encode(spelling, add_special_tokens=False)
            if len(ids) == 1 or mark in _NOTES:
                found.add(ids[0])
    return found
