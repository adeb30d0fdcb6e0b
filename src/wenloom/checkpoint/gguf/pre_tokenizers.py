"""How llama.cpp's names of pre-tokenizers (`tokenizer.ggml.pre`) cut a text before bytes are merged.

A row is the pipeline of the tokenizer.json that the name was given to, whose regular expressions llama.cpp rewrites for its
own engine. Read forwards on import and backwards on export, where a pipeline that has no name is refused.
"""

from dataclasses import dataclass
from typing import Any

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_ENDING = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_FIRST = r"[^\r\n\p{L}\p{N}]?"
_SLASHED = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _words(
    numbers: str, letters: str = r"\p{L}+", contractions: str = _CONTRACTIONS + "|", ending: str = _ENDING
) -> str:
    return f"{contractions}{_FIRST}{letters}|{numbers}{ending}"


def _cased(numbers: str, contractions: str) -> str:
    return f"{_FIRST}{_UPPER}*{_LOWER}+{contractions}|{_FIRST}{_UPPER}+{_LOWER}*{contractions}|{numbers}{_SLASHED}"


_LLAMA_3, _QWEN_2 = _words(r"\p{N}{1,3}"), _words(r"\p{N}")
_TEKKEN = _cased(r"\p{N}", "")
_GPT_4O = _cased(r"\p{N}{1,3}", _CONTRACTIONS + "?")
_QWEN_35 = (
    rf"{_CONTRACTIONS}|{_FIRST}[\p{{L}}\p{{M}}]+|\p{{N}}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BLOOM = " ?[^(\\s|.,!?…。，、।۔،)]+"
_DEEPSEEK_3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^""" + "\r\n" + r"""\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[""" + "\r\n" + r"""]*|\s*[""" + "\r\n" + r"""]+|\s+(?!\S)|\s+"""
)
_HAN_OLD = "[一-龥\u0800-\u4e00\uac00-\ud7ff]+".replace("\u0800-\u4e00", "ࠀ-一").replace("\uac00-\ud7ff", "가-퟿")
_SEED = (
    _CONTRACTIONS
    + r"|[^"
    + "\r\n"
    + r"\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}"
    + "\r\n"
    + r"]+|\s*["
    + "\r\n"
    + r"]+|\s+(?!\S)|\s+"
)
_BAILING = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"

Step = dict[str, Any]


def _split(pattern: str) -> Step:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _bytes(use_regex: bool) -> Step:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


_DIGITS = {"type": "Digits", "individual_digits": True}
_GPT_2 = [_bytes(True)]


@dataclass(frozen=True)
class PreTokenizer:
    """What a name stands for."""

    steps: list[Step]
    """In the form of tokenizer.json."""
    normalizes: bool = False
    """The tokenizers of this name bring texts into Unicode's form C first, which llama.cpp does not."""
    ignores_merges: bool = False
    """A stretch that is a token as a whole is not made by merging."""
    adds_bos: bool = False
    """A BOS token comes first, where the file does not say whether."""


def _one(pattern: str, **more: bool) -> PreTokenizer:
    return PreTokenizer([_split(pattern), _bytes(False)], **more)


DEFAULT = "default"
"""What stands in files of converters that did not know the tokenizer; llama.cpp cuts them as it did before there were names."""
PRE_TOKENIZERS = {
    "gpt-2": PreTokenizer(_GPT_2),
    "smollm": PreTokenizer([_DIGITS, *_GPT_2]),
    "qwen2": _one(_QWEN_2, normalizes=True),
    "llama-bpe": _one(_LLAMA_3, ignores_merges=True, adds_bos=True),
    "stablelm2": _one(_QWEN_2),
    "smaug-bpe": _one(_LLAMA_3),
    "glm4": _one(_LLAMA_3, ignores_merges=True),
    "tekken": _one(_TEKKEN, ignores_merges=True, adds_bos=True),
    "gpt-4o": _one(_GPT_4O),
    "qwen35": _one(_QWEN_35),
    "seed-coder": _one(_SEED),
    "bailingmoe": _one(_BAILING),
    "mpt": PreTokenizer(_GPT_2, normalizes=True),
    "command-r": PreTokenizer([_DIGITS, *_GPT_2], normalizes=True),
    "bloom": _one(_BLOOM),
    "viking": PreTokenizer([_split(_BLOOM), _DIGITS, _bytes(False)]),
    "falcon": PreTokenizer([{"type": "Punctuation", "behavior": "Contiguous"}, *_GPT_2,
                            {"type": "Digits", "individual_digits": False}, _split("[0-9][0-9][0-9]")]),
    DEFAULT: PreTokenizer([_split(r"[\p{P}\$\+<=>\^~\|]+"), *_GPT_2, {"type": "Digits", "individual_digits": False},
                           _split("[0-9][0-9][0-9]")]),
    "deepseek-v3": PreTokenizer([_split(r"\p{N}{1,3}"), _split("[一-龥\u3040-ゟ゠-ヿ]+"), _split(_DEEPSEEK_3), _bytes(False)]),
    "deepseek-coder": PreTokenizer([_split("[\r\n]"), _split(r"\s?\p{L}+"), _split(r"\s?\p{P}+"), _split(_HAN_OLD), _DIGITS,
                                    _bytes(False)]),
}  # fmt: skip
_SAME = {
    "gpt-2": ("phi-2", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "gigachat", "a.x-4.0", "mellum", "modern-bert",
              "jais", "exaone4", "trillion", "granite-docling", "roberta-bpe", "jina-v1-en", "jina-v2-code"),
    "smollm": ("starcoder", "refact", "codeshell", "exaone", "minerva-7b", "mellum2"),
    "qwen2": ("deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "hunyuan", "solar-open", "grok-2"),
    "llama-bpe": ("llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"),
    "smaug-bpe": ("dbrx", "chatglm-bpe"),
    "glm4": ("glm5",),
    "gpt-4o": ("llama4", "kanana2", "talkie", "minimax-m2"),
    "bailingmoe": ("bailingmoe2", "llada-moe"),
    "mpt": ("olmo",),
    "bloom": ("poro-chat", "gpt3-finnish"),
    "deepseek-v3": ("hunyuan-dense", "joyai-llm", "hy_v4"),
}  # fmt: skip
PRE_TOKENIZERS |= {name: PRE_TOKENIZERS[kept] for kept, names in _SAME.items() for name in names}
"""By name; the first name of a pipeline is the one that is written."""


def name_of(steps: list[Step], normalizes: bool, ignores_merges: bool) -> str | None:
    """The name of a pipeline, None where llama.cpp has none.

    Args:
        steps: see `PreTokenizer`; fields of tokenizer.json that change no token may be otherwise.
        normalizes: whether texts are brought into Unicode's form C first.
    """
    wanted = list(map(_essence, steps))
    exact = [name for name, each in PRE_TOKENIZERS.items()
             if name != DEFAULT and list(map(_essence, each.steps)) == wanted and each.ignores_merges == ignores_merges]  # fmt: skip
    return next(iter(sorted(exact, key=lambda name: PRE_TOKENIZERS[name].normalizes != normalizes)), None)


def _essence(step: Step) -> Step:
    return {name: value for name, value in step.items() if name != "trim_offsets"}
