"""The tokenizer of a GGUF file, as the tokenizer.json that it was made from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from wenloom.checkpoint.gguf.fields import GgufFields
from wenloom.checkpoint.gguf.pre_tokenizers import DEFAULT, PRE_TOKENIZERS
from wenloom.core.console import remark
from wenloom.core.errors import CheckpointError, printable
from wenloom.core.foreign import quiet_panics, reading
from wenloom.tokens.tokenizer import TextTokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Kinds of tokens."""
ROLES = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "seperator": "sep_token", "padding": "pad_token",
         "cls": "cls_token", "mask": "mask_token"}  # fmt: skip
"""Parts that tokens play: as `tokenizer.ggml.NAME_token_id` has them (misspelt in the format), and as we do."""
_ENDS = ("eot", "eom")
_OTHERS = ("fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep", "prefix", "suffix", "middle", "fsep")
_IGNORED = ("tokenizer.ggml.token_type_count", "tokenizer.ggml.suppress_tokens", "tokenizer.chat_templates")
_SPACE = "▁"
_USUAL = {"llama": {"bos": 1, "eos": 2, "unknown": 0}, "gpt2": {}, "t5": {"eos": 1, "unknown": 2, "padding": 0},
          "bert": {"bos": 101, "unknown": 100, "seperator": 102, "padding": 0, "mask": 103}}  # fmt: skip
"""Tokens of a kind of tokenizer, where the file does not say which."""


class GgufVocabulary:
    """Tokens with their kinds and scores, and the parts that they play.

    Raises:
        CheckpointError: lists are missing, of unlike lengths, or a number is no token's.
    """

    def __init__(self, fields: GgufFields, where: Path):
        self.fields, self.where = fields, where
        self.model = fields.text("tokenizer.ggml.model")
        if self.model not in _USUAL:
            raise fields.refuse("tokenizer.ggml.model", f"tokenizers of the kind {printable(self.model, 40)!r} are not read "
                                f"({', '.join(_USUAL)} are)")  # fmt: skip
        tokens = fields.texts("tokenizer.ggml.tokens")
        if not tokens:
            raise fields.refuse("tokenizer.ggml.tokens", "is missing")
        self.tokens = [token or f"[EMPTY_{number}]" for number, token in enumerate(tokens)]
        self.kinds = self._per_token("tokenizer.ggml.token_type", [NORMAL] * len(tokens), int)
        self.scores = self._per_token("tokenizer.ggml.scores", [0.0] * len(tokens), float)
        while self.kinds[-1] == UNUSED and self.tokens[-1] == f"[PAD{len(self.tokens) - 1}]":
            del self.tokens[-1], self.kinds[-1], self.scores[-1]  # by which converters fill the matrix up
            if not self.tokens:
                raise fields.refuse("tokenizer.ggml.tokens", "holds no tokens")
        self.ids = {token: number for number, token in enumerate(self.tokens)}
        if len(self.ids) < len(self.tokens):
            twice = next(token for number, token in enumerate(self.tokens) if self.ids[token] != number)
            raise fields.refuse("tokenizer.ggml.tokens", f'holds "{printable(twice, 60)}" twice')
        self.roles = {role: number for name, role in ROLES.items() if (number := self._role(name)) is not None}
        self.more_ends = [number for name in _ENDS if (number := self._role(name)) is not None]
        for name in _OTHERS:
            fields.value(f"tokenizer.ggml.{name}_token_id")
        for name in _IGNORED:
            fields.value(name)

    def _per_token(self, key: str, usual: list[Any], kind: Callable[[Any], Any]) -> list[Any]:
        values = self.fields.numbers(key)
        if values is None:
            return usual
        if len(values) != len(usual):
            raise self.fields.refuse(key, f"has {len(values):,} numbers for {len(usual):,} tokens")
        if not all(map(_is_finite, values)):
            raise self.fields.refuse(key, "holds numbers that are not finite")
        return [kind(value) for value in values]

    def _role(self, name: str) -> int | None:
        key = f"tokenizer.ggml.{name}_token_id"
        if key not in self.fields:
            usual = _USUAL[self.model].get(name)
            return usual if usual is not None and usual < len(self.tokens) else None
        number = self.fields.integer(key)
        if not 0 <= number < len(self.tokens):
            remark(f"{self.where}: {key} {number:,} is not in the vocabulary of {len(self.tokens):,} tokens: left out.")
            return None
        return number

    def name(self, role: str) -> str | None:
        """The token that plays a part."""
        return self.tokens[self.roles[role]] if role in self.roles else None

    def ends(self) -> tuple[int, ...]:
        """Tokens that end a text, the usual one first."""
        found = [self.roles["eos_token"]] if "eos_token" in self.roles else []
        return tuple(dict.fromkeys([*found, *self.more_ends]))


def _is_finite(value: Any) -> bool:
    return abs(float(value)) < 1e30


def read_tokenizer(vocabulary: GgufVocabulary) -> TextTokenizer:
    """The tokenizer of a file.

    Raises:
        CheckpointError: its kind, its pre-tokenizer or a field is not known, or its lists do not fit together.
    """
    fields = vocabulary.fields
    pre = fields.text("tokenizer.ggml.pre", "default")
    template = fields.text("tokenizer.chat_template", "") or None
    whole = fields.text("tokenizer.huggingface.json", "")
    with reading(vocabulary.where, CheckpointError, "holds a tokenizer that cannot be built"), quiet_panics():
        backend = _from_json(vocabulary, whole) if whole else _KINDS[vocabulary.model](vocabulary, pre)
    for flag in ("add_bos_token", "add_eos_token", "add_sep_token", "add_space_prefix", "remove_extra_whitespaces"):
        fields.flag(f"tokenizer.ggml.{flag}", False)  # of which a kind of tokenizer may have no use
    for name in ("scores", "merges", "precompiled_charsmap"):
        fields.value(f"tokenizer.ggml.{name}")
    others = {name.removeprefix("tokenizer.chat_template."): fields.text(name)
              for name in fields.left("tokenizer.chat_template.")}  # fmt: skip
    if left := fields.left("tokenizer."):
        listed = ", ".join(printable(name, 80) for name in left[:8])
        raise CheckpointError(f"{vocabulary.where}: fields of the tokenizer are not understood: {listed}.")
    roles = {role: vocabulary.tokens[number] for role, number in vocabulary.roles.items()}
    made = TextTokenizer(backend, roles, chat_template=template)
    made.other_templates = others
    return made


def _from_json(vocabulary: GgufVocabulary, text: str) -> Tokenizer:
    """The tokenizer.json that a file holds as a whole."""
    backend = Tokenizer.from_str(text)
    for number, token in enumerate(vocabulary.tokens):
        if backend.id_to_token(number) != token:
            raise CheckpointError(
                f"{vocabulary.where}: tokenizer.huggingface.json and tokenizer.ggml.tokens differ at token {number:,}."
            )
    return backend


def _gpt2(vocabulary: GgufVocabulary, pre: str) -> Tokenizer:
    """Byte pairs over GPT-2's alphabet of bytes."""
    fields = vocabulary.fields
    if pre not in PRE_TOKENIZERS:
        raise fields.refuse("tokenizer.ggml.pre", f'the pre-tokenizer "{printable(pre, 40)}" is not known (known: '
                            f"{', '.join(PRE_TOKENIZERS)})")  # fmt: skip
    if pre == DEFAULT:
        remark(f"{vocabulary.where}: does not name its pre-tokenizer; texts are cut as llama.cpp does then, which may not be "
               "as the model was trained.")  # fmt: skip
    row, merges = PRE_TOKENIZERS[pre], fields.texts("tokenizer.ggml.merges")
    if merges is None:
        raise fields.refuse("tokenizer.ggml.merges", "is missing")
    pairs: list[tuple[str, str]] = []
    for number, merge in enumerate(merges):
        cut = merge.find(" ", 1)
        if cut < 0 or cut == len(merge) - 1:
            raise fields.refuse("tokenizer.ggml.merges", f'merge {number:,} "{printable(merge, 40)}" is no pair')
        pairs.append((merge[:cut], merge[cut + 1 :]))
    backend = Tokenizer(models.BPE(vocabulary.ids, pairs, ignore_merges=row.ignores_merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence([_step(each) for each in row.steps])
    if row.normalizes:
        backend.normalizer = normalizers.NFC()
    backend.decoder = decoders.ByteLevel()
    _add_tokens(backend, vocabulary)
    _frame(backend, vocabulary, row.adds_bos, False)
    return backend


def _step(step: dict[str, Any]) -> pre_tokenizers.PreTokenizer:
    match step["type"]:
        case "ByteLevel":
            return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=step["use_regex"])
        case "Digits":
            return pre_tokenizers.Digits(individual_digits=step["individual_digits"])
        case "Punctuation":
            return pre_tokenizers.Punctuation("contiguous")
        case _:
            return pre_tokenizers.Split(Regex(step["pattern"]["Regex"]), "isolated")


def _llama(vocabulary: GgufVocabulary, pre: str) -> Tokenizer:
    """SentencePiece's byte pairs, merged in the order of their scores."""
    ids, kinds, scores = vocabulary.ids, vocabulary.kinds, vocabulary.scores
    merges = sorted(
        (-scores[number], number, ids[piece[:cut]], ids[piece[cut:]])
        for piece, number in ids.items()
        if kinds[number] in (NORMAL, USER_DEFINED, UNUSED)
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    )
    tokens, unknown = vocabulary.tokens, vocabulary.name("unk_token")
    falls_back = all(f"<0x{byte:02X}>" in ids for byte in range(256))
    pairs = [(tokens[left], tokens[right]) for _, _, left, right in merges]
    backend = Tokenizer(
        models.BPE(ids, pairs, unk_token=unknown, byte_fallback=falls_back, fuse_unk=unknown is not None)
    )
    begins = vocabulary.fields.flag("tokenizer.ggml.add_space_prefix", True)
    spaces = normalizers.Replace(" ", _SPACE)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), spaces]) if begins else spaces
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if begins else steps)
    _add_tokens(backend, vocabulary)
    _frame(backend, vocabulary, True, False)
    return backend


def _bert(vocabulary: GgufVocabulary, pre: str) -> Tokenizer:
    """WordPiece; the file marks beginnings of words where BERT marks what goes on."""
    fields, unknown = vocabulary.fields, vocabulary.name("unk_token")
    names = [token if token[0] == "[" and token[-1] == "]" else token[1:] if token[0] == _SPACE and token[1:] else f"##{token}"
             for token in vocabulary.tokens]  # fmt: skip
    vocabulary.tokens, vocabulary.ids = names, {name: number for number, name in enumerate(names)}
    if unknown is None or unknown not in vocabulary.ids:
        raise fields.refuse("tokenizer.ggml.unknown_token_id", "is missing")
    lower = fields.flag("tokenizer.ggml.normalizer.lowercase", True)
    strips = fields.flag("tokenizer.ggml.normalizer.strip_accents", lower)
    backend = Tokenizer(models.WordPiece(vocabulary.ids, unk_token=unknown))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lower, strip_accents=strips)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    _add_tokens(backend, vocabulary)
    begin = "cls_token" if "cls_token" in vocabulary.roles else "bos_token"
    vocabulary.roles.setdefault("cls_token", vocabulary.roles.get(begin, 0))
    vocabulary.roles.pop("bos_token", None)
    _frame(backend, vocabulary, True, True, "cls_token", "sep_token")
    return backend


def _t5(vocabulary: GgufVocabulary, pre: str) -> Tokenizer:
    """SentencePiece's unigram model."""
    fields = vocabulary.fields
    charsmap = fields.numbers("tokenizer.ggml.precompiled_charsmap")
    pieces = list(zip(vocabulary.tokens, vocabulary.scores, strict=True))
    backend = Tokenizer(models.Unigram(pieces, vocabulary.roles.get("unk_token"), False))
    steps: list[normalizers.Normalizer] = []
    if charsmap is not None:
        steps.append(normalizers.Precompiled(bytes(charsmap)))
    if fields.flag("tokenizer.ggml.remove_extra_whitespaces", False):
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    backend.normalizer = normalizers.Sequence(steps)
    scheme = "always" if fields.flag("tokenizer.ggml.add_space_prefix", False) else "never"
    inside = any(_SPACE in token[1:] for token in vocabulary.tokens)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(_SPACE, scheme, split=not inside)
    backend.decoder = decoders.Metaspace(_SPACE, scheme)
    _add_tokens(backend, vocabulary)
    _frame(backend, vocabulary, False, True)
    return backend


_KINDS: dict[str, Callable[[GgufVocabulary, str], Tokenizer]] = {
    "gpt2": _gpt2,
    "llama": _llama,
    "bert": _bert,
    "t5": _t5,
}


def _add_tokens(backend: Tokenizer, vocabulary: GgufVocabulary) -> None:
    """Tokens that are found before the text is cut."""
    added = [
        AddedToken(token, special=kind != USER_DEFINED, normalized=False)
        for token, kind in zip(vocabulary.tokens, vocabulary.kinds, strict=True)
        if kind in (UNKNOWN, CONTROL, USER_DEFINED)
    ]
    backend.add_tokens(added)


def _frame(
    backend: Tokenizer,
    vocabulary: GgufVocabulary,
    begins: bool,
    ends: bool,
    begin: str = "bos_token",
    end: str = "eos_token",
) -> None:
    """What stands around a text.

    Args:
        begins, ends: whether something does, where the file does not say.
    """
    flags, fields = ("add_bos_token", "add_sep_token" if end == "sep_token" else "add_eos_token"), vocabulary.fields
    usual = (begins, ends)
    around = [vocabulary.name(role) if fields.flag(f"tokenizer.ggml.{flag}", does) else None
              for role, flag, does in zip((begin, end), flags, usual, strict=True)]  # fmt: skip
    if not any(around):
        return
    first, last = ([name] if name else [] for name in around)
    pair = [*first, "$A", *last, "$B:1", *(f"{name}:1" for name in last)] if end == "sep_token" else None
    names = {name: vocabulary.ids[name] for name in around if name is not None}
    backend.post_processor = TemplateProcessing(
        single=[*first, "$A", *last],
        pair=pair or [*first, "$A", *last, *first, "$B", *last],
        special_tokens=list(names.items()),
    )
