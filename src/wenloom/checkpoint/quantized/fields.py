"""What config.json says about quantized weights, field by field: each is asked for, or told, or refused by name."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from wenloom.core.console import remark
from wenloom.core.errors import CheckpointError, printable


class QuantizationFields:
    """An object of config.json about quantized weights.

    Args:
        raw: its content.
        where: the file, for messages.
        reads: what is read of its method, for refusals.
    """

    def __init__(self, raw: Mapping[str, Any], where: str, reads: str):
        self._raw, self.where, self._reads = raw, where, reads
        self._asked: set[str] = set()

    def raw(self, field: str) -> Any:
        """What stands there; None where nothing does."""
        self._asked.add(field)
        return self._raw.get(field)

    def one_of(self, field: str, default: Any, *others: Any) -> Any:
        """A value that must be one of these, of their kind too; the first where nothing stands there.

        Raises:
            CheckpointError: it is another.
        """
        value = self.raw(field)
        if value is None and default is not None:
            return default
        if not any(type(value) is type(each) and value == each for each in (default, *others)):
            raise self.refusal(field, value)
        return value

    def flag(self, field: str, default: bool) -> bool:
        """
        Raises:
            CheckpointError: it is neither true nor false.
        """
        return self.one_of(field, default, not default)

    def size(self, field: str, default: int | None = None) -> int | None:
        """A number of columns above 0; None for -1, which stands for all of them.

        Raises:
            CheckpointError: it is something else.
        """
        value = self.raw(field)
        value = default if value is None else value
        if value is None or value == -1:
            return None
        if type(value) is not int or not 0 < value < 2**31:
            raise self.refusal(field, value)
        return value

    def block(self, field: str) -> tuple[int, int] | None:
        """Rows and columns of a block; None where nothing is said.

        Raises:
            CheckpointError: it is something else.
        """
        value = self.raw(field)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != 2 or not all(type(n) is int and 0 < n < 2**31 for n in value):
            raise self.refusal(field, value)
        return value[0], value[1]

    def names(self, field: str) -> tuple[str, ...]:
        """A list of names or patterns.

        Raises:
            CheckpointError: it is something else.
        """
        value = self.raw(field)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
            raise self.refusal(field, value)
        return tuple(value)

    def changes_nothing(self, fields: Iterable[str]) -> None:
        """Fields that tell how the weights were found, or how another tool computes with them."""
        self._asked.update(fields)

    def is_empty(self, *fields: str) -> None:
        """
        Raises:
            CheckpointError: one of these fields says something.
        """
        for field in fields:
            if value := self.raw(field):
                raise self.refusal(field, value)

    def finish(self) -> None:
        """Name what nobody asked for."""
        for field in self._raw.keys() - self._asked:
            if self._raw[field] is not None:
                remark(
                    f"{self.where}: quantization_config has a field that nothing reads, {printable(str(field), 60)}."
                )

    def refusal(self, field: str, value: Any) -> CheckpointError:
        """The error about a field."""
        return refusal(self.where, field, value, self._reads)


def refusal(where: str, field: str, value: Any, reads: str) -> CheckpointError:
    """The error about a field of `quantization_config`.

    Args:
        reads: what is read instead.
    """
    shown = "is missing" if value is None else printable(json.dumps(value, default=str), 80)
    return CheckpointError(
        f"{where}: quantization_config, {field}: {shown}; Wenloom reads {reads}. Take the model with unquantized weights "
        "and --quantize it."
    )
