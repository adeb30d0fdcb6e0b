"""What this machine can do, probed rather than guessed."""

import functools
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from wordloom.core.errors import InputError

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Hardware:
    """The device that computes and what it is good at."""

    device: str
    """`cpu`, `cuda` or `mps`."""
    name: str
    """What the maker calls it."""
    threads: int
    """CPU threads that PyTorch uses."""
    bf16: bool
    """Whether matrix products in bfloat16 are native, so that they cost less than in float32."""


def _cpu_name() -> str:
    try:
        with _CPUINFO.open() as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cpu_has_bf16() -> bool:
    """AVX512-BF16, AMX-BF16 or Arm BF16: anything less emulates bfloat16 and is slower than float32."""
    try:
        with _CPUINFO.open() as file:
            flags = file.read()
    except OSError:
        return False
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", " bf16"))


def _bf16_product_is_right(device: str) -> bool:
    """A product of small integers is exact in bfloat16: anything else means a broken unit."""
    a = torch.arange(64, dtype=torch.float32).remainder(5).view(8, 8)
    product = (a.to(device, torch.bfloat16) @ a.T.to(device, torch.bfloat16)).float().cpu()
    return bool(torch.equal(product, (a @ a.T).bfloat16().float()))


@functools.cache
def probe(device: str = "auto") -> Hardware:
    """Look at one device.

    Args:
        device: `auto` (the fastest there is), `cpu`, `cuda` or `mps`.

    Raises:
        InputError: the device named is not on this machine.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if present[name])
    if not present.get(device, False):
        there = ", ".join(name for name, is_there in present.items() if is_there)
        raise InputError(f"--device {device}: not on this machine (found: {there}).")
    if device == "cuda":
        name, bf16 = torch.cuda.get_device_name(), torch.cuda.is_bf16_supported(including_emulation=False)
    elif device == "mps":
        name, bf16 = "Apple GPU", False
    else:
        name, bf16 = _cpu_name(), _cpu_has_bf16()
    return Hardware(device, name, torch.get_num_threads(), bf16 and _bf16_product_is_right(device))
