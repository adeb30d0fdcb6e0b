"""Steps between reading and the corpus, one small file each. `wenloom.text_steps` entry points add others."""

from collections.abc import Callable

from wenloom.core.plugins import Registry
from wenloom.text.steps.duplicates import Duplicates
from wenloom.text.steps.empty import Empty
from wenloom.text.steps.normalize import Normalize
from wenloom.text.steps.repetition import Repetition
from wenloom.text.steps.step import Step

STEPS: Registry[Callable[[], Step]] = Registry(
    "wenloom.text_steps",
    {"normalize": Normalize, "empty": Empty, "duplicates": Duplicates, "repetition": Repetition},
    callable,
)
"""What makes a step, by its name."""
FIRST, LAST = ("normalize",), ("empty", "duplicates")
"""Steps that every corpus goes through, before and after those that are asked for."""
