"""Adapters of PEFT: each variant computes what PEFT computes, or is refused by the name of its field."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.checkpoint.test_adapter import CONFIGS, ENCODERS, VOCAB
from wenloom.checkpoint.adapter import load_adapter, write_adapter
from wenloom.checkpoint.adapter_config import REFUSED, UNDERSTOOD, WITHOUT_EFFECT, read_adapter_config
from wenloom.checkpoint.folder import base_of, load_model, read_config
from wenloom.core.errors import CheckpointError, InputError, WenloomError
from wenloom.core.patterns import matches
from wenloom.model.encoder import Encoder
from wenloom.model.encoder_decoder import EncoderDecoder

SMALL = {
    **CONFIGS,
    **ENCODERS,
    "bart": lambda: transformers.BartConfig(
        d_model=16, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=24, decoder_ffn_dim=24, vocab_size=VOCAB,
        encoder_attention_heads=2, decoder_attention_heads=2, pad_token_id=1, max_position_embeddings=16),
    **{name: (lambda kind=kind: kind(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
                                     vocab_size=VOCAB, num_key_value_heads=1, head_dim=8))
       for name, kind in {"mistral": transformers.MistralConfig, "qwen2": transformers.Qwen2Config,
                          "qwen3": transformers.Qwen3Config}.items()},
}  # fmt: skip
"""A tiny model of every family."""
SOME = {
    "gpt2": ["c_attn", "c_proj"], "llama": ["q_proj", "down_proj"], "mistral": ["v_proj", "o_proj"],
    "qwen2": ["k_proj", "up_proj"], "qwen3": ["q_proj", "gate_proj"], "gpt_neox": ["query_key_value", "dense_4h_to_h"],
    "marian": ["q_proj", "fc1"], "bart": ["v_proj", "fc2"], "t5": ["q", "wo"], "bert": ["query", "intermediate.dense"],
    "roberta": ["value", "output.dense"], "distilbert": ["q_lin", "lin2"],
}  # fmt: skip


def auto(config: transformers.PretrainedConfig) -> Any:
    if config.is_encoder_decoder:
        return transformers.AutoModelForSeq2SeqLM
    is_encoder = config.model_type in ENCODERS
    return transformers.AutoModelForMaskedLM if is_encoder else transformers.AutoModelForCausalLM


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def base(family: str) -> Path:
        if family not in made:
            torch.manual_seed(0)
            config = SMALL[family]()
            made[family] = tmp_path_factory.mktemp(family)
            auto(config).from_config(config).save_pretrained(made[family])
        return made[family]

    return base


def theirs_of(base: Path) -> Any:
    return auto(transformers.AutoConfig.from_pretrained(base)).from_pretrained(base).eval()


def saved_by_peft(base: Path, folder: Path, **options: Any) -> Path:
    """An adapter with random weights, as PEFT saves it."""
    torch.manual_seed(0)
    model = peft.get_peft_model(theirs_of(base), peft.LoraConfig(**{"r": 4, "lora_alpha": 6, **options}))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data += 0.5 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


def edited(folder: Path, **fields: Any) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return folder


@torch.no_grad()
def ours(model: Any) -> torch.Tensor:
    tokens = torch.randint(2, VOCAB, (2, 9), generator=torch.Generator().manual_seed(1))
    if isinstance(model, EncoderDecoder):
        return model(tokens, tokens[:, :5])
    return model(tokens, torch.ones_like(tokens)) if isinstance(model, Encoder) else model(tokens)


@torch.no_grad()
def theirs(model: Any) -> torch.Tensor:
    tokens = torch.randint(2, VOCAB, (2, 9), generator=torch.Generator().manual_seed(1))
    more = {"decoder_input_ids": tokens[:, :5]} if model.config.is_encoder_decoder else {}
    return model(input_ids=tokens, **more).logits


def same_as_peft(base: Path, folder: Path) -> None:
    expected = theirs(peft.PeftModel.from_pretrained(theirs_of(base), folder).eval())
    assert (expected - theirs(theirs_of(base))).abs().max() > 3e-4  # the adapter does something
    adapted = load_adapter(load_model(base), folder).eval()
    assert torch.allclose(ours(adapted), expected, atol=2e-4)
    assert torch.allclose(ours(load_model(edited(folder, base_model_name_or_path=str(base)))), expected, atol=2e-4)
    again = folder.parent / "again"
    again.mkdir(exist_ok=True)
    write_adapter(adapted, again, str(base))  # and what is written of it is the same for PEFT
    assert torch.allclose(theirs(peft.PeftModel.from_pretrained(theirs_of(base), again).eval()), expected, atol=2e-4)


def first_path(family: str) -> str:
    """Of the first matrix of the last layer that the adapter changes."""
    with torch.device("meta"):
        model = auto(SMALL[family]()).from_config(SMALL[family]())
    found = [name for name, _ in model.named_modules() if name.endswith(tuple(f".{each}" for each in SOME[family]))]
    return found[len(found) // 2]


VARIANTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "plain": lambda path: {},
    "ranks by a whole path from the start": lambda path: {"rank_pattern": {f"^{path}": 2}},
    "ranks by an expression": lambda path: {"rank_pattern": {r".*\.\d+\..*" + path.rsplit(".", 1)[-1]: 3}},
    "alphas by an expression": lambda path: {"alpha_pattern": {".*" + path.rsplit(".", 1)[-1][:2] + ".*": 11}},
    "the first of several expressions decides": lambda path: {
        "rank_pattern": {r".*\." + path.rsplit(".", 1)[-1]: 2, f"^{path}": 7}, "alpha_pattern": {".*": 9.5, path: 5}},
    "rank-stabilised with patterns": lambda path: {
        "use_rslora": True, "rank_pattern": {path: 9}, "alpha_pattern": {path.rsplit(".", 1)[-1]: 3}},
    "lengths of rows with patterns": lambda path: {"use_dora": True, "rank_pattern": {f"^{path}": 2}},
}  # fmt: skip


@pytest.mark.parametrize(
    "family, variant",
    [
        pytest.param(family, variant, marks=[] if number % 3 == 0 or family == "gpt2" else pytest.mark.slow)
        for number, (family, variant) in enumerate((family, variant) for family in sorted(SOME) for variant in VARIANTS)
    ],
)
def test_every_accepted_variant_computes_what_peft_computes(family: str, variant: str, bases: Any, tmp_path: Path):
    options = VARIANTS[variant](first_path(family))
    same_as_peft(
        bases(family), saved_by_peft(bases(family), tmp_path / "adapter", target_modules=SOME[family], **options)
    )


@pytest.mark.parametrize("family, options", [
    ("llama", {"target_modules": r".*\.(q|v)_proj"}),
    ("llama", {"target_modules": r"model\.layers\.1\.(self_attn|mlp)\..*_proj"}),
    ("llama", {"target_modules": r"(?i).*MLP\.((up|down)_proj)+"}),
    ("llama", {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]}),
    ("llama", {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": 0, "layers_pattern": "layers"}),
    ("gpt2", {"target_modules": ["c_attn", "mlp.c_fc"], "layers_to_transform": [1], "layers_pattern": ["blocks", "h"]}),
    ("t5", {"target_modules": ["q", "wi"], "layers_to_transform": [0]}),
    ("marian", {"target_modules": r"model\.decoder\..*encoder_attn\.(q|v)_proj"}),
    ("llama", {"target_modules": ["q_proj", "k_proj", "v_proj"], "exclude_modules": ["layers.0.self_attn.k_proj"]}),
    ("bart", {"target_modules": ["q_proj", "v_proj"], "exclude_modules": r".*encoder_attn.*"}),
    ("gpt2", {"target_modules": "all-linear"}),
    ("bert", {"target_modules": "all-linear"}),
    ("t5", {"target_modules": "all-linear"}),
    ("roberta", {"target_modules": ["query", "dense"], "lora_dropout": 0.3}),
])  # fmt: skip
def test_layers_are_selected_as_peft_selects_them(family: str, options: dict[str, Any], bases: Any, tmp_path: Path):
    folder = saved_by_peft(bases(family), tmp_path / "adapter", **options)
    same_as_peft(bases(family), edited(folder, target_modules=list(options["target_modules"])
                                       if isinstance(options["target_modules"], list) else options["target_modules"]))  # fmt: skip


@pytest.mark.parametrize(
    "family", ["gpt2", *(pytest.param(each, marks=pytest.mark.slow) for each in ("llama", "gpt_neox", "bert", "t5"))]
)
@pytest.mark.parametrize("options", [
    {"init_lora_weights": "pissa"}, {"init_lora_weights": "olora", "use_rslora": True},
    {"init_lora_weights": "pissa", "use_dora": True, "rank_pattern": {".*": 3}},
    {"init_lora_weights": "gaussian"}, {"init_lora_weights": "orthogonal"}, {"init_lora_weights": "mica"},
    {"init_lora_weights": False}, {"init_lora_weights": "eva"},
])  # fmt: skip
def test_initialisations_change_the_model_as_peft_does_or_are_refused(
    family: str, options: dict[str, Any], bases: Any, tmp_path: Path
):
    if options["init_lora_weights"] == "olora" and family == "gpt2":  # PEFT decomposes (in, out) and then fails
        folder = edited(
            saved_by_peft(bases(family), tmp_path / "adapter", target_modules=["c_attn"]), init_lora_weights="olora"
        )
        with pytest.raises(CheckpointError, match=r'"init_lora_weights": olora is not supported for this family'):
            load_adapter(load_model(bases(family)), folder)
        return
    start = {} if options["init_lora_weights"] == "eva" else options  # which needs data, but to load
    folder = saved_by_peft(bases(family), tmp_path / "adapter", target_modules=SOME[family], **start)
    same_as_peft(bases(family), edited(folder, **options))


def test_an_adapter_of_a_model_without_its_head_is_read(bases: Any, tmp_path: Path):
    config = peft.LoraConfig(target_modules=r"encoder\.layer\.\d\.attention\.self\.(query|key)")
    model = peft.get_peft_model(transformers.AutoModel.from_pretrained(bases("bert")), config)
    for name, parameter in model.named_parameters():
        parameter.data += 0.2 * torch.randn_like(parameter) if "lora_" in name else 0.0
    model.save_pretrained(tmp_path)
    adapted = load_adapter(load_model(bases("bert")), tmp_path)
    tokens = torch.randint(2, VOCAB, (2, 9))
    with torch.no_grad():
        hidden = adapted.hidden(tokens, torch.ones_like(tokens))  # pyright: ignore
        assert torch.allclose(hidden, model.eval()(input_ids=tokens).last_hidden_state, atol=1e-4)


# --- fields ---


def test_every_field_of_peft_is_understood_refused_or_without_effect():
    known = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    assert known == UNDERSTOOD | WITHOUT_EFFECT | set(REFUSED)
    assert len(known) == len(UNDERSTOOD) + len(WITHOUT_EFFECT) + len(REFUSED)


@pytest.mark.parametrize("field, value", [
    *((name, {"x": 1} if name.endswith("config") else [1]) for name in REFUSED),
    ("peft_type", "LOHA"), ("peft_type", None), ("bias", "all"), ("bias", "lora_only"), ("task_type", "TOKEN_CLS"),
    ("modules_to_save", ["embed_tokens"]), ("modules_to_save", "lm_head"), ("target_modules", None),
    *(("init_lora_weights", name) for name in ("loftq", "corda", "lora_ga", "pissa_niter_16", "strange", 5, [])),
    ("r", 0), ("r", -3), ("r", "8"), ("r", 4.0), ("r", True), ("r", 10**30), ("r", None),
    ("lora_alpha", float("nan")), ("lora_alpha", float("inf")), ("lora_alpha", 0), ("lora_alpha", "16"),
    ("lora_alpha", 10**400), ("lora_alpha", None), ("lora_dropout", 2), ("lora_dropout", "0"), ("use_dora", "false"),
    ("use_rslora", 1), ("rank_pattern", []), ("rank_pattern", {"q_proj": 0}), ("rank_pattern", {"(": 2}),
    ("alpha_pattern", {"q_proj": None}), ("alpha_pattern", "x"), ("target_modules", 5), ("target_modules", [5]),
    ("target_modules", "*"), ("target_modules", r"(?P<a"), ("exclude_modules", "["), ("layers_to_transform", "0"),
    ("layers_to_transform", [-1]), ("layers_pattern", ["h"]), ("exclude_modules", {"a": 1}),
])  # fmt: skip
def test_what_is_not_computed_is_refused_by_its_field(field: str, value: Any, bases: Any, tmp_path: Path):
    folder = edited(saved_by_peft(bases("llama"), tmp_path, target_modules=["q_proj"]), **{field: value})
    with pytest.raises(CheckpointError, match=rf"adapter_config\.json.*{field}") as refused:
        load_adapter(load_model(bases("llama")), folder)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


@pytest.mark.parametrize("field, value", [
    ("auto_mapping", {"base_model_class": "X", "parent_library": "y"}), ("peft_version", "99"), ("inference_mode", False),
    ("fan_in_fan_out", True), ("megatron_core", "x"), ("qalora_group_size", 4), ("ensure_weight_tying", True),
    ("runtime_config", {"ephemeral_gpu_offload": True}), ("loftq_config", {"loftq_bits": 4}), ("task_type", "CAUSAL_LM"),
    ("eva_config", {"rho": 3.0}), ("corda_config", None), ("lora_ga_config", None), ("revision", "main"),
    *((name, None) for name in REFUSED if name not in ("use_qalora", "lora_bias")),
])  # fmt: skip
def test_a_field_without_effect_here_has_none_in_peft(field: str, value: Any, bases: Any, tmp_path: Path):
    folder = edited(saved_by_peft(bases("llama"), tmp_path / "adapter", target_modules=["q_proj"]), **{field: value})
    same_as_peft(bases("llama"), folder)


def test_fields_that_peft_does_not_know_change_nothing_and_are_named_once(
    bases: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = saved_by_peft(bases("llama"), tmp_path / "adapter", target_modules=["q_proj"])
    expected = ours(load_adapter(load_model(bases("llama")), folder).eval())
    edited(folder, enable_lora=[True], **{"new\x1b[31m field": 3})
    capsys.readouterr()
    assert torch.equal(ours(load_adapter(load_model(bases("llama")), folder).eval()), expected)
    said = capsys.readouterr().err
    assert said.count("do not change") + said.count("change nothing") == 1 and "enable_lora" in said
    assert "\x1b[31m" not in said


# --- tensors ---


def spoiled(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
CHANGES: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "missing": lambda t: t.pop(FIRST),
    "a pair is missing": lambda t: [t.pop(FIRST), t.pop(FIRST.replace("_A", "_B"))],
    "all are missing": lambda t: t.clear(),
    "of another rank": lambda t: t.update({FIRST: torch.zeros(5, 16)}),
    "of another width": lambda t: t.update({FIRST: torch.zeros(4, 17)}),
    "a vector": lambda t: t.update({FIRST: torch.zeros(4)}),
    "a single number": lambda t: t.update({FIRST: torch.tensor(1.0)}),
    "empty": lambda t: t.update({FIRST: torch.zeros(0, 16)}),
    "whole numbers": lambda t: t.update({FIRST: torch.zeros(4, 16, dtype=torch.int64)}),
    "yes and no": lambda t: t.update({FIRST: torch.zeros(4, 16, dtype=torch.bool)}),
    "complex": lambda t: t.update({FIRST: torch.zeros(4, 16, dtype=torch.complex64)}),
    "no number": lambda t: t.update({FIRST: torch.full((4, 16), float("nan"))}),
    "of an unknown layer": lambda t: t.update({FIRST.replace("layers.0", "layers.9"): torch.zeros(4, 16)}),
    "of a layer that is not selected": lambda t: t.update(
        {FIRST.replace("q_proj", "v_proj"): torch.zeros(4, 16),
         FIRST.replace("q_proj", "v_proj").replace("_A", "_B"): torch.zeros(8, 4)}),
    "of the embedding": lambda t: t.update({"base_model.model.model.embed_tokens.lora_embedding_A": torch.zeros(4, 61)}),
    "of the output matrix": lambda t: t.update({"base_model.model.lm_head.lora_A.weight": torch.zeros(4, 16)}),
    "a bias": lambda t: t.update({FIRST.replace("lora_A.weight", "lora_B.bias"): torch.zeros(16)}),
    "without the prefix": lambda t: t.update({FIRST.removeprefix("base_model.model."): t.pop(FIRST)}),
    "named after an adapter": lambda t: t.update({FIRST.replace("A.weight", "A.default.weight"): t.pop(FIRST)}),
    "an odd name": lambda t: t.update({"\x1b[31m": torch.zeros(1)}),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_tensors_that_are_not_what_the_file_says_are_refused_by_name(change: str, bases: Any, tmp_path: Path):
    folder = spoiled(saved_by_peft(bases("llama"), tmp_path, target_modules=["q_proj"]), CHANGES[change])
    with pytest.raises(CheckpointError) as refused:
        load_adapter(load_model(bases("llama")), folder)
    assert str(tmp_path) in str(refused.value) and "\n" not in str(refused.value) and "\x1b" not in str(refused.value)


@pytest.mark.parametrize("options, said", [
    ({"target_modules": ["lm_head"]}, 'adapts "lm_head"'),
    ({"target_modules": ["embed_tokens", "q_proj"]}, 'adapts "model.embed_tokens"'),
    ({"target_modules": ["q_proj", "lm_head"]}, 'adapts "lm_head"'),
    ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, '"modules_to_save": lm_head'),
    ({"target_modules": ["q_proj"], "save_embedding_layers": True}, "the whole matrix"),
])  # fmt: skip
def test_an_adapter_of_other_parts_is_said_to_be_that(options: dict[str, Any], said: str, bases: Any, tmp_path: Path):
    if options.pop("save_embedding_layers", False):
        torch.manual_seed(0)
        model = peft.get_peft_model(theirs_of(bases("llama")), peft.LoraConfig(**options))
        model.save_pretrained(tmp_path, save_embedding_layers=True)
    else:
        saved_by_peft(bases("llama"), tmp_path, **options)
    with pytest.raises(CheckpointError) as refused:
        load_adapter(load_model(bases("llama")), tmp_path)
    assert said in str(refused.value) and "another model" not in str(refused.value)


def test_a_rank_costs_nothing_before_the_weights_are_seen(bases: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = saved_by_peft(bases("llama"), tmp_path, target_modules=["q_proj"])
    made: list[int] = []
    zeros = torch.zeros

    def counted(*size: Any, **options: Any) -> torch.Tensor:
        made.append(torch.Size(size[0] if isinstance(size[0], (tuple, list)) else size).numel())
        return zeros(*size, **options)

    base = load_model(bases("llama"))
    monkeypatch.setattr(torch, "zeros", counted)
    for fields in ({"r": 10**8}, {"r": 4, "rank_pattern": {".*": 10**9}}):
        with pytest.raises(CheckpointError, match="ask for"):
            load_adapter(base, edited(folder, **fields))
    assert max(made, default=0) < 10**4


def test_damaged_and_pickled_files_are_refused(bases: Any, tmp_path: Path):
    folder = saved_by_peft(bases("llama"), tmp_path, target_modules=["q_proj"])
    path = folder / "adapter_model.safetensors"
    whole = path.read_bytes()
    for content in (
        whole[:-7],
        whole[:50],
        b"",
        b"\xff" * 64,
        (2**60).to_bytes(8, "little") + b"{}",
        b"\x80\x02}q\x00.",
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors"):
            load_adapter(load_model(bases("llama")), folder)
    path.rename(folder / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="pickled"):
        load_adapter(load_model(bases("llama")), folder)
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(CheckpointError, match="No such file"):
        load_adapter(load_model(bases("llama")), folder)
    for content in ("", "[]", "null", "{", '{"r": ' + "9" * 5000 + "}", "[" * 10**5, "\x00", '{"peft_type": "LORA"'):
        (folder / "adapter_config.json").write_text(content)
        with pytest.raises(CheckpointError, match=r"adapter_config\.json"):
            load_adapter(load_model(bases("llama")), folder)


def test_the_model_of_an_adapter_is_named_and_no_adapter_of_itself(bases: Any, tmp_path: Path):
    folder = saved_by_peft(bases("llama"), tmp_path / "adapter", target_modules=["q_proj"])
    for name in (None, "", 5, [], {}, "/no/such/folder", "\x00", "a" * 10_000, ".", "./x", str(folder)):
        edited(folder, base_model_name_or_path=name)
        with pytest.raises(CheckpointError) as refused:
            read_config(folder)
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 600, name
    edited(folder, base_model_name_or_path=str(bases("llama")), revision="v2")
    assert base_of(folder) == bases("llama")  # a folder has no other versions
    edited(folder, base_model_name_or_path="owner/model", revision="v2")
    with pytest.raises(CheckpointError, match='revision "v2"'):
        base_of(folder)


def test_expressions_take_a_bounded_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("wenloom.core.patterns.SECONDS", 0.2)
    names = ["model.layers.0.self_attn.q_proj", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"]
    for bomb in ("(a+)+b", r"(\w+\.?)+x", "(a|aa)*c", "(a*)*b", r"(a|a){1,60}b", ".*.*.*.*.*.*.*.*.*.*.*.*x"):
        with pytest.raises(InputError, match="take more than"):
            matches([bomb], names)
    with pytest.raises(InputError, match="more than 10,000"):
        matches(["a"] * 10_001, names)
    monkeypatch.undo()
    for pattern in (r"(.*\.)?((model|x)\.layers)+.*", r".*", "^model.*proj$", "(?P<a>m)o", "(?!x)(?:.*)"):
        for whole in (False, True):
            match = re.fullmatch if whole else re.match
            expected = {name: found.groupdict() for name in names if (found := match(pattern, name))}
            assert matches([pattern], names, whole) == [expected]


# --- anything ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELD = st.sampled_from([field.name for field in dataclasses.fields(peft.LoraConfig)]) | st.text(max_size=8)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.dictionaries(FIELD, JSON, max_size=3), cut=st.integers(0, 400), tail=st.binary(max_size=3))
def test_any_adapter_is_read_or_refused_in_a_sentence(
    fields: dict[str, Any], cut: int, tail: bytes, bases: Any, tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.getbasetemp() / "any-adapter"
    if not folder.exists():
        saved_by_peft(bases("llama"), folder, target_modules=["q_proj"])
        (folder / "config").write_bytes((folder / "adapter_config.json").read_bytes())
        (folder / "weights").write_bytes((folder / "adapter_model.safetensors").read_bytes())
    (folder / "adapter_config.json").write_bytes((folder / "config").read_bytes())
    edited(folder, **fields)
    weights = (folder / "weights").read_bytes()
    changed = weights if cut > 300 else weights[:cut] + tail + weights[cut + len(tail) :]
    (folder / "adapter_model.safetensors").write_bytes(changed)
    try:
        load_adapter(load_model(bases("llama")), folder)
        read_adapter_config(folder / "adapter_config.json")
    except WenloomError as refused:
        assert str(folder) in str(refused)
