"""How good features are, and what each stands for: figures on text that they have not learned from, and the texts of each."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from wenloom.evaluation.likelihood import scored_targets
from wenloom.explanation.activations import batches, flowing
from wenloom.explanation.sparse_coder import SparseCoder
from wenloom.explanation.subject import Subject
from wenloom.model.decoder import Decoder
from wenloom.model.taps import Taps, keep

_TEXTS, _BEFORE, _AFTER = 5, 16, 6
_PROMOTED = 8
_LOGITS = 2**24


@dataclass(frozen=True)
class FeatureFigures:
    """What features keep of a model's stream, or tell of what a layer adds to it, on text held out; the first token of a row is
    left as it is."""

    explained: float
    """1 - |x - x'|² / |x - mean|²."""
    recovered: float
    """(loss of zeros - loss of x') / (loss of zeros - loss), where zeros or x' flow on in place of x."""
    active: float
    """Features that are active at a token, on average."""
    dead: float
    """Part of the features that were silent for the last `dead_after` tokens of training and at all tokens held out."""
    dead_after: int
    loss: float
    """Nats per token, of the model."""
    loss_coded: float
    """Where x' flows on."""
    loss_zero: float
    """Where zeros do."""
    n_tokens: int
    """Held out."""

    def data(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


@torch.no_grad()
def coded_loss(
    decoder: Decoder, coder: SparseCoder, rows: Sequence[list[int]], replace: Callable[[Tensor, Tensor], Tensor]
) -> float:
    """Nats per token where something else flows on from where features write, but for each row's first token.

    Args:
        replace: gets what flows where they read and where they write, and returns what flows on.
    """
    kept: dict[str, Tensor] = {}

    def tap(x_BTD: Tensor) -> Tensor:
        read_BTD = kept.get(coder.reads, x_BTD)
        return torch.cat((x_BTD[:, :1], replace(read_BTD[:, 1:], x_BTD[:, 1:])), 1)

    taps = Taps({coder.reads: keep(coder.reads, kept), coder.writes: tap}, decoder.places)
    total, count = 0.0, 0
    tokens = torch.tensor(list(rows), device=decoder.embed.weight.device)
    for tokens_BT in tokens.split(8):
        hidden_BTD = decoder.hidden(tokens_BT, taps=taps)[:, 1:-1]
        logs_N, _ = scored_targets(decoder, hidden_BTD.flatten(0, 1), tokens_BT[:, 2:].flatten())
        total, count = total - float(logs_N.sum()), count + len(logs_N)
    return total / count


@torch.no_grad()
def measure_features(
    subject: Subject,
    coder: SparseCoder,
    rows: Sequence[list[int]],
    silent_M: Tensor,
    dead_after: int,
    n_loss: int = 64,
    on_rows: Callable[[int], None] = lambda n: None,
) -> tuple[FeatureFigures, list[dict[str, Any]]]:
    """Figures of features, and what each of them stands for.

    Args:
        rows: tokens held out, rows of one length.
        silent_M: tokens of training since each feature was last active.
        dead_after: such tokens from which on a feature that is silent here, too, is dead.
        n_loss: rows on which losses are measured.

    Returns:
        Figures; and of each feature its number, how often it is active, its strongest and its mean value where it is, tokens
        whose logits it raises most, and the texts where it is strongest.
    """
    decoder = subject.model
    assert isinstance(decoder, Decoder)
    error = variance = 0.0
    values, numbers, places, n_tokens = list[Tensor](), list[Tensor](), list[Tensor](), 0
    parts: list[Tensor] = []
    for tokens_BT in batches(subject, rows):
        parts.append(flowing(decoder, coder.places, tokens_BT))
        on_rows(len(tokens_BT))
    mean_D = torch.cat([coder.split(part)[1].mean(0, keepdim=True) for part in parts]).mean(0)
    for part in parts:
        x_ND, written_ND = coder.split(part)
        active = coder.encode(x_ND)
        error += float((written_ND - coder.decode(active)).square().sum())
        variance += float((written_ND - mean_D).square().sum())
        is_active = active.values_NK > 0
        place_NK = torch.arange(n_tokens, n_tokens + len(x_ND), device=x_ND.device)[:, None].expand_as(
            active.numbers_NK
        )
        for kept, each in ((values, active.values_NK), (numbers, active.numbers_NK), (places, place_NK)):
            kept.append(each[is_active].cpu())
        n_tokens += len(x_ND)
    few = rows[:n_loss]
    instead: list[Callable[[Tensor, Tensor], Tensor]] = [
        lambda read, written: written,
        lambda read, written: coder(read),
        lambda read, written: torch.zeros_like(written),
    ]
    loss, coded, zero = (coded_loss(decoder, coder, few, each) for each in instead)
    value_E, number_E, place_E = torch.cat(values), torch.cat(numbers), torch.cat(places)
    times_M = torch.bincount(number_E, minlength=coder.n_features)
    dead_M = (times_M == 0) & (silent_M.cpu() >= dead_after)
    figures = FeatureFigures(
        1 - error / variance,
        (zero - coded) / (zero - loss),
        len(value_E) / n_tokens,
        float(dead_M.float().mean()),
        dead_after,
        loss,
        coded,
        zero,
        n_tokens,
    )
    order = value_E.argsort(descending=True)
    order = order[number_E[order].argsort(stable=True)]
    ends = times_M.cumsum(0).tolist()
    raised = promoted(subject, coder.decoder_MD)
    found = []
    for number, (end, times) in enumerate(zip(ends, times_M.tolist(), strict=True)):
        mine = order[end - times : end]
        texts = [
            _text(subject, rows, int(place_E[each]), float(value_E[each]))
            for each in _in_other_rows(mine, place_E, rows)
        ]
        found.append({
            "feature": number, "frequency": times / n_tokens, "most": float(value_E[mine[0]]) if times else 0.0,
            "mean": float(value_E[mine].mean()) if times else 0.0, "promotes": raised[number], "texts": texts,
        })  # fmt: skip
    return figures, found


def _in_other_rows(mine: Tensor, place_E: Tensor, rows: Sequence[list[int]]) -> list[int]:
    """The strongest of a feature's places, one of each row."""
    seen: dict[int, int] = {}
    for each in mine[: 20 * _TEXTS].tolist():
        seen.setdefault(int(place_E[each]) // (len(rows[0]) - 1), each)
        if len(seen) == _TEXTS:
            break
    return list(seen.values())


def _text(subject: Subject, rows: Sequence[list[int]], place: int, value: float) -> dict[str, Any]:
    """A token with what stands around it."""
    row, at = rows[place // (len(rows[0]) - 1)], place % (len(rows[0]) - 1) + 1
    decode = subject.tokenizer.decode
    return {
        "before": decode(row[max(1, at - _BEFORE) : at]), "token": subject.piece(row[at]),
        "after": decode(row[at + 1 : at + 1 + _AFTER]), "value": float(f"{value:.4g}"),
    }  # fmt: skip


def promoted(subject: Subject, directions_MD: Tensor) -> list[list[str]]:
    """Of every direction of the stream the tokens whose logits it raises most, through the last norm's weight."""
    decoder = subject.model
    assert isinstance(decoder, Decoder)
    weight = getattr(decoder.final_norm, "weight", None)
    matrix_VD = decoder.output_weight if weight is None else decoder.output_weight * weight
    found: list[list[str]] = []
    for part_MD in directions_MD.split(max(1, _LOGITS // len(matrix_VD))):
        best = (part_MD.to(matrix_VD) @ matrix_VD.T).topk(min(_PROMOTED, len(matrix_VD))).indices
        found += [[subject.piece(token) for token in row] for row in best.tolist()]
    return found
