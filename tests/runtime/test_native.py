"""The compiled step: what PyTorch computes, for every architecture, weight format and mix of texts."""

import ctypes
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from importlib.resources import files
from itertools import accumulate
from pathlib import Path

import pytest
import torch

from wenloom.model.cache import Segment, SlotBatch
from wenloom.model.config import ModelConfig, reshaped
from wenloom.model.decoder import Decoder
from wenloom.model.parts import Experts, Rope
from wenloom.model.quantize import QuantizedLinear, quantize, quantize_weight
from wenloom.runtime.native import compiler
from wenloom.runtime.native.step import NativeStep
from wenloom.runtime.native.supported import fits
from wenloom.runtime.slots import Slots

from ..conftest import random_decoder, tiny_config

STEPS = [
    [Segment(0, 0, 5, 5), Segment(2, 0, 9, 9)],
    [Segment(0, 5, 1, 6), Segment(1, 0, 1, 1), Segment(2, 9, 3, 12)],
    [Segment(2, 12, 1, 13)],
    [Segment(slot, start, 1, start + 1) for slot, start in ((0, 6), (1, 1), (2, 13), (3, 0), (4, 0), (5, 0), (6, 0))],
    [Segment(3, 1, 17, 18)],
    [Segment(4, 1, 1, 2), Segment(5, 1, 20, 21), Segment(6, 1, 8, 9)],
]

PROMPTS = [
    [Segment(0, 0, 300, 300), Segment(1, 0, 45, 45), Segment(2, 0, 1, 1)],
    [Segment(2, 1, 33, 34)],
    [Segment(0, 300, 1, 301), Segment(2, 34, 6, 40), Segment(1, 45, 100, 145), Segment(3, 0, 11, 11)],
    [Segment(slot, 11 if slot == 3 else 0, 1, 1) for slot in range(3, 43)],  # many texts that each get a token
]


def compiled() -> ctypes.CDLL:
    library = compiler.library(None)
    if library is None:
        pytest.skip("no C compiler")
    return library


def differences(
    decoder: Decoder,
    cache_dtype: torch.dtype | None = None,
    library: ctypes.CDLL | None = None,
    steps: Sequence[Sequence[Segment]] = STEPS,
) -> tuple[float, float]:
    """The largest difference of logits from PyTorch's in the same steps, and the spread of these.

    With the last residual stream of all tokens, and without it, where fewer tokens have logits: the last of each text, or none.
    """
    config, worst, spread = decoder.config, 0.0, 0.0
    theirs, ours, alone = (Slots(config, torch.device("cpu"), cache_dtype or decoder.cache_dtype) for _ in range(3))
    step, draw = NativeStep(decoder, library or compiled()), torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for number, segments in enumerate(steps):
            n = sum(each.count for each in segments)
            tokens = torch.randint(2, config.vocab_size, (n,), generator=draw)
            hidden = decoder.read(tokens, SlotBatch(theirs, segments))
            expected = decoder.unembed(hidden).float()
            rows = range(0, n, 2)
            found_hidden, found = step.read(tokens.tolist(), ours, segments, rows)
            assert found_hidden is not None
            assert (found_hidden - hidden.float()).abs().max() < (
                0.2 if steps is STEPS else 0.4
            )  # more tokens, more extremes
            worst = max(worst, float((found - expected[rows]).abs().max()))
            last = [end - 1 for end in accumulate(each.count for each in segments)] if number != 1 else []
            nothing, found = step.read(tokens.tolist(), alone, segments, last, hidden=False)
            assert nothing is None and found.shape == (len(last), config.vocab_size)
            worst = max([worst, *(found - expected[last]).abs().flatten().tolist()])
            spread = max(spread, float(expected.std()))
    return worst, spread


def shapes() -> list[ModelConfig]:
    plain = [tiny_config(architecture=name) for name in ("llama", "qwen3", "gpt2", "gpt_neox")]
    odd = reshaped(
        plain[0],
        d_head=7,
        positions={"rope": Rope(6)},
        d_mlp=45,
        n_heads=4,
        n_kv_heads=1,
        mlp={"activation": "relu_squared"},
    )
    windowed = reshaped(
        plain[0], attention={"sliding_window": 4, "sliding_layers": (1,)}, logits={"tied": False}, d_head=80
    )
    wide = replace(plain[0], d_mlp=4128)  # inputs that are taken in blocks
    others = [reshaped(plain[2], mlp={"activation": name}) for name in ("gelu", "quick_gelu", "relu", "tanh")]
    return [
        *plain,
        odd,
        wide,
        windowed,
        *others,
        reshaped(plain[0], positions={"rope": Rope(8, kind="linear", factor=2.0)}, vocab_size=397),
    ]


@pytest.mark.parametrize(
    "config", shapes(), ids=lambda config: f"{config.family}-{config.mlp.activation}-{config.d_head}-{config.d_mlp}"
)
def test_float32_is_exact(config: ModelConfig):
    worst, _ = differences(random_decoder(config))
    assert worst < 1e-4


MIXTURES = [
    Experts(4, 2, 40), Experts(9, 3, 45, router_bias=True), Experts(7, 1, 24, normalised=False, dense_layers=(0,)), Experts(5, 5, 64),
]  # fmt: skip


def mixtures() -> list[ModelConfig]:
    llama, gpt2 = tiny_config(), tiny_config(architecture="gpt2")
    return [*(reshaped(llama, mlp={"experts": each}) for each in MIXTURES), reshaped(gpt2, mlp={"experts": Experts(6, 2, 50)}),
            reshaped(llama, mlp={"experts": Experts(3, 2, 33)}, residual={"parallel": True})]  # fmt: skip


@pytest.mark.parametrize("config", mixtures(), ids=lambda config: f"{config.family}-{config.mlp.experts.count}")
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_mixtures_of_experts_are_exact_with_any_number_of_threads(config: ModelConfig, threads: int):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        worst, _ = differences(random_decoder(config))
    finally:
        torch.set_num_threads(before)
    assert worst < 1e-4


@pytest.mark.parametrize("kind", ["bf16", "int8", "int4"])
def test_mixtures_of_lower_precision_are_within_its_rounding(kind: str):
    # all are active: none is chosen by a rounded score
    config = reshaped(tiny_config(), mlp={"experts": Experts(5, 5, 64)})
    decoder = random_decoder(config)
    decoder = decoder.to(torch.bfloat16) if kind == "bf16" else quantize(decoder, 8 if kind == "int8" else 4)
    assert fits(decoder, torch.bfloat16)
    worst, spread = differences(decoder)
    assert worst < 0.1 * spread


@pytest.mark.parametrize("index", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("kind", ["bf16", "int8", "int4"])
def test_lower_precision_is_within_its_rounding(index: int, kind: str):
    decoder = random_decoder(shapes()[index])
    decoder = decoder.to(torch.bfloat16) if kind == "bf16" else quantize(decoder, 8 if kind == "int8" else 4)
    worst, spread = differences(decoder)
    assert worst < 0.1 * spread


@pytest.mark.parametrize("config", shapes()[:7], ids=lambda config: f"{config.family}-{config.d_head}-{config.d_mlp}")
def test_a_cache_in_int8_is_quantized_alike(config: ModelConfig):
    worst, spread = differences(random_decoder(config), torch.int8)
    assert worst < 0.01 * spread


@pytest.fixture(scope="module", params=["x86-64-v3", "x86-64", "native -DNO_SIMD"])
def other_processor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiled()
    if platform.machine() != "x86_64":
        pytest.skip("builds for other x86 processors")
    source, built = files("wenloom.runtime.native") / "step.c", tmp_path_factory.mktemp("built") / "step.so"
    flags = [*compiler.FLAGS, "-w", *f"-march={request.param}".split()]
    subprocess.run([*compiler.compiler(), *flags, "-o", str(built), str(source), "-lm"], check=True)
    return ctypes.CDLL(str(built))


@pytest.mark.parametrize("kind", ["float32", "int8", "int4"])
def test_other_processors_and_none_named_compute_the_same(kind: str, other_processor: ctypes.CDLL):
    for config in (*shapes()[:6], mixtures()[0], mixtures()[3]):
        decoder = random_decoder(config)
        if kind != "float32":
            if config.d_head == 7:
                continue  # no multiple of 32 columns
            if config.mlp.experts is not None and config.mlp.experts.active < config.mlp.experts.count:
                continue  # which experts are chosen may hang on rounding
            decoder = quantize(decoder, 8 if kind == "int8" else 4)
        worst, spread = differences(decoder, library=other_processor)
        assert worst < (1e-4 if kind == "float32" else 0.1 * spread)


def reads_prompts() -> ctypes.CDLL:
    library = compiled()
    if not ctypes.c_int.in_dll(library, "reads_prompts").value:
        pytest.skip("prompts are PyTorch's on this processor")
    return library


def of_prompts(config: ModelConfig) -> ModelConfig:
    """With room for `PROMPTS`, and heads whose width is even."""
    config = replace(config, context_length=512)
    return config if config.d_head % 2 == 0 else replace(config, d_head=6)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "config", shapes(), ids=lambda config: f"{config.family}-{config.mlp.activation}-{config.d_mlp}"
)
def test_prompts_in_float32_are_exact(config: ModelConfig, threads: int):
    reads_prompts()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        worst, _ = differences(random_decoder(of_prompts(config)), steps=PROMPTS)
    finally:
        torch.set_num_threads(before)
    assert worst < 1e-4


@pytest.mark.parametrize("index", [0, 1, 2, 3, 5, 6])
@pytest.mark.parametrize("kind", ["bf16", "int8", "int4", "int8 cache"])
def test_prompts_in_lower_precision_are_within_its_rounding(index: int, kind: str):
    reads_prompts()
    decoder = random_decoder(of_prompts(shapes()[index]))
    if kind == "int8 cache":
        worst, spread = differences(decoder, torch.int8, steps=PROMPTS)
    else:
        decoder = decoder.to(torch.bfloat16) if kind == "bf16" else quantize(decoder, 8 if kind == "int8" else 4)
        worst, spread = differences(decoder, steps=PROMPTS)
    assert worst < (0.02 if kind == "int8 cache" else 0.15) * spread


def test_a_prompt_in_bf16_is_nearer_to_float32_than_pytorchs():
    reads_prompts()
    decoder = random_decoder(of_prompts(tiny_config())).to(torch.bfloat16)
    tokens = torch.randint(2, 400, (400,), generator=torch.Generator().manual_seed(1))
    slots = Slots(decoder.config, torch.device("cpu"), torch.bfloat16)
    with torch.inference_mode():
        hidden, _ = NativeStep(decoder, compiled()).read(tokens.tolist(), slots, [Segment(0, 0, 400, 400)], [])
        assert hidden is not None
        theirs = decoder.read(
            tokens, SlotBatch(Slots(decoder.config, slots.device, torch.bfloat16), [Segment(0, 0, 400, 400)])
        )
        whole = deepcopy(decoder).float()
        exact = whole.read(
            tokens, SlotBatch(Slots(decoder.config, slots.device, torch.float32), [Segment(0, 0, 400, 400)])
        )
    assert (hidden - exact).norm() < 0.8 * (theirs.float() - exact).norm()


@pytest.mark.parametrize("bits", [8, 4])
def test_quantised_weights_by_their_definition(bits: int):
    weight = torch.randn(24, 64, generator=torch.Generator().manual_seed(0)) * torch.rand(24, 1)
    q, scale = quantize_weight(weight, bits)  # pyright: ignore
    layer = QuantizedLinear(q, scale, None, bits)  # pyright: ignore
    assert layer.integers.equal(q)
    assert layer.packed.nbytes == weight.numel() * bits // 8
    whole = (q.view(24, -1, 64 if bits == 8 else 32) * scale.view(24, -1, 1)).view(24, 64)
    assert layer.weight_as(torch.float32).allclose(whole)
    error = (whole - weight).norm() / weight.norm()
    assert error < (0.01 if bits == 8 else 0.1)
    x = torch.randn(3, 5, 64)
    assert layer(x).allclose(x @ whole.T, atol=1e-4)
    assert layer(x[:, :2]).allclose(x[:, :2] @ whole.T, atol=1e-3)


def test_models_that_it_does_not_compute_are_left_to_pytorch():
    assert fits(random_decoder(tiny_config()), torch.float32)
    assert not fits(random_decoder(tiny_config()), torch.float16)
    assert not fits(random_decoder(tiny_config()).double(), torch.float32)
    assert not fits(
        random_decoder(reshaped(tiny_config(), positions={"rope": Rope(8, kind="dynamic", factor=2.0)})), torch.float32
    )


def test_without_a_compiler_it_writes_all_the_same(tmp_path: Path):
    code = """if True:
        from tests.conftest import random_decoder, tiny_config
        from wenloom.runtime.native import compiler
        from wenloom.generation.engine import Engine
        from wenloom.generation.request import GenerationRequest
        assert compiler.library(None) is None
        engine = Engine(random_decoder(tiny_config()))
        job = engine.submit([5, 6, 7], GenerationRequest(max_new_tokens=12, do_sample=False, eos_token_id=()))
        engine.run([job])
        print(job.result()[0].tokens)
    """
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    outputs = []
    for command in ("/bin/false", os.environ.get("CC", "cc")):
        environment = os.environ | {"CC": command, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": path}
        run = code if command == "/bin/false" else code.replace("is None", "is not None or True")
        done = subprocess.run([sys.executable, "-c", run], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
        assert command != "/bin/false" or "works (/bin/false ended with status 1)." in done.stderr
    assert outputs[0] == outputs[1]
