"""What can be done to a tensor that flows by: replace it, remove it, add to it; whole, or some positions and heads of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from wenloom.core.errors import InputError
from wenloom.core.randomness import generator
from wenloom.model.taps import Tap

_BY_HEAD = ("query", "key", "value", "pattern", "heads")
Ablation = Literal["zero", "mean", "resample"]


@dataclass(frozen=True)
class Change:
    """What is done at a place."""

    place: str
    tap: Tap


def has_heads(place: str) -> bool:
    """Whether a place's tensor is by head, B H T ..., and not B T ..."""
    return place.rpartition(".")[2] in _BY_HEAD


def patched(place: str, value: Tensor, positions: Sequence[int] | None, heads: Sequence[int] | None) -> Change:
    """Put another tensor there.

    Raises:
        InputError: heads of a place that has none. When it runs: another shape, or positions or heads that do not exist.
    """
    _check_heads(place, heads)

    def tap(x: Tensor) -> Tensor:
        if value.shape[1:] != x.shape[1:]:
            raise InputError(
                f"{place}: {tuple(value.shape)} is put where {tuple(x.shape)} flows; texts of the same number of tokens "
                "can stand in for each other."
            )
        return _with_part(place, x, value.to(x.dtype).expand_as(x), positions, heads)

    return Change(place, tap)


def ablated(
    place: str,
    how: Ablation,
    known: Sequence[Tensor],
    positions: Sequence[int] | None,
    heads: Sequence[int] | None,
    seed: int,
) -> Change:
    """Put zeros there, the mean over the tokens of known tensors, or tokens drawn from them.

    Raises:
        InputError: see `patched`; an unknown way, or mean or resample of a pattern.
    """
    _check_heads(place, heads)
    if how not in ("zero", "mean", "resample"):
        raise InputError(f"ablation {how!r}: known are zero, mean and resample.")
    if how != "zero" and place.endswith("pattern"):
        raise InputError(
            f"{place}: its keys are other tokens in another text; a pattern can be ablated with zeros only."
        )
    time = _time(place)
    many = None if how == "zero" else torch.cat(list(known), time)

    def tap(x: Tensor) -> Tensor:
        if many is None:
            other = torch.zeros_like(x)
        elif how == "mean":
            other = many.mean(time, keepdim=True).to(x.dtype).expand_as(x)
        else:
            drawn = torch.randint(many.shape[time], (x.shape[time],), generator=generator(seed, place))
            other = many.index_select(time, drawn.to(many.device)).to(x.dtype).expand_as(x)
        return _with_part(place, x, other, positions, heads)

    return Change(place, tap)


def added(place: str, direction: Tensor, strength: float, positions: Sequence[int] | None) -> Change:
    """Add a vector to what flows there: x + strength * direction."""

    def tap(x: Tensor) -> Tensor:
        return _with_part(place, x, x + strength * direction.to(x), positions, None)

    return Change(place, tap)


def _check_heads(place: str, heads: Sequence[int] | None) -> None:
    if heads is not None and not has_heads(place):
        raise InputError(f"{place}: has no heads; places by head end with {', '.join(_BY_HEAD)}.")


def _time(place: str) -> int:
    return 2 if has_heads(place) else 1


def _with_part(
    place: str, x: Tensor, other: Tensor, positions: Sequence[int] | None, heads: Sequence[int] | None
) -> Tensor:
    """A copy of x with the chosen part of another tensor."""
    if positions is None and heads is None:
        return other
    time = _time(place)
    chosen = torch.zeros(x.shape[: time + 1], dtype=torch.bool, device=x.device)
    rows = (
        list(range(x.shape[time]))
        if positions is None
        else [_within(each, x.shape[time], place, "position") for each in positions]
    )
    if time == 1:
        chosen[:, rows] = True
    else:
        columns = range(x.shape[1]) if heads is None else [_within(each, x.shape[1], place, "head") for each in heads]
        for head in columns:
            chosen[:, head, rows] = True
    return torch.where(chosen[(...,) + (None,) * (x.dim() - chosen.dim())], other, x)


def _within(number: int, count: int, place: str, what: str) -> int:
    if not -count <= number < count:
        raise InputError(f"{place}: there is no {what} {number}; they go from 0 to {count - 1}.")
    return number % count
