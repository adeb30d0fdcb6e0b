"""Wenloom: grow, use and understand your own language model.

>>> import wenloom
>>> wenloom.__version__
'0.2.0'
"""

from typing import TYPE_CHECKING, Any

from wenloom.core.version import __version__

__all__ = [
    "AutoModelForCausalLM",
    "AutoTokenizer",
    "LanguageModel",
    "WenloomError",
    "__version__",
    "attribute",
    "load",
    "steering",
    "trace",
]

if TYPE_CHECKING:
    from wenloom.api import LanguageModel, load
    from wenloom.auto import AutoModelForCausalLM, AutoTokenizer
    from wenloom.core.errors import WenloomError
    from wenloom.explanation.attribution import attribute
    from wenloom.explanation.trace import trace
    from wenloom.generation.steering import steering


def __getattr__(name: str) -> Any:
    """Import on first use: `import wenloom` stays quick, torch is loaded when it is needed."""
    if name == "WenloomError":
        from wenloom.core.errors import WenloomError

        return WenloomError
    if name == "attribute":
        from wenloom.explanation.attribution import attribute

        return attribute
    if name == "steering":
        from wenloom.generation.steering import steering

        return steering
    if name == "trace":
        from wenloom.explanation.trace import trace

        return trace
    if name in ("AutoModelForCausalLM", "AutoTokenizer"):
        from wenloom import auto

        return getattr(auto, name)
    if name in __all__:
        from wenloom import api

        return getattr(api, name)
    raise AttributeError(f"module 'wenloom' has no attribute {name!r}")
