"""Packages of others: what they announce is there by name, and a broken one is named and harms nothing."""

from pathlib import Path

import pytest

from wenloom.core.plugins import Registry

GROUP = "wenloom.examples"


def install(folder: Path, name: str, points: str, code: str = "") -> None:
    """A package as pip leaves it."""
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)


def registry() -> Registry[int]:
    return Registry(GROUP, {"own": 1}, lambda thing: isinstance(thing, int))


def test_what_a_package_announces_is_there_after_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = registry()
    assert list(found) == ["own"] and "theirs" not in found
    install(
        tmp_path, "giving_package", f"[{GROUP}]\ntheirs = giving_package:VALUE\n[other]\nx = nowhere\n", "VALUE = 7"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert list(found) == ["own", "theirs"] and found["theirs"] == 7 and len(found) == 2


@pytest.mark.parametrize(
    "points, code, why",
    [
        ("x = broken_package:VALUE", "1 / 0", "ZeroDivisionError"),
        ("x = broken_package:VALUE", "raise SystemExit(3)", "SystemExit"),
        ("x = broken_package:VALUE", "VALUE = 'text'", "a str is none of"),
        ("x = broken_package:OTHER", "VALUE = 1", "OTHER"),
        ("x = not_there:VALUE", "", "not_there"),
        ("own = broken_package:VALUE", "VALUE = 2", "the name is taken"),
        ("no sense", "", "Error"),
    ],
)
def test_a_broken_package_is_named_in_one_remark_and_harms_nothing(
    points: str,
    code: str,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    install(tmp_path, "broken_package", f"[{GROUP}]\n{points}\n", code)
    install(tmp_path, "sound_package", f"[{GROUP}]\ntheirs = sound_package:VALUE\n", "VALUE = 7")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "broken_package", raising=False)
    found = registry()
    assert dict(found) == {"own": 1, "theirs": 7} and "x" not in found
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "broken_package" in said[0] and why in said[0]


def test_nobody_is_asked_for_a_name_of_our_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("wenloom.core.plugins.distributions", None)
    assert registry()["own"] == 1
