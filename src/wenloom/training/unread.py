"""Settings that a run would not read: refused by name, so that nobody believes to have set them."""

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any, Generic, NamedTuple, TypeVar

from wenloom.core.errors import InputError
from wenloom.training.settings import TrainSettings

Case = TypeVar("Case")


class Unread(NamedTuple, Generic[Case]):
    """A setting, and when it has no effect."""

    name: str
    when: Callable[[Case], bool]
    why: str
    """Who reads it, for people."""


TRAINING: tuple[Unread[TrainSettings], ...] = (
    Unread("decay", lambda it: it.schedule != "wsd", "only --schedule wsd stays stable before it falls"),
    Unread("momentum", lambda it: it.optimizer == "adamw", "only --optimizer muon has it"),
)
"""Settings of every training that others make idle; with gaps filled."""

PLAN: tuple[Unread[TrainSettings], ...] = tuple(
    Unread(name, lambda _: True, "time, memory and disk are the same with any; give it to `wenloom pretrain`")
    for name in (
        "schedule", "warmup", "decay", "final_learning_rate", "weight_decay", "momentum", "beta1", "beta2", "clip",
        "patience", "parallel", "seed", "keep_every", "save_minutes", "max_skipped", "tensorboard", "wandb",
        "balance_loss", "router_z_loss",
    )
)  # fmt: skip
"""Settings of a training that its plan does not read."""


def changed(settings: Any, name: str) -> bool:
    """Whether a setting is another than where nobody sets it."""
    default = next(field.default for field in fields(settings) if field.name == name)
    return getattr(settings, name) != default


def refuse(settings: Iterable[Any], table: Iterable[Unread[Case]], case: Case) -> None:
    """Name all settings that were made and would not be read.

    Args:
        settings: dataclasses of settings.

    Raises:
        InputError: there is one.
    """
    given = {field.name for each in settings for field in fields(each) if changed(each, field.name)}
    wrong = [
        f"--{name.replace('_', '-')} has no effect here: {why}"
        for name, when, why in table
        if name in given and when(case)
    ]
    if wrong:
        raise InputError("; ".join(wrong) + ".")
