"""Steps that compare documents, together: what one leaves in one place, no other takes away, whatever their order."""

import itertools
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from wenloom.text import worker
from wenloom.text.document import ReadOptions
from wenloom.text.pieces import pieces
from wenloom.text.recipe import Recipe
from wenloom.text.sift import sift
from wenloom.text.sifted import Decided, Sifted

from .test_sift import write

VALUES = {"duplicates": {}, "repeated_lines": {}, "exact_substrings": {"tokens": 6}, "near_duplicates": {"words": 2}}
ORDERS = [order for count in (1, 2, 3, 4) for order in itertools.permutations(VALUES, count)]


def words(rng: random.Random, count: int) -> str:
    return " ".join("".join(rng.choice("aeioubdfgklmnprst") for _ in range(rng.randint(3, 8))) for _ in range(count))


def planted(rng: random.Random, n_passages: int = 24) -> tuple[list[str], list[str]]:
    """Passages, and documents that hold some: as lines, inside of longer lines, in little else or in much; some documents again, letter
    for letter or with other words of their own."""
    passages, texts = [words(rng, rng.randint(8, 12)) for _ in range(n_passages)], list[str]()
    for _ in range(16):
        own, some = words(rng, rng.choice((0, 3, 60))), rng.sample(passages, rng.randint(1, 6))
        lines = [each if rng.random() < 0.7 else f"{words(rng, 2)} {each} {words(rng, 2)}" for each in some]
        lines.insert(rng.randint(0, len(lines)), own)
        texts.append("\n".join(lines))
        if rng.random() < 0.4:
            texts.append(texts[-1])
        while rng.random() < 0.5:
            lines[lines.index(own)] = own = own + " " + words(rng, rng.randint(1, 2))
            texts.append("\n".join(lines))
    rng.shuffle(texts)
    return passages, texts


def judged(
    path: Path, texts: list[str], orders: list[tuple[str, ...]], n_held: int = 0
) -> Iterator[tuple[tuple[str, ...], Sifted]]:
    """What recipes of these steps in these orders say of texts, noted once; the first so many are validation text."""
    every = Recipe("all", VALUES)
    held, train = write(path / "held.jsonl", texts[:n_held]), write(path / "train.jsonl", texts[n_held:])
    sift([train], ReadOptions(), every, path / "work", validation_files=[held] if n_held else [], processes=1)
    blocks = sorted((path / "work").glob("*.npz"))
    for order in orders:
        yield order, Sifted(blocks, 1 if n_held else 0, Recipe("some", {name: VALUES[name] for name in order}))


def kept(decided: list[Decided]) -> list[str]:
    return [each.document.text for each in decided if not each.step]


@pytest.mark.parametrize("seed", range(6))
def test_a_passage_that_stands_in_several_documents_is_nowhere_lost_whatever_steps_compare_them_and_in_which_order(
    seed: int, tmp_path: Path
):
    passages, texts = planted(random.Random(seed))
    again = [each for each in passages if sum(each in text for text in texts) > 1]
    n_changed = 0
    for order, sifted in judged(tmp_path, texts, ORDERS, n_held=seed % 3):
        decided = list(sifted.decided())
        lost = [each for each in again if not any(each in text for text in kept(decided))]
        assert not lost, (order, lost)
        assert all(each.document.text.strip() for each in decided if not each.step), order
        assert all(each.document.text == text for each, text in zip(decided[: seed % 3], texts, strict=False))
        n_changed += sum(
            bool(each.step) or each.document.text != text for each, text in zip(decided, texts, strict=True)
        )
    assert len(again) > 5 and n_changed > len(texts)


def lines_of(text: str) -> set[str]:
    return {" ".join(re.findall(r"\w+", line.lower())) for line in text.split("\n") if len(line.strip()) >= 15}


def windows_of(text: str, n: int) -> set[str]:
    begins, _ = pieces(text)
    return {text[begins[at] : begins[at + n]] for at in range(len(begins) - n)}


@pytest.mark.parametrize("seed", range(6))
def test_what_each_step_met_several_times_is_there_at_the_end(seed: int, tmp_path: Path):
    """Of texts that share pieces of every kind, by definition: lines but for their case, runs of tokens letter for letter, documents."""
    rng = random.Random(100 + seed)
    stock = [words(rng, rng.randint(2, 9)) for _ in range(12)]
    texts = [
        "\n".join(
            rng.choice((str, str.upper, str.title))(" ".join(rng.choices(stock, k=rng.randint(1, 3))))
            for _ in range(rng.randint(1, 5))
        )
        for _ in range(30)
    ]
    texts += rng.sample(texts, 5)
    for order, sifted in judged(tmp_path, texts, ORDERS):
        decided = list(sifted.decided())
        left, alive = kept(decided), set(range(len(texts)))
        lines = set[str]().union(*map(lines_of, left))
        for name in order:
            met = [texts[each] for each in sorted(alive)]
            if name == "repeated_lines":
                several = [lines_of(text) for text in met]
                for line in set[str]().union(*several):
                    assert sum(line in each for each in several) == 1 or line in lines, (order, line)
            elif name == "exact_substrings":
                several = [windows_of(text, 6) for text in met]
                for run in set[str]().union(*several):
                    assert sum(run in each for each in several) == 1 or any(run in text for text in left), (order, run)
            alive -= set(sifted.verdicts[name].dropped)
        if order[-1] == "near_duplicates":
            for members in sifted.verdicts["near_duplicates"].clusters:
                assert set(members) & alive, order
                assert max(members, key=lambda each: len(texts[each])) in alive or len(
                    {len(texts[each]) for each in members}
                ) < len(members)


@pytest.mark.parametrize("order", [("repeated_lines", "exact_substrings", "near_duplicates"), ("near_duplicates", "repeated_lines", "duplicates"),
                                   ("exact_substrings", "duplicates", "repeated_lines")])  # fmt: skip
def test_neither_the_order_of_reading_nor_the_size_of_blocks_nor_the_number_of_processes_changes_what_is_left(
    order: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Lines that differ in case, marks and blanks alone, too: which of them is kept is decided by their documents."""
    rng = random.Random(0)
    _, texts = planted(rng)
    texts += [text.upper().replace(" ", "  ") if rng.random() < 0.5 else text.title() for text in texts[:12]]
    recipe, found = Recipe("r", {name: VALUES[name] for name in order}), list[list[str]]()
    for number, (size, processes) in enumerate([(4_000_000, 1), (900, 1), (400, 2), (4_000_000, 1)]):
        monkeypatch.setattr(worker, "BLOCK_CHARACTERS", size)
        rng.shuffle(texts)
        file = write(tmp_path / "a.jsonl", texts)
        sifted = sift([file], ReadOptions(), recipe, tmp_path / f"w{number}", processes=processes)
        found.append(sorted(kept(list(sifted.decided()))))
    assert all(each == found[0] for each in found) and len(found[0]) < len(texts)


def test_a_document_of_which_two_steps_together_leave_nothing_is_dropped(tmp_path: Path):
    rng = random.Random(0)
    line, run = words(rng, 12), words(rng, 12)
    texts = [f"{line}\n{words(rng, 80)}", f"{words(rng, 40)}\n{run} {words(rng, 40)}", f"{line.upper()}\n{run}"]
    order = ("repeated_lines", "exact_substrings")
    (_, sifted), *_ = judged(tmp_path, texts, [order])
    decided = list(sifted.decided())
    assert [each.step for each in decided] == ["", "", "exact_substrings"]
    assert decided[2].reason == "nothing is left without what stands in other documents"
    assert sifted.cut == {}


@pytest.mark.parametrize(
    "order", list(itertools.product(("duplicates", "near_duplicates"), ("repeated_lines", "exact_substrings")))
)
def test_a_document_that_stands_for_others_keeps_what_only_they_have(order: tuple[str, ...], tmp_path: Path):
    rng = random.Random(0)
    shared, own = "\n".join(words(rng, 10) for _ in range(8)), words(rng, 10)
    texts = [f"{own}\n{shared}"] * 2 + [f"{shared}\n{words(rng, 200)}"]
    (_, sifted), *_ = judged(tmp_path, texts, [order])
    assert any(own in text for text in kept(list(sifted.decided())))


@pytest.mark.parametrize("order", list(itertools.permutations(("repeated_lines", "exact_substrings"))))
def test_what_one_document_has_again_and_again_is_kept_in_its_first_place_alone(order: tuple[str, ...], tmp_path: Path):
    rng = random.Random(0)
    line = words(rng, 12)
    texts = [
        f"{words(rng, 30)}\n{line}\n{words(rng, 30)}\n{line}\n{words(rng, 30)}\n{line}",
        f"{words(rng, 40)}\n{line}",
    ]
    (_, sifted), *_ = judged(tmp_path, texts, [order])
    left = [each.document.text for each in sifted.decided()]
    assert [text.count(line) for text in left] == [1, 0] and left[0].startswith(texts[0].partition(line)[0])
