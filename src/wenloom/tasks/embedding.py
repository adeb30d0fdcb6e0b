"""Texts as vectors: the residual streams of a text's tokens, pooled into one of length 1.

Folders of sentence-transformers say how (1_Pooling/config.json); of other models the mean over all tokens is taken, the
special ones among them, as Reimers & Gurevych (2019) found best.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from wenloom.checkpoint.folder import load_model, load_tokenizer, read_json
from wenloom.core.errors import CheckpointError, InputError
from wenloom.core.foreign import read_json as read_any_json
from wenloom.model.decoder import Decoder
from wenloom.model.encoder import Encoder
from wenloom.tokens.tokenizer import TextTokenizer

Pooling = Literal["mean", "cls", "max", "last"]
_MODES: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max", "pooling_mode_lasttoken": "last",
}  # fmt: skip
_KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")
_BATCH_TOKENS = 2048
MODULES = "modules.json"
"""The file by which a folder of sentence-transformers is known."""


@dataclass(frozen=True)
class Embedder:
    """A model and how its vectors are pooled.

    Args:
        model: in evaluation mode; a decoder's tokens see those before them alone.
        pooling: mean or max over all tokens, or the vector of the first (cls) or last one.
        max_tokens: tokens of a text; None: no bound.
    """

    model: Encoder | Decoder
    tokenizer: TextTokenizer
    pooling: Pooling = "mean"
    max_tokens: int | None = None

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.model.config.d_model

    def batches(self, rows: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Callable[[], Tensor]]]:
        """The work in parts of bounded size.

        Args:
            rows: tokens of texts, at least one each.

        Returns:
            Places of texts among the rows, and what makes their vectors, float32 of shape (texts, D) and length 1.
        """
        order, begin = sorted(range(len(rows)), key=lambda row: len(rows[row])), 0
        while begin < len(order):
            end = begin + 1
            while end < len(order) and len(rows[order[end]]) * (end + 1 - begin) <= _BATCH_TOKENS:
                end += 1
            places = order[begin:end]
            yield places, lambda places=places: self._vectors([rows[each] for each in places])
            begin = end

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Vectors of texts, float32 of shape (texts, D).

        Raises:
            InputError: a text has no tokens, or more than the model takes.
        """
        rows = [self.tokenizer.encode(text) for text in texts]
        for row in rows:
            if not row or (self.max_tokens is not None and len(row) > self.max_tokens):
                raise InputError(f"a text of {len(row):,} tokens cannot be embedded: from 1 to {self.max_tokens or 'any number'} can.")  # fmt: skip
        found = torch.empty(len(rows), self.width)
        for places, work in self.batches(rows):
            found[places] = work()
        return found

    @torch.inference_mode()
    def _vectors(self, rows: Sequence[Sequence[int]]) -> Tensor:
        device = next(self.model.parameters()).device
        longest, filler = max(map(len, rows)), self.tokenizer.pad_token_id or 0
        tokens_BT = torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows], device=device)
        lengths_B = torch.tensor([len(row) for row in rows], device=device)
        mask_BT = torch.arange(longest, device=device) < lengths_B[:, None]
        x_BTD = self.model.hidden(tokens_BT, mask_BT.long()).float()
        if self.pooling == "cls":
            x_BD = x_BTD[:, 0]
        elif self.pooling == "last":
            x_BD = x_BTD[torch.arange(len(rows), device=device), lengths_B - 1]
        elif self.pooling == "max":
            x_BD = x_BTD.masked_fill(~mask_BT[:, :, None], -torch.inf).amax(1)
        else:
            x_BD = (x_BTD * mask_BT[:, :, None]).sum(1) / lengths_B[:, None]
        return F.normalize(x_BD, dim=-1).cpu()


def load_embedder(folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Embedder:
    """Read a model that embeds: an encoder, or a decoder.

    Raises:
        InputError: it has both an encoder and a decoder.
        CheckpointError: see `checkpoint.folder.load_model`; or the folder asks for more than pooling and length 1.
    """
    model, tokenizer = load_model(folder, device, dtype), load_tokenizer(folder)
    if not isinstance(model, Encoder | Decoder):
        raise InputError(f"{folder}: has an encoder and a decoder; this needs a model of one.")
    pooling, longest = pooling_of(folder)
    bounds = [each for each in (longest, model.config.context_length) if each]
    return Embedder(model, tokenizer, pooling, min(bounds, default=None))


def pooling_of(folder: Path) -> tuple[Pooling, int | None]:
    """How a folder says that its vectors are pooled, and the tokens of a text, as far as it says so.

    Raises:
        CheckpointError: it asks for what is not offered.
    """
    modules = folder / MODULES
    if not modules.exists():
        return "mean", None
    pooling: Pooling = "mean"
    listed = read_any_json(modules, CheckpointError)
    if not isinstance(listed, list):
        raise CheckpointError(f"{modules}: must hold a list of modules.")
    for number, each in enumerate(listed):
        kind, path = (str(each.get(name, "")) if isinstance(each, dict) else "" for name in ("type", "path"))
        if kind.rpartition(".")[2] not in _KNOWN_MODULES:
            raise CheckpointError(f"{modules}: module {number} is of type {kind!r}; known are {', '.join(_KNOWN_MODULES)}.")  # fmt: skip
        if kind.endswith(".Pooling"):
            where = folder / Path(path).name / "config.json"
            modes = [name for name, value in read_json(where).items() if name.startswith("pooling_mode_") and value is True]  # fmt: skip
            if len(modes) != 1 or modes[0] not in _MODES:
                raise CheckpointError(f"{where}: pools by {', '.join(modes) or 'nothing'}; known is one of {', '.join(_MODES)}.")  # fmt: skip
            pooling = _MODES[modes[0]]
    settings = folder / "sentence_bert_config.json"
    longest = read_json(settings).get("max_seq_length") if settings.exists() else None
    return pooling, longest if isinstance(longest, int) and longest > 0 else None
