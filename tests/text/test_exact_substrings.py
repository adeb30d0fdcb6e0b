"""Runs of tokens that stand in several places: found as a suffix array finds them, cut from all places but one, letter for letter."""

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wenloom.core.errors import InputError
from wenloom.text import worker
from wenloom.text.document import ReadOptions
from wenloom.text.pieces import pieces
from wenloom.text.recipe import Recipe
from wenloom.text.sift import sift
from wenloom.text.steps import exact_substrings
from wenloom.text.steps.comparing import slices
from wenloom.text.steps.exact_substrings import ExactSubstrings
from wenloom.text.steps.step import Notes
from wenloom.tokens.prepare import PrepareOptions, prepare
from wenloom.tokens.suffixes import suffix_order

from .noted import notes_of
from .test_sift import long_text, run, write


def windows(text: str, n: int) -> list[str]:
    begins, _ = pieces(text)
    return [text[begins[at] : begins[at + n]] for at in range(len(begins) - n)]


def left(step: ExactSubstrings, texts: list[str], n_protected: int = 0) -> list[str | None]:
    verdict = step.judge(notes_of(step, texts, n_protected))
    found = list[str | None](texts)
    for number, parts in verdict.cut.items():
        for begin, end in reversed(step.spans(texts[number], parts)):
            found[number] = (found[number] or "")[:begin] + (found[number] or "")[end:]
    for number in verdict.dropped:
        found[number] = None
    return found


@given(st.lists(st.text("ab .", max_size=40), min_size=1, max_size=6), st.integers(2, 4), st.booleans())
@settings(max_examples=50, deadline=None)
def test_every_window_stays_once_and_what_is_cut_stands_elsewhere(texts: list[str], n: int, in_parts: bool):
    """By the definition, over all windows."""
    step = ExactSubstrings(tokens=n, least_left=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_substrings, "_AT_ONCE", 3 if in_parts else 2**22)
        found = left(step, texts)
    assert None not in found
    whole = [window for text in texts for window in windows(text, n)]
    repeated = {window for window in whole if whole.count(window) > 1}
    for text, parts in zip(texts, found, strict=True):
        assert parts is not None and len(parts) <= len(text)
        if not repeated & set(windows(text, n)):
            assert parts == text
    assert all(any(window in parts for parts in found if parts) for window in repeated)


def test_windows_are_the_neighbours_of_a_suffix_array():
    """Of texts with planted runs, in two scripts: tokens that are part of a run of 50 that stands twice."""
    rng, runs = (
        random.Random(0),
        [long_text(number)[:700] for number in range(5)] + ["人生而自由，在尊严和权利上一律平等。" * 4],
    )
    texts = []
    for number in range(100, 130):
        words = long_text(number).split(" ")
        for run_ in rng.sample(runs, 2):
            words.insert(rng.randrange(len(words)), run_)
        texts.append(" ".join(words))
    step = ExactSubstrings()
    notes = notes_of(step, texts)
    ids, row = np.unique(notes.values, return_inverse=True)
    row[notes.starts[:-1]] = len(ids) + np.arange(len(texts))  # documents are parted by what stands once
    order = suffix_order(row, len(row), len(ids) + len(texts), 64).astype(np.int64)
    padded = np.concatenate((row, -1 - np.arange(64)))
    is_same = np.array([(padded[a : a + 50] == padded[b : b + 50]).all() for a, b in itertools.pairwise(order)])
    expected = np.zeros(len(row), bool)
    expected[order[:-1][is_same]] = expected[order[1:][is_same]] = True
    found = np.zeros(len(row), bool)
    for rows in step._repeated(notes):
        found[(rows >> np.uint64(1)).astype(int)] = True
    assert expected.sum() > 1000 and (found == expected).all()


def test_a_run_is_cut_from_all_documents_but_one_in_any_order_and_with_any_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(worker, "BLOCK_CHARACTERS", 3000)
    notice = " This notice stands below every page: " + long_text(77)
    texts = [long_text(number)[:-1] + notice + long_text(number + 50) for number in range(8)] + [long_text(99)]
    recipe, found = Recipe("r", {"exact_substrings": {}}), list[set[str]]()
    for order in range(2):
        random.Random(order).shuffle(texts)
        decided = run(write(tmp_path / "a.jsonl", texts), recipe, tmp_path / f"w{order}", processes=order + 1)
        assert not any(each.step for each in decided)
        found.append({each.document.text for each in decided})
    assert found[0] == found[1]
    assert sum(notice in text for text in found[0]) == 1 and sum("notice" in text for text in found[0]) == 1
    without = {text.replace(notice, "") for text in texts}
    assert {text for text in found[0] if notice not in text} <= without and len(found[0] & without) == 8


def test_validation_text_keeps_its_runs_and_what_is_little_is_dropped(tmp_path: Path):
    shared = long_text(1)
    held, train = (
        write(tmp_path / "held.jsonl", [shared]),
        write(tmp_path / "a.jsonl", [shared + " And more.", shared * 2]),
    )
    sifted = sift(
        [train], ReadOptions(), Recipe("r", {"exact_substrings": {}}), tmp_path / "w", validation_files=[held]
    )
    decided = list(sifted.decided())
    assert decided[0].document.text.strip() == shared and not decided[0].step
    assert all("tokens are left" in each.reason for each in decided[1:])
    step = ExactSubstrings(least_left=1)
    assert left(step, [shared + " x", "y " + shared, long_text(3)]).count(None) == 1


def test_lines_and_runs_of_one_document_are_both_cut_where_they_stand(tmp_path: Path):
    menu, notice = "Home | News | Sport | Weather | About us", "This notice: " + long_text(77)
    texts = [
        f"{long_text(number)}\n{menu}\n{long_text(number + 20)[:-1]} {notice} {long_text(number + 40)}"
        for number in range(4)
    ]
    recipe = Recipe("r", {"repeated_lines": {}, "exact_substrings": {}})
    found = "".join(each.document.text for each in run(write(tmp_path / "a.jsonl", texts), recipe, tmp_path / "w"))
    assert found.count(menu) == found.count(notice.strip()) == 1
    assert all(long_text(number + more)[:-1] in found for number in range(4) for more in (0, 20, 40))


def test_the_card_tells_what_was_cut(tmp_path: Path):
    notice = " This notice stands below every page: " + long_text(77)
    file = write(
        tmp_path / "a.jsonl", [long_text(number)[:-1] + notice + long_text(number + 50) for number in range(12)]
    )
    prepare([str(file)], tmp_path / "made", PrepareOptions("byte"), recipe=Recipe("r", {"exact_substrings": {}}))
    card = json.loads((tmp_path / "made" / "data-card.json").read_text())
    assert card["cut"] == {"exact_substrings": {"documents": 11, "bytes": 11 * len(notice)}}
    assert "What was cut" in (tmp_path / "made" / "data-card.html").read_text()


def test_places_are_right_behind_more_tokens_than_32_bits_count(monkeypatch: pytest.MonkeyPatch):
    """Behind a document whose 2^33 tokens are not looked at, all is as it is without it."""
    step, far = ExactSubstrings(tokens=6, least_left=0.5), 2**33
    texts = [" ".join([long_text(number % 3)[:90], long_text(number), long_text(9)[:80]]) for number in range(8)]
    near = notes_of(step, texts)

    class Values:
        def __len__(self) -> int:
            return far + len(near.values)

    def shifted(values: object, size: int, beyond: int) -> Iterator[tuple[int, np.ndarray]]:
        return ((far + begin, part) for begin, part in slices(near.values, size, beyond))

    expected = step.judge(near)
    starts = np.concatenate(([0], near.starts + far))
    rank, stays = np.append(len(texts), near.rank), np.append(False, near.stays)
    monkeypatch.setattr(exact_substrings, "_AT_ONCE", 2**22)
    monkeypatch.setattr(exact_substrings, "slices", shifted)
    found = step.judge(Notes(Values(), starts, [], rank, stays))  # pyright: ignore[reportArgumentType]
    for ours, theirs in ((found.cut, expected.cut), (found.kept, expected.kept)):
        assert {number - 1: parts.tolist() for number, parts in ours.items()} == {
            number: parts.tolist() for number, parts in theirs.items()
        }
    assert {number - 1: why for number, why in found.dropped.items()} == dict(expected.dropped)
    assert expected.cut and expected.kept


def test_values_that_make_no_sense_are_refused():
    for values in ({"tokens": 1}, {"tokens": 2**31 - 1}, {"least_left": 1.5}):
        with pytest.raises(InputError, match="exact_substrings"):
            ExactSubstrings(**values)
