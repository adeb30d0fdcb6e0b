"""The compiled step touches no memory but its own: run under the compiler's sanitizers, on sizes of every remainder."""

import os
import platform
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from wenloom.core.errors import InputError
from wenloom.model.config import reshaped
from wenloom.model.parts import Experts, Rope
from wenloom.model.quantize import quantize
from wenloom.runtime.native import compiler
from wenloom.runtime.native.layout import MAX_TOKENS
from wenloom.runtime.native.step import NativeStep

from ..conftest import random_decoder, tiny_config
from .test_native import PROMPTS, differences, mixtures, shapes

SANITIZE = ["-O1", "-g", "-w", "-ffp-contract=fast", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC",
            "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]  # fmt: skip
SIZES = [(32, 8, 4, 2, 45, 37), (33, 7, 4, 1, 31, 401), (1, 1, 1, 1, 1, 3), (5, 3, 2, 2, 7, 17), (64, 16, 4, 4, 65, 33),
         (31, 17, 3, 1, 127, 129), (96, 80, 2, 1, 33, 64), (48, 32, 6, 3, 128, 5)]  # fmt: skip
"""d_model, d_head, n_heads, n_kv_heads, d_mlp, vocab_size."""


def run_all(path: str) -> None:
    """Steps of every shape, weight format and kind of cache; called in a process that has the sanitizers loaded."""
    import ctypes

    library = ctypes.CDLL(path)
    torch.set_num_threads(3)
    odd = [
        reshaped(tiny_config(), d_model=d, d_head=k, n_heads=h, n_kv_heads=g, d_mlp=f, vocab_size=v, positions={"rope": Rope(k - k % 2) if k > 1 else None})
        for d, k, h, g, f, v in SIZES
    ]  # fmt: skip
    odd += [reshaped(each, mlp={"experts": Experts(5, active, each.d_mlp)}) for each in odd for active in (2, 5)]
    for config in (*shapes(), *mixtures(), *odd):
        few = config.mlp.experts is not None and config.mlp.experts.active < config.mlp.experts.count
        for kind in ("float32",) if few else ("float32", "bf16", 8, 4):  # rounding may choose other experts
            decoder = random_decoder(config)
            try:
                decoder = (
                    decoder.bfloat16() if kind == "bf16" else quantize(decoder, kind) if kind in (8, 4) else decoder
                )
            except InputError:  # no multiple of 32 columns
                continue
            for cache in (None, torch.int8):
                differences(decoder, cache, library)
                if NativeStep(decoder, library).applies(MAX_TOKENS + 1) and decoder.config.positions.rope:
                    differences(decoder, cache, library, PROMPTS)
    print("all ran")


@pytest.mark.slow
@pytest.mark.parametrize("march", ["native", "x86-64"])
def test_no_size_reads_or_writes_outside(march: str, tmp_path: Path):
    if platform.machine() != "x86_64" and march != "native":
        pytest.skip("another processor")
    built, source = tmp_path / "step.so", files("wenloom.runtime.native") / "step.c"
    done = subprocess.run(
        [*compiler.compiler(), *SANITIZE, f"-march={march}", "-o", str(built), str(source), "-lm"], capture_output=True
    )
    if done.returncode:
        pytest.skip("no compiler with sanitizers")
    asked = [[*compiler.compiler(), f"-print-file-name=lib{name}.so"] for name in ("asan", "ubsan")]
    preload = [subprocess.run(each, capture_output=True, text=True).stdout.strip() for each in asked]
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"LD_PRELOAD": " ".join(preload), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONPATH": path}
    code = f"from tests.runtime.test_sanitized import run_all; run_all({str(built)!r})"
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=root)
    assert found.stdout.strip() == "all ran", found.stderr[-3000:]
