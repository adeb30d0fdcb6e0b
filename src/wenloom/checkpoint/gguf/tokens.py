"""A tokenizer as fields of a GGUF file, as far as llama.cpp makes the same tokens of a text."""

import json
from typing import Any

import numpy as np

from wenloom.checkpoint.gguf.pre_tokenizers import PRE_TOKENIZERS, name_of
from wenloom.checkpoint.gguf.vocabulary import BYTE, CONTROL, NORMAL, ROLES, UNKNOWN, UNUSED, USER_DEFINED
from wenloom.core.console import remark
from wenloom.core.errors import InputError, printable
from wenloom.model.config import ModelConfig
from wenloom.tokens.tokenizer import TextTokenizer

_SPACE = "▁"
_AFTER_EOS = ("eot", "eom")
"""Fields for a second and a third token that ends a text."""


def write_tokenizer(text: TextTokenizer, config: ModelConfig) -> dict[str, Any]:
    """The fields of a tokenizer.

    Args:
        config: of its model, whose end tokens and rows of the embedding count.

    Raises:
        InputError: llama.cpp would make other tokens of texts; says of what kind the tokenizer is.
    """
    spec = json.loads(text.backend.to_str())
    tokens, kinds = _listed(text, spec, config)
    kind = spec["model"]["type"]
    if kind == "BPE":
        is_bytes = "ByteLevel" in json.dumps(spec["pre_tokenizer"])
        made = _byte_pairs(spec) if is_bytes else _sentence_piece(spec, tokens, kinds)
    elif kind == "Unigram":
        made = _unigram(spec, tokens)
    elif kind == "WordPiece":
        made, tokens = _word_pieces(spec), _marked(tokens, kinds)
        kinds = [CONTROL if each == UNKNOWN else each for each in kinds]
    else:
        raise InputError(f"llama.cpp has no tokenizer of this kind ({text.kind}); train one with --kind bpe or byte.")
    made |= {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": np.array(kinds, np.int32)}
    made |= _roles_of_encoder(text) if kind == "WordPiece" else _roles(text, config)
    if text.chat_template is not None:
        made["tokenizer.chat_template"] = text.chat_template
    return made | {f"tokenizer.chat_template.{name}": source for name, source in text.other_templates.items()}


def _listed(text: TextTokenizer, spec: dict[str, Any], config: ModelConfig) -> tuple[list[str], list[int]]:
    """Every token and its kind, filled up to the rows of the embedding as llama.cpp's converters do it."""
    ids = text.backend.get_vocab()
    if (most := max(ids.values())) >= config.vocab_size:
        raise InputError(
            f"the tokenizer has tokens up to number {most:,}, the model only {config.vocab_size:,} rows for them."
        )
    tokens = [f"[PAD{number}]" for number in range(config.vocab_size)]
    kinds = [UNUSED] * config.vocab_size
    byte_tokens = {f"<0x{byte:02X}>" for byte in range(256)} if spec["model"].get("byte_fallback") else set()
    for token, number in ids.items():
        tokens[number], kinds[number] = token, BYTE if token in byte_tokens else NORMAL
    unknown, strips = spec["model"].get("unk_token"), []
    for added in spec["added_tokens"]:
        is_unknown = added["content"] == unknown
        kinds[added["id"]] = UNKNOWN if is_unknown else CONTROL if added["special"] else USER_DEFINED
        if added["lstrip"] or added["rstrip"] or added["single_word"]:
            strips.append(added["content"])
    if strips:
        remark(f"llama.cpp does not take blanks to the tokens {', '.join(printable(each, 30) for each in strips[:4])}, as this "
               "tokenizer does.")  # fmt: skip
    if len(set(tokens)) < len(tokens):
        raise InputError("the tokenizer has a token named [PAD and a number, with which llama.cpp fills up its list.")
    return tokens, kinds


def _flat(step: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    """The steps of a sequence, or of one step."""
    if step is None:
        return []
    return [each for part in step[inner] for each in _flat(part, inner)] if step["type"] == "Sequence" else [step]


def _normalizers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return _flat(spec["normalizer"], "normalizers")


def _refused(what: str) -> InputError:
    return InputError(f"llama.cpp would make other tokens of texts than this tokenizer: {what}.")


def _byte_pairs(spec: dict[str, Any]) -> dict[str, Any]:
    """Byte-level byte pairs, under the name of the pre-tokenizer that cuts texts in the same way."""
    model, steps = spec["model"], _flat(spec["pre_tokenizer"], "pretokenizers")
    before = [each["type"] for each in _normalizers(spec)]
    if before not in ([], ["NFC"]):
        raise _refused(f"it changes them first ({', '.join(before)})")
    if model["dropout"] or model["continuing_subword_prefix"] or model["end_of_word_suffix"]:
        raise _refused("it marks or leaves out parts of words")
    name = name_of(steps, bool(before), bool(model["ignore_merges"]))
    if name is None:
        known = ", ".join(dict.fromkeys(PRE_TOKENIZERS))
        raise _refused(f"it cuts them in a way for which there is no name (names: {known})")
    if before:
        remark(
            "llama.cpp does not bring texts into Unicode's form NFC, as this tokenizer does: é as e and an accent is two characters there."
        )
    pairs = (each.split(" ") if isinstance(each, str) else each for each in model["merges"])
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": name,
        "tokenizer.ggml.merges": [" ".join(pair) for pair in pairs],
    }


def _sentence_piece(spec: dict[str, Any], tokens: list[str], kinds: list[int]) -> dict[str, Any]:
    """Byte pairs over characters, whose order of merging llama.cpp takes from a score of what a merge makes."""
    model = spec["model"]
    begins = _begins_with_space(spec)
    pairs = [tuple(each.split(" ") if isinstance(each, str) else each) for each in model["merges"]]
    ranks: dict[str, int] = {}
    for number, (left, right) in enumerate(pairs):
        made = left + right
        if made in ranks and pairs[number - 1][0] + pairs[number - 1][1] != made:
            raise _refused(f'"{printable(made, 40)}" is merged from its parts at several places of the order')
        ranks.setdefault(made, number)
    known, ids = set(pairs), set(tokens)
    for token, kind in zip(tokens, kinds, strict=True):
        if kind == NORMAL and any(
            token[:cut] in ids and token[cut:] in ids and (token[:cut], token[cut:]) not in known
            for cut in range(1, len(token))
        ):
            raise _refused(f'"{printable(token, 40)}" is not merged from all pairs of its parts')
    scores = [-float(ranks.get(token, len(pairs))) for token in tokens]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.scores": np.array(scores, np.float32),
        "tokenizer.ggml.add_space_prefix": begins,
    }


def _begins_with_space(spec: dict[str, Any]) -> bool:
    """Whether a text gets a blank before it.

    Raises:
        InputError: blanks are not marked as SentencePiece marks them.
    """
    steps, cuts = _normalizers(spec), _flat(spec["pre_tokenizer"], "pretokenizers")
    cuts = [each for each in cuts if not (each["type"] == "Split" and each["pattern"] == {"String": " "})]
    prepends = steps[:1] and steps[0] == {"type": "Prepend", "prepend": _SPACE}
    rest = steps[1:] if prepends else steps
    if not cuts and rest == [{"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}]:
        return bool(prepends)
    if not steps and [each["type"] for each in cuts] == ["Metaspace"] and cuts[0]["replacement"] == _SPACE:
        return cuts[0]["prepend_scheme"] != "never"
    raise _refused("it is neither over bytes nor marks blanks as SentencePiece does")


def _unigram(spec: dict[str, Any], tokens: list[str]) -> dict[str, Any]:
    """SentencePiece's unigram model; what else is done with blanks decides."""
    cuts = _flat(spec["pre_tokenizer"], "pretokenizers")
    if "ByteLevel" in [each["type"] for each in cuts]:
        raise _refused("it is a unigram model over bytes, of which llama.cpp has none (it neither cuts words before it nor makes "
                       "text of bytes); train with --kind bpe")  # fmt: skip
    steps, scores = _normalizers(spec), dict(map(tuple, spec["model"]["vocab"]))
    made: dict[str, Any] = {}
    if steps and steps[0]["type"] == "Precompiled":
        import base64

        made["tokenizer.ggml.precompiled_charsmap"] = np.frombuffer(
            base64.b64decode(steps[0]["precompiled_charsmap"]), np.uint8
        )
        steps = steps[1:]
    strips = [each for each in steps if each["type"] == "Strip"]
    joins = [each for each in steps if each["type"] == "Replace" and each["pattern"] == {"Regex": " {2,}"}
             and each["content"] in (" ", _SPACE)]  # fmt: skip
    marks = [each for each in cuts if each["type"] == "Metaspace"]
    spaced = [each for each in cuts if each["type"] == "WhitespaceSplit"]
    if (
        len(strips) + len(joins) < len(steps)
        or len(marks) != 1
        or len(spaced) + 1 < len(cuts)
        or bool(strips) != bool(joins)
    ):
        raise _refused("it changes blanks in another way than SentencePiece")
    unknown = spec["model"]["unk_id"]
    return made | {
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.scores": np.array([scores.get(token, 0.0) for token in tokens], np.float32),
        "tokenizer.ggml.add_space_prefix": marks[0]["prepend_scheme"] != "never",
        "tokenizer.ggml.remove_extra_whitespaces": bool(joins or spaced),
        **({} if unknown is None else {"tokenizer.ggml.unknown_token_id": unknown}),
    }


def _word_pieces(spec: dict[str, Any]) -> dict[str, Any]:
    """WordPiece after BERT's steps."""
    steps, cuts = _normalizers(spec), _flat(spec["pre_tokenizer"], "pretokenizers")
    first = steps[0] if len(steps) == 1 and steps[0]["type"] == "BertNormalizer" else {}
    if not (first.get("clean_text") and first.get("handle_chinese_chars")) or [each["type"] for each in cuts] != [
        "BertPreTokenizer"
    ]:
        raise _refused("it does not cut words as BERT's does")
    if spec["model"]["continuing_subword_prefix"] != "##":
        raise _refused("it marks what goes on otherwise than by ##")
    lower, strips = bool(first["lowercase"]), first["strip_accents"]
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.normalizer.lowercase": lower,
        "tokenizer.ggml.normalizer.strip_accents": lower if strips is None else bool(strips),
    }


def _marked(tokens: list[str], kinds: list[int]) -> list[str]:
    """Tokens with the beginnings of words marked, where WordPiece marks what goes on."""
    marked = [token if kind in (CONTROL, UNKNOWN, UNUSED) else token[2:] if token.startswith("##") and token[2:] else _SPACE + token
              for token, kind in zip(tokens, kinds, strict=True)]  # fmt: skip
    for token, mark, kind in zip(tokens, marked, kinds, strict=True):
        if kind == NORMAL and ((mark.startswith("[") and mark.endswith("]")) or token.startswith("##" + _SPACE)):
            raise _refused(f'it has the token "{printable(token, 40)}", which llama.cpp would take for another')
    if len(set(marked)) < len(marked):
        raise _refused("it has one token with a mark and another without")
    return marked


def _roles_of_encoder(text: TextTokenizer) -> dict[str, Any]:
    """Special tokens of BERT; a text stands between [CLS] and [SEP]."""
    found = {role: text.backend.token_to_id(token) for role, token in text.special_tokens.items()}
    begin, end = found.get("cls_token"), found.get("sep_token")
    if begin is None or end is None or text.backend.encode("").ids != [begin, end]:
        raise _refused("it does not put its cls_token before and its sep_token behind them")
    ids = {name: found[role] for name, role in ROLES.items() if found.get(role) is not None}
    return {
        **{f"tokenizer.ggml.{name}_token_id": number for name, number in (ids | {"bos": begin}).items()},
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_sep_token": True,
    }


def _roles(text: TextTokenizer, config: ModelConfig) -> dict[str, Any]:
    """Special tokens by the parts they play, and what stands around a text."""
    found = {role: text.backend.token_to_id(token) for role, token in text.special_tokens.items()}
    ids = {name: found[role] for name, role in ROLES.items() if found.get(role) is not None}
    if "bos" not in ids and config.bos_token_id is not None:
        ids["bos"] = config.bos_token_id
    ends = list(dict.fromkeys([*config.eos_token_ids, *([ids["eos"]] if "eos" in ids else [])]))
    if not ends:
        raise InputError(
            "neither model nor tokenizer has a token that ends a text, and llama.cpp takes token 11 for one then."
        )
    if len(ends) > 1 + len(_AFTER_EOS):
        remark(f"llama.cpp knows three tokens that end a text; {len(ends) - 3} of this model's are left out.")
    ids |= dict(zip(("eos", *_AFTER_EOS), ends, strict=False))
    begin, end = (found.get(role) for role in ("bos_token", "eos_token"))
    around = text.backend.encode("").ids
    adds = begin is not None and around[:1] == [begin], end is not None and around[-1:] == [end] and around != [begin]
    if around != [token for token, does in zip((begin, end), adds, strict=True) if does]:
        names = ", ".join(printable(text.backend.id_to_token(token) or "", 20) for token in around)
        raise _refused(f"it puts other tokens around them than one at the beginning and one at the end ({names})")
    return {
        **{f"tokenizer.ggml.{name}_token_id": number for name, number in ids.items()},
        "tokenizer.ggml.add_bos_token": adds[0],
        "tokenizer.ggml.add_eos_token": adds[1],
    }
