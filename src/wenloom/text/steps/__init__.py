"""Steps between reading and the corpus, one small file each. `wenloom.text_steps` entry points add others."""

from collections.abc import Callable
from typing import Any

from wenloom.core.plugins import Registry
from wenloom.text.steps.back_translation import BackTranslation
from wenloom.text.steps.c4 import C4
from wenloom.text.steps.contamination import Contamination
from wenloom.text.steps.counterfactual import Counterfactual
from wenloom.text.steps.duplicates import Duplicates
from wenloom.text.steps.empty import Empty
from wenloom.text.steps.exact_substrings import ExactSubstrings
from wenloom.text.steps.fineweb import FineWeb
from wenloom.text.steps.gopher import Gopher
from wenloom.text.steps.groups import Groups
from wenloom.text.steps.language import LanguageStep
from wenloom.text.steps.near_duplicates import NearDuplicates
from wenloom.text.steps.noise import TypingNoise
from wenloom.text.steps.normalize import Normalize
from wenloom.text.steps.perplexity import PerplexityStep
from wenloom.text.steps.personal import Personal
from wenloom.text.steps.quality import QualityStep
from wenloom.text.steps.repair import Repair
from wenloom.text.steps.repeated_lines import RepeatedLines
from wenloom.text.steps.repetition import Repetition
from wenloom.text.steps.word_list import WordList

STEPS: Registry[Callable[..., Any]] = Registry(
    "wenloom.text_steps",
    {
        "normalize": Normalize,
        "empty": Empty,
        "duplicates": Duplicates,
        "repair": Repair,
        "language": LanguageStep,
        "repetition": Repetition,
        "gopher": Gopher,
        "c4": C4,
        "fineweb": FineWeb,
        "word_list": WordList,
        "groups": Groups,
        "personal": Personal,
        "perplexity": PerplexityStep,
        "contamination": Contamination,
        "quality": QualityStep,
        "repeated_lines": RepeatedLines,
        "exact_substrings": ExactSubstrings,
        "near_duplicates": NearDuplicates,
        "counterfactual": Counterfactual,
        "noise": TypingNoise,
        "back_translation": BackTranslation,
    },
    callable,
)
"""What makes a step, by its name. The fields of a dataclass are its values in a recipe."""
FIRST, LAST = ("normalize",), ("empty", "duplicates")
"""Steps that every corpus goes through, before and after those that are asked for."""
