"""A tokenizer's folder, whoever wrote it: the backend as transformers would set it up, and what belongs to it."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from wenloom.core.console import remark
from wenloom.core.errors import CheckpointError, printable
from wenloom.core.files import write_atomically
from wenloom.core.foreign import JSON_BYTES, quiet_panics, read_json_object, reading, regular_file
from wenloom.tokens.configuration import (
    ADDED_TOKENS,
    CHAT_TEMPLATE,
    CHAT_TEMPLATES,
    SPECIAL_MAP,
    TEMPLATE_FOLDERS,
    TOKENIZER,
    TOKENIZER_CONFIG,
    TokenizerConfig,
    read_config,
    say_once,
)
from wenloom.tokens.gpt2 import END_OF_TEXT, gpt2_backend
from wenloom.tokens.switches import frame, switch

_PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
_WORDPIECE = "vocab.txt"
_OTHERS = {
    "tokenizer.model": "a SentencePiece or tiktoken model", "spiece.model": "a SentencePiece model",
    "sentencepiece.bpe.model": "a SentencePiece model", "source.spm": "a pair of SentencePiece models",
    "tekken.json": "Mistral's own format", "tiktoken.model": "a tiktoken model", "qwen.tiktoken": "a tiktoken model",
}  # fmt: skip
_MOST_TOKENS = 2**22
"""Sixteen times the largest vocabulary that is published (Gemma's 262,144)."""
_PADS_LEFT = ("Llama", "CodeLlama", "Gemma", "XLNet", "Siglip2", "Cohere")
"""transformers' classes that fill up on the left where nothing says otherwise."""
_PROBES = (
    "",
    " ",
    "\n",
    "Probe 1: a b, c.\n\t你好 <s> \u00e9 \U0001f469\u200d\U0001f467",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!",
)
"""Texts on which a damaged tokenizer fails, if not on reading."""


class TokenizerParts(NamedTuple):
    """What a folder holds."""

    backend: Tokenizer
    special: dict[str, str]
    """Tokens by the part they play."""
    config: TokenizerConfig
    limit: int | None
    """Tokens of the model that lies there, if the tokenizer has more."""


def read_folder(folder: Path) -> TokenizerParts:
    """Read a tokenizer: tokenizer.json, GPT-2's vocab.json and merges.txt, or BERT's vocab.txt.

    Raises:
        CheckpointError: there is none, or it is damaged, or its form is another.
    """
    config = read_config(folder)
    special = {name: token if isinstance(token, str) else token.content for name, token in config.special.items()}
    path, backend, defaults = _backend(folder, config)
    with reading(path, CheckpointError, "is not a tokenizer"), quiet_panics():
        _check_ids(path, backend)
        if backend.padding:
            if "pad_token" not in config.absent and "pad_token" not in special:
                special["pad_token"] = backend.padding["pad_token"]
                config = replace(config, special=config.special | {"pad_token": special["pad_token"]})
            config = replace(config, padding_side=config.padding_side or backend.padding["direction"])
        if backend.truncation:
            config = replace(config, truncation_side=config.truncation_side or backend.truncation["direction"])
        if config.class_name in _PADS_LEFT and not _is_llama_by_name_only(config, backend):
            config = replace(config, padding_side=config.padding_side or "left")
        backend = _configured(path, backend, config)
        special = {name: token for name, token in defaults.items() if backend.token_to_id(token) is not None} | special
        _add_tokens(backend, config, special)
        ids = _check_ids(path, backend)
        if not ids:
            raise CheckpointError(f"{path}: has no tokens.")
        for name, token in special.items():
            if backend.token_to_id(token) is None:
                raise CheckpointError(f'{path}: {name} "{printable(token, 60)}" is not in the vocabulary.')
        frame(backend, special, config.class_name)
        for text in _PROBES:
            backend.decode(backend.encode(text).ids)
    _say_what_is_overruled(folder, backend, config, special)
    limit = _models_tokens(folder)
    if limit is not None and max(ids) >= limit:
        remark(
            f"{path}: has tokens up to number {max(ids):,}, the model only {limit:,}; texts that need them are refused."
        )
    return TokenizerParts(backend, special, config, limit if limit is not None and max(ids) >= limit else None)


def _check_ids(path: Path, backend: Tokenizer) -> list[int]:
    """
    Raises:
        CheckpointError: more tokens, or a higher id, than any vocabulary has; writing one allocates by the highest id.
    """
    ids = list(backend.get_vocab().values())
    if len(ids) > _MOST_TOKENS or max(ids, default=-1) >= _MOST_TOKENS:
        raise CheckpointError(f"{path}: has tokens up to number {max(ids):,}; {_MOST_TOKENS:,} are the most.")
    return ids


def write_folder(folder: Path, backend: Tokenizer, config: dict[str, Any], templates: dict[str, str]) -> None:
    """Write a tokenizer, and take away what another left there that would count beside it.

    Args:
        config: what tokenizer_config.json says.
        templates: chat templates by name; the usual one is `default`.

    Raises:
        WenloomError: the disk refused.
    """
    write_atomically(folder / TOKENIZER, backend.to_str(pretty=True))
    write_atomically(folder / TOKENIZER_CONFIG, json.dumps(config, ensure_ascii=False, indent=2) + "\n")
    files = {folder / (CHAT_TEMPLATE if name == "default" else f"{CHAT_TEMPLATES}/{name}.jinja"): text
             for name, text in templates.items()}  # fmt: skip
    for path, text in files.items():
        write_atomically(path, text)
    others = (folder / name for name in (CHAT_TEMPLATE, SPECIAL_MAP, ADDED_TOKENS))
    for path in (*others, *(file for name in TEMPLATE_FOLDERS for file in (folder / name).glob("*.jinja"))):
        if path not in files:
            path.unlink(missing_ok=True)


def _models_tokens(folder: Path) -> int | None:
    """Size of the vocabulary of the model beside a tokenizer; None where it does not say."""
    try:
        config = read_json_object(folder / "config.json", CheckpointError)
    except CheckpointError:
        return None  # there is none, or whoever reads the model will say what is wrong
    inner = config.get("text_config")
    found = [each for place in (config, inner if isinstance(inner, dict) else {})
             for each in (place.get("vocab_size"), place.get("decoder_vocab_size")) if type(each) is int]  # fmt: skip
    return max(found, default=None)


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a vocabulary of whatever form."""
    return any((folder / name).exists() for name in (TOKENIZER, *dict(_PAIRS), _WORDPIECE, *_OTHERS))


def _backend(folder: Path, config: TokenizerConfig) -> tuple[Path, Tokenizer, dict[str, str]]:
    """The file, what is made of it, and tokens that play a part where the configuration names none."""
    if (path := folder / TOKENIZER).exists():
        with reading(path, CheckpointError, "is not a tokenizer"), quiet_panics():
            _check_size(path)
            _check_prefix(path)
            return path, Tokenizer.from_file(str(path)), {}
    for vocab, merges in _PAIRS:
        if (path := folder / vocab).exists() and (folder / merges).exists():
            if config.class_name not in (None, "GPT2", "Roberta", "Bart", "Longformer", "LED"):
                raise _unread(folder, f"a {config.class_name}Tokenizer of {vocab} and {merges}")
            _check_size(path)
            _check_size(folder / merges)
            with quiet_panics():
                backend = gpt2_backend(path, folder / merges)
            return path, *_of_a_pair(backend, config)
    if (path := folder / _WORDPIECE).exists():
        if config.class_name not in (None, "Bert", "DistilBert", "Electra", "MobileBert"):
            raise _unread(folder, f"a {config.class_name}Tokenizer of {_WORDPIECE}")
        with reading(path, CheckpointError, "is not a vocabulary"), quiet_panics():
            return (
                path,
                _wordpiece(path),
                {f"{name.lower()}_token": f"[{name}]" for name in ("UNK", "SEP", "PAD", "CLS", "MASK")},
            )
    if found := next((name for name in _OTHERS if (folder / name).exists()), None):
        raise _unread(folder, f"{_OTHERS[found]} ({found})")
    raise CheckpointError(f"{folder}: has no tokenizer ({TOKENIZER}, or vocab.json with merges.txt, or vocab.txt).")


_PREFIX = re.compile(rb'"continuing_subword_prefix"\s*:\s*"[^"]')


def _check_prefix(path: Path) -> None:
    """
    Raises:
        CheckpointError: merges that do not have the prefix of parts inside words, at which the library ends the process.
    """
    if not _PREFIX.search(path.read_bytes()):
        return
    model = read_json_object(path, CheckpointError).get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        return
    prefix, merges = model.get("continuing_subword_prefix"), model.get("merges")
    if not isinstance(prefix, str) or not prefix or not isinstance(merges, list):
        return
    for merge in merges:
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or not str(parts[-1] if parts else "").startswith(prefix):
            raise CheckpointError(
                f"{path}: is not a tokenizer (the merge {str(merge)[:40]!r} lacks the continuing_subword_prefix)."
            )


def _check_size(path: Path) -> None:
    if (size := regular_file(path, CheckpointError).st_size) > JSON_BYTES:
        raise CheckpointError(f"{path}: has {size:,} bytes; a tokenizer has {JSON_BYTES:,} at most.")


def _unread(folder: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{folder}: its tokenizer is {what}, which is not read. Write tokenizer.json beside it: python -c 'from "
        f'transformers import AutoTokenizer as A; A.from_pretrained("{folder}").save_pretrained("{folder}")\''
    )


def _of_a_pair(backend: Tokenizer, config: TokenizerConfig) -> tuple[Tokenizer, dict[str, str]]:
    """GPT-2, or RoBERTa and BART, which put <s> and </s> around every text."""
    if backend.token_to_id(END_OF_TEXT) is not None and config.class_name in (None, "GPT2"):
        named: dict[str, str] = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
        around = {name: backend.token_to_id(END_OF_TEXT) for name, on in config.adds.items() if on}
        if around:
            opening, closing = (f"{END_OF_TEXT} " if f"add_{end}_token" in around else "" for end in ("bos", "eos"))
            backend.post_processor = TemplateProcessing(
                single=f"{opening}$A {closing}".strip(), special_tokens=[(END_OF_TEXT, next(iter(around.values())))]
            )
        return backend, named
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>", "pad_token": "<pad>",
             "cls_token": "<s>", "mask_token": "<mask>"}  # fmt: skip
    begin, end = backend.token_to_id("<s>"), backend.token_to_id("</s>")
    if begin is None or end is None or backend.token_to_id("<mask>") is None:
        return backend, {}
    backend.add_special_tokens([AddedToken(name, special=True, lstrip=name == "<mask>") for name in
                                ("<s>", "<pad>", "</s>", "<unk>", "<mask>") if backend.token_to_id(name) is not None])  # fmt: skip
    backend.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", begin), ("</s>", end)]
    )
    return backend, named


def _wordpiece(path: Path) -> Tokenizer:
    """BERT's tokenizer: one token a line."""
    _check_size(path)
    lines = path.read_text(encoding="utf-8").split("\n")
    vocab = {line.rstrip("\r"): number for number, line in enumerate(lines) if line or number < len(lines) - 1}
    if "[UNK]" not in vocab:
        raise CheckpointError(f"{path}: holds no [UNK], as BERT's vocabularies do.")
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    names = [name for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if name in vocab]
    backend.add_special_tokens([AddedToken(name, special=True) for name in names])
    if "[CLS]" in vocab and "[SEP]" in vocab:
        backend.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(name, vocab[name]) for name in ("[CLS]", "[SEP]")],
        )  # fmt: skip
    return backend


# --- what the configuration changes ---


def _is_llama_by_name_only(config: TokenizerConfig, backend: Tokenizer) -> bool:
    """A byte-level vocabulary that names Llama's class, as DeepSeek's do: transformers takes the general class for it."""
    return config.class_name == "Llama" and "ByteLevel" in repr(backend.pre_tokenizer)


def _configured(path: Path, backend: Tokenizer, config: TokenizerConfig) -> Tokenizer:
    """Without cutting and filling, which tokenizer.json may hold; with the switches that transformers' classes obey."""
    backend.no_truncation()
    backend.no_padding()
    if config.class_name == "Llama" and "Prepend" in repr(backend.normalizer):
        say_once(
            f"{path}: puts \u2581 before every stretch between special tokens, as written and as transformers 4 does; "
            "transformers 5's LlamaTokenizer puts it before the text alone, so ids after a special token differ."
        )
    if not config.pipeline or _is_llama_by_name_only(config, backend):
        return backend
    spec = json.loads(backend.to_str())
    steps = ("normalizer", "pre_tokenizer", "decoder")
    before = json.dumps([spec[name] for name in steps])
    switch(spec, config.pipeline, config.class_name)
    return backend if json.dumps([spec[name] for name in steps]) == before else Tokenizer.from_str(json.dumps(spec))


def _add_tokens(backend: Tokenizer, config: TokenizerConfig, special: dict[str, str]) -> None:
    """Tokens and flags that stand only beside tokenizer.json, added in transformers' order, so that ids are the same."""
    present = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    tokens: list[AddedToken] = list(config.added)
    known = present.keys() | {token.content for token in tokens}
    for each in (*config.special.values(), *config.extra):
        token = AddedToken(each, special=True) if isinstance(each, str) else each
        if token.content not in known:
            tokens.append(token)
            known |= {token.content}
    named = set(special.values())
    tokens += [present[name] for name in named & present.keys() if not present[name].special]
    for token in tokens:
        token.special = token.special or token.content in named
    backend.add_tokens(tokens)


def _say_what_is_overruled(folder: Path, backend: Tokenizer, config: TokenizerConfig, special: dict[str, str]) -> None:
    """tokenizer.json decides what stands around a text; say so where the configuration says otherwise."""
    if not config.adds or not (folder / TOKENIZER).exists():
        return
    around = backend.encode("").ids
    for name, wanted in config.adds.items():
        token = special.get(name.removeprefix("add_"))
        if token is not None and wanted != (backend.token_to_id(token) in around):
            does = "adds none" if wanted else "adds one"
            remark(
                f"{folder}: {name} is {str(wanted).lower()}, but {TOKENIZER} {does}; it decides, as in transformers."
            )
