"""The public interface as text: names and signatures, taken from the source.

`python -m tests.api_listing` writes docs/api.md; a test says when it is out of date, so that a change of the interface
shows in review.
"""

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import wenloom

FILE = Path(__file__).parents[1] / "docs/api.md"
FOR_PACKAGES = (
    "wenloom.core.plugins:Registry", "wenloom.checkpoint.families.base:Family", "wenloom.checkpoint.families.base:TensorMap",
    "wenloom.tasks.recipe:TaskRecipe", "wenloom.evaluation.suite:Suite", "wenloom.evaluation.suite:EvaluationRequest",
    "wenloom.evaluation.suite:MetricResult", "wenloom.evaluation.scorer:Scorer", "wenloom.evaluation.scorer:TextInContext",
    "wenloom.evaluation.scorer:ContinuationScore", "wenloom.text.steps.step:Step", "wenloom.text.steps.step:Kept",
    "wenloom.text.steps.step:Dropped", "wenloom.text.documents:Document",
)  # fmt: skip
"""What packages build on that add families, tasks, suites and text steps."""
_HEAD = """# The Python interface

Names and signatures of what others may build on; everything else may change without notice. Written by
`python -m tests.api_listing`.
"""


def listing() -> str:
    """The content of docs/api.md."""
    own = [line for name in sorted(wenloom.__all__) for line in _entry(name, getattr(wenloom, name))]
    options = _entry("GenerationRequest", _thing("wenloom.generation.request:GenerationRequest"))
    own += _entry("api.CausalLM", _thing("wenloom.api:CausalLM"))
    others = [line for path in FOR_PACKAGES for line in _entry(path.replace(":", "."), _thing(path))]
    parts = {"import wenloom": own, "Options of generation": options, "For packages of one's own": others}
    return _HEAD + "".join(
        f"\n## {title}\n\n```text\n" + "\n".join(lines) + "\n```\n" for title, lines in parts.items()
    )


def _thing(path: str) -> Any:
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


def _entry(name: str, thing: Any) -> Iterator[str]:
    if inspect.isclass(thing):
        yield f"class {name}"
        for each in thing.__mro__[::-1]:
            if each.__module__.startswith("wenloom."):
                yield from (f"    {line}" for line in _members(_tree(each)))
    elif inspect.isroutine(thing):
        yield from _function(name, _tree(thing))
    else:
        yield f"{name}: {type(thing).__name__}"


def _tree(thing: Any) -> Any:
    return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]


def _members(node: ast.ClassDef) -> Iterator[str]:
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) and each.target.id[0] != "_":
            yield ast.unparse(each)
        elif isinstance(each, ast.FunctionDef) and (each.name[0] != "_" or each.name in ("__init__", "__call__")):
            yield from _function(each.name, each)


def _function(name: str, node: ast.FunctionDef) -> Iterator[str]:
    for decorator in node.decorator_list:
        yield f"@{ast.unparse(decorator)}"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    yield f"def {name}({ast.unparse(node.args)}){returns}"


if __name__ == "__main__":
    FILE.write_text(listing(), encoding="utf-8")
