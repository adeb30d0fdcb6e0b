"""lm-evaluation-harness with a Wenloom model, with the same model through transformers, and our own figures: all agree."""

import json
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="pip install 'wenloom[harness]'")
import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

import wenloom
from wenloom.checkpoint.folder import write_model_files
from wenloom.evaluation.choice import Question, answer_all, choice_perplexity, greedy_accuracy
from wenloom.evaluation.harness import HarnessModel
from wenloom.evaluation.scorers import DecoderScorer
from wenloom.evaluation.suites import SUITES
from wenloom.tokens.tokenizer import TextTokenizer

from ..conftest import random_decoder, tiny_config

N = 500
TASKS = {
    "lambada": """doc_to_text: "{{context}}"\ndoc_to_target: "{{target}}"\noutput_type: loglikelihood
metric_list:\n  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}""",
    "hellaswag": """doc_to_text: "{{context}}"\ndoc_to_target: "{{gold}}"\ndoc_to_choice: choices\ntarget_delimiter: ""
output_type: multiple_choice\nmetric_list:\n  - {metric: acc, aggregation: mean, higher_is_better: true}""",
    "blimp": """doc_to_text: ""\ndoc_to_target: 0\ndoc_to_choice: choices\ntarget_delimiter: ""
output_type: multiple_choice\nmetric_list:\n  - {metric: acc, aggregation: mean, higher_is_better: true}""",
}


def write_tasks(folder: Path, questions: dict[str, list[Question]]) -> None:
    for name, rows in questions.items():
        data = folder / f"{name}.jsonl"
        with data.open("w", encoding="utf-8") as file:
            for each in rows:
                row = {
                    "context": each.contexts[0],
                    "target": each.choices[each.gold],
                    "choices": each.choices,
                    "gold": each.gold,
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        (folder / f"{name}.yaml").write_text(
            f"task: own_{name}\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {data}\n"
            f"test_split: test\n{TASKS[name]}\n"
        )


@pytest.mark.shared_data
@pytest.mark.slow
def test_figures_agree(shared_data: Path, tokenizer: TextTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    folder.mkdir()
    write_model_files(random_decoder(tiny_config(context_length=512)), folder)
    tokenizer.save_pretrained(folder)
    questions = {}
    for name in TASKS:
        suite = SUITES[name]
        rows = suite.read(suite.find(shared_data))
        questions[name] = rows[:: len(rows) // N][:N]
    write_tasks(tmp_path, questions)
    model = wenloom.load(folder)
    ours = {name: answer_all(DecoderScorer(model.decoder, model.tokenizer), rows) for name, rows in questions.items()}
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    for judge in (
        HarnessModel(model.decoder, model.tokenizer, model.engine),
        HFLM(pretrained=str(folder), device="cpu", batch_size=16),
    ):
        found = lm_eval.simple_evaluate(
            judge, tasks=[f"own_{name}" for name in TASKS], task_manager=manager, bootstrap_iters=0
        )["results"]  # pyright: ignore
        assert found["own_lambada"]["acc,none"] == pytest.approx(greedy_accuracy(ours["lambada"]).value / 100)
        assert found["own_lambada"]["perplexity,none"] == pytest.approx(choice_perplexity(ours["lambada"]), rel=1e-3)
        for name in ("hellaswag", "blimp"):
            assert found[f"own_{name}"]["acc,none"] == pytest.approx(ours[name].accuracy("raw").value / 100, abs=0.0021)
