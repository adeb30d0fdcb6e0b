"""Results in other people's forms: Papers with Code's sota-extractor JSON, the hub's .eval_results YAML and
model-index, and Every Eval Ever."""

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from wenloom.core.errors import InputError, printable
from wenloom.core.files import write_atomically
from wenloom.core.foreign import parsed_json, reading
from wenloom.core.version import __version__
from wenloom.evaluation.results import Result, result_of
from wenloom.evaluation.rows import read_text

_LOWER = re.compile(r"perplex|ppl|bits|loss|\bwer\b|\bcer\b|\bter\b|error", re.IGNORECASE)
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
YAML_CHARACTERS = 2**20
"""Two seconds by libyaml, eight without it; the longest model cards that are published have less than half of it."""
MOST_RESULTS = 100_000
"""Of one file."""


def read(path: Path) -> list[Result]:
    """Results of a file, its form recognised by its content.

    Raises:
        InputError: none of the known forms, or a value that is none; names file, entry and field.
    """
    text = read_text(path)
    with reading(path, what=f"cannot be read as {'JSON' if path.suffix == '.json' else 'YAML'}"):
        data = parsed_json(text) if path.suffix == ".json" else _yaml(text, path)
    with reading(path, what="cannot be understood"):
        made = _results(data, path)
    if not made:
        raise InputError(
            f"{path}: no results found. Known are sota-extractor JSON, .eval_results YAML, a model card with a "
            "model-index, and Every Eval Ever JSON."
        )
    if len(made) > MOST_RESULTS:
        raise InputError(f"{path}: holds {len(made):,} results; more than {MOST_RESULTS:,} are not read.")
    return made


def _yaml(text: str, path: Path) -> Any:
    """Without aliases, by which a few lines become millions of entries, and without deep nesting.

    Raises:
        InputError: it is too long.
        yaml.YAMLError: it is not YAML, or has one of these.
    """
    matter = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    content = matter[1] if matter else text
    if len(content) > YAML_CHARACTERS:
        raise InputError(f"{path}: {len(content):,} characters of YAML; more than {YAML_CHARACTERS:,} are not read.")
    depth = 0
    for event in yaml.parse(content, _LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read")
        if depth > 50:
            raise yaml.YAMLError("it is nested too deeply")
    return yaml.load(content, _LOADER)


def _results(data: Any, path: Path) -> list[Result]:
    node = Node(data, str(path), "")
    if isinstance(data, dict) and "evaluation_results" in data:
        rows = _from_eee(node)
    elif isinstance(data, dict) and "model-index" in data:
        rows = _from_model_index(node)
    elif isinstance(data, list) and data and isinstance(data[0], dict):
        rows = _from_eval_results(node, path.stem) if "value" in data[0] else _from_sota(node)
    else:
        rows = iter(())
    made = []
    for where, row in rows:
        if len(made) == MOST_RESULTS:
            raise InputError(f"{path}: holds more than {MOST_RESULTS:,} results; split it.")
        try:
            made.append(result_of({"source": "imported", **row}))
        except InputError as error:
            raise InputError(f"{path}: {where.at}: {error}") from None
    return made


@dataclass(frozen=True)
class Node:
    """A place in a file of somebody else: what stands there, and how to get there."""

    value: Any
    file: str
    at: str

    def wrong(self, why: str) -> InputError:
        """The error that names the place."""
        return InputError(f"{self.file}: {self.at or 'the top'}: {why}.")

    def get(self, name: str) -> "Node":
        """What an object holds under a name; null where it does not."""
        if self.value is None:
            raise self.wrong("is missing")
        if not isinstance(self.value, dict):
            raise self.wrong(f"must be an object, got {_shown(self.value)}")
        return Node(self.value.get(name), self.file, f"{self.at}.{name}" if self.at else name)

    def each(self) -> "Iterator[Node]":
        """The entries of a list; null is an empty one."""
        if not isinstance(self.value, list | None):
            raise self.wrong(f"must be a list, got {_shown(self.value)}")
        for number, entry in enumerate(self.value or []):
            yield Node(entry, self.file, f"{self.at}[{number}]")

    def text(self, default: str | None = None) -> str:
        """A text, a number or a date as text; null is the default, or an error."""
        if self.value is None or self.value == "":
            if default is None:
                raise self.wrong("is missing")
            return default
        if isinstance(self.value, (str, int, float, date)) and not isinstance(self.value, bool):
            return str(self.value)
        raise self.wrong(f"must be a text, got {_shown(self.value)}")

    def number(self) -> float:
        """A number, or text such as "83.0%"."""
        value = self.value
        if isinstance(value, str) and (found := re.fullmatch(r"\s*(-?\d[\d,]*\.?\d*(?:e-?\d+)?)\s*%?\s*", value[:400])):
            return float(found[1].replace(",", ""))
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        raise self.wrong("is missing" if value is None else f"{_shown(value)} is not a number")


def _shown(value: Any) -> str:
    """A value for a message, whatever it holds."""
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value):,}"
    return printable(str(value)[:200], 60)


Rows = Iterator[tuple[Node, dict[str, Any]]]
"""Where a result stands, and its fields."""


def write(results: Sequence[Result], form: str, folder: Path) -> list[Path]:
    """Write results in a form; returns the files.

    Raises:
        InputError: there are none.
    """
    if not results:
        raise InputError("your results store holds no results of your own yet: `wenloom evaluate` makes them.")
    files = _WRITERS[form](results)
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]


def _file_names(results: Sequence[Result]) -> dict[str, str]:
    """A file's name for every model, no two alike on any file system."""
    names: dict[str, str] = {}
    for model in dict.fromkeys(each.model for each in results):
        first = name = re.sub(r"[^\w.-]+", "-", model).strip("-.")[:60] or "model"
        number, taken = 1, {each.casefold() for each in names.values()}
        while name.casefold() in taken:
            number += 1
            name = f"{first}-{number}"
        names[model] = name
    return names


# --- Papers with Code ---


def _from_sota(tasks: Node) -> Rows:
    for task in tasks.each():
        for dataset in task.get("datasets").each():
            sota = dataset.get("sota")
            for row in sota.get("rows").each() if sota.value is not None else ():
                codes = list(row.get("code_links").each())
                name, metrics = dataset.get("dataset").text(), row.get("metrics")
                for metric in list(metrics.value or {}) if isinstance(metrics.value, dict | None) else [metrics.text()]:
                    yield row, {
                        "task": task.get("task").text(), "dataset": name, "metric": str(metric),
                        "value": metrics.get(metric).number(), "model": row.get("model_name").text(),
                        "paper_title": row.get("paper_title").text(""), "paper_url": row.get("paper_url").text(""),
                        "date": row.get("paper_date").text("")[:10],
                        "code_url": codes[0].get("url").text("") if codes else "",
                        "higher_is_better": not _LOWER.search(str(metric)),
                        "signature": " ".join(f"{_part(str(metric))}|board:{_part(name)}|source:papers with code".split()),
                    }  # fmt: skip
        yield from _from_sota(task.get("subtasks"))


def _part(text: str) -> str:
    """Text that does not part a signature."""
    return text.replace("|", "/").replace(":", " ").strip() or "value"


def _sota(results: Sequence[Result]) -> dict[str, str]:
    tasks: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for each in results:
        rows = tasks.setdefault(each.task, {}).setdefault(f"{each.dataset} ({each.signature})", {})
        row = rows.setdefault(
            each.model,
            {"model_name": each.model, "paper_title": each.paper_title, "paper_url": each.paper_url,
             "paper_date": each.date, "code_links": [{"title": "code", "url": each.code_url}] if each.code_url else [],
             "model_links": [], "metrics": {}},
        )  # fmt: skip
        row["metrics"][each.metric] = str(each.value)
    content = [
        {"task": task, "description": "", "subtasks": [], "datasets": [
            {"dataset": name, "subdatasets": [], "dataset_links": [], "dataset_citations": [],
             "sota": {"metrics": sorted({m for row in rows.values() for m in row["metrics"]}), "rows": [*rows.values()]}}
            for name, rows in datasets.items()]}
        for task, datasets in tasks.items()
    ]  # fmt: skip
    return {"sota.json": json.dumps(content, ensure_ascii=False, indent=1) + "\n"}


# --- the hub ---


def _from_eval_results(rows: Node, model: str) -> Rows:
    for row in rows.each():
        dataset, source = row.get("dataset"), row.get("source")
        about = {"name": "", "url": ""}
        if source.value is not None:
            about = {name: source.get(name).text("") for name in about}
        metric = dataset.get("task_id").text("value")
        yield row, {
            "task": "imported", "dataset": dataset.get("id").text(), "metric": metric,
            "value": row.get("value").number(), "model": row.get("model").text(model),
            "date": row.get("date").text("")[:10], "paper_title": about["name"], "paper_url": about["url"],
            "notes": row.get("notes").text(""), "higher_is_better": not _LOWER.search(metric),
        }  # fmt: skip


def _eval_results(results: Sequence[Result]) -> dict[str, str]:
    files: dict[str, list[dict[str, Any]]] = {}
    names = _file_names(results)
    for each in results:
        name = names[each.model]
        source = {"source": {"url": each.paper_url, "name": each.paper_title}} if each.paper_url else {}
        files.setdefault(name, []).append(
            {"dataset": {"id": each.dataset, "task_id": each.metric}, "value": each.value, "date": each.date, **source,
             "notes": each.signature}
        )  # fmt: skip
    return {
        f".eval_results/{name}.yaml": yaml.safe_dump(rows, allow_unicode=True, sort_keys=False)
        for name, rows in files.items()
    }


def _from_model_index(card: Node) -> Rows:
    for entry in card.get("model-index").each():
        for result in entry.get("results").each():
            task, name = result.get("task"), result.get("dataset").get("name").text()
            for metric in result.get("metrics").each():
                kind = metric.get("type").text(metric.get("name").text("")) or metric.get("name").text()
                yield metric, {
                    "task": task.get("name").text("") or task.get("type").text(), "dataset": name, "metric": kind,
                    "value": metric.get("value").number(), "model": entry.get("name").text(),
                    "higher_is_better": not _LOWER.search(kind), "notes": metric.get("name").text(""),
                }  # fmt: skip


def _model_index(results: Sequence[Result]) -> dict[str, str]:
    entries: dict[str, list[dict[str, Any]]] = {}
    for each in results:
        entries.setdefault(each.model, []).append(
            {"task": {"type": "text-generation", "name": each.task},
             "dataset": {"type": re.sub(r"[^\w-]+", "-", each.dataset.lower()).strip("-"), "name": each.dataset},
             "metrics": [{"type": each.metric, "value": each.value, "name": each.signature}]}
        )  # fmt: skip
    index = {"model-index": [{"name": name, "results": rows} for name, rows in entries.items()]}
    return {"model-index.md": f"---\n{yaml.safe_dump(index, allow_unicode=True, sort_keys=False)}---\n"}


# --- Every Eval Ever ---


def _from_eee(data: Node) -> Rows:
    about = data.get("model_info")
    model = about.get("name").text("") or about.get("id").text()
    for row in data.get("evaluation_results").each():
        metric, source = row.get("metric_config"), row.get("source_data")
        details = metric.get("additional_details")
        dataset = source.get("dataset_name").text("") if source.value is not None else ""
        lower = metric.get("lower_is_better")
        if not isinstance(lower.value, bool | None):
            raise lower.wrong(f"must be true or false, got {_shown(lower.value)}")
        yield row, {
            "task": "imported", "dataset": dataset or row.get("evaluation_name").text(),
            "metric": metric.get("metric_name").text("") or row.get("evaluation_name").text(),
            "value": row.get("score_details").get("score").number(), "model": model, "higher_is_better": not lower.value,
            "signature": details.get("signature").text("") if details.value is not None else "",
        }  # fmt: skip


def _eee(results: Sequence[Result]) -> dict[str, str]:
    files = {}
    for model, name in _file_names(results).items():
        own = [each for each in results if each.model == model]
        stamp = str(time.time())
        content = {
            "schema_version": "0.3.0",
            "evaluation_id": f"wenloom/{name}/{stamp}",
            "retrieved_timestamp": stamp,
            "source_metadata": {
                "source_type": "evaluation_run", "source_organization_name": "self", "evaluator_relationship": "first_party",
            },
            "model_info": {"id": model, "name": model},
            "eval_library": {"name": "wenloom", "version": __version__},
            "evaluation_results": [
                {
                    "evaluation_name": f"{each.dataset} {each.metric}",
                    "source_data": {"source_type": "other", "dataset_name": each.dataset},
                    "metric_config": {
                        "metric_name": each.metric, "lower_is_better": not each.higher_is_better,
                        "additional_details": {"signature": each.signature} | ({} if each.best is None else {"best": each.best}),
                    },
                    "score_details": {
                        "score": each.value,
                        "uncertainty": {
                            "confidence_interval": {"lower": each.low, "upper": each.high, "confidence_level": 0.95},
                            "num_samples": each.n,
                        },
                    },
                }
                for each in own
            ],
        }  # fmt: skip
        files[f"every-eval-ever/{name}.json"] = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    return files


_WRITERS: dict[str, Callable[[Sequence[Result]], dict[str, str]]] = {
    "sota": _sota, "eval-results": _eval_results, "model-index": _model_index, "eee": _eee,
}  # fmt: skip
