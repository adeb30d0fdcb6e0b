"""Quantized folders of others: logits are those of the weights that they stand for; damage and odd fields are named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from wenloom.checkpoint.folder import load_decoder, load_model, stored_dtype
from wenloom.cli.info import info
from wenloom.core.errors import CheckpointError
from wenloom.model.decoder import Decoder
from wenloom.model.quantize import QuantizedLinear
from wenloom.runtime.native.supported import fits

from ..runtime.test_native import differences
from .quantized_folders import (
    IDS,
    Packed,
    awq,
    bitsandbytes_4bit,
    bitsandbytes_8bit,
    config,
    fp8,
    gptq,
    gptq_config,
    quantized_folder,
)


def bits_of(model: torch.nn.Module) -> dict[int, int]:
    """How many layers are kept in how many bits."""
    found = [each.bits for each in model.modules() if isinstance(each, QuantizedLinear)]
    return {bits: found.count(bits) for bits in {*found}}


@torch.no_grad()
def check(folder: Path, theirs: torch.nn.Module, kept: dict[int, int], text: str, *said: str) -> None:
    """Logits are theirs, so many layers stay in so many bits, and the remark says so."""
    ours = load_decoder(folder)
    assert bits_of(ours) == kept
    assert (ours(IDS) - theirs(IDS).logits).abs().max() < 1e-4
    assert all(each in text for each in said), text


GPTQ = [
    # bits, columns, symmetric, reordered, version, kept in how many bits
    (4, 32, True, False, 1, 4),
    (4, 64, True, False, 2, 4),
    (4, -1, True, False, 1, 4),
    (2, 32, True, False, 1, 4),
    (3, 32, True, False, 1, 4),
    (8, -1, True, False, 1, 8),
    (8, 32, True, False, 1, None),
    (4, 32, False, False, 1, None),
    (4, 32, False, False, 2, None),
    (4, -1, False, False, 1, 8),
    (4, 32, True, True, 1, None),
    (3, 32, False, True, 1, None),
    (8, 32, False, True, 2, None),
    (4, 16, True, False, 1, None),
]


@pytest.mark.parametrize(("bits", "columns", "symmetric", "reordered", "version", "kept"), GPTQ)
def test_gptq(
    bits: int,
    columns: int,
    symmetric: bool,
    reordered: bool,
    version: int,
    kept: int | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    form = (bits, columns, symmetric, reordered, version)
    theirs = quantized_folder(tmp_path, gptq_config(*form), gptq(*form), biases=True)
    ours = load_decoder(tmp_path)
    text = capsys.readouterr().err
    check(tmp_path, theirs, {kept: 14} if kept else {}, text)
    assert ("14 matrices are widened to float32" in text) == (kept is None)
    assert isinstance(ours.head, torch.nn.Linear)  # nothing is quantized anew


@pytest.mark.parametrize("family", ["gpt2", "phi3", "mixtral"])
@pytest.mark.parametrize("symmetric", [True, False])
@torch.no_grad()
def test_families_whose_matrices_are_transposed_joined_or_of_experts(family: str, symmetric: bool, tmp_path: Path):
    more = {"num_local_experts": 3, "num_experts_per_tok": 2} if family == "mixtral" else {}
    theirs = quantized_folder(tmp_path, gptq_config(4, 32, symmetric), gptq(4, 32, symmetric), config(family, **more))
    ours = load_decoder(tmp_path)
    expected = {"gpt2": 2 * 6, "phi3": 2 * 7, "mixtral": 2 * (4 + 3 * 3)}[family]
    if family != "phi3":
        assert bits_of(ours) == ({4: expected} if symmetric else {})
    assert (ours(IDS) - theirs(IDS).logits).abs().max() < 1e-4


@pytest.mark.parametrize(("bits", "columns"), [(4, 32), (8, -1)])
def test_the_compiled_step_computes_kept_matrices_beside_a_whole_output_matrix(bits: int, columns: int, tmp_path: Path):
    quantized_folder(tmp_path, gptq_config(bits, columns), gptq(bits, columns))
    ours = load_decoder(tmp_path)
    assert fits(ours, ours.cache_dtype) and bits_of(ours) == {bits: 14}
    worst, spread = differences(ours)
    assert worst < 0.1 * spread


@torch.no_grad()
def test_an_output_matrix_may_be_quantized_too(tmp_path: Path):
    theirs = quantized_folder(
        tmp_path, gptq_config(4, 32) | {"lm_head": True}, gptq(4, 32), config(vocab_size=64), whole=()
    )
    ours = load_decoder(tmp_path)
    assert bits_of(ours) == {4: 15} and (ours(IDS) - theirs(IDS).logits).abs().max() < 1e-4


AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}


@pytest.mark.parametrize("columns", [32, 16, -1])
def test_awq(columns: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    theirs = quantized_folder(tmp_path, AWQ | {"group_size": columns}, awq(columns))
    load_decoder(tmp_path)
    kept = {8: 14} if columns == -1 else {}
    said = [] if kept else ["awq, 4 bits in groups of", "14 matrices are widened to float32, which takes 246 kB"]
    check(tmp_path, theirs, kept, capsys.readouterr().err, *said)


def test_layers_that_a_list_leaves_whole_are_read_whole(tmp_path: Path):
    said = AWQ | {"modules_to_not_convert": ["down_proj", "lm_head"]}
    theirs = quantized_folder(tmp_path, said, awq(32), whole=("lm_head", "down_proj"))
    check(tmp_path, theirs, {}, "")
    raw = json.loads((tmp_path / "config.json").read_text())
    raw["quantization_config"]["modules_to_not_convert"] = ["model.layers.0", "lm_head"]
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match=r"layers\.0\.\w+\.\w+\.weight. is quantized, but"):
        load_decoder(tmp_path)


FP8: dict[str, Any] = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic"}


@pytest.mark.parametrize(
    ("said", "block", "name"),
    [
        (FP8 | {"weight_block_size": [16, 16]}, (16, 16), "weight_scale_inv"),
        (FP8 | {"weight_block_size": [40, 48]}, (40, 48), "weight_scale_inv"),
        (FP8 | {"activation_scheme": "static", "ignored_layers": ["lm_head"]}, (2**20, 2**20), "weight_scale"),
        ({"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0, "modules_to_not_convert": ["lm_head"]}, None,
         "weight_scale"),
    ],
)  # fmt: skip
def test_fp8(
    said: dict[str, Any], block: tuple[int, int] | None, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    theirs = quantized_folder(tmp_path, said, fp8(block, name))
    load_decoder(tmp_path)
    check(tmp_path, theirs, {}, capsys.readouterr().err, "14 matrices are widened", "activations are left whole")


@torch.no_grad()
def test_fp8_blocks_are_multiplied_with_their_scales_as_transformers_does(tmp_path: Path):
    quantized_folder(tmp_path, FP8 | {"weight_block_size": [16, 16]}, fp8((16, 16)))
    asked = transformers.FineGrainedFP8Config(dequantize=True, weight_block_size=(16, 16))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, quantization_config=asked)
    assert (load_decoder(tmp_path)(IDS) - theirs(IDS).logits).abs().max() < 1e-4


BNB4: dict[str, Any] = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


@pytest.mark.parametrize(("nested", "size"), [(False, 64), (True, 64), (False, 40)])
def test_bitsandbytes_4bit(nested: bool, size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    said = BNB4 | {"bnb_4bit_use_double_quant": nested, "bnb_4bit_compute_dtype": "bfloat16"}
    theirs = quantized_folder(tmp_path, said, bitsandbytes_4bit(nested, size))
    load_decoder(tmp_path)
    check(tmp_path, theirs, {}, capsys.readouterr().err, "nf4", "14 matrices are widened")


@pytest.mark.parametrize("said", [{"quant_method": "bitsandbytes", "load_in_8bit": True}, {"load_in_8bit": True}])
def test_bitsandbytes_8bit_stays_as_it_is(said: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    theirs = quantized_folder(tmp_path, said | {"llm_int8_threshold": 6.0}, bitsandbytes_8bit)
    load_decoder(tmp_path)
    check(tmp_path, theirs, {8: 14}, capsys.readouterr().err, "activations are left whole")


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [False, True])
def test_bitsandbytes_own_packing(kind: str, nested: bool, tmp_path: Path):
    functional = pytest.importorskip("bitsandbytes").functional

    def pack(weight: Tensor) -> Packed:
        q, state = functional.quantize_4bit(weight, quant_type=kind, compress_statistics=nested)
        parts = {f"weight.{name}": part for name, part in state.as_dict(packed=True).items()}
        return {"weight": q, **parts}, functional.dequantize_4bit(q, state)

    # its own way back on a CPU (0.50) is wrong where a row of 96 columns ends within a block of 64
    shape = config(intermediate_size=128)
    check(tmp_path, quantized_folder(tmp_path, BNB4 | {"bnb_4bit_quant_type": kind}, pack, shape), {}, "")


COMPRESSED: list[tuple[str, dict[str, Any], dict[str, Any] | None, int | None]] = [
    # format, weights, activations, kept in how many bits
    ("pack-quantized", {"num_bits": 4, "strategy": "group", "group_size": 32}, None, 4),
    ("pack-quantized", {"num_bits": 4, "strategy": "group", "group_size": 16}, None, None),
    ("pack-quantized", {"num_bits": 4, "strategy": "channel"}, None, 4),
    ("pack-quantized", {"num_bits": 2, "strategy": "group", "group_size": 32}, None, 4),
    ("pack-quantized", {"num_bits": 4, "strategy": "group", "group_size": 32, "symmetric": False}, None, None),
    ("pack-quantized", {"num_bits": 8, "strategy": "channel", "symmetric": False}, None, None),
    ("pack-quantized", {"num_bits": 8, "strategy": "group", "group_size": 32}, None, None),
    ("int-quantized", {"num_bits": 8, "strategy": "channel"}, {"num_bits": 8, "strategy": "token", "dynamic": True}, 8),
    ("int-quantized", {"num_bits": 8, "strategy": "tensor"}, {"num_bits": 8, "strategy": "token", "dynamic": True}, 8),
    ("naive-quantized", {"num_bits": 8, "strategy": "channel"}, None, 8),
    ("naive-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}, None, None),
    ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "tensor"},
     {"num_bits": 8, "type": "float", "strategy": "tensor"}, None),
    ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"},
     {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True}, None),
    ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [32, 32]},
     {"num_bits": 8, "type": "float", "strategy": "group", "group_size": 32, "dynamic": True}, None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "weights", "activations", "kept"), COMPRESSED)
def test_compressed_tensors(
    name: str,
    weights: dict[str, Any],
    activations: dict[str, Any] | None,
    kept: int | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    library = pytest.importorskip("compressed_tensors")
    scheme, pack = packer_of_the_library(name, weights, activations)
    group = json.loads(scheme.model_dump_json())
    said = {"quant_method": "compressed-tensors", "format": name, "quantization_status": "compressed",
            "version": library.__version__, "ignore": ["re:.*lm_head"], "config_groups": {"group_0": group}}  # fmt: skip
    theirs = quantized_folder(tmp_path, said, pack)
    load_decoder(tmp_path)
    remarks = ["activations are left whole"] if activations else []
    check(tmp_path, theirs, {kept: 14} if kept else {}, capsys.readouterr().err, *remarks)
    if activations is None and name == "pack-quantized" and weights.get("symmetric", True):
        # transformers expects other shapes of packed zeros than the library writes
        read_by_them = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
        check(tmp_path, read_by_them, {kept: 14} if kept else {}, "")


def packer_of_the_library(
    name: str, weights: dict[str, Any], activations: dict[str, Any] | None
) -> tuple[Any, Callable[[Tensor], Packed]]:
    """A scheme of compressed-tensors, and its own way to pack a layer and back."""
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationScheme
    from compressed_tensors.quantization.utils import calculate_qparams

    scheme = QuantizationScheme(targets=["Linear"], weights=weights, input_activations=activations)  # pyright: ignore
    compressor = BaseCompressor.get_value_from_registry(name)

    def pack(weight: Tensor) -> Packed:
        rows, cols = weight.shape
        height, width = {
            "tensor": (rows, cols), "channel": (1, cols), "group": (1, weights.get("group_size", cols)), "block": (32, 32),
        }[weights["strategy"]]  # fmt: skip
        blocks = weight.view(rows // height, height, cols // width, width)
        low, high = blocks.amin((1, 3)), blocks.amax((1, 3))
        scale, zero = calculate_qparams(low, high, scheme.weights)
        if weights["strategy"] == "tensor":
            scale, zero = scale.flatten(), zero.flatten()
        state = {"weight": weight, "weight_scale": scale, "weight_zero_point": zero}
        packed = compressor.compress(state, scheme)
        return packed, compressor.decompress(dict(packed), scheme)["weight"]

    return scheme, pack


def test_layers_of_compressed_tensors_have_the_format_of_the_first_target_that_names_them(tmp_path: Path):
    pytest.importorskip("compressed_tensors")
    four, pack_four = packer_of_the_library("pack-quantized", COMPRESSED[0][1], None)
    eight, pack_eight = packer_of_the_library("pack-quantized", {"num_bits": 8, "strategy": "channel"}, None)
    groups = [json.loads(each.model_dump_json()) for each in (eight, four)]
    groups[0]["targets"] = ["re:.*self_attn.*", "model.layers.1.mlp.up_proj"]
    said = {"quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
            "ignore": ["lm_head"], "config_groups": {"a": groups[1], "b": groups[0]}}  # fmt: skip
    order = iter(sorted(
        f"model.layers.{n}.{part}" for n in (0, 1)
        for part in (*(f"self_attn.{each}_proj" for each in "qkvo"), *(f"mlp.{each}_proj" for each in ("gate", "up", "down")))
    ))  # fmt: skip

    def pack(weight: Tensor) -> Packed:
        layer = next(order)
        return (pack_eight if "self_attn" in layer or layer == "model.layers.1.mlp.up_proj" else pack_four)(weight)

    theirs = quantized_folder(tmp_path, said, pack)
    check(tmp_path, theirs, {8: 9, 4: 5}, "")


def test_widened_weights_have_the_number_type_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    quantized_folder(tmp_path, AWQ, awq(32))
    assert stored_dtype(tmp_path) == torch.float32
    found = load_decoder(tmp_path, dtype=torch.bfloat16)
    assert {each.dtype for each in found.parameters()} == {torch.bfloat16}
    assert "widened to bfloat16, which takes 123 kB" in capsys.readouterr().err


@torch.no_grad()
def test_what_is_widened_can_be_quantized_while_it_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    theirs = quantized_folder(tmp_path, AWQ, awq(32))
    found = load_decoder(tmp_path, bits=8)
    assert bits_of(found) == {8: 15} and "quantized anew to int8" in capsys.readouterr().err
    assert (found(IDS) - theirs(IDS).logits).abs().max() < 0.2


def test_an_encoder_is_widened(tmp_path: Path):
    shape = transformers.BertConfig(
        vocab_size=61, hidden_size=64, num_hidden_layers=1, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=32, is_decoder=False,
    )  # fmt: skip
    theirs = transformers.BertForMaskedLM(shape).eval()
    theirs.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    name = "bert.encoder.layer.0.attention.self.query"
    parts, stands_for = gptq(4, 32)(weights.pop(f"{name}.weight"))
    save_file(weights | {f"{name}.{ending}": part.contiguous() for ending, part in parts.items()},
              tmp_path / "model.safetensors", {"format": "pt"})  # fmt: skip
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | {"quantization_config": gptq_config(4, 32)}))
    found = load_model(tmp_path)
    assert not isinstance(found, Decoder) and not bits_of(found)
    assert any(parameter.equal(stands_for) for parameter in found.parameters())


FOLDERS: dict[str, tuple[dict[str, Any], Callable[[Tensor], Packed]]] = {
    "gptq": (gptq_config(4, 32, reordered=True), gptq(4, 32, reordered=True)),
    "awq": (AWQ, awq(32)),
    "fp8": (FP8 | {"weight_block_size": [16, 16]}, fp8((16, 16))),
    "nf4": (BNB4, bitsandbytes_4bit(True)),
    "int8": ({"quant_method": "bitsandbytes", "load_in_8bit": True}, bitsandbytes_8bit),
}
NOT_NEEDED = ("input_scale", "weight_format")


@pytest.mark.parametrize("method", FOLDERS)
def test_damaged_parts_are_named(method: str, tmp_path: Path):
    said, pack = FOLDERS[method]
    quantized_folder(tmp_path, said, pack)
    whole, layer = load_file(tmp_path / "model.safetensors"), "model.layers.1.mlp.up_proj"
    for name in [name for name in whole if name.startswith(f"{layer}.") and not name.endswith(NOT_NEEDED)]:
        part = whole[name]
        others = [part[:-1], part[None, None], part[:0]]
        if not part.is_floating_point():
            others += [part.to(torch.float64)]
        if part.is_floating_point() and ("scal" in name or "absmax" in name or "SCB" in name):
            others += [part.float() * torch.nan]
        if name.endswith("g_idx"):
            others = [*others, part + 99, -part]
        rest = {each: tensor for each, tensor in whole.items() if each != name}
        for state in (rest, *(rest | {name: each.contiguous()} for each in others)):
            save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
            with pytest.raises(CheckpointError, match="up_proj") as error:
                load_decoder(tmp_path)
                pytest.fail(f"{name}: {None if name not in state else (state[name].dtype, state[name].shape)}")
            assert "\n" not in str(error.value)
    save_file(whole | {f"{layer}.wonder": torch.zeros(1)}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"up_proj\.wonder"):
        load_decoder(tmp_path)


REFUSED: list[tuple[str, str, Any]] = [
    ("gptq", "bits", 5), ("gptq", "bits", None), ("gptq", "bits", "4"), ("gptq", "group_size", 0),
    ("gptq", "group_size", 2.5), ("gptq", "sym", "yes"), ("gptq", "desc_act", 1), ("gptq", "checkpoint_format", "marlin"),
    ("gptq", "is_marlin_format", True), ("gptq", "pack_dtype", "int8"), ("gptq", "dynamic", {"+:.*up.*": {"bits": 8}}),
    ("awq", "bits", 3), ("awq", "zero_point", False), ("awq", "version", "gemv"), ("awq", "group_size", -2),
    ("awq", "modules_to_not_convert", "lm_head"), ("awq", "modules_to_not_convert", [5]), ("fp8", "fmt", "e5m2"),
    ("fp8", "weight_block_size", [16]), ("fp8", "weight_block_size", [0, 16]), ("fp8", "scale_fmt", "odd"),
    ("fp8", "activation_scheme", "none"), ("nf4", "bnb_4bit_quant_type", "nf3"), ("nf4", "load_in_8bit", True),
    ("nf4", "load_in_4bit", False), ("int8", "llm_int8_skip_modules", {"a": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "field", "value"), REFUSED)
def test_fields_that_change_the_result_are_refused_by_name(method: str, field: str, value: Any, tmp_path: Path):
    (tmp_path / "config.json").write_text(
        json.dumps({**config().to_dict(), "quantization_config": FOLDERS[method][0] | {field: value}})
    )
    save_file({"lm_head.weight": torch.zeros(61, 64)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"quantization_config, ({field}|load_in_4bit): ") as error:
        load_decoder(tmp_path)
    assert "\n" not in str(error.value)


def test_fields_that_nothing_reads_and_weights_that_are_whole_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config().save_pretrained(tmp_path)
    transformers.AutoModelForCausalLM.from_config(config()).save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    raw["quantization_config"] = gptq_config(4, 128) | {"colour": "red"}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    load_decoder(tmp_path)
    text = capsys.readouterr().err
    assert "colour" in text and "all of them are whole" in text


def test_info_says_what_a_folder_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    quantized_folder(tmp_path, gptq_config(3, 32, False), gptq(3, 32, False))
    info(str(tmp_path), json=True)
    told = json.loads(capsys.readouterr().out)["model"]
    assert told["quantized_to"] == "gptq, 3 bits in groups of 32" and "problem" not in told
