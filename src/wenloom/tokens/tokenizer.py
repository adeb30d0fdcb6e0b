"""Tokenizers: loading, saving and using them; the work inside is done by the `tokenizers` library."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from tokenizers import Tokenizer

from wenloom.core.errors import CheckpointError, InputError
from wenloom.tokens.encoded import Encoded, tensor_of
from wenloom.tokens.gpt2 import BYTE_OF, END_OF_TEXT, gpt2_backend

if TYPE_CHECKING:
    from torch import Tensor

TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "mask_token", "cls_token", "sep_token")
_PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))


class TextTokenizer:
    """Text to token ids and back, with the method names that transformers users know."""

    def __init__(
        self,
        backend: Tokenizer,
        special_tokens: dict[str, str],
        model_max_length: int | None = None,
        chat_template: str | None = None,
    ):
        """
        Args:
            backend: the tokenizer proper.
            special_tokens: which token plays which part: keys among bos_token, eos_token, unk_token,
                pad_token, mask_token, cls_token, sep_token.
            model_max_length: the context length of the model it belongs to.
            chat_template: Jinja source, kept and saved, not run here.
        """
        self.backend = backend
        self.special_tokens = {name: special_tokens[name] for name in _SPECIAL if name in special_tokens}
        self.model_max_length = model_max_length
        self.chat_template = chat_template
        self.padding_side: Literal["left", "right"] = "right"
        """Where `padding=True` fills up; "left" for generation."""
        for name, token in self.special_tokens.items():
            if backend.token_to_id(token) is None:
                raise CheckpointError(f'tokenizer: {name} "{token}" is not in the vocabulary.')

    # --- what it knows ---

    @property
    def bos_token(self) -> str | None:
        """The token that opens a document."""
        return self.special_tokens.get("bos_token")

    @property
    def eos_token(self) -> str | None:
        """The token that closes a document."""
        return self.special_tokens.get("eos_token")

    @property
    def unk_token(self) -> str | None:
        """The token for what the vocabulary cannot express."""
        return self.special_tokens.get("unk_token")

    @property
    def pad_token(self) -> str | None:
        """The token that fills up batches; may be set to another token of the vocabulary."""
        return self.special_tokens.get("pad_token")

    @pad_token.setter
    def pad_token(self, token: str) -> None:
        if self.backend.token_to_id(token) is None:
            raise InputError(f'pad_token "{token}" is not in the vocabulary.')
        self.special_tokens["pad_token"] = token

    def _id(self, name: str) -> int | None:
        return self.backend.token_to_id(self.special_tokens[name]) if name in self.special_tokens else None

    @property
    def bos_token_id(self) -> int | None:
        """Id of the token that opens a document."""
        return self._id("bos_token")

    @property
    def eos_token_id(self) -> int | None:
        """Id of the token that closes a document."""
        return self._id("eos_token")

    @property
    def unk_token_id(self) -> int | None:
        """Id that stands for what the vocabulary cannot express, None if it can express everything."""
        return self._id("unk_token")

    @property
    def pad_token_id(self) -> int | None:
        """Id that fills up batches."""
        return self._id("pad_token")

    @property
    def mask_token(self) -> str | None:
        """The token that stands where one is hidden."""
        return self.special_tokens.get("mask_token")

    @property
    def mask_token_id(self) -> int | None:
        """Its id."""
        return self._id("mask_token")

    @property
    def vocab_size(self) -> int:
        """Number of tokens, special ones included."""
        return self.backend.get_vocab_size()

    def __len__(self) -> int:
        return self.vocab_size

    @property
    def kind(self) -> str:
        """The algorithm, for people: `byte-level BPE`, `unigram`, `characters`, ..."""
        spec = json.loads(self.backend.to_str())
        byte_level = (spec["pre_tokenizer"] or {}).get("type") == "ByteLevel"
        if spec["model"]["type"] == "BPE":
            if byte_level and not spec["model"]["merges"]:
                return "bytes"
            return "byte-level BPE" if byte_level else "BPE"
        model: str = spec["model"]["type"]
        return {"Unigram": "unigram", "WordLevel": "characters"}.get(model, model)

    def fingerprint(self) -> str:
        """SHA-256 over everything that decides how text becomes ids."""
        return hashlib.sha256(self.backend.to_str().encode()).hexdigest()

    # --- text to ids ---

    @overload
    def encode(self, text: str, add_special_tokens: bool = ..., return_tensors: None = ...) -> list[int]: ...
    @overload
    def encode(self, text: str, add_special_tokens: bool = ..., *, return_tensors: Literal["pt"]) -> "Tensor": ...
    def encode(
        self, text: str, add_special_tokens: bool = True, return_tensors: str | None = None
    ) -> "list[int] | Tensor":
        """Token ids of a text.

        Args:
            text: any text.
            add_special_tokens: put what the tokenizer's own template asks for around it (Llama: a BOS).
            return_tensors: "pt" for a tensor of shape (1, tokens), None for a list.
        """
        ids = self.backend.encode(_checked(text), add_special_tokens=add_special_tokens).ids
        if return_tensors is None:
            return ids
        return tensor_of([ids], return_tensors)

    def __call__(
        self,
        text: str | Sequence[str],
        add_special_tokens: bool = True,
        padding: bool = False,
        padding_side: Literal["left", "right"] | None = None,
        truncation: bool = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
    ) -> "Encoded":
        """Encode one text or several.

        Args:
            padding: fill all up to the longest with the pad token (or end token where there is none).
            padding_side: where the filling goes; default: the attribute of that name.
            truncation: cut at `max_length` tokens.

        Returns:
            `input_ids` and `attention_mask`, as lists or tensors of shape (texts, tokens).
        """
        texts = [text] if isinstance(text, str) else list(text)
        rows = [self.encode(each, add_special_tokens) for each in texts]
        if truncation:
            limit = max_length or self.model_max_length
            if limit is None:
                raise InputError("truncation=True needs max_length: this tokenizer has none of its own.")
            rows = [row[:limit] for row in rows]
        masks = [[1] * len(row) for row in rows]
        if padding:
            filler, longest = self.padding_id(), max(map(len, rows))
            for each, value in ((rows, filler), (masks, 0)):
                for row in each:
                    fill = [value] * (longest - len(row))
                    row[:] = fill + row if (padding_side or self.padding_side) == "left" else row + fill
        encoded: dict[str, Any] = {"input_ids": rows, "attention_mask": masks}
        if return_tensors is not None:
            encoded = {name: tensor_of(value, return_tensors) for name, value in encoded.items()}
        elif isinstance(text, str):
            encoded = {name: value[0] for name, value in encoded.items()}
        return Encoded(encoded)

    def padding_id(self) -> int:
        """The token to pad with: the pad token, or the end token, or token 0 (masked, so any serves)."""
        return next((each for each in (self.pad_token_id, self.eos_token_id) if each is not None), 0)

    def encode_documents(self, texts: Sequence[str], add_special_tokens: bool = False) -> list[list[int]]:
        """Ids of many texts at once, on all cores.

        A special token's name inside a text is text here: nobody's document can end another one.
        """
        self.backend.encode_special_tokens = True
        try:
            if add_special_tokens:
                return [each.ids for each in self.backend.encode_batch(list(texts), add_special_tokens=True)]
            pieces = [list(self._pieces(text)) for text in texts]
            encoded = iter(self.backend.encode_batch_fast(sum(pieces, []), add_special_tokens=False))
            return [[token for _ in parts for token in next(encoded).ids] for parts in pieces]
        finally:
            self.backend.encode_special_tokens = False

    def _pieces(self, text: str, size: int = 200_000) -> Iterator[str]:
        """Cut a long text where no token can reach across, so that memory stays bounded and cores busy.

        With the GPT-2 rule of what may stand together in a token, and with single characters, a line break
        before a visible character always begins a new token.
        """
        start = 0
        while self._line_breaks_begin_tokens and len(text) - start > size:
            cut = text.find("\n", start + size)
            while 0 <= cut < len(text) - 1 and text[cut + 1].isspace():
                cut = text.find("\n", cut + 1)
            if not 0 <= cut < len(text) - 1:
                break
            yield text[start:cut]
            start = cut
        yield text[start:]

    @property
    def _line_breaks_begin_tokens(self) -> bool:
        spec = json.loads(self.backend.pre_tokenizer.__getstate__()) if self.backend.pre_tokenizer else {}
        gpt2_rule = spec.get("type") == "ByteLevel" and spec["use_regex"] and not spec["add_prefix_space"]
        characters = spec.get("type") == "Split" and spec["pattern"] == {"Regex": ANY_CHARACTER}
        return self.backend.normalizer is None and (gpt2_rule or characters)

    def prompt_ids(self, prompt: str) -> list[int]:
        """Token ids of a prompt; an empty one is the BOS token.

        Raises:
            InputError: an empty prompt for a tokenizer without BOS token.
        """
        ids = self.encode(prompt)
        if not ids and self.bos_token_id is None:
            raise InputError("this tokenizer has no BOS token to begin with: give a prompt.")
        return ids or [self.bos_token_id]  # pyright: ignore[reportReturnType]

    def spellings(self, word: str) -> list[list[int]]:
        """A text as tokens, at the beginning of a line and after a blank; each once."""
        alone = self.backend.encode(_checked(word), add_special_tokens=False).ids
        anchor = self.backend.encode("\n", add_special_tokens=False).ids
        behind = self.backend.encode(f"\n {word}", add_special_tokens=False).ids[len(anchor) :]
        return [list(ids) for ids in dict.fromkeys((tuple(alone), tuple(behind))) if ids]

    # --- ids to text ---

    def decode(self, ids: "int | Sequence[int] | Tensor", skip_special_tokens: bool = False) -> str:
        """The text of token ids: a list, or a tensor of shape (tokens,)."""
        if hasattr(ids, "tolist"):
            ids = ids.tolist()  # pyright: ignore
        if isinstance(ids, int):
            ids = [ids]
        return self.backend.decode(ids, skip_special_tokens=skip_special_tokens)  # pyright: ignore

    def batch_decode(self, rows: "Iterable[Sequence[int] | Tensor]", skip_special_tokens: bool = False) -> list[str]:
        """`decode` of every row."""
        return [self.decode(row, skip_special_tokens) for row in rows]

    def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
        """The vocabulary's own spelling of tokens (byte-level ones look odd: `Ġthe`)."""
        return [self.backend.id_to_token(token) or "" for token in ids]

    def show(self, token: int) -> str:
        """One token as a person would write it: blanks and line breaks visible, incomplete bytes as hex."""
        text = self.backend.decode([token], skip_special_tokens=False)
        if "\ufffd" in text or not text:
            raw = self.backend.id_to_token(token) or ""
            data = bytes(BYTE_OF[char] for char in raw) if raw and all(char in BYTE_OF for char in raw) else b""
            return "".join(f"<0x{byte:02X}>" for byte in data) or raw
        return text.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣")

    def token_bytes(self, vocab_size: int) -> list[bytes]:
        """The bytes that each token stands for; tokens beyond the vocabulary and special ones have none."""
        special = self.backend.get_added_tokens_decoder()
        spec = json.loads(self.backend.to_str())
        byte_level = "ByteLevel" in json.dumps([spec["decoder"], spec["pre_tokenizer"]])
        found = []
        for token in range(vocab_size):
            raw = self.backend.id_to_token(token)
            if raw is None or (token in special and special[token].special):
                found.append(b"")
            elif byte_level and all(char in BYTE_OF for char in raw):
                found.append(bytes(BYTE_OF[char] for char in raw))
            elif len(raw) == 6 and raw.startswith("<0x") and raw.endswith(">"):
                found.append(bytes([int(raw[3:5], 16)]))
            else:
                found.append(raw.replace("▁", " ").encode())
        return found

    # --- folders ---

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "TextTokenizer":
        """Read a tokenizer from a folder: tokenizer.json, or GPT-2's vocab.json and merges.txt.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        folder = Path(folder)
        config = _optional_json(folder / TOKENIZER_CONFIG)
        special = _special_tokens(_optional_json(folder / "special_tokens_map.json") | config)
        if (folder / TOKENIZER).exists():
            try:
                backend = Tokenizer.from_file(str(folder / TOKENIZER))
            except Exception as error:  # the library raises bare Exception
                raise CheckpointError(f"{folder / TOKENIZER}: is no tokenizer ({error}).") from None
        else:
            pair = next(((v, m) for v, m in _PAIRS if (folder / v).exists() and (folder / m).exists()), None)
            if pair is None:
                raise CheckpointError(f"{folder}: has no tokenizer ({TOKENIZER}, or vocab.json with merges.txt).")
            backend = gpt2_backend(folder / pair[0], folder / pair[1])
            if backend.token_to_id(END_OF_TEXT) is not None:
                special = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT} | special
        template = config.get("chat_template")
        if (folder / CHAT_TEMPLATE).exists():
            template = (folder / CHAT_TEMPLATE).read_text(encoding="utf-8")
        length = config.get("model_max_length")
        length = int(length) if isinstance(length, int | float) and length < 10**9 else None  # 1e30 means none
        return cls(backend, special, length, template if isinstance(template, str) else None)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write tokenizer.json, tokenizer_config.json and, if there is one, chat_template.jinja."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TOKENIZER).write_text(self.backend.to_str(pretty=True), encoding="utf-8")
        config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **self.special_tokens}
        config["clean_up_tokenization_spaces"] = False
        if self.model_max_length is not None:
            config["model_max_length"] = self.model_max_length
        text = json.dumps(config, ensure_ascii=False, indent=2) + "\n"
        (folder / TOKENIZER_CONFIG).write_text(text, encoding="utf-8")
        if self.chat_template is not None:
            (folder / CHAT_TEMPLATE).write_text(self.chat_template, encoding="utf-8")


ANY_CHARACTER = r"[\s\S]"
"""Pattern of one character, line breaks included."""


def _checked(text: str) -> str:
    if not isinstance(text, str):
        raise InputError(f"expected text to encode, got {type(text).__name__}.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError("the text holds half of a surrogate pair, which is no character.") from None
    return text


def _optional_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}).") from None
    return value if isinstance(value, dict) else {}


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    """Special tokens are written as text or as objects with a `content`."""
    found = {}
    for name in _SPECIAL:
        value = config.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            found[name] = value
    return found
