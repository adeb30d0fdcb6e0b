"""Texts as vectors: the residual streams of a text's tokens, pooled into one and passed through what a folder adds to that.

Texts are read in batches of similar length, so that little is padding (none, where lengths are equal), in float32 on a CPU by packed
weights (`model.packed`).
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import normalizers
from torch import Tensor, nn
from torch.nn import functional as F

from wenloom.checkpoint.folder import load_model, load_tokenizer
from wenloom.checkpoint.sentence import SentenceConfig, read_sentence_config, transformer_folder
from wenloom.core.console import remark
from wenloom.core.errors import InputError
from wenloom.core.quantities import counted
from wenloom.model.decoder import Decoder
from wenloom.model.encoder import Encoder
from wenloom.model.packed import packed
from wenloom.model.pooling import POOLING_MODES, pooled, shortened
from wenloom.tokens.batch_encoding import without_end
from wenloom.tokens.tokenizer import TextTokenizer

BATCH_TOKENS = 1024
"""Read at a time: with less there is less padding (2,048 take 5 % longer), and with more what a block hands on leaves the processor's
cache; 512 take 3 % longer."""
_TOKENIZED_TOGETHER = 16_384
_WORTH_PACKING = 2048
"""Tokens from which packing the weights takes less time than it saves."""


class TextRows(NamedTuple):
    """Texts as a model reads them."""

    ids: list[list[int]]
    skipped: int = 0
    """So many tokens at the beginning of each are a prompt that is not pooled."""
    n_cut: int = 0
    """How many texts lost their end."""
    n_lost: int = 0
    """Tokens of those ends."""


@dataclass
class Unfit:
    """How many texts were not read as they are."""

    cut: int = 0
    empty: int = 0

    def say(self, n_texts: int, most: int | None) -> None:
        """Remark on them.

        Args:
            most: tokens of a text.
        """
        if self.cut and most is not None:
            remark(f"{counted(self.cut, 'text')} of {n_texts:,} had more than {most:,} tokens: cut there.")
        if self.empty:
            remark(f"{counted(self.empty, 'text')} of {n_texts:,} had no tokens: nothing was pooled.")


@dataclass(frozen=True)
class Embedder:
    """A model that makes vectors of texts.

    ```python
    model = wenloom.load("sentence-transformers/all-MiniLM-L6-v2")
    vectors = model.embed(["A lamp was lit.", "春眠不觉晓"])  # an array (2, 384)
    ```

    Args:
        model: in evaluation mode; a decoder's tokens see those before them alone.
        config: how vectors are made of its tokens'.
    """

    model: Encoder | Decoder
    tokenizer: TextTokenizer
    config: SentenceConfig = field(default_factory=SentenceConfig)

    @functools.cached_property
    def head(self) -> nn.Sequential:
        """What follows the pooling, where the model is."""
        return self.config.head.to(self.model.embed.weight.device)

    @functools.cached_property
    def width(self) -> int:
        """Numbers of a vector."""
        with torch.inference_mode():
            return self.head(self._pooled([[]], 0)).shape[-1]

    @functools.cached_property
    def max_tokens(self) -> int | None:
        """Tokens of a text, what stands around it counted; None: no bound."""
        told = self.config.max_tokens or (self.tokenizer.model_max_length if self.config.is_written else None)
        bounds = [each for each in (told, self.model.config.context_length) if each]
        return min(bounds, default=None)

    def prompt(self, name: str | None = None) -> str:
        """What is put before texts.

        Args:
            name: of a prompt; None: the model's default.

        Raises:
            InputError: there is none of that name.
        """
        name = self.config.default_prompt if name is None else name
        if name is not None and name not in self.config.prompts:
            known = ", ".join(self.config.prompts) or "it has none"
            raise InputError(f'prompt "{name}": the model has no prompt of this name ({known}).')
        return "" if name is None else self.config.prompts[name]

    def prompt_of(self, *names: str) -> str:
        """The first of these prompts that the model has; else its default."""
        return self.prompt(next((name for name in names if name in self.config.prompts), None))

    def rows(self, texts: Sequence[str], prompt: str = "") -> TextRows:
        """Texts as tokens, those too long without their end; what the tokenizer puts around a text stays.

        Args:
            prompt: put before each.

        Raises:
            InputError: one is no text.
        """
        limit, side, ids = self.max_tokens, self.tokenizer.truncation_side, list[list[int]]()
        n_cut = n_lost = 0
        for each in self.tokenizer.encodings([prompt + text for text in texts] if prompt else texts):
            found = each.ids
            if limit is not None and len(found) > limit:
                n_cut, n_lost = n_cut + 1, n_lost + len(found) - limit
                found = without_end(found, each.special_tokens_mask, limit, side)
            ids.append(found)
        return TextRows(ids, self.skipped(prompt), n_cut, n_lost)

    def skipped(self, prompt: str) -> int:
        """How many tokens at the beginning of a text with this prompt are not pooled: those of the prompt and what stands
        before it, in a model that leaves prompts out."""
        if self.config.include_prompt or not prompt:
            return 0
        encoding = self.tokenizer.encoding(prompt)
        around, ids = encoding.special_tokens_mask, encoding.ids
        return len(ids) - bool(around and around[-1])

    def batches(
        self, rows: TextRows, batch_tokens: int = BATCH_TOKENS, normalize: bool | None = None
    ) -> Iterator[tuple[list[int], Callable[[], Tensor]]]:
        """The work in parts of bounded size.

        Args:
            batch_tokens: tokens of a part, padding counted; one text may have more.
            normalize: whether vectors are brought to length 1; None: as the model's folder says.

        Returns:
            Places of texts among the rows, and what makes their vectors, float32 of shape (texts, D).
        """
        ids = rows.ids
        order, begin = sorted(range(len(ids)), key=lambda row: len(ids[row])), 0
        many = sum(map(len, ids)) >= _WORTH_PACKING
        while begin < len(order):
            end, is_empty = begin + 1, not ids[order[begin]]
            while (
                end < len(order)
                and len(ids[order[end]]) * (end + 1 - begin) <= batch_tokens
                and bool(ids[order[end]]) != is_empty
            ):
                end += 1
            places = order[begin:end]
            yield (
                places,
                lambda places=places: self._vectors([ids[each] for each in places], rows.skipped, many, normalize),
            )
            begin = end

    def embed(
        self,
        texts: str | Sequence[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        dimensions: int | None = None,
        normalize: bool | None = None,
        batch_tokens: int = BATCH_TOKENS,
        on_texts: Callable[[int], object] = lambda count: None,
    ) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Vectors of texts, as sentence-transformers makes them.

        A text of more tokens than the model takes loses its end; a remark says how many did.

        Args:
            texts: one text is a list of one.
            prompt_name: a prompt of the model to put before each text, such as "query"; default: the model's default, if any.
            prompt: a prompt of your own.
            dimensions: so many of the first numbers only, see `model.pooling.shortened`.
            normalize: whether vectors are brought to length 1; default: as the model's folder says.
            batch_tokens: tokens that are read at a time; any number gives the same vectors, but for rounding.
            on_texts: told how many more are done, for progress.

        Returns:
            float32, shape (texts, D).

        Raises:
            InputError: no such prompt, too many dimensions, or something that is no text.
        """
        if prompt is not None and prompt_name is not None:
            raise InputError("give a prompt, or the name of one, not both.")
        if batch_tokens < 1:
            raise InputError(f"batch_tokens {batch_tokens}: must be at least 1.")
        texts, before = (
            [texts] if isinstance(texts, str) else texts,
            self.prompt(prompt_name) if prompt is None else prompt,
        )
        wanted = self.config.normalizes if normalize is None else normalize
        found = torch.empty(len(texts), self.width)
        if dimensions is not None:
            found = shortened(found, dimensions, normalize=False)
        unfit = Unfit()
        for places, made in self.made(texts, before, normalize, batch_tokens, unfit):
            found[places] = made if dimensions is None else shortened(made, dimensions, wanted)
            on_texts(len(places))
        unfit.say(len(texts), self.max_tokens)
        return found.numpy()

    def made(
        self, texts: Sequence[str], prompt: str, normalize: bool | None, batch_tokens: int, unfit: "Unfit"
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Vectors as they are made, in no order of the texts.

        Args:
            unfit: counts the texts that are cut or empty.

        Returns:
            Places among the texts, and their vectors.
        """
        for start in range(0, len(texts), _TOKENIZED_TOGETHER):
            rows = self.rows(texts[start : start + _TOKENIZED_TOGETHER], prompt)
            unfit.cut += rows.n_cut
            unfit.empty += sum(not ids for ids in rows.ids)
            for places, work in self.batches(rows, batch_tokens, normalize):
                yield [start + place for place in places], work()

    @functools.cached_property
    def _fast(self) -> Encoder | Decoder:
        return packed(self.model)

    @torch.inference_mode()
    def _vectors(self, ids: Sequence[Sequence[int]], skipped: int, many: bool, normalize: bool | None) -> Tensor:
        has_norm = self.config.normalizes
        head = self.head[:-1] if has_norm and normalize is False else self.head
        found_BD = head(self._pooled(ids, skipped, many)).cpu()
        return F.normalize(found_BD, dim=-1) if normalize and not has_norm else found_BD

    def _pooled(self, ids: Sequence[Sequence[int]], skipped: int, many: bool = False) -> Tensor:
        model, device = self._fast if many else self.model, self.model.embed.weight.device
        longest, filler = max(map(len, ids)), self.tokenizer.padding_id()
        if not longest:
            return torch.zeros(len(ids), self.model.config.d_model * len(self.config.pooling), device=device)
        tokens_BT = torch.tensor([[*row, *[filler] * (longest - len(row))] for row in ids], device=device)
        lengths_B = torch.tensor([len(row) for row in ids], device=device)
        places_T, mask_BT, positions_BT = torch.arange(longest, device=device), None, None
        if len(set(map(len, ids))) > 1:
            if not model.config.causal:  # what is causal does not see the padding, which stands behind
                mask_BT = (places_T < lengths_B[:, None]).long()
            elif any(rope is not None and rope.depends_on_length for rope in model.ropes):
                positions_BT = torch.minimum(places_T, lengths_B[:, None] - 1)  # each row's own length
        x_BTD = model.hidden(tokens_BT, mask_BT, positions_BT)
        return pooled(x_BTD, lengths_B, self.config.pooling, skipped)


def load_embedder(
    folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32, pooling: str | None = None
) -> Embedder:
    """Read a model that embeds: an encoder, or a decoder.

    Args:
        pooling: a mode of `model.pooling.PoolingMode` in place of what the folder says.

    Raises:
        InputError: it has both an encoder and a decoder, or there is no such mode.
        CheckpointError: see `checkpoint.folder.load_model` and `checkpoint.sentence.read_sentence_config`.
    """
    config, place = read_sentence_config(folder), transformer_folder(folder)
    if pooling is not None:
        config = with_pooling(config, pooling)
    model = load_model(place, device, dtype, needs_head=False)
    if not isinstance(model, Encoder | Decoder):
        raise InputError(f"{folder}: has an encoder and a decoder; this needs a model of one.")
    tokenizer = load_tokenizer(place)
    if config.lowercase:
        lowercased(tokenizer)
    return Embedder(model, tokenizer, config)


def lowercased(tokenizer: TextTokenizer) -> None:
    """Let a tokenizer read capitals as small letters."""
    before = tokenizer.backend.normalizer
    both = [normalizers.Lowercase(), *([before] if before is not None else [])]
    tokenizer.backend.normalizer = normalizers.Sequence(both)


def with_pooling(config: SentenceConfig, mode: str) -> SentenceConfig:
    """The same with another pooling.

    Raises:
        InputError: there is no such mode, or what follows needs the folder's own.
    """
    known = next((each for each in POOLING_MODES if each == mode), None)
    if known is None:
        raise InputError(f"pooling {mode}: known are {', '.join(POOLING_MODES)}.")
    if len(config.pooling) > 1 and any(True for _ in config.head.parameters()):
        raise InputError(f"pooling {mode}: this model's layers read {len(config.pooling)} vectors side by side ({', '.join(config.pooling)}).")  # fmt: skip
    return replace(config, pooling=(known,))
