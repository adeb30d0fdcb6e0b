"""What this machine can do, probed rather than guessed."""

import functools
import os
import platform
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch

from wenloom.core.errors import InputError

_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")
_STATM = Path("/proc/self/statm")
_STATUS = Path("/proc/self/status")
_CGROUP = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


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


def memory_available(device: str) -> int | None:
    """Bytes that a program may still take on a device; None where nobody tells."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    bounds = [_free_of_machine(), *_free_of_groups(), *_free_of_process()]
    return min((each for each in bounds if each is not None), default=None)


def _free_of_machine() -> int | None:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _free_of_groups() -> Iterator[int]:
    """What the control groups of this process leave it (containers, systemd, Slurm), of version 1 and 2."""
    try:
        lines = _CGROUP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root = _CGROUPS / controllers
        limit, used = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        )
        inside = PurePosixPath(path.lstrip("/"))
        for folder in (root / each for each in (inside, *inside.parents)):
            try:
                most, taken = (int((folder / name).read_text()) for name in (limit, used))
                cached = re.search(
                    r"^(?:total_)?inactive_file (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE
                )
            except (OSError, ValueError):  # no such file, or "max"
                continue
            yield max(0, most - taken + (int(cached[1]) if cached else 0))


def _free_of_process() -> Iterator[int]:
    """What `ulimit -v` and `ulimit -d` leave this process."""
    try:
        import resource

        status = _STATUS.read_text()
    except (ImportError, OSError):
        return
    for kind, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most, _ = resource.getrlimit(kind)
        taken = re.search(rf"^{name}:\s*(\d+) kB$", status, re.MULTILINE)
        if most != resource.RLIM_INFINITY and taken:
            yield max(0, most - 1024 * int(taken[1]))


def memory_used(device: str) -> int | None:
    """Bytes that this process holds now (of a GPU: the most it held); None where nobody tells."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def matmul_peak(device: str, dtype: torch.dtype, size: int = 2048) -> float:
    """FLOP/s of a large square matrix product, the best of a few: what a training step is measured against."""
    if device == "cuda":
        size *= 4
    a = torch.randn(size, size, device=device).to(dtype)
    best = 0.0
    for _ in range(6):
        started = time.perf_counter()
        product = a @ a
        if device != "cpu":
            product[0, 0].item()  # waits for the device
        best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def number_type(name: str | torch.dtype, option: str = "dtype") -> torch.dtype:
    """A number type by its name.

    Raises:
        InputError: there is none of that name.
    """
    if isinstance(name, torch.dtype):
        return name
    known = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if not isinstance(name, str) or name not in known:
        more = " and int8" if option == "kv_cache" else ""
        raise InputError(f"{option} {name!r}: known are {', '.join(known)}{more}.")
    return known[name]
