"""The compiled step computes what is on its list, and PyTorch everything else."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

from wenloom.core.errors import InputError
from wenloom.model.attention import Attention
from wenloom.model.cache import Segment
from wenloom.model.config import ModelConfig, leaves, name_for_users, reshaped
from wenloom.model.decoder import Decoder
from wenloom.model.experts import Router
from wenloom.model.feedforward import FeedForward
from wenloom.model.lora import AdapterConfig, adapt
from wenloom.model.norm import RMSNorm
from wenloom.model.parts import Activation, AttentionShape, Disentangled, Experts, Rope
from wenloom.model.quantize import QuantizedLinear, quantize
from wenloom.runtime.native import compiler, supported
from wenloom.runtime.native.step import NativeStep
from wenloom.runtime.native.supported import fits
from wenloom.runtime.runner import ModelRunner
from wenloom.runtime.slots import Slots

from ..conftest import random_decoder, tiny_config
from .test_native import compiled, differences

OTHER: dict[str, list[object]] = {
    "family": ["qwen3"],
    "vocab_size": [397],
    "n_layers": [3],
    "d_model": [48, 33],
    "n_heads": [8],
    "n_kv_heads": [1],
    "d_head": [12, 80],
    "d_mlp": [45],
    "context_length": [64],
    "positions.rope": [None, Rope(8), Rope(4, theta=50.0)],
    "positions.local_rope": [Rope(8, theta=20.0)],
    "positions.unrotated_layers": [(0,), (0, 1)],
    "positions.kind": ["sinusoidal", "fairseq_sinusoidal", "relative", "alibi", "none"],
    "positions.offset": [2],
    "positions.skip_padding": [True],
    "positions.buckets": [8],
    "positions.distance": [16],
    "positions.in_layers": [True],
    "positions.distance_bias": [True],
    "positions.disentangled": [Disentangled(0, 16)],
    "norms.kind": ["layernorm", "rmsnorm"],
    "norms.bias": [False],
    "norms.place": ["post", "inner", "both"],
    "norms.first": [False],
    "norms.final": [False],
    "norms.embedding": [True],
    "embedding.scaled": [True],
    "embedding.multiplier": [3.0],
    "embedding.width": [16],
    "embedding.token_types": [2],
    "layer_groups": [1],
    "causal": [False],
    "norms.eps": [0.3],
    "mlp.activation": list(Activation.__args__),  # pyright: ignore[reportAttributeAccessIssue]
    "mlp.gated": [True, False],
    "mlp.experts": [Experts(4, 2, 40), Experts(3, 1, 24, normalised=False, dense_layers=(0,))],
    "attention.qkv_bias": [True, False],
    "attention.output_bias": [True, False],
    "mlp.bias": [True, False],
    "attention.qk_norm": [True],
    "attention.qk_norm_whole": [True],
    "attention.scale_by_head": [False],
    "attention.score_multiplier": [0.5],
    "attention.score_cap": [1.0],
    "attention.scale_by_layer": [True],
    "attention.sinks": [True],
    "attention.sliding_window": [4, -1],
    "attention.sliding_layers": [(1,), (0, 1)],
    "residual.parallel": [True],
    "residual.shared_norm": [True],
    "residual.multiplier": [0.3],
    "logits.tied": [True, False],
    "head.activation": ["gelu"],
    "head.bias": [False],
    "attention.key_bias": [False],
    "n_mels": [80],
    "head.present": [False],
    "logits.bias": [True],
    "logits.scaled": [True],
    "logits.multiplier": [0.3],
    "logits.cap": [1.0],
    "labels": [("yes", "no")],
    "head.pooler": ["tanh"],
    "head.pooler_norm": [True],
    "dropout.embedding": [0.5],
    "dropout.attention": [0.5],
    "dropout.residual": [0.5],
    "initializer_range": [0.5],
    "bos_token_id": [7],
    "eos_token_ids": [(7, 8)],
    "pad_token_id": [7],
    "encoder": [replace(tiny_config(), causal=False)],
    "embedding.shared": [False],
    "decoder_start_token_id": [7],
}
"""Values of each field that make another model."""
WITH: dict[str, dict[str, object]] = {
    "attention.qk_norm_whole": {"attention.qk_norm": True},
    "residual.shared_norm": {"residual.parallel": True},
    "positions.local_rope": {
        "positions.rope": Rope(8),
        "attention.sliding_window": 5,
        "attention.sliding_layers": (0,),
    },
    "positions.unrotated_layers": {"positions.rope": Rope(8)},
    "positions.in_layers": {"positions.rope": None, "positions.kind": "relative"},
}
"""What a field needs beside it to mean something."""
BASES = {"llama": tiny_config(), "gpt2": tiny_config(architecture="gpt2"),
         "windowed": reshaped(tiny_config(), attention={"sliding_window": 5, "sliding_layers": (0,)})}  # fmt: skip
YARN = Rope(8, kind="yarn", factor=2.0, original_context_length=16)
LLAMA3 = Rope(8, kind="llama3", factor=4.0, original_context_length=16, low_freq_factor=1.0, high_freq_factor=4.0)
LONG = Rope(8, kind="longrope", original_context_length=16, short_factor=(1.0,) * 4, long_factor=(2.0,) * 4)
ROPES: dict[str, list[Rope]] = {
    "d_rotary": [Rope(2)],
    "theta": [Rope(8, theta=20.0)],
    "kind": [Rope(8, kind="linear", factor=2.0), Rope(8, kind="dynamic", factor=2.0), YARN, LLAMA3, LONG],
    "factor": [replace(YARN, factor=3.0)],
    "original_context_length": [replace(YARN, original_context_length=8)],
    "attention_factor": [replace(YARN, attention_factor=0.3)],
    "beta_fast": [replace(YARN, beta_fast=4.0)],
    "beta_slow": [replace(YARN, beta_slow=0.1)],
    "mscale": [replace(YARN, mscale=3.0, mscale_all_dim=0.2)],
    "mscale_all_dim": [replace(YARN, mscale=0.4, mscale_all_dim=2.0)],
    "truncate": [replace(YARN, truncate=False)],
    "short_factor": [replace(LONG, short_factor=(1.5,) * 4)],
    "long_factor": [replace(LONG, long_factor=(1.5,) * 4)],
    "low_freq_factor": [replace(LLAMA3, low_freq_factor=0.5)],
    "high_freq_factor": [replace(LLAMA3, high_freq_factor=8.0)],
}


def with_values(config: ModelConfig, named: dict[str, Any]) -> ModelConfig:
    """A shape with other values, named as `leaves` names them."""
    parts = ((*name.rpartition("."), value) for name, value in named.items())
    return reshaped(config, *({part: {name: value}} if part else {name: value} for part, _, name, value in parts))


def drawn(config: ModelConfig) -> Decoder:
    """A model whose biases and norms are drawn as well."""
    decoder, draw = random_decoder(config), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.dim() == 1:
                parameter += torch.randn(parameter.shape, generator=draw) / 3
    return decoder


def agrees(config: ModelConfig) -> bool:
    """Whether the step is used for a model; its logits are PyTorch's then."""
    decoder = drawn(config)
    if not fits(decoder, torch.float32):
        return False
    worst, spread = differences(decoder)
    assert worst < 2e-4 * max(1, spread)
    return True


@pytest.mark.parametrize(
    "field, value",
    [
        ("mlp.experts", Experts(4, 2, 40, gate_limit=7.0)),
        ("norms.place", "both"),
        ("attention.score_cap", 5.0),
        ("positions.unrotated_layers", (1,)),
        ("positions.rope", LONG),
    ],
)
def test_what_is_left_to_pytorch_is_named(field: str, value: object):
    assert supported.declined(tiny_config()) == []
    assert supported.declined(with_values(tiny_config(), {field: value})) == [name_for_users(field)]


def test_the_lists_name_every_field():
    assert {name for name, _ in leaves(tiny_config())} == supported._MODEL_FIELDS.keys() == OTHER.keys()
    assert {each.name for each in fields(Rope)} == supported._ROPE_FIELDS.keys() == ROPES.keys()
    assert len({name_for_users(name) for name in OTHER}) == len(OTHER)


@pytest.mark.parametrize("field", OTHER)
def test_each_field_alone_is_computed_alike_or_left_to_pytorch(field: str):
    compiled()
    for base in BASES.values():
        assert agrees(base)
        for value in OTHER[field]:
            try:
                config = with_values(base, {field: value} | WITH.get(field, {}))
            except InputError:
                continue
            agrees(config)


@st.composite
def ropes(draw: st.DrawFn) -> Rope:
    rope = draw(st.sampled_from([Rope(8), *(each for some in ROPES.values() for each in some)]))
    d_rotary = 8 if rope.kind == "longrope" else draw(st.sampled_from([2, 4, 8]))
    return replace(rope, d_rotary=d_rotary, theta=draw(st.floats(2.0, 1e6)))


SOME_LAYERS = st.sets(st.integers(0, 2), min_size=1).map(lambda some: tuple(sorted(some)))
DRAWN: dict[str, st.SearchStrategy[object]] = {
    "vocab_size": st.integers(3, 500), "n_layers": st.integers(1, 5), "d_model": st.integers(1, 80), "n_heads": st.integers(1, 9),
    "n_kv_heads": st.sampled_from([1, 2, 4]), "d_head": st.integers(8, 96), "d_mlp": st.integers(1, 160),
    "context_length": st.integers(32, 100), "positions.rope": ropes(), "positions.offset": st.integers(1, 4), "norms.eps": st.floats(1e-8, 3.0),
    "embedding.multiplier": st.floats(0.1, 9.0), "residual.multiplier": st.floats(0.1, 2.0), "logits.multiplier": st.floats(0.1, 9.0),
    "attention.score_multiplier": st.floats(0.01, 2.0), "attention.score_cap": st.floats(0.1, 50.0), "logits.cap": st.floats(0.1, 50.0),
    "attention.sliding_window": st.integers(1, 40), "attention.sliding_layers": SOME_LAYERS, "positions.unrotated_layers": SOME_LAYERS,
    "mlp.experts": st.builds(Experts, st.integers(2, 9), st.integers(1, 2), st.integers(1, 60), st.booleans(),
                         st.sampled_from([(), (0,), (1,)]), st.booleans(), st.sampled_from([None, 0.5])),
}  # fmt: skip
"""What is drawn of a field; of those that are not here, one of the values above."""


@pytest.mark.parametrize("field", OTHER)
@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_value_of_a_field_alone_is_computed_alike_or_left_to_pytorch(field: str, data: st.DataObject):
    compiled()
    base = data.draw(st.sampled_from(sorted(BASES)))
    value = data.draw(DRAWN.get(field, st.sampled_from(OTHER[field])))
    try:
        config = with_values(BASES[base], {field: value} | WITH.get(field, {}))
    except InputError:
        return
    agrees(config)


@pytest.mark.parametrize("field", ROPES)
def test_each_field_of_rotary_positions_too(field: str):
    compiled()
    for rope in ROPES[field]:
        assert agrees(reshaped(tiny_config(), positions={"rope": rope})) != rope.depends_on_length


@pytest.mark.parametrize("known", [supported._MODEL_FIELDS, supported._ROPE_FIELDS], ids=["model", "rope"])
def test_a_field_that_nobody_placed_is_left_to_pytorch(known: dict[str, object], monkeypatch: pytest.MonkeyPatch):
    decoder = random_decoder(tiny_config())
    for name in list(known):
        with monkeypatch.context() as patch:
            patch.delitem(known, name)
            assert not fits(decoder, torch.float32)
    assert fits(decoder, torch.float32)

    @dataclass(frozen=True)
    class Newer(ModelConfig):
        softcap: float = 30.0

    decoder.config = Newer(**{each.name: getattr(decoder.config, each.name) for each in fields(ModelConfig)})
    assert not fits(decoder, torch.float32)

    @dataclass(frozen=True)
    class NewerAttention(AttentionShape):
        softcap: float = 30.0

    decoder.config = replace(tiny_config(), attention=NewerAttention())
    assert not fits(decoder, torch.float32)


class OtherLinear(nn.Linear):
    """Could compute anything."""


class OtherAttention(Attention):
    """Could compute anything."""


class OtherNorm(RMSNorm):
    """Could compute anything."""


class OtherFeedForward(FeedForward):
    """Could compute anything."""


class OtherRouter(Router):
    """Could choose anything."""


class OtherDecoder(Decoder):
    """Could compute anything."""


class OtherQuantized(QuantizedLinear):
    """Could compute anything."""


class OtherTensor(torch.Tensor):
    """Could hold anything."""


def subclassed(name: str, kind: type[nn.Module]) -> Callable[[Decoder], None]:
    return lambda decoder: setattr(decoder.get_submodule(name), "__class__", kind)


def told(name: str, **settings: object) -> Callable[[Decoder], None]:
    return lambda decoder: [setattr(decoder.get_submodule(name), *each) for each in settings.items()] and None


def trained(decoder: Decoder) -> None:
    decoder.config = reshaped(decoder.config, dropout={"residual": 0.5})
    for block in decoder.blocks:
        block.mlp_dropout.rate = block.attention_dropout.rate = 0.5  # pyright: ignore
    decoder.train()


def of_another_shape(decoder: Decoder) -> None:
    decoder.blocks[1].mlp.up.weight.data = torch.zeros(90, 32)  # pyright: ignore


def of_another_class(decoder: Decoder) -> None:
    layer = decoder.get_submodule("blocks.1.mlp.up")
    layer.weight = nn.Parameter(torch.zeros(layer.weight.shape).as_subclass(OtherTensor))  # pyright: ignore


def quantized_otherwise(decoder: Decoder) -> None:
    quantize(decoder, 4)
    decoder.blocks[0].mlp.up.__class__ = OtherQuantized  # pyright: ignore


def with_fewer_scales(decoder: Decoder) -> None:
    quantize(decoder, 4)
    decoder.blocks[0].mlp.down.scale = torch.ones(3)  # pyright: ignore


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


CHANGES: dict[str, Callable[[Decoder], object]] = {
    "LoRA": lambda decoder: adapt(decoder, AdapterConfig(), torch.Generator()),
    "DoRA": lambda decoder: adapt(decoder, AdapterConfig(dora=True), torch.Generator()),
    "a hook": lambda decoder: decoder.blocks[0].register_forward_hook(lambda *_: None),
    "a hook before": lambda decoder: decoder.blocks[1].attention.query.register_forward_pre_hook(lambda *_: None),  # pyright: ignore
    "dropout in training": trained,
    "another linear layer": subclassed("blocks.1.mlp.up", OtherLinear),
    "another attention": subclassed("blocks.0.attention", OtherAttention),
    "another norm": subclassed("final_norm", OtherNorm),
    "another feed-forward layer": subclassed("blocks.0.mlp", OtherFeedForward),
    "another decoder": subclassed("", OtherDecoder),
    "another quantization": quantized_otherwise,
    "scales of another shape": with_fewer_scales,
    "another scale": told("blocks.0.attention", scale=3.0),
    "another window": told("blocks.0.attention", window=3),
    "another eps": told("blocks.1.mlp_norm", eps=0.1),
    "another activation": told("blocks.1.mlp", activation=torch.tanh),
    "norms after the layers": told("blocks.1", post_norm=True),
    "a method replaced": told("blocks.1.mlp", forward=torch.tanh),
    "embeddings cut to a length": told("embed", max_norm=1.0),
    "a layer more": lambda decoder: decoder.blocks.append(nn.Identity()),
    "a layer beside": lambda decoder: decoder.add_module("beside", nn.Identity()),
    "computed weights": lambda decoder: parametrize.register_parametrization(
        decoder.blocks[0].mlp.up, "weight", Doubled()
    ),  # pyright: ignore
    "weights in float64": lambda decoder: decoder.double(),
    "weights in float16": lambda decoder: decoder.half(),
    "one layer in float64": lambda decoder: decoder.blocks[0].double(),
    "one layer in bf16": lambda decoder: decoder.blocks[0].bfloat16(),
    "weights elsewhere": lambda decoder: decoder.to("meta"),
    "weights of another shape": of_another_shape,
    "weights of another class": of_another_class,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_was_changed_is_left_to_pytorch(change: str):
    decoder = random_decoder(replace(tiny_config()))
    assert fits(decoder, torch.float32)
    CHANGES[change](decoder)
    assert not fits(decoder, torch.float32)


def test_a_mixture_of_experts_that_was_changed_is_left_to_pytorch():
    changes = [
        subclassed("blocks.1.mlp.router", OtherRouter),
        subclassed("blocks.0.mlp.experts.3.up", OtherLinear),
        told("blocks.0.mlp", active=1),
        told("blocks.0.mlp", normalised=False),
        lambda decoder: adapt(decoder, AdapterConfig(), torch.Generator()),
        lambda decoder: decoder.get_submodule("blocks.1.mlp.experts").append(nn.Identity()),
    ]
    for change in changes:
        decoder = random_decoder(reshaped(tiny_config(), mlp={"experts": Experts(4, 2, 40)}))
        assert fits(decoder, torch.float32)
        change(decoder)
        assert not fits(decoder, torch.float32)


def test_hooks_of_all_modules_leave_it_to_pytorch():
    decoder = random_decoder(tiny_config())
    for register in (
        nn.modules.module.register_module_forward_hook,
        nn.modules.module.register_module_forward_pre_hook,
    ):
        handle = register(lambda *_: None)
        try:
            assert not fits(decoder, torch.float32)
        finally:
            handle.remove()
    assert fits(decoder, torch.float32)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("tied", [True, False])
def test_quantized_models_are_on_the_list(bits: int, tied: bool):
    for base in (tiny_config(), tiny_config(architecture="gpt2")):
        quantized = quantize(random_decoder(reshaped(base, logits={"tied": tied})), bits)  # pyright: ignore
        assert fits(quantized, torch.bfloat16)


@pytest.mark.parametrize("kind", [each for each in vars(torch).values() if isinstance(each, torch.dtype)], ids=str)
def test_kinds_of_the_cache(kind: torch.dtype):
    assert fits(random_decoder(tiny_config()), kind) == (kind in (torch.float32, torch.bfloat16, torch.int8))


def test_a_hook_that_comes_later_is_called():
    compiled()
    compiler.library(None)
    decoder = random_decoder(tiny_config())
    runner = ModelRunner(decoder, 2, 0)

    def read(start: int) -> torch.Tensor:
        return runner.read([5], [Segment(0, start, 1, start + 1)], [0], ())[0]

    with torch.inference_mode():
        first = read(0)
        assert runner._compiled() is not None
        heard: list[int] = []
        handle = decoder.blocks[0].register_forward_hook(lambda *_: heard.append(1))
        assert read(0).allclose(first, atol=1e-4) and heard == [1]
        handle.remove()
        assert read(0).equal(first) and heard == [1]


def test_another_default_number_type_changes_nothing():
    library, decoder = compiled(), random_decoder(tiny_config())
    with torch.inference_mode():
        expected = decoder(torch.tensor([[5, 6]]))[0, 1]
    slots = Slots(decoder.config, torch.device("cpu"), torch.float32)
    torch.set_default_dtype(torch.float64)
    try:
        logits = NativeStep(decoder, library).read([5, 6], slots, [Segment(0, 0, 2, 2)], [1])[1]
    finally:
        torch.set_default_dtype(torch.float32)
    assert logits.dtype == torch.float32 and logits[0].allclose(expected, atol=1e-4)
