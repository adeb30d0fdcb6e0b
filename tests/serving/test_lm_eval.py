"""lm-evaluation-harness asks over HTTP, unmodified: its figures are those that `wenloom evaluate` counts in one process."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

lm_eval = pytest.importorskip("lm_eval", reason="pip install 'wenloom[harness]'")
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from wenloom.evaluation.choice import answer_all, choice_perplexity, greedy_accuracy  # noqa: E402
from wenloom.evaluation.scorers import DecoderScorer  # noqa: E402
from wenloom.evaluation.suites import SUITES  # noqa: E402
from wenloom.serving.app import create_app  # noqa: E402
from wenloom.serving.models import Models  # noqa: E402
from wenloom.serving.settings import RequestLimits, ServerSettings  # noqa: E402
from wenloom.tokens.tokenizer import TextTokenizer  # noqa: E402

from ..evaluation.test_harness import TASKS, write_tasks  # noqa: E402
from .conftest import Served, chat_model, saved, serving  # noqa: E402

N = 40
WRITING = """doc_to_text: "{{context}}"\ndoc_to_target: "{{target}}"\noutput_type: generate_until
generation_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: false}
metric_list:\n  - {metric: exact_match, aggregation: mean, higher_is_better: true}"""
"""A task whose answers are written."""


@pytest.fixture(scope="module")
def long_served(tokenizer: TextTokenizer) -> Iterator[Served]:
    model = chat_model(tokenizer, context_length=1024)
    limits = RequestLimits(max_concurrent_requests=64, max_queued_tokens=500_000)
    with serving(create_app(Models({"tiny": lambda: model}), ServerSettings(limits=limits)), model) as running:
        yield running


@pytest.fixture(scope="module")
def folder(long_served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that is served, for the harness's tokenizer."""
    return saved(long_served.model, tmp_path_factory.mktemp("model"))


def figures(judge: Any, names: list[str], tasks: Path, **more: Any) -> dict[str, dict[str, Any]]:
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    return lm_eval.simple_evaluate(
        judge,
        tasks=[f"own_{name}" for name in names],
        task_manager=manager,
        bootstrap_iters=0,
        log_samples=True,
        **more,
    )  # pyright: ignore


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", "none")


@pytest.mark.shared_data
@pytest.mark.slow
def test_likelihoods_through_http_give_the_figures_of_evaluate(
    shared_data: Path, long_served: Served, folder: Path, tmp_path: Path
):
    questions = {
        name: (rows := SUITES[name].read(SUITES[name].find(shared_data)))[:: len(rows) // N][:N] for name in TASKS
    }
    write_tasks(tmp_path, questions)
    judge = LocalCompletionsAPI(
        base_url=f"{long_served.url}/v1/completions", model="tiny", tokenizer=str(folder), tokenizer_backend="huggingface",
        num_concurrent=4, max_length=1024,
    )  # fmt: skip
    found = figures(judge, list(TASKS), tmp_path)["results"]
    scorer = DecoderScorer(long_served.model.decoder, long_served.model.tokenizer)
    ours = {name: answer_all(scorer, rows) for name, rows in questions.items()}
    assert found["own_lambada"]["acc,none"] == pytest.approx(greedy_accuracy(ours["lambada"]).value / 100)
    assert found["own_lambada"]["perplexity,none"] == pytest.approx(choice_perplexity(ours["lambada"]), rel=1e-3)
    for name in ("hellaswag", "blimp"):
        assert found[f"own_{name}"]["acc,none"] == pytest.approx(ours[name].accuracy("raw").value / 100, abs=0.51 / N)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["completions", "chat"])
def test_answers_through_http_are_the_models_own(long_served: Served, folder: Path, tmp_path: Path, kind: str):
    rows = [{"context": f"The lamp of day {n} 灯", "target": "was lit"} for n in range(6)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "writing.yaml").write_text(
        f"task: own_writing\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {tmp_path / 'rows.jsonl'}\n"
        f"test_split: test\n{WRITING}\n"
    )
    client = long_served.client()
    if kind == "chat":
        judge: Any = LocalChatCompletion(
            base_url=f"{long_served.url}/v1/chat/completions", model="tiny", num_concurrent=2
        )
        found = figures(judge, ["writing"], tmp_path, apply_chat_template=True)
    else:
        judge = LocalCompletionsAPI(
            base_url=f"{long_served.url}/v1/completions",
            model="tiny",
            tokenizer=str(folder),
            tokenizer_backend="huggingface",
        )
        found = figures(judge, ["writing"], tmp_path)
    said = {each["doc"]["context"]: each["resps"][0][0] for each in found["samples"]["own_writing"]}
    for row in rows:
        same: Any = {"model": "tiny", "max_tokens": 8, "temperature": 0, "stop": ["\n"]}
        if kind == "chat":
            message = {"role": "user", "content": row["context"]}
            text = client.chat.completions.create(messages=[message], **same).choices[0].message.content  # pyright: ignore
        else:
            text = client.completions.create(prompt=row["context"], **same).choices[0].text
        assert said[row["context"]] == text
