"""The index of a corpus against a search of the whole text, token by token; where documents are, against the texts themselves."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wenloom.core.errors import InputError
from wenloom.tokens import index as index_module
from wenloom.tokens.index import ABOUT, FOLDER, TokenIndex, build_index, has_index, indexed
from wenloom.tokens.places import BEGINNINGS, DocumentPlaces
from wenloom.tokens.prepare import PrepareOptions, prepare
from wenloom.tokens.shards import Dataset, TokenStream
from wenloom.tokens.suffixes import suffix_order
from wenloom.tokens.tokenizer import TextTokenizer

from ..conftest import story


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.integers(0, 40), st.sampled_from([4, 300, 100_000]))
def test_places_are_in_the_order_of_what_is_read_from_them(row: list[int], beyond: int, vocab_size: int):
    count = max(1, len(row) - beyond)
    told: list[int] = []
    order = suffix_order(np.array(row), count, vocab_size, len(row), told.append)
    assert order.tolist() == sorted(range(count), key=lambda place: row[place:]) and order.dtype == np.uint32
    assert sum(told) == len(row), "progress ends where the work does"


def test_places_that_agree_in_more_tokens_than_are_compared_are_all_there():
    row = np.array([5, 6] * 5000)
    order = suffix_order(row, len(row), 300, 16)
    assert sorted(order.tolist()) == list(range(len(row)))
    heads = [row[place : place + 16].tolist() for place in order.tolist()]
    assert heads == sorted(heads)


def brute(row: list[int], wanted: list[int]) -> list[int]:
    return [place for place in range(len(row) - len(wanted) + 1) if row[place : place + len(wanted)] == wanted]


@pytest.mark.parametrize("block_tokens", [50, 997, 2**24])
def test_what_is_found_is_what_a_search_of_the_whole_text_finds(
    dataset: Dataset, block_tokens: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(index_module, "DEPTH", 40)
    shutil.copytree(dataset.folder, tmp_path / "copy")
    index = build_index(Dataset.open(tmp_path / "copy"), block_tokens)
    row = index.stream.window(0, len(index.stream)).tolist()
    assert len(index.orders) == -(-len(row) // block_tokens)
    draw = np.random.default_rng(0)
    asked = [row[at : at + 12] for at in draw.integers(0, len(row) - 12, 15)]
    asked += [row[-5:], row[:3], [399, 399, 399], [row[0]], row[block_tokens - 8 : block_tokens + 8] or row[:4]]
    asked += [[*draw.integers(0, 400, 6).tolist(), *tokens[:4]] for tokens in asked[:5]]
    for tokens in asked:
        match = index.longest(tokens)
        ends = [tokens[-length:] for length in range(len(tokens), 0, -1)]
        longest = next((end for end in ends if brute(row, end)), [])
        places = brute(row, longest) if longest else []
        assert (match.length, match.count) == (len(longest), len(places))
        assert index.places(match, 10**6) == places
        behind = [row[place + len(longest)] for place in places if place + len(longest) < len(row)]
        found = dict(zip(*(each.tolist() for each in index.following(match)), strict=True))
        assert found == {token: behind.count(token) for token in set(behind)}
        assert list(found.values()) == sorted(found.values(), reverse=True)
        some = index.places(match, 3)
        assert len(some) == min(3, len(places)) and set(some) <= set(places)


def test_tokens_are_read_at_any_places_of_several_shards():
    stream = TokenStream(
        [np.arange(0, 7, dtype=np.uint16), np.arange(7, 9, dtype=np.uint16), np.arange(9, 30, dtype=np.uint16)]
    )
    places = np.array([29, 0, 7, 8, 6, 9, 29])
    assert stream.at(places).tolist() == places.tolist() and stream.at(np.zeros(0, int)).tolist() == []
    with pytest.raises(InputError, match="the vocabulary has 20"):
        TokenStream([np.arange(30, dtype=np.uint16)], 20).at(places)


def made(folder: Path, kind: str = "bpe", count: int = 30, **options: object) -> Dataset:
    (folder / "texts").mkdir(parents=True)
    for number in range(count):
        (folder / "texts" / f"{number:02}.txt").write_text(story(number), encoding="utf-8")
    rows = [json.dumps({"text": story(100 + number)}) for number in range(count)]
    (folder / "texts" / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    vocab_size = 300 if kind == "bpe" else None
    return prepare([str(folder / "texts")], folder / "data", PrepareOptions(kind, vocab_size, **options)).dataset  # pyright: ignore


@pytest.mark.parametrize("kind, count", [("bpe", 30), ("char", 30), ("unigram", 30), ("byte", 3)])
def test_every_place_names_the_document_that_it_is_in(tmp_path: Path, kind: str, count: int):
    """Three documents are cut, each into training and validation; thirty are divided as wholes."""
    dataset = made(tmp_path, kind, count)
    tokenizer, seen = dataset.tokenizer(), 0
    texts = {str(tmp_path / f"texts/{number:02}.txt"): story(number) for number in range(count)}
    texts |= {f"{tmp_path / 'texts/rows.jsonl'}, line {number + 1}": story(100 + number) for number in range(count)}
    for split in ("train", "validation"):
        stream = dataset.stream(split)
        places = DocumentPlaces.open(dataset.folder, split, len(stream))
        at = 0
        while at < len(stream):
            document = places.of(at)
            assert document.begin == at and places.of(document.end - 1) == document
            text = tokenizer.decode(stream.window(at, document.end - at).tolist(), skip_special_tokens=True)
            whole = texts[document.source]
            is_cut = dataset.manifest["split_rule"].startswith("last")
            assert text == whole if not is_cut else whole.startswith(text) if split == "train" else whole.endswith(text)
            at, seen = document.end, seen + 1
    assert seen == sum(split.documents for split in dataset.splits.values())


def test_an_index_is_made_once_and_goes_with_its_corpus(tmp_path: Path):
    dataset = made(tmp_path)
    assert not has_index(dataset)
    index, was_there = indexed(dataset)
    assert not was_there and indexed(dataset)[1] and has_index(dataset)
    assert index.find(dataset.tokenizer().encode("The lamp was")).count
    prepare([str(tmp_path / "texts")], dataset.folder, PrepareOptions("byte"))
    assert not (dataset.folder / FOLDER).exists()


def test_a_corpus_of_an_earlier_version_is_prepared_again_to_say_where_its_documents_are(tmp_path: Path):
    dataset = made(tmp_path)
    (dataset.folder / BEGINNINGS).unlink()
    with pytest.raises(InputError, match="Run the same wenloom prepare again"):
        DocumentPlaces.open(dataset.folder, "train", dataset.splits["train"].tokens)
    again = prepare([str(tmp_path / "texts")], dataset.folder, PrepareOptions("bpe", 300))
    assert not again.reused and again.dataset.key == dataset.key
    DocumentPlaces.open(dataset.folder, "train", dataset.splits["train"].tokens)


def _cut_short(folder: Path) -> None:
    path = folder / FOLDER / "order-00000.npy"
    path.write_bytes(path.read_bytes()[:-40])


def _of_another_text(folder: Path) -> None:
    about = json.loads((folder / FOLDER / ABOUT).read_text())
    (folder / FOLDER / ABOUT).write_text(json.dumps(about | {"tokens": about["tokens"] + 1}))


def _without_blocks(folder: Path) -> None:
    about = json.loads((folder / FOLDER / ABOUT).read_text())
    (folder / FOLDER / ABOUT).write_text(json.dumps(about | {"block_tokens": 0}))


def _beyond_the_text(folder: Path) -> None:
    path = folder / FOLDER / "order-00000.npy"
    np.save(path, np.full_like(np.load(path), 2**31))


@pytest.mark.parametrize("damage", [_cut_short, _of_another_text, _without_blocks, _beyond_the_text])
def test_a_damaged_index_is_named_with_the_mend(tmp_path: Path, tokenizer: TextTokenizer, damage):
    dataset = made(tmp_path)
    build_index(dataset)
    damage(dataset.folder)
    with pytest.raises(InputError, match="is damaged; remove it and run wenloom index again"):
        TokenIndex.open(dataset).longest([5, 6])


def test_a_corpus_without_index_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(InputError, match=r"has no index. Make one: wenloom index"):
        TokenIndex.open(made(tmp_path))


@pytest.mark.parametrize("damage", [b"[]", b"{", b'["a", 3]'])
def test_damaged_places_of_documents_are_named(tmp_path: Path, damage: bytes):
    dataset = made(tmp_path)
    (dataset.folder / BEGINNINGS).write_bytes(damage)
    with pytest.raises(InputError, match=r"documents\.json|prepare it again"):
        DocumentPlaces.open(dataset.folder, "train", 5)
