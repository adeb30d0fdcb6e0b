"""What stands in a tokenizer's configuration beside tokenizer.json, as transformers reads it."""

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tokenizers import AddedToken

from wenloom.core.console import remark
from wenloom.core.errors import CheckpointError, printable
from wenloom.core.foreign import read_json_object, reading, regular_file
from wenloom.tokens.switches import SWITCHES

TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
CHAT_TEMPLATE, CHAT_TEMPLATES = "chat_template.jinja", "additional_chat_templates"
TEMPLATE_FOLDERS = ("chat_templates", CHAT_TEMPLATES)
"""Where templates for other uses than the usual one lie: the folder's name before transformers 4.53, and since."""
SPECIAL_MAP, ADDED_TOKENS = "special_tokens_map.json", "added_tokens.json"
SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""Parts that a token may play, in the order in which transformers adds those that the vocabulary lacks."""
_GENERIC = ("PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend", "PythonBackend")
_TEMPLATE_BYTES = 4 * 2**20

_KEPT = """
name_or_path tokenizer_class processor_class backend is_local local_files_only files_loaded tokenizer_file
vocab_file merges_file errors legacy_behaviour add_bos_token add_eos_token sp_model_kwargs
use_default_system_prompt spaces_between_special_tokens special_tokens_map_file vocab_size trust_remote_code
use_fast from_slow device_map dtype max_length max_len stride truncation truncation_strategy padding
pad_to_multiple_of pad_token_type_id pad_token_segment_id model_input_names do_basic_tokenize never_split
response_schema response_template chat_control_tokens fast_tokenizer_files init_inputs verbose revision
return_token_type_ids return_tensors additional_special_tokens_ids trim_offsets unk_id extra_ids keep_accents
do_split_on_punc remove_space full_tokenizer_file token source_lang target_lang tgt_lang separate_vocabs
normalization_file normalize normalizer_file language_codes num_madeup_words offset cls_token_box sep_token_box
pad_token_box pad_token_label only_label_first_subword word_delimiter_token replace_word_delimiter_char
wordpieces_prefix split_by_punct vocab_type tokenizer_type __type max_position_embeddings mask_token_sent
clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output image_token video_token audio_token
add_special_tokens clean_text auto_map commit_hash _commit_hash subfolder model_type model_type_id cls_token_id
sep_token_id bos_token_id eos_token_id pad_token_id unk_token_id mask_token_id transformers_version
"""
_WITHOUT_EFFECT = frozenset(_KEPT.split())
"""Names that transformers keeps or passes on, and that change no token where tokenizer.json says what is done."""
_UNDERSTOOD = frozenset(
    (*SPECIAL, "added_tokens_decoder", "additional_special_tokens", "extra_special_tokens", "chat_template", "padding_side",
     "model_specific_special_tokens", "model_max_length", "truncation_side", "clean_up_tokenization_spaces",
     "split_special_tokens", *SWITCHES)
)  # fmt: skip
_REFUSED = {
    "src_lang": "puts the token of a language around every text",
    "language": "puts the token of a language around every text",
    "task": "puts the token of a task around every text",
    "predict_timestamps": "puts a token around every text",
    "fix_mistral_regex": "cuts texts by another rule than tokenizer.json",
}
"""What transformers obeys, where it is set, and this code does not."""


@dataclass(frozen=True)
class TokenizerConfig:
    """A tokenizer_config.json with the files that belong to it."""

    special: dict[str, AddedToken | str] = field(default_factory=dict)
    """Tokens by the part they play: those of `SPECIAL`, and others that a model has (image_token)."""
    absent: frozenset[str] = frozenset()
    """Parts that are null: no token plays them."""
    extra: tuple[AddedToken | str, ...] = ()
    """More special tokens."""
    added: tuple[AddedToken, ...] = ()
    """Tokens beyond the vocabulary, or with other flags, in the order of their ids."""
    templates: dict[str, str] = field(default_factory=dict)
    """Chat templates by name; the usual one is `default`."""
    model_max_length: int | None = None
    padding_side: Literal["left", "right"] | None = None
    truncation_side: Literal["left", "right"] | None = None
    cleans_up: bool = False
    """Whether blanks before punctuation are taken out of decoded text."""
    splits_special: bool = False
    """Whether the names of special tokens in a text are text."""
    pipeline: dict[str, bool] = field(default_factory=dict)
    """The values of `switches.SWITCHES` that are set, where a class obeys them."""
    class_name: str | None = None
    """transformers' class without "Tokenizer" and "Fast"; None for the general ones."""
    adds: dict[str, bool] = field(default_factory=dict)
    """add_bos_token and add_eos_token."""


def read_config(folder: Path) -> TokenizerConfig:
    """What a folder says of its tokenizer beside tokenizer.json; nothing where there is nothing.

    Raises:
        CheckpointError: a file is damaged, or asks for what only transformers does.
    """
    path = folder / TOKENIZER_CONFIG
    content = read_json_object(path, CheckpointError) if path.exists() else {}
    with reading(path, CheckpointError):
        return _Reader(folder, path, content).config()


class _Reader:
    def __init__(self, folder: Path, path: Path, content: dict[str, Any]):
        self.folder, self.path, self.content = folder, path, content

    def config(self) -> TokenizerConfig:
        named_class = self.content.get("tokenizer_class")
        own = isinstance(named_class, str) and named_class not in _GENERIC
        if own and isinstance(code := self.content.get("auto_map"), dict | list):
            code = code.get("AutoTokenizer") if isinstance(code, dict) else code
            classes = [str(each).rsplit(".", 1)[-1] for each in (code if isinstance(code, list) else [code]) if each]
            if named_class in classes or str(named_class) + "Fast" in classes:
                raise CheckpointError(
                    f"{self.path}: its tokenizer is a program of its own ({printable(classes[0], 80)} in auto_map), "
                    "and programs of models are not run."
                )
        for name, what in _REFUSED.items():
            if self.content.get(name) not in (None, False, ""):
                value = printable(str(self.content[name]), 60)
                raise CheckpointError(f"{self.path}: {name} {value} {what}, which is not supported. Take it out.")
        special, absent, extra, added = self._tokens()
        self._say_what_is_unknown()
        pipeline = {name: found for name in SWITCHES if (found := self._flag(name)) is not None}
        adds = {name: found for name in ("add_bos_token", "add_eos_token") if (found := self._flag(name)) is not None}
        return TokenizerConfig(
            special, absent, tuple(extra), tuple(added), self._templates(), self._length(), self._side("padding_side"),
            self._side("truncation_side"), self._flag("clean_up_tokenization_spaces") or False,
            self._flag("split_special_tokens") or False, pipeline if own or named_class is None else {},
            str(named_class).removesuffix("Fast").removesuffix("Tokenizer") if own else None, adds,
        )  # fmt: skip

    # --- tokens ---

    def _tokens(
        self,
    ) -> tuple[dict[str, AddedToken | str], frozenset[str], list[AddedToken | str], list[AddedToken]]:
        """Special tokens by part, parts that are null, others, and added ones; where `added_tokens_decoder` stands, it replaces the older files."""
        content = dict(self.content)
        if not content.get("extra_special_tokens") and "additional_special_tokens" in content:
            content["extra_special_tokens"] = content.pop("additional_special_tokens")
        if isinstance(
            by_name := content.get("extra_special_tokens"), dict
        ):  # {} is not a list that older files add nothing to
            del content["extra_special_tokens"]
            content["model_specific_special_tokens"] = self._object(content.get("model_specific_special_tokens") or {},
                                                                    "model_specific_special_tokens") | by_name  # fmt: skip
        decoder = content.get("added_tokens_decoder")
        added: dict[int, AddedToken] = {}
        if decoder is not None:
            for number, token in self._object(decoder, "added_tokens_decoder").items():
                if not number.isdecimal() or not isinstance(token, dict):
                    raise self._wrong("added_tokens_decoder", number, "an id with a token object")
                added[int(number)] = self._token(token, "added_tokens_decoder")  # pyright: ignore
        else:
            older = self.folder / SPECIAL_MAP
            if older.exists():
                content = _with_special_map(content, read_json_object(older, CheckpointError))
        extra = content.get("extra_special_tokens") or content.get("additional_special_tokens") or []
        named = {
            name: value for name, value in content.items() if name in SPECIAL or self._is_a_models_own(name, value)
        }
        named |= self._object(content.get("model_specific_special_tokens") or {}, "model_specific_special_tokens")
        if isinstance(extra, dict):
            named, extra = named | extra, []
        if not isinstance(extra, list):
            raise self._wrong("additional_special_tokens", extra, "a list of tokens")
        special = {name: self._token(named[name], name) for name in (*SPECIAL, *(n for n in named if n not in SPECIAL))
                   if named.get(name) is not None}  # fmt: skip
        others = [self._token(each, "additional_special_tokens") for each in extra if each is not None]
        if decoder is None and (path := self.folder / ADDED_TOKENS).exists():
            names = {
                str(each.content if isinstance(each, AddedToken) else each) for each in (*special.values(), *others)
            }
            for token, number in read_json_object(path, CheckpointError).items():
                if not isinstance(number, int) or isinstance(number, bool) or number < 0:
                    raise CheckpointError(
                        f"{path}: {printable(token, 60)} has the id {number!r:.60}; a number is needed."
                    )
                added[number] = AddedToken(token, normalized=token not in names, special=token in names)
        known = {token.content: token for token in added.values()}
        special = {name: known.get(each, each) if isinstance(each, str) else known.get(each.content, each)
                   for name, each in special.items()}  # fmt: skip
        absent = frozenset(name for name in SPECIAL if name in content and content[name] is None)
        return special, absent, others, [token for _, token in sorted(added.items())]

    def _is_a_models_own(self, name: str, value: Any) -> bool:
        return (
            name.endswith("_token") and name not in ("add_bos_token", "add_eos_token") and isinstance(value, str | dict)
        )

    def _token(self, value: Any, name: str) -> AddedToken | str:
        if isinstance(value, str):
            if not value:
                raise self._wrong(name, value, "a token that is not empty")
            value.encode()
            return value
        if not isinstance(value, dict) or not isinstance(value.get("content"), str) or not value["content"]:
            raise self._wrong(name, value, "a token, as text or as an object with its content")
        flags = {
            key: value[key] for key in ("single_word", "lstrip", "rstrip", "normalized", "special") if key in value
        }
        if not all(isinstance(flag, bool) for flag in flags.values()):
            raise self._wrong(name, value, "flags that are true or false")
        if name != "added_tokens_decoder":
            flags = {"special": True} | flags
        return AddedToken(value["content"], **flags)

    # --- other fields ---

    def _templates(self) -> dict[str, str]:
        """Files of templates come before what the configuration holds."""
        found = {}
        if (file := self.folder / CHAT_TEMPLATE).exists():
            found["default"] = _template_text(file)
        for name in TEMPLATE_FOLDERS:
            for file in sorted((self.folder / name).glob("*.jinja")):
                found[file.name.removesuffix(".jinja")] = _template_text(file)
        if found:
            return found
        value = self.content.get("chat_template")
        if value is None:
            return {}
        if isinstance(value, list):
            if not all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in value):
                raise self._wrong("chat_template", value, "text, or a list of objects with name and template")
            value = {each["name"]: each.get("template") for each in value}
        value = {"default": value} if isinstance(value, str) else value
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            raise self._wrong("chat_template", value, "text, or a list of objects with name and template")
        for name in value:
            if not re.fullmatch(r"[\w-][\w.-]*", name):  # it becomes the name of a file
                raise self._wrong("chat_template", name, "a name of letters, digits, -, _ and .")
        return value

    def _length(self) -> int | None:
        value = self.content.get("model_max_length", self.content.get("max_len"))
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value or value <= 0:
            raise self._wrong("model_max_length", value, "a number of tokens")
        return int(value) if value < 10**9 else None  # 1e30 means none

    def _side(self, name: str) -> Literal["left", "right"] | None:
        value = self.content.get(name)
        if value is not None and value not in ("left", "right"):
            raise self._wrong(name, value, "left or right")
        return value

    def _flag(self, name: str) -> bool | None:
        value = self.content.get(name)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def _object(self, value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._wrong(name, value, "an object")
        return value

    def _wrong(self, name: str, value: Any, wanted: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {name} is {printable(repr(value), 60)}; {wanted} is needed.")

    def _say_what_is_unknown(self) -> None:
        known = _UNDERSTOOD | _WITHOUT_EFFECT | _REFUSED.keys()
        strange = [name for name in self.content if name not in known and not name.endswith("_token")]
        if strange:
            say_once(
                f"{self.path}: {', '.join(_shown(strange))} changes nothing: transformers does not know it either."
            )


def _with_special_map(content: dict[str, Any], older: dict[str, Any]) -> dict[str, Any]:
    """special_tokens_map.json decides over each part; the list of others that tokenizer_config.json holds stays."""
    lists = ("extra_special_tokens", "additional_special_tokens")
    if lists[0] not in content:
        return content | older
    held, more = content[lists[0]] or [], older.get(lists[0])
    if isinstance(held, list) and isinstance(more, list):
        more = held + [each for each in more if each not in held]
    merged = content | older | {lists[0]: more if lists[0] in older else held}
    merged.pop(lists[1], None)
    return merged


@functools.cache
def say_once(text: str) -> None:
    """A tokenizer is read several times in a run."""
    remark(text)


def _shown(names: Sequence[str], most: int = 8) -> Iterator[str]:
    yield from (printable(name, 60) for name in names[:most])
    if len(names) > most:
        yield f"{len(names) - most} more"


def _template_text(path: Path) -> str:
    with reading(path, CheckpointError):
        if regular_file(path, CheckpointError).st_size > _TEMPLATE_BYTES:
            raise CheckpointError(f"{path}: is longer than {_TEMPLATE_BYTES:,} bytes, which no chat template is.")
        return path.read_text(encoding="utf-8")
