"""Tokenizers: loading, saving and using them; the work inside is done by the `tokenizers` library."""

import hashlib
import json
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from tokenizers import AddedToken, Encoding, Tokenizer
from tokenizers.processors import TemplateProcessing

from wenloom.core.errors import CheckpointError, InputError, printable
from wenloom.core.foreign import reading
from wenloom.tokens.batch_encoding import BatchEncoding, checked, tensor_of, without_blanks, without_end
from wenloom.tokens.bytes_of_tokens import bytes_of_tokens
from wenloom.tokens.cutting import stretches
from wenloom.tokens.folder import read_folder, write_folder
from wenloom.tokens.gpt2 import BYTE_OF
from wenloom.tokens.literal import LiteralEncoder

if TYPE_CHECKING:
    from torch import Tensor


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
            special_tokens: which token plays which part: bos_token, eos_token, unk_token, pad_token,
                mask_token, cls_token, sep_token, and others that a model has (image_token).
            model_max_length: the context length of the model it belongs to.
            chat_template: Jinja source, kept and saved, not run here.
        """
        self.backend = backend
        self.special_tokens = dict(special_tokens)
        self.model_max_length = model_max_length
        self.chat_template = chat_template
        self.other_templates: dict[str, str] = {}
        """Chat templates for other uses than the usual one, by name; kept and saved."""
        self.padding_side: Literal["left", "right"] = "right"
        """Where `padding=True` fills up; "left" for generation."""
        self.truncation_side: Literal["left", "right"] = "right"
        """Where `truncation=True` cuts."""
        self.cleans_up = False
        """Whether decoded text loses the blanks before punctuation (clean_up_tokenization_spaces)."""
        self.splits_special = False
        """Whether the names of special tokens in any text are text (split_special_tokens)."""
        self.limit: int | None = None
        """Tokens of the model it lies beside, if they are fewer than its own."""
        self._lock = threading.Lock()
        self._literal: dict[tuple[str, ...], tuple[tuple[Any, ...], LiteralEncoder]] = {}
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
        """The id of the mask token."""
        return self._id("mask_token")

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids of the tokens that stand for no text."""
        return frozenset(token for token, each in self.backend.get_added_tokens_decoder().items() if each.special)

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
        special, words = {each["content"] for each in spec["added_tokens"]}, self.backend.get_vocab()
        by_words = "characters" if all(len(word) == 1 or word in special for word in words) else "words"
        model: str = spec["model"]["type"]
        return {"Unigram": "unigram", "WordLevel": by_words}.get(model, model)

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
        ids = self.encoding(text, add_special_tokens).ids
        if return_tensors is None:
            return ids
        return tensor_of([ids], return_tensors)

    def encoding(self, text: str, add_special_tokens: bool = True) -> Encoding:
        """All that the backend says of a text: ids, offsets in characters, words.

        Each of its attributes is a new list at every access: take it once.

        Raises:
            InputError: it is not text, or the backend fails on it.
        """
        checked(text)
        encoder = self.literal().encoding if self.splits_special else self.backend.encode
        with reading("tokenizer", InputError, "cannot encode this text"):
            found = encoder(text, add_special_tokens=add_special_tokens)
        if self.limit is not None:
            self._check_ids(found.ids)
        return found

    def encodings(self, texts: Sequence[str]) -> list[Encoding]:
        """What `encoding` says of many texts, offsets aside, on all cores.

        Raises:
            InputError: one is not text, or the backend fails on it.
        """
        if self.splits_special:
            return [self.encoding(text) for text in texts]
        with reading("tokenizer", InputError, "cannot encode this text"):
            found = self.backend.encode_batch_fast([checked(text) for text in texts])
        if self.limit is not None:
            self._check_ids(token for each in found for token in each.ids)
        return found

    def _check_ids(self, ids: Iterable[int]) -> None:
        if self.limit is not None and (highest := max(ids, default=0)) >= self.limit:
            name = printable(self.backend.id_to_token(highest) or "", 60)
            raise InputError(f'the text holds "{name}", token {highest:,}: the model has only {self.limit:,} tokens.')

    def __call__(
        self,
        text: str | Sequence[str],
        add_special_tokens: bool = True,
        padding: bool = False,
        padding_side: Literal["left", "right"] | None = None,
        truncation: bool = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
    ) -> "BatchEncoding":
        """Encode one text or several.

        Args:
            padding: fill all up to the longest with the pad token (or end token where there is none).
            padding_side: where the filling goes; default: the attribute of that name.
            truncation: cut to `max_length` tokens; what stands around a text ([CLS], </s>) stays.

        Returns:
            `input_ids` and `attention_mask`, as lists or tensors of shape (texts, tokens).
        """
        texts = [text] if isinstance(text, str) else list(text)
        encodings = [self.encoding(each, add_special_tokens) for each in texts]
        rows = [encoding.ids for encoding in encodings]
        if truncation:
            limit = max_length or self.model_max_length
            if limit is None:
                raise InputError("truncation=True needs max_length: this tokenizer has none of its own.")
            rows = [
                without_end(row, encoding.special_tokens_mask, limit, self.truncation_side) if len(row) > limit else row
                for row, encoding in zip(rows, encodings, strict=True)
            ]
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
        return BatchEncoding(encoded)

    def padding_id(self) -> int:
        """The token to pad with: the pad token, or the end token, or token 0 (masked, so any serves)."""
        return next((each for each in (self.pad_token_id, self.eos_token_id) if each is not None), 0)

    def encode_documents(self, texts: Sequence[str], add_special_tokens: bool = False) -> list[list[int]]:
        """Ids of many texts at once, on all cores.

        A special token's name inside a text is text here: nobody's document can end another one.
        """
        literal, texts = self.literal(), [checked(text) for text in texts]
        with reading("tokenizer", InputError, "cannot encode this text"):
            pieces = [[text] for text in texts] if add_special_tokens else stretches(self.backend, texts)
            encoded = iter(literal.batch([part for parts in pieces for part in parts], add_special_tokens))
        found = [[token for _ in parts for token in next(encoded)] for parts in pieces]
        self._check_ids(token for ids in found for token in ids)
        return found

    def literal(self, also: Iterable[str] = ()) -> LiteralEncoder:
        """An encoder to which special tokens are text where they are somebody's words.

        It is made once, and anew where the vocabulary or what stands around texts has changed.

        Args:
            also: more names of added tokens that are to be text.
        """
        more, post = tuple(sorted(also)), self.backend.post_processor
        state = (self.backend.get_vocab_size(), None if post is None else post.__getstate__())
        with self._lock:
            known = self._literal.get(more)
            if known is None or known[0] != state:
                added = self.backend.get_added_tokens_decoder().values()
                names = {token.content for token in added if token.special} | {*more}
                known = self._literal[more] = (state, LiteralEncoder(self.backend, names))
            return known[1]

    def extended(
        self, tokens: Sequence[AddedToken], special_tokens: dict[str, str], single: str = "", pair: str = ""
    ) -> "TextTokenizer":
        """A tokenizer with more special tokens; this one stays as it is.

        Args:
            tokens: what to add; those that are there already stay.
            special_tokens: which token plays which part in the new one.
            single, pair: what stands around one text and around two, as in "[CLS] $A [SEP]"; empty: as it is.
        """
        backend = Tokenizer.from_str(self.backend.to_str())
        backend.add_special_tokens(list(tokens))
        if single:
            named = {name for name in (single + " " + pair).split() if not name.startswith("$")}
            ids = [(name, backend.token_to_id(name)) for name in sorted({name.removesuffix(":1") for name in named})]
            backend.post_processor = TemplateProcessing(single=single, pair=pair, special_tokens=ids)
        return TextTokenizer(backend, special_tokens)

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
        alone = self.backend.encode(checked(word), add_special_tokens=False).ids
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
        text = self.backend.decode(ids, skip_special_tokens=skip_special_tokens)  # pyright: ignore
        if self.cleans_up and type(self.backend.model).__name__ != "BPE":  # it would harm what BPE writes exactly
            return without_blanks(text)
        return text

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
        return bytes_of_tokens(self.backend, vocab_size)

    # --- folders ---

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "TextTokenizer":
        """Read a tokenizer from a folder: tokenizer.json, or GPT-2's vocab.json and merges.txt, or BERT's vocab.txt.

        Whatever other tools write beside it counts as it does for transformers, see `tokens.configuration`.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        backend, special, config, limit = read_folder(Path(folder))
        made = cls(backend, special, config.model_max_length, config.templates.get("default"))
        made.other_templates = {name: text for name, text in config.templates.items() if name != "default"}
        made.padding_side, made.truncation_side = config.padding_side or "right", config.truncation_side or "right"
        made.limit = limit
        made.cleans_up, made.splits_special = config.cleans_up, config.splits_special
        return made

    def save_pretrained(self, folder: str | Path) -> None:
        """Write tokenizer.json, tokenizer_config.json and chat templates, so that transformers reads the same.

        What an earlier tokenizer left there and would count beside them is taken away.

        Raises:
            WenloomError: the disk refused.
        """
        config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **self.special_tokens}
        config["clean_up_tokenization_spaces"] = self.cleans_up
        if self.model_max_length is not None:
            config["model_max_length"] = self.model_max_length
        if self.splits_special:
            config["split_special_tokens"] = True
        config |= {name: side for name, side in (("padding_side", self.padding_side),
                                                 ("truncation_side", self.truncation_side)) if side != "right"}  # fmt: skip
        templates = {} if self.chat_template is None else {"default": self.chat_template}
        write_folder(Path(folder), self.backend, config, templates | self.other_templates)
