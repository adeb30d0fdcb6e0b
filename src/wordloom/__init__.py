"""Wordloom: grow, use and understand your own language model.

>>> import wordloom
>>> wordloom.__version__
'0.1.0'
"""

from typing import TYPE_CHECKING, Any

from wordloom.core.version import __version__

__all__ = ["AutoModelForCausalLM", "AutoTokenizer", "LanguageModel", "WordloomError", "__version__", "load"]

if TYPE_CHECKING:
    from wordloom.api import AutoModelForCausalLM, AutoTokenizer, LanguageModel, load
    from wordloom.core.errors import WordloomError


def __getattr__(name: str) -> Any:
    """Import on first use: `import wordloom` stays quick, torch is loaded when it is needed."""
    if name == "WordloomError":
        from wordloom.core.errors import WordloomError

        return WordloomError
    if name in __all__:
        from wordloom import api

        return getattr(api, name)
    raise AttributeError(f"module 'wordloom' has no attribute {name!r}")
