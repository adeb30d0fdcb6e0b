"""Small known cases that an installation must get right, and what is slow or missing on this machine."""

import importlib.util
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from wenloom.core.errors import InputError
from wenloom.core.hardware import matmul_peak, memory_available, probe
from wenloom.core.randomness import generator
from wenloom.evaluation.confine import walls
from wenloom.evaluation.overlap import error_rate, rouge, sacrebleu_score
from wenloom.evaluation.programs import pass_at_k
from wenloom.evaluation.sandbox import run_program
from wenloom.evaluation.scorers import DecoderScorer
from wenloom.generation.engine import Engine
from wenloom.generation.request import GenerationRequest
from wenloom.model.cache import Segment, SlotBatch
from wenloom.model.decoder import Decoder
from wenloom.model.packed import packed
from wenloom.model.presets import from_scratch
from wenloom.model.quantize import quantize
from wenloom.runtime.native import compiler
from wenloom.runtime.native.step import NativeStep
from wenloom.runtime.native.supported import fits
from wenloom.runtime.slots import Slots
from wenloom.tokens.train import train_tokenizer


@dataclass(frozen=True)
class CheckResult:
    """What one check found."""

    name: str
    state: Literal["right", "missing", "wrong"]
    text: str
    seconds: float = 0.0


_TEXT = "The lamp was lit at dusk, and the keeper read aloud. 春眠不觉晓，处处闻啼鸟。"


def examine() -> Iterator[CheckResult]:
    """All checks, one after the other; a check that fails does not stop the others."""
    for name, check in _CHECKS.items():
        started = time.perf_counter()
        try:
            state, text = check()
        except Exception as error:  # a broken installation may fail in any way
            state, text = "wrong", f"{type(error).__name__}: {error}"
        yield CheckResult(name, state, text, time.perf_counter() - started)


Answer = tuple[Literal["right", "missing", "wrong"], str]


def _verdict(is_right: bool, text: str) -> Answer:
    return ("right" if is_right else "wrong"), text


def _tiny() -> Decoder:
    config = from_scratch(
        "llama", vocab_size=300, n_layers=2, d_model=64, n_heads=4, n_kv_heads=2, context_length=64, bos_token_id=0,
        eos_token_id=0, pad_token_id=1,
    )  # fmt: skip
    decoder = Decoder(config)
    decoder.initialise(generator(0, "doctor"))
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.dim() > 1:
                parameter *= 8
    return decoder.eval()


def _device() -> Answer:
    hardware = probe("auto")
    free = memory_available(hardware.device)
    room = f", {free / 2**30:.0f} GB free" if free else ""
    kinds = "float32" + (", bf16" if hardware.bf16 else "")
    return "right", f"{hardware.device} ({hardware.name}), {torch.get_num_threads()} threads, {kinds}{room}"


def _products() -> Answer:
    draw = generator(0, "products")
    a, b = torch.randn(64, 192, generator=draw), torch.randn(192, 64, generator=draw)
    exact = a.double() @ b.double()
    device = probe("auto").device
    worst = float(((a.to(device) @ b.to(device)).cpu().double() - exact).abs().max())
    half = float(((a.bfloat16() @ b.bfloat16()).double() - exact).abs().max())
    return _verdict(worst < 1e-3 and half < 1, f"float32 within {worst:.0e}, bf16 within {half:.1g} of float64")


def _forward() -> Answer:
    decoder, tokens = _tiny(), torch.arange(40)[None] + 2
    with torch.inference_mode():
        exact = _tiny().double()(tokens)
        worst = float((decoder(tokens).double() - exact).abs().max())
        fast = float((packed(decoder)(tokens).double() - exact).abs().max())
    return _verdict(max(worst, fast) < 1e-3, f"a model's logits within {max(worst, fast):.0e} of float64")


def _decoding() -> Answer:
    decoder = _tiny()
    if not fits(decoder, decoder.cache_dtype):
        return "right", "by PyTorch's kernels on this device"
    library = compiler.library(None)
    if library is None:
        return (
            "missing",
            "no C compiler that works: text is written at a fraction of the speed (install gcc, or set CC)",
        )
    worst = {}
    for name, model in (("float32", decoder), ("int8", quantize(_tiny(), 8)), ("int4", quantize(_tiny(), 4))):
        theirs, ours = (Slots(decoder.config, torch.device("cpu"), torch.float32) for _ in range(2))
        segments, tokens = [Segment(0, 0, 20, 20)], torch.arange(20) + 5
        with torch.inference_mode():
            expected = model.unembed(model.read(tokens, SlotBatch(theirs, segments))).float()
            found = NativeStep(model, library).read(tokens.tolist(), ours, segments, range(20))[1]
        worst[name] = float((found - expected).abs().max()) / float(expected.std())
    agree = worst["float32"] < 1e-3 and worst["int8"] < 0.1 and worst["int4"] < 0.1
    return _verdict(agree, "the compiled step agrees with PyTorch in float32, int8 and int4")


def _generation() -> Answer:
    decoder = _tiny()
    engine, request = Engine(decoder), GenerationRequest(max_new_tokens=30, do_sample=False, eos_token_id=())
    job = engine.submit([5, 6, 7], request)
    engine.run([job])
    tokens = [5, 6, 7]
    with torch.inference_mode():
        while len(tokens) < 33:
            tokens.append(int(decoder(torch.tensor([tokens]))[0, -1].argmax()))
    return _verdict(job.result()[0].tokens == tokens[3:], "greedy text with the cache is the text without")


def _scoring() -> Answer:
    tokenizer = train_tokenizer([_TEXT * 3], "bpe", 300)
    decoder = _tiny()
    found = DecoderScorer(decoder, tokenizer).text(_TEXT)
    ids = [tokenizer.bos_token_id, *tokenizer.encode(_TEXT)]
    limit = decoder.config.context_length
    if len(ids) - 1 > limit:
        return "wrong", f"the text takes {len(ids)} tokens; at most {limit} were expected"
    with torch.inference_mode():
        logs = decoder.double()(torch.tensor([ids[:-1]]))[0].log_softmax(-1)
    exact = math.fsum(float(logs[place, token]) for place, token in enumerate(ids[1:]))
    gap = abs(found.log_probability - exact)
    round_trip = tokenizer.decode(tokenizer.encode(_TEXT)) == _TEXT
    return _verdict(
        gap < 1e-3 and round_trip, f"log P of a text within {gap:.0e} of float64; the tokenizer gives it back whole"
    )


def _metrics() -> Answer:
    checks = {
        "BLEU": abs(sacrebleu_score("bleu", ["a b c d e"], [["a b c d f"]], samples=2).value - 100 * 0.2**0.25) < 1e-6,
        "ROUGE": [round(each.value, 3) for each in rouge(["the cat was found"], [["the cat was under the bed"]])] == [60, 50, 60, 60],
        "ROUGE (Chinese)": abs(rouge(["今天很冷"], [["今天很热"]])[0].value - 75) < 1e-6,
        "edit distance": error_rate(["sitting"], ["kitten"], "character").value == 50,
        "pass@k": pass_at_k(10, 3, 1) == 0.3,
    }  # fmt: skip
    wrong = [name for name, fits in checks.items() if not fits]
    return _verdict(
        not wrong, f"wrong: {', '.join(wrong)}" if wrong else f"{', '.join(checks)} give their known values"
    )


def _sandbox() -> Answer:
    try:
        fits = run_program("assert 1 + 1 == 2").passed and not run_program("import os\nos.fork()").passed
    except InputError as error:
        return "missing", str(error)
    absent = [name for name, there in walls().items() if not there]
    without = f" (missing here: {', '.join(absent)}; the guard within Python holds alone)" if absent else ""
    return _verdict(fits, f"programs that models write run within bounds{without}")


def _speed() -> Answer:
    hardware = probe("auto")
    single = matmul_peak(hardware.device, torch.float32, 1024) / 1e9
    half = matmul_peak(hardware.device, torch.bfloat16, 1024) / 1e9
    slow = half < 1.2 * single
    text = f"products: {single:,.0f} GFLOP/s in float32, {half:,.0f} in bf16"
    return ("missing" if slow else "right"), text + (": bf16 gains nothing here, train in float32" if slow else "")


_EXTRAS = {
    "zstandard": ("data", "reading .zst files"),
    "lm_eval": ("harness", "lm-evaluation-harness"),
    "tensorboard": ("track", "TensorBoard"),
}


def _extras() -> Answer:
    missing = [f"{what} (pip install 'wenloom[{extra}]')" for module, (extra, what) in _EXTRAS.items()
               if importlib.util.find_spec(module) is None]  # fmt: skip
    return (
        ("missing", "not installed: " + ", ".join(missing))
        if missing
        else ("right", "all optional parts are installed")
    )


_CHECKS: dict[str, Callable[[], Answer]] = {
    "device": _device, "products": _products, "forward pass": _forward, "decoding": _decoding, "generation": _generation,
    "scoring": _scoring, "metrics": _metrics, "sandbox": _sandbox, "speed": _speed, "optional parts": _extras,
}  # fmt: skip
