"""The compiled code that is kept: only the user's own, only whole; without it one remark, and PyTorch writes."""

import ctypes
import errno
import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from wenloom.runtime.native import compiler

SCRIPT = """#!/bin/sh
echo called >> {calls}
while [ "$1" != -o ]; do shift; done
cp {library} "$2"
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real library, built once."""
    if shutil.which(compiler.compiler()[0]) is None:
        pytest.skip("no C compiler")
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setattr(compiler, "_folders", lambda: [folder / "wenloom"])
        compiler._library()
    (found,) = (folder / "wenloom").iterdir()
    return found


class Place:
    """A home and a temporary folder, and a compiler that copies the real one's work and counts its calls."""

    def __init__(self, root: Path, built: Path, patch: pytest.MonkeyPatch):
        self.home, self.temporary, self.calls = root / "home" / "wenloom", root / "tmp", root / "calls"
        self.temporary.mkdir(mode=0o700)
        script = root / "copying-cc"
        script.write_text(SCRIPT.format(calls=self.calls, library=built))
        script.chmod(0o755)
        patch.setenv("CC", str(script))
        patch.setenv("XDG_CACHE_HOME", str(self.home.parent))
        patch.setattr(compiler.tempfile, "gettempdir", lambda: str(self.temporary))

    @property
    def n_built(self) -> int:
        return len(self.calls.read_text().split()) if self.calls.exists() else 0

    @property
    def kept(self) -> list[Path]:
        """Everything in the two folders."""
        return [*self.home.glob("*"), *self.temporary.glob("*/*")]


@pytest.fixture
def place(tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, built, monkeypatch)


def test_what_was_built_is_kept_by_the_user_alone(place: Place):
    before = os.umask(0)
    try:
        assert compiler._library().step and compiler._library().step
    finally:
        os.umask(before)
    (kept,) = place.kept
    assert place.n_built == 1
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in (kept, kept.parent))


def test_it_is_on_the_disk_before_it_gets_its_name(place: Place, monkeypatch: pytest.MonkeyPatch):
    events, fsync, replace = [], os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: (events.append("fsync"), fsync(number))[1])
    monkeypatch.setattr(Path, "replace", lambda path, to: (events.append("rename"), replace(path, to))[1])
    compiler._library()
    assert events == ["fsync", "rename"]


def rewrite(path: Path, content: bytes) -> None:
    """In a new file: the old one is in use as this process's code."""
    path.unlink()
    path.write_bytes(content)
    path.chmod(0o700)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut short": lambda path: rewrite(path, path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: rewrite(path, b""),
    "a bit flipped": lambda path: rewrite(path, path.read_bytes()[:-900] + b"?" + path.read_bytes()[-899:]),
    "longer": lambda path: rewrite(path, path.read_bytes() + b"?"),
    "for others to write": lambda path: path.chmod(0o722),
    "a link": lambda path: (shutil.move(path, path.parent / "elsewhere"), path.symlink_to("elsewhere")),
    "a hanging link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_kept_file_that_is_not_whole_and_ours_is_built_again(damage: str, place: Place):
    compiler._library()
    (kept,) = place.kept
    DAMAGES[damage](kept)
    assert compiler._library().step and place.n_built == 2
    assert kept.is_file() and not kept.is_symlink() and stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert compiler._library().step and place.n_built == 2


def test_a_file_of_somebody_else_is_built_again(place: Place, monkeypatch: pytest.MonkeyPatch):
    compiler._library()
    (kept,) = place.kept
    assert compiler._is_whole(kept, kept.name.split("-")[1])
    monkeypatch.setattr(os, "getuid", lambda: kept.stat().st_uid + 1)
    assert not compiler._is_whole(kept, kept.name.split("-")[1])


def linked(folder: Path) -> None:
    target = folder.parent / "elsewhere"
    target.mkdir(parents=True)
    folder.symlink_to(target)


def with_mode(mode: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        folder.mkdir(parents=True)
        folder.chmod(mode)

    return make


def below_an_open_folder(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.parent.chmod(0o777)


def a_file(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("")


UNFIT = {"world": with_mode(0o777), "group": with_mode(0o770), "sticky": with_mode(0o1777), "link": linked,
         "file": a_file, "below": below_an_open_folder, "hanging": lambda folder: (folder.parent.mkdir(), folder.symlink_to("x"))}  # fmt: skip


@pytest.mark.parametrize("kind", UNFIT)
def test_a_folder_that_others_could_write_to_is_not_used(
    kind: str, place: Place, built: Path, monkeypatch: pytest.MonkeyPatch
):
    UNFIT[kind](place.home)
    planted = place.home / built.name
    if place.home.is_dir():
        shutil.copy(built, planted)
    loaded, load = [], ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda name: (loaded.append(name), load(name))[1])
    assert compiler._library().step
    assert place.n_built == 1 and str(planted) not in loaded
    (folder,) = place.temporary.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    shutil.rmtree(folder)
    UNFIT[kind if kind != "below" else "world"](folder) if kind not in (
        "file",
        "link",
        "hanging",
    ) else folder.symlink_to("x")
    with pytest.raises(compiler._NoStep, match=f"{folder}"):
        compiler._library()


def test_a_folder_of_somebody_else_is_not_used(place: Place, monkeypatch: pytest.MonkeyPatch):
    place.home.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: place.home.stat().st_uid + 1)
    with pytest.raises(compiler._NoStep, match="belongs to somebody else"):
        compiler._library()
    assert place.n_built == 0


def test_many_at_once_keep_one_library(place: Place):
    found: list[ctypes.CDLL] = []
    threads = [threading.Thread(target=lambda: found.append(compiler._library())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6 and len(place.kept) == 1
    before = place.n_built
    assert compiler._library().step and place.n_built == before


def test_a_home_that_cannot_be_written_to_or_loaded_from_is_passed_over(place: Place, monkeypatch: pytest.MonkeyPatch):
    for home in ("/dev/null", "/proc", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", home)
        assert compiler._library().step
    monkeypatch.delenv("XDG_CACHE_HOME")
    for home in ("", "/dev/null", "relative"):
        monkeypatch.setenv("HOME", home)
        assert compiler._library().step
    assert place.n_built == 1
    monkeypatch.setenv("XDG_CACHE_HOME", str(place.home.parent))
    load = ctypes.CDLL

    def mounted_without_execution(name: str) -> ctypes.CDLL:
        if name.startswith(str(place.home)):
            raise OSError(f"{name}: failed to map segment from shared object")
        return load(name)

    monkeypatch.setattr(ctypes, "CDLL", mounted_without_execution)
    assert compiler._library().step


def test_nobody_known_to_the_system_has_no_home(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", lambda _: (_ for _ in ()).throw(RuntimeError("no home")))
    assert compiler._library().step and len(place.kept) == 1

    def none() -> str:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(compiler.tempfile, "gettempdir", none)
    with pytest.raises(compiler._NoStep, match="no folder"):
        compiler._library()


def test_a_full_disk_leaves_nothing_behind(place: Place, monkeypatch: pytest.MonkeyPatch):
    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(compiler._NoStep, match="No space left"):
        compiler._library()
    assert place.kept == []


COMPILERS = {
    "/bin/false": "ended with status 1",
    "/bin/true": "wrote no library",
    "no-such-compiler": "no such file",
    "/dev/null": "permission denied",
    "'unbalanced": "CC is not a command",
    "garbage": "cannot be loaded",
    "another library": "cannot be loaded",
    "noise": "last words",
    "hangs": "did not end",
}


@pytest.mark.parametrize("command", COMPILERS)
def test_a_compiler_that_fails_in_any_way_is_one_remark(
    command: str, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    scripts = {
        "garbage": 'while [ "$1" != -o ]; do shift; done; head -c 5000 /dev/zero > "$2"',
        "another library": 'while [ "$1" != -o ]; do shift; done; cp /proc/self/exe "$2"',
        "noise": r"printf 'first\n\033[31mlast words\007\n' >&2; exit 1",
        "hangs": f"sleep 1000 & echo $$ $! > {tmp_path / 'pids'}; wait",
    }
    if command in scripts:
        script = tmp_path / "strange-cc"
        script.write_text(f"#!/bin/sh\n{scripts[command]}\n")
        script.chmod(0o755)
        monkeypatch.setattr(compiler, "_SECONDS", 0.5 if command == "hangs" else 120)
    monkeypatch.setenv("CC", str(tmp_path / "strange-cc") if command in scripts else command)
    build = compiler._Build()
    build.thread.join()
    said = capsys.readouterr().err
    assert build.library is None and place.kept == []
    assert said.count("\n") == 1 and COMPILERS[command] in said and "\x1b" not in said
    pids = tmp_path / "pids"
    assert not any(is_running(pid) for pid in (pids.read_text().split() if pids.exists() else []))


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("flags", ["-O0 -ffast-math", "-g", "-DTOLD='a b'"])
def test_a_compiler_with_options_is_called_with_them(flags: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CC", f"cc {flags}")
    assert compiler.compiler()[0] == "cc" and len(compiler.compiler()) == len(flags.split(" -")) + 1
    monkeypatch.setenv("CC", "  ")
    assert compiler.compiler() == ["cc"]


def test_the_key_of_what_is_kept_covers_every_file(place: Place, monkeypatch: pytest.MonkeyPatch):
    compiler._library()
    real = compiler.sources()
    assert {"step.c", "step.h", "simd.h", "quant.h", "matmul.h", "attention.h", "threads.h"} <= set(real)
    for number, name in enumerate(real, 2):
        changed = real | {name: real[name] + b"/* changed */"}
        monkeypatch.setattr(compiler, "sources", lambda changed=changed: changed)
        compiler._library()
        assert place.n_built == number


CHANGES = {
    "a field that was added": (b"float eps;", b"float eps, more, still;"),
    "a field of another size": (b"int32_t kind, rows, cols, pad;", b"int64_t kind, rows; int32_t cols, pad;"),
    "fields that changed places": (b"Norm attention_norm, mlp_norm,", b"Norm mlp_norm, attention_norm,"),
    "a structure that ends later": (b"const float *position_vectors;", b"const float *position_vectors, *more;"),
    "another version": (b"enum { ABI_VERSION = ", b"enum { ABI_VERSION = 9"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_structures_that_are_not_pythons_are_never_used(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """One remark, and PyTorch writes."""
    if shutil.which(compiler.compiler()[0]) is None:
        pytest.skip("no C compiler")
    before, after = CHANGES[change]
    real = compiler.sources()
    assert before in real["step.h"]
    changed = real | {"step.h": real["step.h"].replace(before, after)}
    monkeypatch.setattr(compiler, "sources", lambda: changed)
    monkeypatch.setattr(compiler, "FLAGS", ["-O0", *compiler.FLAGS[1:]])
    monkeypatch.setattr(compiler, "_folders", lambda: [tmp_path / "wenloom"])
    monkeypatch.setattr(compiler, "_build", None)
    assert compiler.library(None) is None
    said = capsys.readouterr().err
    assert (
        said.count("Writing with PyTorch's kernels") == 1
        and "in C," in said
        and not list((tmp_path / "wenloom").iterdir())
    )
