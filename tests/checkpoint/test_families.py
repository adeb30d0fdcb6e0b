"""Every family, both ways, against transformers, over configurations drawn from what the family allows."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from wenloom.checkpoint.families.fields import ACTIVATION_NAMES
from wenloom.checkpoint.folder import load_decoder, write_model_files
from wenloom.core.errors import CheckpointError
from wenloom.model.decoder import Decoder
from wenloom.model.taps import Taps, keep

from .drawn_configs import llama_like, of_other_shape
from .folders import DECODERS, OWN_HEADS, tiny_config

TOLERANCE = 1e-4
VOCAB = 61
thorough = settings(max_examples=10, suppress_health_check=list(HealthCheck))


@st.composite
def rope_parameters(draw: st.DrawFn, d_rotary: int, context: int) -> dict[str, Any]:
    """Every rope kind these families use, in the spelling of transformers 5."""
    kind = draw(st.sampled_from(["default", "linear", "dynamic", "yarn", "longrope", "llama3"]))
    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": draw(st.sampled_from([10_000.0, 500_000.0]))}
    if kind != "default":
        rope["factor"] = draw(st.sampled_from([2.0, 4.0]))
    if kind in ("yarn", "longrope", "llama3"):
        rope["original_max_position_embeddings"] = context // 2
    if kind == "yarn":
        optional = {"beta_fast": 16.0, "beta_slow": 2.0, "truncate": False, "attention_factor": 1.2}
        rope |= {name: optional[name] for name in draw(st.sets(st.sampled_from(sorted(optional))))}
        if draw(st.booleans()):
            rope |= {"mscale": 0.8, "mscale_all_dim": 0.5}
    if kind == "longrope":
        rope["short_factor"] = [1.0 + 0.1 * pair for pair in range(d_rotary // 2)]
        rope["long_factor"] = [2.0 + 0.3 * pair for pair in range(d_rotary // 2)]
    if kind == "llama3":
        rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    return rope


@st.composite
def hf_config(draw: st.DrawFn, family: str) -> transformers.PreTrainedConfig:
    """A tiny configuration of one family."""
    n_heads, d_head = draw(st.sampled_from([(4, 8), (2, 12), (6, 4)]))
    n_layers, context = draw(st.integers(1, 3)), 16
    activation = draw(st.sampled_from(sorted(ACTIVATION_NAMES)))
    tied, std = draw(st.booleans()), 0.3  # large weights, so that a mistake shows
    common = dict(vocab_size=VOCAB, tie_word_embeddings=tied, initializer_range=std, bos_token_id=1, eos_token_id=2,
                  pad_token_id=None)  # fmt: skip
    if family == "gpt2":
        return transformers.GPT2Config(
            n_embd=n_heads * d_head, n_layer=n_layers, n_head=n_heads, n_positions=context,
            n_inner=draw(st.sampled_from([None, 20])), activation_function=activation,
            scale_attn_weights=draw(st.booleans()), scale_attn_by_inverse_layer_idx=draw(st.booleans()),
            layer_norm_epsilon=draw(st.sampled_from([1e-5, 1e-3])), **common,
        )  # fmt: skip
    if family == "gpt_neo":
        kinds = draw(st.lists(st.sampled_from(["global", "local"]), min_size=1, max_size=2))
        return transformers.GPTNeoConfig(
            hidden_size=n_heads * d_head, num_layers=n_layers * len(kinds), num_heads=n_heads, window_size=draw(st.integers(1, 7)),
            max_position_embeddings=context, attention_types=[[kinds, n_layers]], activation_function=activation,
            intermediate_size=draw(st.sampled_from([None, 20])), **common,
        )  # fmt: skip
    if family in ("opt", "gptj", "bloom", "falcon"):
        own = of_other_shape(draw, family, n_layers, n_heads, draw(rope_parameters(8, context)), activation)
        return transformers.AutoConfig.for_model(family, **common, **own)
    common |= dict(num_hidden_layers=n_layers, num_attention_heads=n_heads, hidden_act=activation,
                   intermediate_size=draw(st.sampled_from([20, 32])), max_position_embeddings=context)  # fmt: skip
    if family == "gpt_neox":
        part = draw(st.sampled_from([0.5, 1.0]))
        rope = draw(rope_parameters(int(d_head * part), context)) | {"partial_rotary_factor": part}
        return transformers.GPTNeoXConfig(
            hidden_size=n_heads * d_head, rope_parameters=rope, use_parallel_residual=draw(st.booleans()),
            attention_bias=draw(st.booleans()), layer_norm_eps=draw(st.sampled_from([1e-5, 1e-3])), **common,
        )  # fmt: skip
    common |= dict(
        hidden_size=n_heads * 8, num_key_value_heads=draw(st.sampled_from([1, 2, n_heads])),
        rms_norm_eps=draw(st.sampled_from([1e-6, 1e-3])),
    )  # fmt: skip
    d_head = d_head if family in OWN_HEADS else 8
    if family in OWN_HEADS:
        common["head_dim"] = d_head
    rope = draw(rope_parameters(d_head, context))
    if family not in ("llama", "mistral", "qwen2", "qwen3"):
        own = llama_like(draw, family, n_layers, d_head, rope)
        if family in ("gemma2", "gemma3_text"):
            common["hidden_activation"] = common.pop("hidden_act")
        return transformers.AutoConfig.for_model(family, **common, **own)
    window = draw(st.sampled_from([None, 3, 7]))
    if family == "llama":
        return transformers.LlamaConfig(
            rope_parameters=rope, attention_bias=draw(st.booleans()), mlp_bias=draw(st.booleans()), **common
        )
    if family == "mistral":
        return transformers.MistralConfig(rope_parameters=rope, sliding_window=window, **common)
    sliding = dict(
        use_sliding_window=window is not None, sliding_window=window, max_window_layers=draw(st.integers(0, 2))
    )
    if family == "qwen2":
        return transformers.Qwen2Config(rope_parameters=rope, **sliding, **common)
    return transformers.Qwen3Config(rope_parameters=rope, attention_bias=draw(st.booleans()), **sliding, **common)


def batch_with_padding(context: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three rows: full, padded on the left, padded on the right; with positions counted from the first token."""
    tokens = torch.randint(3, VOCAB, (3, context), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(tokens)
    mask[1, :5] = 0
    mask[2, -5:] = 0
    return tokens, mask, (mask.cumsum(-1) - 1).clamp(min=0)


def largest_difference(ours: Any, theirs: Any, context: int) -> float:
    """Of logits, relative to the largest where that is above 1: float32 keeps seven digits."""
    tokens, mask, positions = batch_with_padding(context)
    with torch.no_grad():
        expected = theirs(tokens, attention_mask=mask, position_ids=positions).logits
        actual = ours(tokens, attention_mask=mask, position_ids=positions)
        plain = (ours(tokens) - theirs(tokens).logits).abs().max()
    largest = max(1.0, float(expected[mask.bool()].abs().max()))
    return max(float(plain), float((actual - expected)[mask.bool()].abs().max())) / largest


def is_undecided(decoder: Decoder, context: int) -> bool:
    """Whether a router's choice between two experts hangs on so little that rounding may decide it."""
    experts = decoder.config.mlp.experts
    if experts is None or experts.active == experts.count:
        return False
    kept: dict[str, torch.Tensor] = {}
    taps = Taps({place: keep(place, kept) for place in decoder.places if place.endswith("router")}, decoder.places)
    tokens, mask, positions = batch_with_padding(context)
    decoder(tokens, attention_mask=mask, position_ids=positions, taps=taps)
    best = [scores.topk(experts.active + 1, -1).values for scores in kept.values()]
    return any(bool(((each[..., -2] - each[..., -1]) < TOLERANCE).any()) for each in best)


@pytest.mark.parametrize("family", DECODERS)
@thorough
@given(data=st.data())
def test_same_logits_both_ways(family: str, data: st.DataObject):
    config = data.draw(hf_config(family))
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in theirs.parameters():  # biases and norms start at 0 and 1: move them, so that they are tested
        parameter.data += 0.1 * torch.randn_like(parameter)
    theirs.tie_weights()
    with TemporaryDirectory() as name:
        theirs.save_pretrained(name)
        ours = load_decoder(Path(name))
        assume(not is_undecided(ours, 16))
        assert largest_difference(ours, theirs, 16) <= TOLERANCE
    with TemporaryDirectory() as name:
        write_model_files(ours, Path(name))
        again = transformers.AutoModelForCausalLM.from_pretrained(name).eval()
        assert largest_difference(ours, again, 16) <= TOLERANCE
        assert load_decoder(Path(name)).config == ours.config


@pytest.mark.parametrize("family", DECODERS)
def test_saved_and_loaded_in_shards(family: str, tmp_path: Path):
    theirs = transformers.AutoModelForCausalLM.from_config(tiny(family)).eval()
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="8KB")
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 1
    ours = load_decoder(tmp_path / "theirs")
    assert largest_difference(ours, theirs, 16) <= TOLERANCE
    (tmp_path / "ours").mkdir()
    write_model_files(ours, tmp_path / "ours", shard_bytes=8000)
    assert len(list((tmp_path / "ours").glob("*.safetensors"))) > 1
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
    assert largest_difference(ours, again, 16) <= TOLERANCE


def tiny(family: str, **more: Any) -> transformers.PreTrainedConfig:
    return tiny_config(family, bos_token_id=1, pad_token_id=None, **more)


def saved(family: str, folder: Path, **fields: Any) -> Path:
    """A folder by transformers whose config.json is then edited."""
    transformers.AutoModelForCausalLM.from_config(tiny(family)).save_pretrained(folder)
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | fields))
    return folder


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize(
    "field, value",
    [
        ("_attn_implementation_internal", "evil/kernel"),
        ("quantization_config", {"bits": 4}),
        ("per_layer_config", {"0": {"hidden_size": 8}}),
        ("is_encoder_decoder", True),
    ],
)
def test_fields_that_the_reference_reads_and_we_do_not_know_are_refused_by_name(
    family: str, field: str, value: object, tmp_path: Path
):
    with pytest.raises(CheckpointError, match=field):
        load_decoder(saved(family, tmp_path, **{field: value}))


@pytest.mark.parametrize(
    "fields, named",
    [
        ({"hidden_act": "laplace"}, "laplace"),
        ({"rope_parameters": {"rope_type": "proportional", "rope_theta": 1e4}}, "proportional"),
        ({"rope_parameters": {"rope_type": "linear"}}, "factor"),
        ({"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1]}}, "mrope_section"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"hidden_size": "16"}, "hidden_size"),
        ({"num_attention_heads": 3}, "n_heads"),
        ({"num_attention_heads": 4, "num_key_value_heads": 4}, "shape"),
        ({"intermediate_size": 25}, "shape"),
        ({"model_type": "vits"}, "vits.*known"),
        ({"model_type": "mamba"}, "mamba.*recurrent state"),
        ({"model_type": "deepseek_v3"}, "deepseek_v3.*latent attention"),
    ],
)
def test_values_not_understood_are_refused_by_name(fields: dict[str, Any], named: str, tmp_path: Path):
    with pytest.raises(CheckpointError, match=named):
        load_decoder(saved("llama", tmp_path, **fields))


def test_fields_of_transformers_4_are_understood(tmp_path: Path):
    """`rope_theta` beside `rope_scaling` with the key `type`, as files written before version 5 have it."""
    scaling = {"type": "linear", "factor": 2.0}
    config = tiny("llama", rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5})
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    theirs.save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    del raw["rope_parameters"]
    (tmp_path / "config.json").write_text(json.dumps(raw | {"rope_theta": 5e5, "rope_scaling": scaling}))
    assert largest_difference(load_decoder(tmp_path), theirs, 16) <= TOLERANCE


def test_bare_gpt2_file_of_the_hub(tmp_path: Path):
    """The file of the original GPT-2 has no `transformer.` prefix and carries causal masks."""
    from safetensors.torch import load_file, save_file

    theirs = transformers.AutoModelForCausalLM.from_config(tiny("gpt2")).eval()
    theirs.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    bare |= {f"h.{layer}.attn.bias": torch.ones(1, 1, 16, 16).tril() for layer in range(2)}
    save_file(bare, tmp_path / "model.safetensors")
    assert largest_difference(load_decoder(tmp_path), theirs, 16) <= TOLERANCE


def test_truncated_weights(tmp_path: Path):
    file = saved("llama", tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        load_decoder(tmp_path)


def test_pickled_weights_are_refused_with_the_mend(tmp_path: Path):
    (saved("llama", tmp_path) / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin.*save_pretrained"):
        load_decoder(tmp_path)


def test_missing_and_extra_tensors(tmp_path: Path):
    from safetensors.torch import load_file, save_file

    file = saved("llama", tmp_path) / "model.safetensors"
    weights = load_file(file)
    save_file(weights | {"model.layers.7.self_attn.q_proj.weight": torch.ones(2)}, file)
    with pytest.raises(CheckpointError, match=r"layers\.7"):
        load_decoder(tmp_path)
    del weights["model.norm.weight"]
    save_file(weights, file)
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight.*missing"):
        load_decoder(tmp_path)


def test_index_cannot_name_files_outside(tmp_path: Path):
    saved("llama", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": "../../secret.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="outside the folder"):
        load_decoder(tmp_path)


@pytest.mark.parametrize("content, message", [("", "JSON"), ("[1]", "object"), ("{", "line 1")])
def test_damaged_config(content: str, message: str, tmp_path: Path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        load_decoder(tmp_path)


def test_no_model_here(tmp_path: Path):
    with pytest.raises(CheckpointError, match="is not a model folder"):
        load_decoder(tmp_path)
    with pytest.raises(CheckpointError, match="no such folder"):
        load_decoder(tmp_path / "nowhere")
