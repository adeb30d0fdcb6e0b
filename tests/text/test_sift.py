"""A recipe over a corpus: the same whatever the number of processes, the order, or how often it was killed."""

import contextlib
import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wenloom.cli.app import main
from wenloom.core.errors import InputError, WenloomError
from wenloom.text import worker
from wenloom.text.clusters import clusters_of
from wenloom.text.digest import content_hash
from wenloom.text.document import ReadOptions
from wenloom.text.hashing import word_hashes
from wenloom.text.recipe import Recipe, load_recipe
from wenloom.text.sift import sift
from wenloom.text.sifted import Decided
from wenloom.text.steps import duplicates, repeated_lines
from wenloom.text.steps.duplicates import Duplicates
from wenloom.text.steps.near_duplicates import NearDuplicates
from wenloom.text.steps.repeated_lines import RepeatedLines
from wenloom.tokens.prepare import PrepareOptions, prepare

from ..conftest import story
from .noted import notes_of


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def run(path: Path, recipe: Recipe, work: Path, **options: object) -> list[Decided]:
    return list(sift([path], ReadOptions(), recipe, work, **options).decided())  # pyright: ignore[reportArgumentType]


def near(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    words[rng.randrange(len(words))] = "elsewhere"
    return " ".join(words)


def long_text(number: int) -> str:
    rng = random.Random(number)
    return (
        " ".join("".join(rng.choice("aeioubdfgklmnprst") for _ in range(rng.randint(2, 8))) for _ in range(200)) + "."
    )


def test_near_duplicates_are_found_in_any_order_and_the_longest_is_kept(tmp_path: Path):
    rng = random.Random(0)
    texts = [long_text(number) for number in range(60)]
    texts += [near(text, rng) + " more" for text in texts[:20]]
    recipe = Recipe("r", {"near_duplicates": {}})
    kept = []
    for order in range(3):
        random.Random(order).shuffle(texts)
        decided = run(write(tmp_path / "a.jsonl", texts), recipe, tmp_path / f"w{order}")
        kept.append({each.document.text for each in decided if not each.step})
        assert all("nearly the same as" in each.reason for each in decided if each.step)
    assert kept[0] == kept[1] == kept[2] and len(kept[0]) == 60
    assert sum(text.endswith(" more") for text in kept[0]) == 20


@pytest.mark.parametrize("similarity", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_pairs_are_found_as_often_as_the_curve_says(similarity: float):
    """1 - (1 - s^8)^14, within four standard errors of 3,000 pairs."""
    step, rng = NearDuplicates(), np.random.default_rng(int(10 * similarity))
    factors = step._permutations[0]
    size = 400
    shared = round(2 * size * similarity / (1 + similarity))
    found = 0
    for _ in range(3000):
        numbers = rng.integers(0, 2**32, 2 * size - shared, dtype=np.uint32)
        both = [
            (factors * part[None]).min(axis=1).reshape(14, 8) for part in (numbers[:size], numbers[size - shared :])
        ]
        found += bool((both[0] == both[1]).all(axis=1).any())
    expected = 1 - (1 - (shared / (2 * size - shared)) ** 8) ** 14
    assert abs(found / 3000 - expected) < 4 * (expected * (1 - expected) / 3000) ** 0.5 + 1e-3


def test_words_have_the_same_number_wherever_they_stand_and_however_texts_are_joined():
    texts = ["The lamp,", "", "人人生而自由 the LAMP", "x" * 300 + " lamp", "ทุกคน"]
    together = list(word_hashes(texts))
    assert [each.tolist() for each in together] == [next(iter(word_hashes([text]))).tolist() for text in texts]
    assert (
        together[0].tolist() == together[2][-2:].tolist() and len(together[2]) == 8 and together[3][1] == together[0][1]
    )


def test_clusters_are_those_of_a_search_over_all_pairs():
    rng = np.random.default_rng(0)
    table = rng.integers(0, 40, (60, 3)).astype(np.uint64)
    parents = list(range(60))
    for _ in range(60):
        for a in range(60):
            for b in range(60):
                if (table[a] == table[b]).any():
                    parents[a] = parents[b] = min(parents[a], parents[b])
    expected = [[each for each in range(60) if parents[each] == root] for root in sorted(set(parents))]
    assert clusters_of(table) == [members for members in expected if len(members) > 1]


def test_lines_of_other_documents_are_taken_out_of_all_but_one_in_any_order(tmp_path: Path):
    menu = "Home | News | Sport | Weather | About us"
    texts = [f"{menu}\n{story(number)}\nShort" for number in range(8)] + [menu]
    for order, recipe in enumerate([Recipe("r", {"repeated_lines": {}})] * 2):
        if order:
            texts.reverse()
        decided = run(write(tmp_path / "a.jsonl", texts), recipe, tmp_path / f"w{order}")
        kept = [each.document.text for each in decided if not each.step]
        assert sum(menu in text for text in kept) <= 1 and all("Short" in text for text in kept if text != menu)
    step = RepeatedLines(unit="paragraph")
    assert step.spans("a\n\nb\n \nc", np.array([1])) == [(3, 7)]


def test_validation_text_is_never_dropped_in_favour_of_training_text(tmp_path: Path):
    rng, text = random.Random(1), long_text(1)
    train = write(tmp_path / "train.jsonl", [near(text, rng) + " longer than the other", long_text(2)])
    held = write(tmp_path / "held.jsonl", [text])
    sifted = sift([train], ReadOptions(), Recipe("r", {"near_duplicates": {}}), tmp_path / "w", validation_files=[held])
    assert [(each.validates, bool(each.step)) for each in sifted.decided()] == [
        (True, False),
        (False, True),
        (False, False),
    ]


def test_the_number_of_processes_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "BLOCK_CHARACTERS", 5000)
    file = write(tmp_path / "a.jsonl", [long_text(number % 30) for number in range(60)])
    recipe = load_recipe("plain", ("near_duplicates=on",))
    one, two = (run(file, recipe, tmp_path / f"w{count}", processes=count) for count in (1, 2))
    assert one == two and sum(not each.step for each in one) == 30
    assert len(list((tmp_path / "w1").iterdir())) > 5


_PREPARE = """
import sys
from pathlib import Path
from wenloom.text import worker
from wenloom.text.recipe import load_recipe
from wenloom.tokens.prepare import PrepareOptions, prepare
STEPS = ("near_duplicates=on", "repeated_lines=on", "exact_substrings=on")
if __name__ == "__main__":
    worker.BLOCK_CHARACTERS = 20_000
    prepare([sys.argv[1]], Path(sys.argv[2]), PrepareOptions("byte"), recipe=load_recipe("plain", STEPS), processes=2)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_and_ends_in_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Twenty times, by turns the one process alone or all of them, once so many blocks are done and a drawn moment later."""
    monkeypatch.setattr(worker, "BLOCK_CHARACTERS", 20_000)
    texts = [f"{long_text(number % 700)}\n{long_text(number % 90)[:150]}" for number in range(1000)]
    source = write(tmp_path / "a.jsonl", texts)
    recipe = load_recipe("plain", ("near_duplicates=on", "repeated_lines=on", "exact_substrings=on"))
    rng, work, kills, ends = random.Random(0), tmp_path / ".killed.work", 0, 0

    def go(out: str, n_blocks: int | None) -> int:
        if not (pid := os.fork()):  # importing everything again would take longer than all the rest
            os.setpgid(0, 0)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            prepare([str(source)], tmp_path / out, PrepareOptions("byte"), recipe=recipe, processes=2)
            os._exit(0)
        with contextlib.suppress(OSError):  # whoever is first
            os.setpgid(pid, pid)
        later = 0.0
        while n_blocks is not None and not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            if len(list(work.glob("*/*.npz"))) >= n_blocks:
                later = later or time.monotonic() + rng.uniform(0, 1)
                if time.monotonic() > later:
                    (os.kill if kills % 2 else os.killpg)(pid, signal.SIGKILL)
                    return os.waitpid(pid, 0)[1]
            time.sleep(0.01)
        return ended[1] if n_blocks is not None else os.waitpid(pid, 0)[1]  # pyright: ignore[reportPossiblyUnboundVariable]

    def content(out: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (tmp_path / out).iterdir()}

    assert go("whole", None) == 0
    while kills < 20 or go("killed", None) != 0:
        if go("killed", rng.randrange(75)) == 0:
            assert content("killed") == content("whole") and not list(tmp_path.glob(".killed*"))
            shutil.rmtree(tmp_path / "killed")
            ends += 1
        else:
            kills += 1
    assert content("killed") == content("whole") and not list(tmp_path.glob(".killed*"))
    print(f"{kills} kills, {ends + 1} runs that came to their end")


def test_steps_that_compare_documents_are_no_text_steps():
    from wenloom.text.pipeline import steps_named

    with pytest.raises(InputError, match="goes into a recipe"):
        steps_named(("near_duplicates",))


@pytest.mark.parametrize("at_once", [1, 7, 2**20])
def test_lines_and_duplicates_are_judged_by_their_definitions_however_few_are_taken_together(
    monkeypatch: pytest.MonkeyPatch, at_once: int
):
    """By counting the documents of each line, of which the longest keeps it, and by the texts seen before."""
    monkeypatch.setattr(repeated_lines, "_AT_ONCE", at_once)
    monkeypatch.setattr(duplicates, "_AT_ONCE", at_once)
    rng = random.Random(at_once)
    texts = ["\n".join(f"line {rng.randrange(40)} of a text" for _ in range(rng.randint(1, 6))) for _ in range(60)]
    texts += rng.sample(texts, 20)

    step = RepeatedLines(more_than=2, least_left=0.4)
    hashes, parts = list(map(content_hash, texts)), [text.split("\n") for text in texts]
    verdict, dropped = step.judge(notes_of(step, texts, 5)), set[int]()
    holders = {line: [each for each, others in enumerate(parts) if line in others] for lines in parts for line in lines}
    keepers = {
        line: min(found, key=lambda each: (each >= 5, -len(texts[each]), hashes[each], each))
        for line, found in holders.items()
        if len(found) > 2
    }
    for number, lines in enumerate(parts):
        gone = [at for at, line in enumerate(lines) if keepers.get(line, number) != number >= 5]
        left = 1 - sum(len(lines[at]) for at in gone) / sum(map(len, lines))
        if gone and left < 0.4 and number not in keepers.values():
            dropped.add(number)
        else:
            assert verdict.cut.get(number, np.zeros(0)).tolist() == gone
    assert set(verdict.dropped) == dropped and dropped and verdict.cut
    assert not dropped & {*keepers.values()}, "a line that others lose stays where it is kept"
    expected = {at: f"duplicate of {texts.index(text)}" for at, text in enumerate(texts) if texts.index(text) < at}
    assert dict(Duplicates().judge(notes_of(Duplicates(), texts)).dropped) == expected and len(expected) >= 20


def _die_elsewhere() -> None:
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_ends_in_a_sentence_and_what_is_done_is_kept(tmp_path: Path):
    file = write(tmp_path / "a.jsonl", [long_text(number) for number in range(20)])
    recipe = Recipe("r", {"repair": {}}, before=_die_elsewhere)
    with pytest.raises(WenloomError, match="was killed; where memory ran out, --processes"):
        prepare([str(file)], tmp_path / "made", PrepareOptions("byte"), recipe=recipe, processes=2)
    prepare([str(file)], tmp_path / "made", PrepareOptions("byte"), recipe=replace(recipe, before=None))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "made"]


@pytest.mark.parametrize(("full_at", "said_of_it"), [("000002", "2 blocks of documents are done"), ("000000", None)])
def test_a_full_disk_keeps_what_is_done_and_claims_nothing_else(
    full_at: str,
    said_of_it: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(worker, "BLOCK_CHARACTERS", 5000)
    file, written = write(tmp_path / "a.jsonl", [long_text(number) for number in range(20)]), worker.write_block

    def full(path: Path, *what: object) -> None:
        if path.stem == full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written(path, *what)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(worker, "write_block", full)
    line = ["wenloom", "prepare", str(file), "--recipe", "plain", "--kind", "byte", "--out", str(tmp_path / "made")]
    monkeypatch.setattr(sys, "argv", line)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capfd.readouterr().err
    assert "no space left on device; free some" in said
    assert "kept in" not in said if said_of_it is None else said_of_it in said


_WAIT = """
import sys
from pathlib import Path
from wenloom.text import sift
from wenloom.text.document import Document, ReadOptions
from wenloom.text.recipe import Recipe
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with sift._pool(Recipe("r", {"repair": {}}), ReadOptions(), 2, []) as submit:
        for number in range(8):
            submit(folder / f"{number}.npz", [Document("text", "source")])
        print("begun", flush=True)
        sys.stdin.read()
"""


def test_processes_end_with_the_one_that_started_them_however_it_ends(tmp_path: Path):
    """What it prints comes to an end only when the last process that has its output is gone."""
    (tmp_path / "go.py").write_text(_WAIT)
    command = [sys.executable, str(tmp_path / "go.py"), str(tmp_path)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    process.kill()
    try:
        assert process.communicate(timeout=60) == ("", None)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def test_a_killed_run_leaves_no_litter_beside_what_it_dropped_once_it_was_done_again(tmp_path: Path):
    source = write(tmp_path / "a.jsonl", [long_text(number % 5) for number in range(10)])
    code = _PREPARE.replace("processes=2", "dropped=Path(sys.argv[3]), keep_dropped=Path(sys.argv[4])").replace(
        "    prepare", "    import os, signal; prepared = worker.Worker.__call__\n"
        "    worker.Worker.__call__ = lambda *what: os.kill(os.getpid(), signal.SIGKILL) if sys.argv[5:] else prepared(*what)\n    prepare")  # fmt: skip
    (tmp_path / "go.py").write_text(code)
    made = tmp_path / "made"
    command = [
        sys.executable,
        str(tmp_path / "go.py"),
        str(source),
        str(made / "out"),
        str(made / "list"),
        str(made / "folder"),
    ]
    assert subprocess.run([*command, "die"], check=False).returncode == -signal.SIGKILL
    assert len(list(made.glob(".list.*"))) == len(list(made.glob(".folder.*"))) == 1
    subprocess.run(command, check=True, capture_output=True)
    assert sorted(path.name for path in made.iterdir()) == ["folder", "list", "out"]
