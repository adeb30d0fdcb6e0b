"""Weights in MXFP4 are read as transformers unpacks them; what is not in the format is refused."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from wenloom.checkpoint.folder import load_decoder
from wenloom.cli.info import info
from wenloom.core.errors import CheckpointError

from .folders import tiny_config

SIZES = dict(hidden_size=32, intermediate_size=64, head_dim=8)


def published(folder: Path) -> torch.nn.Module:
    """A folder as OpenAI publishes it, with drawn numbers, and the same model with its weights unpacked."""
    theirs = transformers.AutoModelForCausalLM.from_config(tiny_config("gpt_oss", **SIZES)).eval().bfloat16()
    theirs.save_pretrained(folder)
    weights, draw = load_file(folder / "model.safetensors"), torch.Generator().manual_seed(0)
    state = theirs.state_dict()
    for name in [name for name in weights if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        n, columns, rows = weights.pop(name).shape
        blocks = torch.randint(0, 256, (n, rows, columns // 32, 16), generator=draw, dtype=torch.uint8)
        scales = torch.randint(118, 125, (n, rows, columns // 32), generator=draw, dtype=torch.uint8)
        weights |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        state[name] = convert_moe_packed_tensors(blocks, scales)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    raw = json.loads((folder / "config.json").read_text())
    raw["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}
    (folder / "config.json").write_text(json.dumps(raw))
    theirs.load_state_dict(state)
    return theirs.float()


@torch.no_grad()
def test_logits_are_those_of_the_unpacked_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    theirs, tokens = published(tmp_path), torch.arange(3, 15)[None]
    ours = load_decoder(tmp_path)
    assert (ours(tokens) - theirs(tokens).logits).abs().max() < 1e-4
    info(str(tmp_path), json=True)
    told = json.loads(capsys.readouterr().out)["model"]
    assert told["parameters"] == theirs.num_parameters() and "problem" not in told  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("part", ["missing", "of another shape", "of floats"])
def test_scales_that_do_not_belong_to_a_tensor_are_refused(part: str, tmp_path: Path):
    published(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    name = "model.layers.1.mlp.experts.down_proj_scales"
    scales = weights.pop(name)
    if part != "missing":
        weights[name] = scales[:, :-1].contiguous() if part == "of another shape" else scales.float()
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="down_proj_blocks"):
        load_decoder(tmp_path)
