"""What a folder says about its quantized weights, whatever the method."""

from collections.abc import Callable
from dataclasses import dataclass

from wenloom.checkpoint.quantized.matrix import Format


@dataclass(frozen=True)
class Quantization:
    """How the weights of a folder are quantized."""

    method: str
    """As config.json calls it."""
    formats: tuple[Format, ...]
    """All that it uses."""
    format_of: Callable[[str], Format | None]
    """That of a layer, by the name that it has in the file; None: it is said to be whole."""
    names_all: bool = False
    """Whether config.json tells of every linear layer whether it is quantized; else the file does."""
    rounds_activations: bool = False
    """Whether those who made it round what goes into the products, too."""
    left_out: tuple[str, ...] = ()
    """How names of tensors end that tell how activations are rounded."""
    own: str | None = None
    """"int8" or "int4", where it is the form that Wenloom writes, whose output matrix it keeps in 8 bits."""

    @property
    def label(self) -> str:
        """For people."""
        return self.own or f"{self.method}, {'; '.join(dict.fromkeys(each.name for each in self.formats))}"


def one_format(only: Format, whole: tuple[str, ...]) -> Callable[[str], Format | None]:
    """`Quantization.format_of` where all layers have one format but those that a list names, by their names, how these
    begin or how they end."""

    def format_of(layer: str) -> Format | None:
        listed = any(f".{layer}.".startswith(f".{name}.") or f".{layer}".endswith(f".{name}") for name in whole)
        return None if listed else only

    return format_of


def in_groups(bits: int, columns: int | None) -> str:
    """For people: how many bits a weight has, and what shares a scale."""
    return f"{bits} bits in {'rows' if columns is None else f'groups of {columns}'}"
