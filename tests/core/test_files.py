"""Writing aside and renaming: old or new, never half, never lost."""

from pathlib import Path

import pytest

from wenloom.core.errors import WenloomError
from wenloom.core.files import folder_aside, publish, write_atomically
from wenloom.core.randomness import derive_seed, generator


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path):
    with folder_aside(tmp_path / "new") as folder:
        (folder / "a").write_text("1")
        assert names(tmp_path) == [folder.name]
    with pytest.raises(RuntimeError), folder_aside(tmp_path / "new") as folder:
        (folder / "a").write_text("2")
        raise RuntimeError
    assert names(tmp_path) == ["new"] and (tmp_path / "new" / "a").read_text() == "1"
    with folder_aside(tmp_path / "new") as folder:
        (folder / "b").write_text("3")
    assert names(tmp_path) == ["new"] and names(tmp_path / "new") == ["b"]


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path):
    import subprocess
    import sys

    write = (
        "import sys, time, pathlib; from wenloom.core.files import folder_aside\n"
        "with folder_aside(pathlib.Path(sys.argv[1])) as folder:\n    print(folder, flush=True); time.sleep(60)"
    )

    def begun() -> tuple["subprocess.Popen[str]", Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", write, str(tmp_path / "new")], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        return process, folder

    (killed, left), (living, held) = begun(), begun()
    killed.kill()
    killed.wait()
    (tmp_path / ".new.notes-on").mkdir()
    try:
        with folder_aside(tmp_path / "new"):
            pass
        assert not left.exists() and held.exists() and (tmp_path / ".new.notes-on").exists()
    finally:
        living.kill()
        living.wait()


def test_a_disk_that_refuses_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_atomically(tmp_path / "a", "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WenloomError, match=r"a: could not be written \(no space left on device\)"):
        write_atomically(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old" and names(tmp_path) == ["a"]
    with pytest.raises(WenloomError, match="could not be written"):
        write_atomically(tmp_path / "a" / "b", "new")


def test_publish_links_or_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for folder in ("from", "to"):
        (tmp_path / folder).mkdir()
    (tmp_path / "from" / "a").write_text("1")
    (tmp_path / "to" / "a").write_text("0")
    publish(tmp_path / "from" / "a", tmp_path / "to")
    assert (tmp_path / "to" / "a").read_text() == "1"

    def no_links(*args: object) -> None:
        raise OSError

    monkeypatch.setattr("os.link", no_links)
    (tmp_path / "from" / "b").write_text("2")
    publish(tmp_path / "from" / "b", tmp_path / "to")
    assert names(tmp_path / "to") == ["a", "b"]


def test_streams_are_named_and_independent():
    seeds = {derive_seed(seed, name, index) for seed in range(5) for name in ("a", "b") for index in range(5)}
    assert len(seeds) == 50 and all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, "a", 11) != derive_seed(0, "a1", 1)
    assert generator(1, "x").initial_seed() == derive_seed(1, "x")
