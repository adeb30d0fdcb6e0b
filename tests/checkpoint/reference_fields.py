"""What transformers reads of a configuration, taken from its source code.

`python -m tests.checkpoint.reference_fields` writes it to the package, where an unknown field of a file is looked up;
a new family needs no more than that. A test says when the file is out of date.
"""

import ast
import importlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import transformers

import wenloom.checkpoint.families
from wenloom.checkpoint.families import FAMILIES
from wenloom.checkpoint.families.reference import FILE

_SHARED = ("configuration_utils", "modeling_utils", "masking_utils", "modeling_layers",
           "cache_utils", "integrations.sdpa_attention", "integrations.eager_paged", "loss.loss_utils",
           "models.auto.auto_factory")  # fmt: skip
"""Modules that models of every family go through."""
_ROPE = "modeling_rope_utils"
"""The module that families with rotary positions go through."""
_WITH_THE_FAMILY = frozenset(
    ["attention_dropout", "head_dim", "hidden_dropout", "rms_norm_eps", "rope_theta", "rope_type"]
)
"""What shared modules read for the sake of families whose own code reads it: sizes of caches, heads for other tasks."""


def _is_config(node: ast.expr) -> bool:
    """Whether an expression is a configuration: `config`, `self.config`, `text_config`, ..."""
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name == "config" or name.endswith("_config")


def _read_by(module: ModuleType, is_own_class: bool = False) -> Iterator[str]:
    """Names of the attributes of configurations that a module's code reads.

    Args:
        is_own_class: the module is the definition of a configuration: its `self` is one, its annotations are fields.
    """
    tree = ast.parse(inspect.getsource(module))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            if _is_config(node.value) or (
                is_own_class and isinstance(node.value, ast.Name) and node.value.id == "self"
            ):
                yield node.attr
        elif isinstance(node, ast.Call) and node.args:
            name = node.args[1] if len(node.args) > 1 else None
            by_name = isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr")
            if by_name and isinstance(name, ast.Constant) and (_is_config(node.args[0]) or is_own_class):
                yield str(name.value)
            method = node.func
            if (
                isinstance(method, ast.Attribute)
                and method.attr in ("pop", "get")
                and isinstance(method.value, ast.Name)
            ):
                first = node.args[0]
                is_fields = method.value.id in ("kwargs", "config_dict") and is_own_class
                if is_fields and isinstance(first, ast.Constant):
                    yield str(first.value)
        elif is_own_class and isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def _fields(names: Iterator[str], config: type) -> list[str]:
    """Those that a file can set: neither methods nor what the classes say of themselves."""
    return sorted({name for name in names if not callable(getattr(config, name, None)) and not name.startswith("__")})


def reference() -> dict[str, Any]:
    """The content of the package's file."""
    base = transformers.PreTrainedConfig
    shared = [importlib.import_module(f"transformers.{name}") for name in _SHARED]
    every = _fields(
        (
            name
            for module in shared
            for name in _read_by(module, module.__name__.endswith("configuration_utils"))
            if name not in _WITH_THE_FAMILY
        ),
        base,
    )
    rope = _fields(_read_by(importlib.import_module(f"transformers.{_ROPE}"), True), base)
    families = {}
    for family in FAMILIES:
        config = type(transformers.AutoConfig.for_model(family))
        module = inspect.getmodule(config)
        assert module is not None
        modeling = importlib.import_module(module.__name__.replace(".configuration_", ".modeling_"))
        names = [*_read_by(module, is_own_class=True), *_read_by(modeling), *config.attribute_map.values(),
                 *config.attribute_map, *(rope if _ROPE in inspect.getsource(modeling) else [])]  # fmt: skip
        families[family] = sorted(set(_fields(iter(names), config)) - set(every))
    generation = transformers.GenerationConfig()
    neutral = {**vars(generation), **generation._get_default_generation_params()}
    return {
        "transformers": transformers.__version__,
        "every": every,
        "families": families,
        "generation": {name: neutral[name] for name in sorted(neutral) if not name.startswith("_")},
    }


def written(content: dict[str, Any]) -> str:
    """As it stands in the file."""
    return json.dumps(content, indent=1) + "\n"


if __name__ == "__main__":
    path = Path(wenloom.checkpoint.families.__file__).parent / FILE
    path.write_text(written(reference()), encoding="utf-8")
