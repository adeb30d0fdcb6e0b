"""`info` says of every kind of folder what it is: parameters as transformers counts them, and the command to go on."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from wenloom.checkpoint.folder import load_model, write_model_files
from wenloom.cli.info import info
from wenloom.core.errors import CheckpointError
from wenloom.training.run_file import write_run

from ..checkpoint.folders import DECODERS, ENCODERS, PAIRS, saved


def said(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    info(str(folder), json=True)
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("family", [*DECODERS, *ENCODERS, *PAIRS])
def test_parameters_and_kind_are_those_of_transformers(family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    theirs = saved(family, tmp_path)
    model = said(tmp_path, capsys)["model"]
    computed = (
        "embed_positions" if family in ("marian", "pegasus") else "nothing"
    )  # sines are parameters there, not here
    expected = sum(each.numel() for name, each in theirs.named_parameters() if computed not in name)
    if hasattr(theirs, "final_logits_bias"):
        expected += theirs.final_logits_bias.numel()
    assert model["parameters"] == expected
    experts = getattr(theirs.config, "num_local_experts", None) or getattr(theirs.config, "num_experts", None)
    assert ("active_parameters" in model) == (experts is not None)
    kind = "decoder" if family in DECODERS else "encoder" if family in ENCODERS else "encoder-decoder"
    assert model["kind"] == kind and model["stored_as"] == "F32" and model["files"] == 1
    assert ("positions" in model) == (model["rope"] is None)
    assert ("relative_buckets" in model) == (family in ("t5", "mt5", "umt5", "mpnet"))


def test_a_head_that_differs_is_counted_and_an_encoder_without_one_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    theirs = saved("bert", tmp_path / "bare", transformers.BertModel)
    model = said(tmp_path / "bare", capsys)["model"]
    pooler = sum(each.numel() for each in theirs.pooler.parameters())
    assert model["parameters"] == theirs.num_parameters() - pooler and "no head" in model["gives"]
    saved("bert", tmp_path / "classes", transformers.BertForSequenceClassification)
    assert "classes" in said(tmp_path / "classes", capsys)["model"]["gives"]


def test_quantized_weights_shards_and_damage_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    saved("llama", tmp_path / "whole")
    model = load_model(tmp_path / "whole")
    for name, more in (("quantized", {"bits": 8}), ("sharded", {"shard_bytes": 8_000})):
        (tmp_path / name).mkdir()
        write_model_files(model, tmp_path / name, **more)  # pyright: ignore[reportArgumentType]
    assert said(tmp_path / "quantized", capsys)["model"]["quantized_to"] == "int8"
    assert said(tmp_path / "sharded", capsys)["model"]["files"] > 1
    weights = tmp_path / "whole" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    assert "cut short" in said(tmp_path / "whole", capsys)["model"]["problem"]


def test_an_adapter_is_told_with_its_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    raw = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "target_modules": ["q_proj"], "base_model_name_or_path": "x"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(raw))
    assert said(tmp_path, capsys)["adapter"] | {"of": "x", "rank": 3, "alpha": 6} == said(tmp_path, capsys)["adapter"]


@pytest.mark.parametrize("task, command", [(None, "pretrain"), ("chat", "finetune")])
def test_an_unfinished_run_is_told_with_the_command_that_goes_on(
    task: str | None, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    saved("llama", tmp_path)
    monkeypatch.setattr("wenloom.training.checkpoints.latest_checkpoint", lambda run: run / "checkpoints/step-00000003")
    result = {"steps": 3, "of_steps": 9, "tokens": 1, "training_seconds": 1.0}
    write_run(tmp_path, {"settings": {"task": task}, "data": {"key": "k"}, "result": result,
                         "model": {"family": "llama", "parameters": 1, "vocab_size": 61}})  # fmt: skip
    assert f"wenloom {command} --resume {tmp_path}" in said(tmp_path, capsys)["result"]["unfinished"]


def test_an_unknown_family_is_refused_with_those_known(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "vits"}')
    with pytest.raises(CheckpointError, match=r"vits.*known are llama"):
        info(str(tmp_path))
