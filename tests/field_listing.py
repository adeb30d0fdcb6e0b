"""Every field of every request that the server takes, as text, taken from the schemas.

`python -m tests.field_listing` writes it into docs/serving.md and its translation; a test says when they are out of date.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic.fields import FieldInfo

from wenloom.serving.chat_schema import ChatRequest
from wenloom.serving.completion_schema import CompletionRequest
from wenloom.serving.embeddings import EmbeddingRequest
from wenloom.serving.fields import OWN, Body, Honoured, NotOffered
from wenloom.serving.responses_schema import ResponseRequest
from wenloom.serving.text_schema import DetokenizeRequest, ScoreRequest, TokenizeRequest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = (DOCS / "serving.md", DOCS / "zh" / "serving.md")
BODIES: dict[str, type[Body]] = {
    "/v1/completions": CompletionRequest, "/v1/chat/completions": ChatRequest, "/v1/responses": ResponseRequest, "/v1/tokenize": TokenizeRequest,
    "/v1/detokenize": DetokenizeRequest, "/v1/score": ScoreRequest, "/v1/embeddings": EmbeddingRequest,
}  # fmt: skip
_BLOCK = re.compile(r"```text\nPOST .*?\n```\n", re.DOTALL)
WITH_ENGINE = (CompletionRequest, ChatRequest, ResponseRequest)
"""Those that take the engine's own options, too."""
_WIDTH = 40
_KNOWN_ABOVE: dict[type[Body], tuple[str, ...]] = {TokenizeRequest: ("messages", "tools")}
"""Objects that another endpoint's part lists."""


class Listed(NamedTuple):
    """A field, and what is done by it."""

    path: str
    body: type[Body]
    name: str
    mark: NotOffered | Honoured | None


def fields_of(model: type[Body], before: str = "", seen: tuple[type[Body], ...] = ()) -> Iterator[Listed]:
    """The fields of a body and of the objects in it; the engine's own options aside."""
    own = {each.name for each in OWN}
    for name, field in model.model_fields.items():
        if name in own and not before and model in WITH_ENGINE:
            continue
        path = before + (field.alias or name)
        marks = [each for each in _parts(field) if isinstance(each, NotOffered | Honoured)]
        yield Listed(path, model, name, marks[0] if marks else None)
        if path in _KNOWN_ABOVE.get(model, ()):
            continue
        for inner in dict.fromkeys(each for each in _parts(field) if isinstance(each, type) and issubclass(each, Body)):
            if inner not in seen:
                yield from fields_of(inner, f"{path}.", (*seen, model, inner))


def _parts(field: FieldInfo) -> Iterator[Any]:
    yield from field.metadata
    yield from _inside(field.annotation)


def _inside(annotation: Any) -> Iterator[Any]:
    yield annotation
    for each in [*get_args(annotation), *getattr(annotation, "__metadata__", ())]:
        yield from _inside(each)


def listing() -> str:
    """The fields by endpoint."""
    return "\n\n".join("\n".join(_lines(path, model)) for path, model in BODIES.items())


def _lines(path: str, model: type[Body]) -> Iterator[str]:
    yield f"POST {path}"
    told = set()
    for each in fields_of(model):
        if each.path not in told:  # members of a union share names
            told.add(each.path)
            yield f"  {each.path:{_WIDTH}} {_said(each.mark)}".rstrip()


def _said(mark: NotOffered | Honoured | None) -> str:
    if isinstance(mark, NotOffered):
        values = "".join(f", {_in_json(value)}" for value in mark.but)
        return f"refused unless null{values}: {mark.why}"
    return "honoured" if mark is None else f"honoured: {mark.how}"


def _in_json(value: Any) -> str:
    return json.dumps(value)


def written(page: Path) -> str:
    """A page with its listing as it has to be."""
    return _BLOCK.sub(lambda _: f"```text\n{listing()}\n```\n", page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    for each in PAGES:
        each.write_text(written(each), encoding="utf-8")
