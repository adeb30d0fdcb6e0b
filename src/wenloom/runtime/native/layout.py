"""The structures that Python hands to the compiled step, and the check that C has the same (see step.h)."""

import ctypes
from collections.abc import Iterator

from wenloom.runtime.slots import PAGE

ABI_VERSION = 4
"""That of step.h: one more with every change of what a structure or an argument means."""
MAX_TOKENS = 32
"""Most tokens of one step."""


class Linear(ctypes.Structure):
    """A matrix in one of the formats of weights."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("weight", "scale", "bias")] + [
        (name, ctypes.c_int32) for name in ("kind", "rows", "cols", "pad")
    ]


class Norm(ctypes.Structure):
    """Weight and bias; without a weight there is no such norm."""

    _fields_ = [("weight", ctypes.c_void_p), ("bias", ctypes.c_void_p)]


class Layer(ctypes.Structure):
    """A block, with the keys and values of all texts in it."""

    _fields_ = [
        *((name, Norm) for name in ("attention_norm", "mlp_norm", "query_norm", "key_norm")),
        *((name, Linear) for name in ("query", "key", "value", "output", "gate", "up", "down", "router")),
        ("experts", ctypes.POINTER(Linear)), ("keys", ctypes.c_void_p), ("values", ctypes.c_void_p), ("scale", ctypes.c_float), ("window", ctypes.c_int32),
        *((name, ctypes.c_int32) for name in ("room", "n_experts", "n_active", "d_expert", "over_all", "pad")),
    ]  # fmt: skip


class Model(ctypes.Structure):
    """A decoder."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in (
            "n_layers", "d_model", "n_heads", "n_kv_heads", "d_head", "d_mlp", "d_rotary", "activation", "layer_norm",
            "parallel_residual", "cache_kind")),
        ("eps", ctypes.c_float), ("layers", ctypes.POINTER(Layer)), ("final_norm", Norm),
        ("embedding", Linear), ("head", Linear), ("position_vectors", ctypes.c_void_p),
    ]  # fmt: skip


class AddedVector(ctypes.Structure):
    """A vector that is added to what a layer gives, in some rows of a step."""

    _fields_ = [("vector", ctypes.c_void_p), *((name, ctypes.c_int32) for name in ("layer", "begin", "end", "pad"))]


STRUCTURES = (Linear, Norm, Layer, Model, AddedVector)


def mismatch(library: ctypes.CDLL) -> str | None:
    """Where a library's structures are not these; None where all agree."""
    expected = list(_layout())
    found = (ctypes.c_int32 * len(expected))()
    library.layout.argtypes = [ctypes.POINTER(ctypes.c_int32), ctypes.c_int]
    n_found = library.layout(found, len(expected))
    for (name, value), theirs in zip(expected, found, strict=True):
        if value != theirs:
            return f"{name}: {theirs} in C, {value} in Python"
    return None if n_found == len(expected) else f"{n_found} figures in C, {len(expected)} in Python"


def _layout() -> Iterator[tuple[str, int]]:
    """Versions, then size of each structure, and place and size of each of its fields, as `layout` in step.c tells."""
    yield from {"version": ABI_VERSION, "tokens of a step": MAX_TOKENS, "tokens of a page": PAGE}.items()
    for structure in STRUCTURES:
        yield f"size of {structure.__name__}", ctypes.sizeof(structure)
        for name, *_ in structure._fields_:
            field = getattr(structure, name)
            yield f"place of {structure.__name__}.{name}", field.offset
            yield f"size of {structure.__name__}.{name}", field.size
