"""Each kernel alone against float64 at sizes of every remainder (`kernels.c`), and under the compiler's sanitizers."""

import os
import platform
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from wenloom.runtime.native import compiler

DRIVER = Path(__file__).with_name("kernels.c")
FLAGS = ["-w", "-ffp-contract=fast", "-fno-math-errno", "-fopenmp"]
SANITIZERS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]


def run(flags: list[str], tmp_path: Path) -> None:
    built, nothing = tmp_path / "kernels", tmp_path / "nothing.c"
    nothing.write_text("int main(void) { return 0; }\n")
    command = [*compiler.compiler(), *FLAGS, *flags, "-o", str(built)]
    if subprocess.run([*command, str(nothing), "-lm"], capture_output=True).returncode:
        pytest.skip(f"the compiler here does not take {' '.join(flags)}")
    source = ["-I", str(files("wenloom.runtime.native")), str(DRIVER), "-lm"]
    done = subprocess.run([*command, *source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "2"}
    found = subprocess.run([str(built)], env=environment, capture_output=True, text=True)
    assert found.returncode == 0 and found.stdout.endswith(", 0 failures\n"), (found.stdout + found.stderr)[-3000:]


def test_kernels_compute_what_float64_does(tmp_path: Path):
    run(["-O1", "-march=native"], tmp_path)


PROCESSORS = {
    "this one": ["-march=native"],
    "AVX2": ["-march=x86-64-v3"],
    "SSE2": ["-march=x86-64"],
    "none named": ["-march=native", "-DNO_SIMD"],
}


@pytest.mark.slow
@pytest.mark.parametrize("sanitized", [False, True])
@pytest.mark.parametrize("processor", PROCESSORS)
def test_kernels_on_other_processors_and_under_sanitizers(processor: str, sanitized: bool, tmp_path: Path):
    if platform.machine() != "x86_64" and "x86" in PROCESSORS[processor][0]:
        pytest.skip("another processor")
    run([*PROCESSORS[processor], *(["-O1", *SANITIZERS] if sanitized else ["-O3"])], tmp_path)
