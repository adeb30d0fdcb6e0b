"""What this machine can do."""

import pytest

from wenloom.core import hardware
from wenloom.core.errors import InputError


def test_the_processor_is_always_there():
    found = hardware.probe("cpu")
    assert found.device == "cpu" and found.threads >= 1 and isinstance(found.bf16, bool) and found.name


def test_a_device_that_is_missing_is_named():
    missing = next(name for name in ("mps", "cuda") if not _there(name))
    with pytest.raises(InputError, match=f"--device {missing}: not on this machine"):
        hardware.probe(missing)
    with pytest.raises(InputError, match="--device abacus"):
        hardware.probe("abacus")


def _there(name: str) -> bool:
    import torch

    return torch.cuda.is_available() if name == "cuda" else torch.backends.mps.is_available()


def test_no_bf16_unit_no_bf16(monkeypatch: pytest.MonkeyPatch, tmp_path):
    (tmp_path / "cpuinfo").write_text("model name : Old One\nflags : sse2 avx2\n")
    monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "cpuinfo")
    found = hardware.probe.__wrapped__("cpu")
    assert found.name == "Old One" and not found.bf16
