"""Folders of rounded weights: read again as written, and by transformers alike."""

import json
from pathlib import Path

import pytest
import torch
import transformers

from wenloom.checkpoint.folder import load_decoder, write_model_files
from wenloom.core.errors import CheckpointError, InputError
from wenloom.model.quantize import Bits, quantize

from ..conftest import random_decoder, tiny_config


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_a_rounded_folder_is_read_by_both(architecture: str, bits: Bits, tmp_path: Path):
    pytest.importorskip("compressed_tensors")
    decoder = random_decoder(tiny_config(architecture=architecture))
    write_model_files(decoder, tmp_path, bits=bits)
    again = load_decoder(tmp_path)
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    expected = quantize(random_decoder(tiny_config(architecture=architecture)), bits)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.inference_mode():
        assert again(ids).equal(expected(ids))
        whole_head = again.hidden(ids) @ again.embed.weight.T  # transformers leaves the output matrix whole
        assert theirs(ids).logits.allclose(whole_head, atol=2e-3)


def test_what_has_no_format_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="transposed"):
        write_model_files(random_decoder(tiny_config(architecture="gpt2")), tmp_path, bits=8)
    decoder = random_decoder(tiny_config())
    write_model_files(decoder, tmp_path, bits=4)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"]["quant_method"] = "sorcery"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="sorcery"):
        load_decoder(tmp_path)
    with pytest.raises(InputError, match="already"):
        quantize(quantize(decoder, 8), 8)
