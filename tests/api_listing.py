"""The public interface as text: names and signatures, taken from the source.

`python -m tests.api_listing` writes docs/api.md and its translation; a test says when they are out of date, so that a change
of the interface shows in review.
"""

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import wenloom

DOCS = Path(__file__).parents[1] / "docs"
FOR_PACKAGES = (
    "wenloom.core.plugins:Registry", "wenloom.checkpoint.families.base:Family", "wenloom.checkpoint.families.base:TensorMap",
    "wenloom.tasks.recipe:TaskRecipe", "wenloom.evaluation.suite:Suite", "wenloom.evaluation.suite:EvaluationRequest",
    "wenloom.evaluation.suite:MetricResult", "wenloom.evaluation.scorer:Scorer", "wenloom.evaluation.scorer:TextInContext",
    "wenloom.evaluation.scorer:ContinuationScore", "wenloom.text.steps.step:Step", "wenloom.text.steps.step:Kept",
    "wenloom.text.steps.step:Dropped", "wenloom.text.documents:Document",
)  # fmt: skip
"""What packages build on that add families, tasks, suites and text steps."""
_WORDS = {
    "api.md": (
        """# The Python interface

[中文](zh/api.md)

Names and signatures of what others may build on; everything else may change without notice. Written by
`python -m tests.api_listing`.
""",
        "import wenloom",
        "Options of generation",
        "For packages of one's own",
    ),
    "zh/api.md": (
        """# Python 接口

[English](../api.md)

可以依赖的名称及其签名；其余的一切都可能随时改变。由 `python -m tests.api_listing` 写出。
""",
        "import wenloom",
        "生成选项",
        "用于自己编写的包",
    ),
}
"""Head and titles, by file below docs/."""


def listings() -> dict[str, str]:
    """The content of docs/api.md and its translation."""
    own = [line for name in sorted(wenloom.__all__) for line in _entry(name, getattr(wenloom, name))]
    options = _entry("GenerationRequest", _thing("wenloom.generation.request:GenerationRequest"))
    own += _entry("auto.CausalLM", _thing("wenloom.auto:CausalLM"))
    others = [line for path in FOR_PACKAGES for line in _entry(path.replace(":", "."), _thing(path))]
    parts = [f"\n```text\n{chr(10).join(lines)}\n```\n" for lines in (own, options, others)]
    return {
        file: head + "".join(f"\n## {title}\n{part}" for title, part in zip(titles, parts, strict=True))
        for file, (head, *titles) in _WORDS.items()
    }


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
    for name, content in listings().items():
        (DOCS / name).write_text(content, encoding="utf-8")
