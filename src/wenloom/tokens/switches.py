"""What transformers' classes do against what tokenizer.json says: they obey switches of tokenizer_config.json, and put
their own tokens around a text."""

from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

_OF_BERT = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
SWITCHES = (*_OF_BERT, "add_prefix_space", "legacy")
_BYTES_ALONE = ("GPT2", "Roberta", "Bart")
"""Classes that cut texts by ByteLevel alone."""
_NOTHING = {"type": "Sequence", "normalizers": []}


_LIKE_BERT = ("cls_token $A sep_token", "cls_token $A sep_token $B:1 sep_token:1")
_LIKE_ROBERTA = ("cls_token $A sep_token", "cls_token $A sep_token sep_token $B sep_token")
_FRAMES = {
    **dict.fromkeys(("Bert", "DistilBert", "Electra", "MobileBert"), _LIKE_BERT),
    **dict.fromkeys(("Roberta", "Bart", "Longformer", "XLMRoberta", "Camembert"), _LIKE_ROBERTA),
    "T5": ("$A eos_token", "$A eos_token $B eos_token"),
    "GPTNeoX": ("$A", "$A $B:1"),
}
"""What stands around one text and around two, by class."""


def frame(backend: Tokenizer, special: Mapping[str, str], class_name: str | None) -> None:
    """Put around texts what the class puts there, if that is known and tokenizer.json says otherwise.

    Args:
        special: tokens by the part they play.
    """
    if class_name not in _FRAMES:
        return
    texts = _FRAMES[class_name]
    names = {name for name in ("cls_token", "sep_token", "eos_token") if name in texts[0]}
    tokens = {name: special[name] for name in names if name in special}
    found = {name: number for name, token in tokens.items() if (number := backend.token_to_id(token)) is not None}
    if found.keys() != names:
        return
    if backend.encode("").ids != [found[each] for each in texts[0].split() if each in names]:
        one, two = (_named(text, tokens) for text in texts)
        backend.post_processor = TemplateProcessing(
            one, two, [(tokens[name], number) for name, number in found.items()]
        )


def _named(text: str, tokens: Mapping[str, str]) -> list[str]:
    """The pieces of a template with tokens in place of their parts."""
    pieces = [each.partition(":") for each in text.split()]
    return [f"{tokens.get(name, name)}:{kind or 0}" for name, _, kind in pieces]


def switch(spec: dict[str, Any], switches: dict[str, bool], class_name: str | None) -> None:
    """Change a tokenizer.json as its class would.

    Args:
        spec: its content.
        switches: those of `SWITCHES` that are set.
        class_name: transformers' class without "Tokenizer"; None if it is not named.
    """
    for part in _parts(spec["normalizer"], "normalizers"):
        if part["type"] == "BertNormalizer":
            part |= {name: switches[each] for each, name in _OF_BERT.items() if each in switches}
        elif part["type"] == "Lowercase" and switches.get("do_lower_case") is False:
            part.clear()
            part |= _NOTHING
    leading = switches.get("add_prefix_space")
    steps = _parts(spec["pre_tokenizer"], "pretokenizers")
    if leading and class_name in _BYTES_ALONE and (found := [each for each in steps if each["type"] == "ByteLevel"]):
        found[0]["use_regex"] = True  # behind another step it would put a blank before each of that step's pieces
        spec["pre_tokenizer"], steps = found[0], found[:1]
    for part in steps:
        if part["type"] == "ByteLevel" and leading is not None:
            part["add_prefix_space"] = leading
        elif part["type"] == "Metaspace" and class_name not in ("T5", "MT5"):  # which take no notice of them
            part["prepend_scheme"] = _scheme(part["prepend_scheme"], leading, switches.get("legacy"), class_name)
            if leading is False:
                _keep_leading_blank(spec)


def _scheme(scheme: str, leading: bool | None, legacy: bool | None, class_name: str | None) -> str:
    if leading is False:
        return "never"
    if legacy is not None and class_name == "Llama":
        return "always" if legacy else "first"
    return "first" if leading and scheme == "never" else scheme


def _keep_leading_blank(spec: dict[str, Any]) -> None:
    """Text that got no blank in front loses none in decoding."""
    decoder = spec["decoder"]
    for part in _parts(decoder, "decoders"):
        if part["type"] == "Metaspace":
            part["prepend_scheme"] = "never"
    if decoder is not None and decoder["type"] == "Sequence":
        decoder["decoders"] = [
            each for each in decoder["decoders"] if (each["type"], each.get("content")) != ("Strip", " ")
        ]


def _parts(spec: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    """A step, or the steps of a sequence of them."""
    if spec is None:
        return []
    if spec["type"] == "Sequence":
        return [part for each in spec[inner] for part in _parts(each, inner)]
    return [spec]
