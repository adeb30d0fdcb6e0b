"""What the reference implementation (transformers) reads of a configuration, by family.

The names stand in `reference.json`, which `tests/checkpoint/reference_fields.py` takes from its source code. A field
that it reads and Wenloom does not understand could change what is computed, so it is refused; one that it does not
read either changes nothing there.
"""

import functools
import json
from importlib.resources import files
from typing import Any

FILE = "reference.json"


@functools.cache
def _content() -> dict[str, Any]:
    return json.loads(files("wenloom.checkpoint.families").joinpath(FILE).read_text(encoding="utf-8"))


def is_read(field: str, family: str) -> bool:
    """Whether the reference implementation reads a field of a family's config.json."""
    content = _content()
    return field in content["every"] or field in content["families"].get(family, ())


def generation_defaults() -> dict[str, Any]:
    """The fields of generation_config.json that the reference implementation reads, with the values that ask for
    nothing."""
    return _content()["generation"]
