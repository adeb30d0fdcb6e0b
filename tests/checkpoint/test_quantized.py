"""Folders of quantized weights: read again as written, and by transformers alike."""

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from wenloom.checkpoint.folder import load_decoder, save_model, stored_dtype, write_model_files
from wenloom.checkpoint.quantized.reading import READERS
from wenloom.core.errors import CheckpointError, InputError, printable
from wenloom.model.build import with_classes
from wenloom.model.config import reshaped
from wenloom.model.decoder import Decoder
from wenloom.model.quantize import Bits, QuantizedLinear, quantize
from wenloom.tokens.tokenizer import TextTokenizer

from ..conftest import random_decoder, tiny_config


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("n_layers", [2, 9])
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_a_quantized_folder_is_read_by_both(architecture: str, n_layers: int, bits: Bits, tmp_path: Path):
    pytest.importorskip("compressed_tensors")
    config = replace(tiny_config(architecture=architecture), n_layers=n_layers)
    decoder = random_decoder(config)
    write_model_files(decoder, tmp_path, bits=bits)
    again = load_decoder(tmp_path)
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    expected = quantize(random_decoder(config), bits)
    assert (
        bits_of(again) == bits_of(expected) == [8 if n_layers == 9 and i in (0, 8) else bits for i in range(n_layers)]
    )
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.inference_mode():
        assert again(ids).equal(expected(ids))
        whole_head = again.hidden(ids) @ again.embed.weight.T  # transformers leaves the output matrix whole
        assert theirs(ids).logits.allclose(whole_head, atol=2e-3)


def bits_of(decoder: Decoder) -> list[int]:
    """Of every block, all of whose matrices have as many."""
    layers = [[each.bits for each in block.modules() if isinstance(each, QuantizedLinear)] for block in decoder.blocks]
    assert all(len(each) == 7 and len({*each}) == 1 for each in layers)
    return [each[0] for each in layers]


def test_what_has_no_format_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="transposed"):
        write_model_files(random_decoder(tiny_config(architecture="gpt2")), tmp_path, bits=8)
    with pytest.raises(InputError, match="already"):
        quantize(quantize(random_decoder(tiny_config()), 8), 8)


@pytest.mark.parametrize("tied", [True, False])
def test_embedding_and_output_matrix_keep_8_bits_or_more(tied: bool, tmp_path: Path):
    config = reshaped(tiny_config(), logits={"tied": tied})
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    write_model_files(random_decoder(config).to(torch.bfloat16), source)
    out.mkdir()
    write_model_files(load_decoder(source), out, bits=4, dtype=stored_dtype(source))
    quantized, read = quantize(load_decoder(source), 4), load_decoder(out)
    for model in (quantized, read):
        assert isinstance(model.head, QuantizedLinear) and model.head.bits == 8
        assert model.embed.weight.equal(load_decoder(source).embed.weight)
    with torch.inference_mode():
        assert quantized(torch.tensor([[5, 6, 7]])).equal(read(torch.tensor([[5, 6, 7]])))
    with safe_open(out / "model.safetensors", "pt") as file:
        assert file.get_tensor("model.embed_tokens.weight").dtype == torch.bfloat16
        assert tied or file.get_tensor("lm_head.weight").dtype == torch.bfloat16


@pytest.fixture(scope="module")
def quantized_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantized")
    write_model_files(random_decoder(tiny_config()), folder, bits=4)
    return folder


def changed(folder: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The folder with another config.json."""
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (target / "config.json").write_text(json.dumps(config))
    if not (target / "model.safetensors").exists():
        shutil.copyfile(folder / "model.safetensors", target / "model.safetensors")
    return target


METHODS = sorted({*AUTO_QUANTIZATION_CONFIG_MAPPING} - {*READERS}) + ["sorcery", "a\x1b[31mb"]


@pytest.mark.parametrize("method", METHODS)
def test_other_ways_to_quantize_are_refused_by_name(method: str, quantized_folder: Path, tmp_path: Path):
    with pytest.raises(CheckpointError) as error:
        load_decoder(
            changed(
                quantized_folder, tmp_path, lambda config: config.update(quantization_config={"quant_method": method})
            )
        )
    assert printable(json.dumps(method)) in str(error.value) and "\x1b" not in str(error.value)


@pytest.mark.parametrize("value", [[], 5, True, "gptq", {}, {"load_in_4bit": "x"}, {"config_groups": []}], ids=str)
def test_a_quantization_of_no_known_kind_is_refused(value: object, quantized_folder: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match="quantization_config"):
        load_decoder(changed(quantized_folder, tmp_path, lambda config: config.update(quantization_config=value)))


OTHER: dict[str, list[object]] = {
    "config_groups": [{}, [], {"a": {}, "b": {}}, {"a": 5}, {"a": {"targets": ["Linear"], "weights": None}}, None],
    "quant_method": ["gptq", 5, None],
    "kv_cache_scheme": [],  # of activations
    "format": ["int-quantized", "marlin-24", "naive-quantized", 5],
    "quantization_status": ["initialized", [], None],  # frozen: see below
    "global_compression_ratio": [],  # a remark of whoever wrote it
    "ignore": [5, "lm_head", [5], ["re:.*mlp.*"], ["model.layers.0.mlp.down_proj"]],
    "moe_sparsity_config": [{"a": 1}],
    "targets": [["re:.*q_proj"], ["Linear", "Embedding"], [], 5],
    "weights": [5, [], None],
    "input_activations": [],
    "output_activations": [],
    "num_bits": [2, 3, 8, 16, "4", 4.0, True, None],
    "type": ["float", 5],
    "symmetric": [False, 0],
    "group_size": [128, 64, -1, "32", None],
    "strategy": ["channel", "tensor", "block", "token", 5],
    "block_structure": [[16, 16]],
    "dynamic": [True, "local"],
    "actorder": ["group", "sideways", 5],
    "scale_dtype": [],  # the file itself tells
    "zp_dtype": [],
    "observer": [],
    "observer_kwargs": [],
}
"""For each field of the format what would be another model."""


def test_each_field_of_the_format_is_read_or_refused(quantized_folder: Path, tmp_path: Path):
    schemes = pytest.importorskip("compressed_tensors.quantization")
    levels = [schemes.QuantizationConfig, schemes.QuantizationScheme, schemes.QuantizationArgs]
    for level, model in enumerate(levels):
        for field in model.model_fields:
            for value in OTHER[field]:

                def change(config: dict[str, Any], level: int = level, field: str = field, value: object = value):
                    place = config["quantization_config"]
                    group = place["config_groups"]["group_0"]
                    (place, group, group["weights"])[level][field] = value

                with pytest.raises(CheckpointError) as error:
                    load_decoder(changed(quantized_folder, tmp_path, change))
                    pytest.fail(f"{field}: {value}")
                assert str(error.value).count("\n") == 0


def test_sparse_weights_are_refused(quantized_folder: Path, tmp_path: Path):
    sparse = {"format": "sparse-24-bitmask"}
    with pytest.raises(CheckpointError, match="sparsity_config"):
        load_decoder(
            changed(quantized_folder, tmp_path, lambda raw: raw["quantization_config"].update(sparsity_config=sparse))
        )


LEFT_OUT: list[tuple[int, str, object]] = [
    (0, "kv_cache_scheme", {"num_bits": 8}),
    (1, "input_activations", {"num_bits": 8, "dynamic": True}),
    (1, "output_activations", {"num_bits": 8}),
]
CHANGES_NOTHING: list[tuple[int, str, object]] = [
    (0, "quantization_status", "frozen"),
    (0, "version", "0.9"),
    (0, "sparsity_config", {"format": "dense", "global_sparsity": 0.1}),
    (2, "strategy", None),
    (2, "actorder", "static"),
    (2, "zp_dtype", "torch.int8"),
    (2, "observer", "minmax"),
]


@pytest.mark.parametrize(("level", "field", "value"), LEFT_OUT + CHANGES_NOTHING)
def test_what_is_of_activations_is_left_out_and_said(
    level: int, field: str, value: object, quantized_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def change(config: dict[str, Any]):
        place = config["quantization_config"]
        group = place["config_groups"]["group_0"]
        (place, group, group["weights"])[level][field] = value

    found, ids = load_decoder(changed(quantized_folder, tmp_path, change)), torch.tensor([[5, 6, 7]])
    assert ("activations are left whole" in capsys.readouterr().err) == ((level, field, value) in LEFT_OUT)
    assert found(ids).allclose(load_decoder(quantized_folder)(ids), atol=2e-2)  # but for the output matrix in 8 bits


def test_what_the_format_does_not_know_is_named_and_changes_nothing(
    quantized_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    found = load_decoder(
        changed(quantized_folder, tmp_path, lambda config: config["quantization_config"].update(colour="red"))
    )
    ids = torch.tensor([[5, 6, 7]])
    assert found(ids).equal(load_decoder(quantized_folder)(ids))
    assert "colour" in capsys.readouterr().err


def damages(tensors: dict[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
    """The same with one part of one layer in another shape, of another type, out of range or gone."""
    layer = "model.layers.1.mlp.up_proj.weight_"
    packed, scale, shape = (tensors[layer + part] for part in ("packed", "scale", "shape"))
    changes: dict[str, list[torch.Tensor]] = {
        "packed": [
            packed[:-1],
            packed[:, :-1],
            packed.float(),
            packed.to(torch.int64),
            packed.flatten(),
            packed[None],
            packed[:0],
        ],
        "scale": [
            scale[:-1],
            scale[:, :-1],
            scale * torch.nan,
            scale / 0,
            scale.to(torch.int8),
            scale[..., None],
            scale[:, :0],
        ],
        "shape": [
            shape[:1],
            shape.flip(0),
            shape * 0,
            shape - 2**62,
            shape.float(),
            -shape,
            shape.repeat(20),
            shape[:0],
        ],
    }
    for part, others in changes.items():
        yield {name: tensor for name, tensor in tensors.items() if name != layer + part}
        for other in others:
            yield tensors | {layer + part: other.contiguous()}
    whole = {name: tensor for name, tensor in tensors.items() if not name.startswith(layer)}
    yield whole
    yield whole | {"model.layers.1.mlp.up_proj.weight": torch.zeros(shape.tolist())}
    yield tensors | {"model.layers.1.mlp.up_proj.weight": torch.zeros(shape.tolist())}
    yield tensors | {"model.layers.1.mlp.up_proj.weight_zero_point": torch.zeros(4)}


def test_damaged_quantized_tensors_are_named(quantized_folder: Path, tmp_path: Path):
    tensors = load_file(quantized_folder / "model.safetensors")
    changed(quantized_folder, tmp_path, lambda _: None)
    for damaged in damages(tensors):
        save_file(damaged, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match="up_proj") as error:
            load_decoder(tmp_path)
        assert "\n" not in str(error.value)


ACTS: list[Callable[[Decoder, Path], object]] = [
    lambda model, folder: write_model_files(model, folder),
    lambda model, folder: save_model(model, folder / "saved"),
    lambda model, folder: write_model_files(model, folder, bits=8),
    lambda model, _: with_classes(model, ("yes", "no"), torch.Generator()),
]


@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_weights_are_not_learned_or_saved_as_if_they_were_not(bits: Bits, tmp_path: Path):
    for act in ACTS:
        with pytest.raises(InputError, match="quantized"):
            act(quantize(random_decoder(tiny_config()), bits), tmp_path)


@pytest.mark.slow
@pytest.mark.real_models
@pytest.mark.shared_data
@pytest.mark.parametrize(("bits", "most"), [(4, 16.0), (8, 14.15)])
def test_a_real_model_keeps_its_perplexity_in_both_libraries(
    bits: Bits, most: float, real_models: Path, shared_data: Path, tmp_path: Path
):
    pytest.importorskip("compressed_tensors")
    source = real_models / "smollm2"
    tokenizer = TextTokenizer.from_pretrained(source)
    text = gzip.decompress((shared_data / "wikitext2" / "test.txt.gz").read_bytes()).decode()[:20_000]
    ids = torch.tensor([tokenizer.backend.encode(text, add_special_tokens=False).ids[:2292]])

    def perplexity(logits_BTV: torch.Tensor) -> float:
        return float(torch.nn.functional.cross_entropy(logits_BTV[0, :-1], ids[0, 1:]).exp())

    write_model_files(load_decoder(source), tmp_path, bits=bits, dtype=stored_dtype(source))
    with torch.inference_mode():
        ours = perplexity(load_decoder(tmp_path)(ids))
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)(ids).logits
        assert ours < most and abs(perplexity(theirs) / ours - 1) < 0.01
        assert perplexity(quantize(load_decoder(source), bits)(ids)) == pytest.approx(ours, rel=1e-4)


_PEAK = """
import sys
from pathlib import Path

from wenloom.checkpoint.folder import load_decoder

def held(name):
    return int(Path("/proc/self/status").read_text().split(name)[1].split()[0]) * 1024

bits = int(sys.argv[2]) or None
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = held("VmRSS:")
load_decoder(Path(sys.argv[1]), bits=bits)
print(held("VmHWM:") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak")
@pytest.mark.parametrize(("bits", "times"), [(0, 1.1), (8, 0.6)])
def test_a_process_holds_weights_once_while_it_reads_them(bits: int, times: float, tmp_path: Path):
    """A file is mapped, and what was read of it and copied would count twice: 2.0 and 1.5 before it was given back."""
    size = dict(vocab_size=4000, hidden_size=512, intermediate_size=2048, num_hidden_layers=6, num_attention_heads=8)
    config = transformers.LlamaConfig(**size, max_position_embeddings=64)  # pyright: ignore[reportArgumentType]
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    weights = (tmp_path / "model.safetensors").stat().st_size
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(tmp_path), str(bits)], capture_output=True, text=True, check=True
    )
    assert weights > 100e6 and int(done.stdout) <= times * weights + 32 * 2**20
