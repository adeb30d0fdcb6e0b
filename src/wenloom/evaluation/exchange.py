"""Results in other people's forms: Papers with Code's sota-extractor JSON, the hub's .eval_results YAML and
model-index, and Every Eval Ever."""

import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from wenloom.core.errors import InputError
from wenloom.core.files import write_atomically
from wenloom.core.foreign import parsed_json, reading
from wenloom.core.version import __version__
from wenloom.evaluation.results import Result, result_of
from wenloom.evaluation.rows import read_text

_LOWER = re.compile(r"perplex|ppl|bits|loss|\bwer\b|\bcer\b|\bter\b|error", re.IGNORECASE)


YAML_BYTES = 4 * 2**20
"""Read at about 4 MB a second; the longest model cards that are published have a tenth of it."""
MOST_RESULTS = 100_000
"""Of one file."""


def read(path: Path) -> list[Result]:
    """Results of a file, its form recognised by its content.

    Raises:
        InputError: none of the known forms, or a value that is no number.
    """
    text = read_text(path)
    form = "JSON" if path.suffix == ".json" else "YAML"
    with reading(path, what=f"cannot be read as {form}"):
        data: Any = parsed_json(text) if form == "JSON" else _yaml(text)
        json.dumps(data, ensure_ascii=False, default=str).encode()  # half surrogates could not be stored
    with reading(path, what="a field is missing or not what it should be"):
        try:
            if isinstance(data, dict) and "evaluation_results" in data:
                rows = _from_eee(data)
            elif isinstance(data, dict) and "model-index" in data:
                rows = _from_model_index(data)
            elif isinstance(data, list) and data and all(isinstance(each, dict) for each in data):
                rows = _from_eval_results(data, path.stem) if "value" in data[0] else _from_sota(data)
            else:
                rows = []
            made = [result_of({"source": "imported", **row}) for row in rows]
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    if not made:
        raise InputError(
            f"{path}: no results found. Known are sota-extractor JSON, .eval_results YAML, a model card with a "
            "model-index, and Every Eval Ever JSON."
        )
    if len(made) > MOST_RESULTS:
        raise InputError(f"{path}: holds {len(made):,} results; more than {MOST_RESULTS:,} are not read.")
    return made


class _Loader(yaml.SafeLoader):
    """Without aliases, by which a short file can stand for more than any memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("aliases (*name) are not read")
        return super().compose_node(parent, index)


def _yaml(text: str) -> Any:
    """
    Raises:
        ValueError: too long, or with aliases.
        yaml.YAMLError: no YAML.
    """
    matter = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    inside = matter[1] if matter else text
    if len(inside) > YAML_BYTES:
        raise ValueError(f"{len(inside):,} characters of YAML; more than {YAML_BYTES:,} are not read")
    return yaml.load(inside, _Loader)


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


def _number(value: Any) -> float:
    """A value as these files have it: a number, or text such as "83.0%".

    Raises:
        InputError: no number in it.
    """
    if isinstance(value, str) and (found := re.fullmatch(r"\s*(-?\d[\d,]*\.?\d*(?:e-?\d+)?)\s*%?\s*", value)):
        return float(found[1].replace(",", ""))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise InputError(f"{value!r} is not a number.")


# --- Papers with Code ---


def _from_sota(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for task in tasks:
        for dataset in task.get("datasets") or []:
            sota = dataset.get("sota") or {}
            for row in sota.get("rows") or []:
                codes = row.get("code_links") or []
                for metric, value in (row.get("metrics") or {}).items():
                    found.append(
                        {
                            "task": task["task"], "dataset": dataset["dataset"], "metric": metric,
                            "value": _number(value), "model": row["model_name"],
                            "paper_title": row.get("paper_title") or "", "paper_url": row.get("paper_url") or "",
                            "date": str(row.get("paper_date") or "")[:10],
                            "code_url": codes[0].get("url", "") if codes else "",
                            "higher_is_better": not _LOWER.search(metric),
                            "signature": f"{metric}|board:{dataset['dataset']}|source:papers with code".replace("\n", " "),
                        }
                    )  # fmt: skip
        found += _from_sota(task.get("subtasks") or [])
    return found


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


def _from_eval_results(rows: list[dict[str, Any]], model: str) -> list[dict[str, Any]]:
    return [
        {
            "task": "imported", "dataset": row["dataset"]["id"], "metric": str(row["dataset"].get("task_id") or "value"),
            "value": _number(row["value"]), "model": str(row.get("model") or model), "date": str(row.get("date") or ""),
            "paper_title": str((row.get("source") or {}).get("name") or ""),
            "paper_url": str((row.get("source") or {}).get("url") or ""), "notes": str(row.get("notes") or ""),
            "higher_is_better": not _LOWER.search(str(row["dataset"].get("task_id") or "")),
        }
        for row in rows
    ]  # fmt: skip


def _eval_results(results: Sequence[Result]) -> dict[str, str]:
    files: dict[str, list[dict[str, Any]]] = {}
    for each in results:
        name = re.sub(r"[^\w.-]+", "-", each.model).strip("-") or "model"
        source = {"source": {"url": each.paper_url, "name": each.paper_title}} if each.paper_url else {}
        files.setdefault(name, []).append(
            {"dataset": {"id": each.dataset, "task_id": each.metric}, "value": each.value, "date": each.date, **source,
             "notes": each.signature}
        )  # fmt: skip
    return {
        f".eval_results/{name}.yaml": yaml.safe_dump(rows, allow_unicode=True, sort_keys=False)
        for name, rows in files.items()
    }


def _from_model_index(card: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "task": str(result["task"].get("name") or result["task"]["type"]), "dataset": result["dataset"]["name"],
            "metric": str(metric.get("type") or metric["name"]), "value": _number(metric["value"]), "model": entry["name"],
            "higher_is_better": not _LOWER.search(str(metric.get("type") or metric["name"])),
            "notes": str(metric.get("name") or ""),
        }
        for entry in card["model-index"]
        for result in entry["results"]
        for metric in result["metrics"]
    ]  # fmt: skip


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


def _from_eee(data: dict[str, Any]) -> list[dict[str, Any]]:
    model = data["model_info"]
    return [
        {
            "task": "imported", "dataset": str((row.get("source_data") or {}).get("dataset_name") or row["evaluation_name"]),
            "metric": str(row["metric_config"].get("metric_name") or row["evaluation_name"]),
            "value": _number(row["score_details"]["score"]), "model": str(model.get("name") or model["id"]),
            "higher_is_better": not row["metric_config"].get("lower_is_better", False),
            "signature": str((row["metric_config"].get("additional_details") or {}).get("signature") or ""),
        }
        for row in data["evaluation_results"]
    ]  # fmt: skip


def _eee(results: Sequence[Result]) -> dict[str, str]:
    files = {}
    models = dict.fromkeys(each.model for each in results)
    for model in models:
        own = [each for each in results if each.model == model]
        name = re.sub(r"[^\w.-]+", "-", model).strip("-") or "model"
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
                        "additional_details": {"signature": each.signature},
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
