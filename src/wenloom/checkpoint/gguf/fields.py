"""The fields of a GGUF file, taken one by one; what nobody has taken in the end is named."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wenloom.checkpoint.families.fields import ConfigFields, shown
from wenloom.core.errors import CheckpointError, printable


class GgufFields:
    """Fields of one file, those of its architecture by their names without it.

    Args:
        values: by full name.
        where: the file, for messages.
    """

    def __init__(self, values: Mapping[str, Any], where: Path):
        self._values, self._where, self._taken = values, where, set[str]()
        self.architecture: str = self.text("general.architecture")

    def _name(self, key: str) -> str:
        return key if key.startswith(("general.", "tokenizer.", "split.")) else f"{self.architecture}.{key}"

    def refuse(self, key: str, why: str) -> CheckpointError:
        """The error that names one field."""
        return CheckpointError(f'{self._where}: field "{printable(self._name(key), 100)}": {why}.')

    def __contains__(self, key: str) -> bool:
        return self._name(key) in self._values

    def value(self, key: str) -> Any:
        """What the file says, None where it says nothing; a list of one value for all layers is that value."""
        name = self._name(key)
        self._taken.add(name)
        value = self._values.get(name)
        if (
            isinstance(value, np.ndarray)
            and not name.startswith("tokenizer.")
            and len(value)
            and (value == value[0]).all()
        ):
            return value[0].item()
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number; without a default the field is required."""
        return self._of_kind(key, default, int, "a whole number")

    def number(self, key: str, default: float | None = None) -> float:
        """A number; without a default the field is required."""
        return float(self._of_kind(key, default, (int, float), "a number"))

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        return self._of_kind(key, default, bool, "true or false")

    def text(self, key: str, default: str | None = None) -> str:
        """A text; without a default the field is required."""
        return self._of_kind(key, default, str, "a text")

    def texts(self, key: str) -> list[str] | None:
        """A list of texts."""
        value = self.value(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
            raise self.refuse(key, "must be a list of texts")
        return value

    def numbers(self, key: str) -> np.ndarray | None:
        """A list of numbers."""
        self._taken.add(self._name(key))
        value = self._values.get(self._name(key))
        if value is not None and not isinstance(value, np.ndarray):
            raise self.refuse(key, "must be a list of numbers")
        return value

    def _of_kind(self, key: str, default: Any, kind: Any, what: str) -> Any:
        value = self.value(key)
        if value is None:
            if default is None:
                raise self.refuse(key, "is missing")
            return default
        if isinstance(value, np.ndarray | list):
            raise self.refuse(key, "differs by layer, which is not supported")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.refuse(key, f"must be {what}, got {shown(value)}")
        return value

    def left(self, prefix: str) -> list[str]:
        """Fields with such a beginning that nobody has taken."""
        return sorted(name for name in self._values if name.startswith(prefix) and name not in self._taken)


class NamedFields(ConfigFields):
    """Values under the names of config.json, of which messages speak under their names in the GGUF file."""

    def __init__(self, raw: dict[str, Any], where: Path, names: Mapping[str, str]):
        super().__init__(raw, str(where))
        self._names = names

    def refuse(self, field: str, why: str) -> CheckpointError:
        """The error that names one field."""
        return super().refuse(self._names.get(field, field), why)
