"""How config.json writes rotary positions: `rope_parameters` (transformers 5), or `rope_scaling` and `rope_theta`."""

import math
from typing import Any

from wenloom.checkpoint.families.fields import ConfigFields, checked_number, shown
from wenloom.model.config import ModelConfig, limit
from wenloom.model.parts import Rope

_ORIGINAL = "original_max_position_embeddings"
_ROPE_FIELDS = {
    "factor": "factor",
    "original_max_position_embeddings": "original_context_length",
    "attention_factor": "attention_factor",
    "beta_fast": "beta_fast",
    "beta_slow": "beta_slow",
    "mscale": "mscale",
    "mscale_all_dim": "mscale_all_dim",
    "truncate": "truncate",
    "short_factor": "short_factor",
    "long_factor": "long_factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
}
_ROPE_KIND_FIELDS = {
    "default": set(),
    "linear": {"factor"},
    "dynamic": {"factor"},
    "yarn": {
        "factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow",
        "mscale", "mscale_all_dim", "truncate",
    },
    "longrope": {
        "factor", "original_max_position_embeddings", "attention_factor", "short_factor", "long_factor",
    },
    "llama3": {"factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"},
}  # fmt: skip
_ROPE_REQUIRED = {
    "linear": {"factor"},
    "dynamic": {"factor"},
    "yarn": {"factor"},
    "longrope": {"short_factor", "long_factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor"},
}


_POSITIVE = ("factor", "attention_factor", "beta_fast", "beta_slow", "low_freq_factor", "high_freq_factor")
"""Numbers that must be more than 0; of the others 0 is one."""


def read_rope(
    fields: ConfigFields, d_head: int, default_length: int, theta: float = 10_000.0, part: float = 1.0
) -> tuple[Rope, int]:
    """Rotary settings from `rope_parameters` (transformers 5) or `rope_scaling` and `rope_theta` (before).

    A model whose positions are stretched sees the original context times the factor. Where `max_position_embeddings`
    was raised to that already, or to less, it counts; where it was left at the original context, as model cards of
    YaRN and the documentation of linear and dynamic scaling have it, the product does.

    Args:
        default_length: the family's default of max_position_embeddings.
        theta, part: values from the family's older field names, used where the newer ones are absent.

    Returns:
        The settings, and the length of the context.
    """
    length = fields.integer("max_position_embeddings", default_length, 1, limit("context_length"))
    theta = fields.number("rope_theta", theta)
    part = fields.number("partial_rotary_factor", part, most=1.0)
    older, newer, outside = (fields.raw(name) for name in ("rope_scaling", "rope_parameters", _ORIGINAL))
    where = "rope_scaling" if older else "rope_parameters"
    for name, value in (("rope_scaling", older), ("rope_parameters", newer)):
        if value is not None and not isinstance(value, dict):
            raise fields.refuse(name, f"must be an object, got {shown(value)}")
    given = {name: value for name, value in (older or newer or {}).items() if value is not None}
    kind, old_kind = given.pop("rope_type", None), given.pop("type", None)
    kind = kind or old_kind or "default"
    if not isinstance(kind, str) or kind not in _ROPE_KIND_FIELDS:
        raise fields.refuse(where, f"rope type {shown(kind)} is not known (known: {', '.join(_ROPE_KIND_FIELDS)})")
    theta = checked_number(fields, f"{where}.rope_theta", given.pop("rope_theta", theta), 1.0, above=True)
    part = checked_number(fields, f"{where}.partial_rotary_factor", given.pop("partial_rotary_factor", part), 0.0, 1.0)
    original = given.pop(_ORIGINAL, None) if outside is None else outside
    for name in sorted(given.keys() - _ROPE_KIND_FIELDS[kind]):
        if name == "mrope_section":  # of models that see images, whose positions are not one number
            raise fields.refuse(where, f"{shown(name)} is not supported")
        fields.ignore(f"{where}.{name}")
        given.pop(name)
    if missing := sorted(_ROPE_REQUIRED.get(kind, set()) - given.keys()):
        raise fields.refuse(where, f"rope type {kind!r} needs {', '.join(missing)}")
    d_rotary = int(d_head * part)
    settings = {_ROPE_FIELDS[name]: _setting(fields, f"{where}.{name}", name, value, d_rotary // 2)
                for name, value in given.items()}  # fmt: skip
    context_length = length
    if kind != "default":
        start = length if original is None else _original(fields, where, original)
        if length <= start:
            context_length = max(length, int(start * max(1.0, settings.get("factor") or 1.0)))
            if context_length > limit("context_length"):
                raise fields.refuse(where, f"stretches the context to {context_length:,} tokens")
        settings["original_context_length"] = length if kind == "dynamic" else start
    if kind == "dynamic" and d_rotary <= 2:
        raise fields.refuse(where, f"rope type 'dynamic' needs more than 2 rotated dimensions, got {d_rotary}")
    if kind == "llama3" and settings["low_freq_factor"] >= settings["high_freq_factor"]:
        raise fields.refuse(where, "low_freq_factor must be less than high_freq_factor")
    return Rope(d_rotary=d_rotary, theta=theta, kind=kind, **settings), context_length  # pyright: ignore


def _original(fields: ConfigFields, where: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 2 <= value <= limit("context_length"):
        raise fields.refuse(f"{where}.{_ORIGINAL}", f"must be a whole number from 2 on, got {shown(value)}")
    return value


def _setting(fields: ConfigFields, path: str, name: str, value: Any, n_pairs: int) -> Any:
    """One value of a stretched form, checked."""
    if name == "truncate":
        if not isinstance(value, bool):
            raise fields.refuse(path, f"must be true or false, got {shown(value)}")
        return value
    if name in ("short_factor", "long_factor"):
        if not isinstance(value, list) or len(value) != n_pairs:
            got = f"{len(value)}" if isinstance(value, list) else shown(value)
            raise fields.refuse(path, f"needs {n_pairs} numbers, got {got}")
        return tuple(checked_number(fields, path, each, 0.0, above=True) for each in value)
    return checked_number(fields, path, value, 0.0, above=name in _POSITIVE)


def rotary_part(d_rotary: int, d_head: int) -> float:
    """The fraction that readers, who round d_head * fraction down, turn back into d_rotary."""
    part = d_rotary / d_head
    return part if int(d_head * part) == d_rotary else math.nextafter(part, 1.0)


def write_rope(rope: Rope, context_length: int) -> dict[str, Any]:
    """The fields `max_position_embeddings` and `rope_scaling`, the latter None for plain rotary positions."""
    if rope.kind == "default":
        return {"max_position_embeddings": context_length, "rope_scaling": None}
    written: dict[str, Any] = {"rope_type": rope.kind}
    for theirs, ours in _ROPE_FIELDS.items():
        value = getattr(rope, ours)
        if theirs in _ROPE_KIND_FIELDS[rope.kind] and value is not None:
            written[theirs] = list(value) if isinstance(value, tuple) else value
    start = rope.original_context_length or context_length
    if rope.kind not in ("linear", "dynamic"):
        return {"max_position_embeddings": context_length, "rope_scaling": written}
    assert rope.factor is not None
    if context_length == max(start, int(start * max(1.0, rope.factor))):
        return {"max_position_embeddings": start, "rope_scaling": written}
    before = max(2, int(context_length / max(1.0, rope.factor))) if rope.kind == "dynamic" else start
    return {"max_position_embeddings": context_length, "rope_scaling": written | {_ORIGINAL: before}}


_KINDS = ("full_attention", "sliding_attention")


def read_ropes(
    fields: ConfigFields, d_head: int, default_length: int, theta: float, local_theta: float, local: str | None
) -> tuple[Rope, Rope, int]:
    """Rotary settings of the layers that see all and of those with a sliding window.

    In `rope_parameters` by kind of layer (transformers 5), or in `rope_scaling` and `rope_theta`, which concern the
    former, and a field of its own for the latter.

    Args:
        theta, local_theta: the family's defaults.
        local: the older field of the latter's base; None: there is none.

    Returns:
        Both, and the length of the context, which `max_position_embeddings` has stretched already.
    """
    both, older = fields.raw("rope_parameters"), fields.raw("rope_scaling")
    for name, value in (("rope_parameters", both), ("rope_scaling", older)):
        if value is not None and not isinstance(value, dict):
            raise fields.refuse(name, f"must be an object, got {shown(value)}")
    both = both or {}
    if strange := sorted(both.keys() - {*_KINDS}):
        raise fields.refuse("rope_parameters", f"{shown(strange[0])} is not a kind of layer ({', '.join(_KINDS)})")
    full, near = (both.get(kind) or {} for kind in _KINDS)
    if wrong := next((each for each in (full, near) if not isinstance(each, dict)), None):
        raise fields.refuse("rope_parameters", f"must hold an object by kind of layer, got {shown(wrong)}")
    theta, local_theta = fields.number("rope_theta", theta), fields.number(local, local_theta) if local else local_theta
    unscaled = fields.with_value("rope_scaling", None)
    full, near = (_obeyed(fields, each) for each in ({**full, **(older or {})}, near))
    rope, _ = read_rope(unscaled.with_value("rope_parameters", full), d_head, default_length, theta)
    near = unscaled.with_value("rope_parameters", {"rope_theta": local_theta, **near})
    local_rope, _ = read_rope(near, d_head, default_length)
    return rope, local_rope, fields.size("max_position_embeddings", "context_length", default_length)


def _obeyed(fields: ConfigFields, given: dict[str, Any]) -> dict[str, Any]:
    """What transformers reads of a kind of layer: it looks for `truncate` beside the kinds, where it cannot stand, so that
    such models have always been run as if it were true."""
    if "truncate" in given:
        fields.ignore("rope_parameters.truncate")
    return {name: value for name, value in given.items() if name != "truncate"}


def write_ropes(config: ModelConfig) -> dict[str, Any]:
    """The fields of transformers 5 that `read_ropes` reads, and none of the older ones."""
    kinds = {}
    rope = config.positions.rope
    for kind, each in zip(_KINDS, (rope, config.positions.local_rope or rope), strict=True):
        assert each is not None
        scaling = write_rope(each, config.context_length)["rope_scaling"] or {"rope_type": "default"}
        kinds[kind] = {**scaling, "rope_theta": each.theta}
    return {"max_position_embeddings": config.context_length, "rope_parameters": kinds, "rope_scaling": None,
            "rope_theta": None}  # fmt: skip
