"""Preparing a corpus: complete, split by content, keyed by content, memory-mapped, safe."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from wenloom.cli.show import prompts_from
from wenloom.core.errors import InputError
from wenloom.text.documents import ReadOptions
from wenloom.tokens.prepare import PrepareOptions, prepare
from wenloom.tokens.shards import Dataset, ShardWriter, TokenStream, token_dtype
from wenloom.tokens.tokenizer import TextTokenizer

from .. import conftest


def write(folder: Path, texts: list[str]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"{number:03}.txt").write_text(text, encoding="utf-8")
    return str(folder)


def whole(dataset: Dataset, split: str) -> list[int]:
    stream = dataset.stream(split)
    return stream.window(0, len(stream)).tolist()


def test_every_document_is_there_once_and_unchanged(texts: list[str], tmp_path: Path):
    source = write(tmp_path / "texts", [*texts, texts[3], "  \n"])
    dataset = prepare([source], tmp_path / "out", PrepareOptions("bpe", 400)).dataset
    tokenizer = dataset.tokenizer()
    assert dataset.manifest["duplicates_removed"] == 1 and dataset.manifest["empty_documents"] == 1
    found: list[str] = []
    for split, measures in dataset.splits.items():
        tokens = whole(dataset, split)
        assert tokens[0] == tokens[-1] == tokenizer.bos_token_id
        documents = [text for text in tokenizer.decode(tokens).split("<|endoftext|>") if text]
        assert len(documents) == measures.documents
        assert sum(len(text.encode()) for text in documents) == measures.bytes
        assert sum(map(len, documents)) == measures.characters
        found += documents
    assert sorted(found) == sorted(texts)


def test_split_depends_on_content_alone(texts: list[str], tmp_path: Path):
    one = prepare([write(tmp_path / "a", texts)], tmp_path / "one", PrepareOptions("byte")).dataset
    other = prepare(
        [write(tmp_path / "b", texts[::-1] + ["one more text"])], tmp_path / "other", PrepareOptions("byte")
    ).dataset
    validation = [set(d.tokenizer().decode(whole(d, "validation")).split("<|endoftext|>")) for d in (one, other)]
    assert validation[0] - {"one more text"} == validation[1] - {"one more text"} and len(validation[0]) > 2


def test_a_single_document_gives_its_last_part(tmp_path: Path):
    text = "".join(chr(97 + n % 26) for n in range(1000))
    dataset = prepare([write(tmp_path / "a", [text])], tmp_path / "out", PrepareOptions("char")).dataset
    assert dataset.splits["train"].characters == 900 and dataset.splits["validation"].characters == 100
    assert dataset.tokenizer().decode(whole(dataset, "validation"), skip_special_tokens=True) == text[900:]


def test_the_last_part_of_a_document_begins_with_a_sentence_or_a_line(tmp_path: Path):
    prose = " ".join(f"Sentence {n} is about the lamp, and about oil." for n in range(100))
    verse = "\n".join(f"line {n} of a long poem without an end" for n in range(100))
    chinese = "".join(f"第{n}句说的是灯，也说油。" for n in range(100))
    for text, begins in ((prose, "Sentence "), (verse, "line "), (chinese, "第")):
        folder = tmp_path / begins.strip()
        data = prepare([write(folder / "t", [text])], folder / "out", PrepareOptions("byte")).dataset
        found = data.tokenizer().decode(whole(data, "validation"), skip_special_tokens=True)
        assert found.startswith(begins) and text.endswith(found) and len(found) > len(text) / 20
        opening = prompts_from(data.folder, 2)
        assert opening[0].startswith(begins[:8]) and all(each in text for each in opening)
        starts = [text.index(each) for each in opening]
        assert all(text[at - 1] in "\n。" or text[at - 2 : at] == ". " for at in starts)


def test_second_call_does_nothing_and_changes_are_noticed(texts: list[str], tmp_path: Path):
    source, out = write(tmp_path / "texts", texts), tmp_path / "out"
    first = prepare([source], out, PrepareOptions("bpe", 400))
    written = (out / "dataset.json").stat().st_mtime_ns
    again = prepare([source], out, PrepareOptions("bpe", 400))
    assert not first.reused and again.reused and (out / "dataset.json").stat().st_mtime_ns == written
    (tmp_path / "texts" / "000.txt").write_text("changed")
    changed = prepare([source], out, PrepareOptions("bpe", 400))
    assert not changed.reused and changed.dataset.key != first.dataset.key
    assert not prepare([source], out, PrepareOptions("bpe", 401)).reused
    assert not prepare([source], out, PrepareOptions("bpe", 401), ReadOptions(separator="And")).reused


def test_damaged_shards_are_noticed_and_made_again(texts: list[str], tmp_path: Path):
    source, out = write(tmp_path / "texts", texts), tmp_path / "out"
    dataset = prepare([source], out, PrepareOptions("byte")).dataset
    shard = out / dataset.splits["train"].shards[0]
    shard.write_bytes(shard.read_bytes()[:-200])
    with pytest.raises(InputError, match="damaged"):
        Dataset.open(out)
    assert not prepare([source], out, PrepareOptions("byte")).reused


def test_a_folder_of_something_else_is_never_replaced(texts: list[str], tmp_path: Path):
    out = tmp_path / "precious"
    write(out, ["do not lose me"])
    with pytest.raises(InputError, match="is not replaced"):
        prepare([write(tmp_path / "texts", texts)], out)
    assert (out / "000.txt").read_text() == "do not lose me"


def test_a_failed_call_keeps_the_old_corpus(texts: list[str], tmp_path: Path):
    source, out = write(tmp_path / "texts", texts), tmp_path / "out"
    key = prepare([source], out, PrepareOptions("byte")).dataset.key
    with pytest.raises(InputError, match="supports at most"):
        prepare([source], out, PrepareOptions("bpe", 60_000))
    assert Dataset.open(out).key == key
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_validation_files_of_its_own(texts: list[str], tmp_path: Path):
    """They are the validation text, whole; a training document that is in them is dropped."""
    own = write(tmp_path / "held-out", texts[:5])
    rest = write(tmp_path / "rest", texts[3:])
    options = PrepareOptions("bpe", 400, validation_files=(own,))
    dataset = prepare([rest], tmp_path / "data", options).dataset
    assert dataset.splits["validation"].documents == 5 and dataset.splits["train"].documents == len(texts) - 5
    assert dataset.manifest["split_rule"] == "files of its own" and dataset.manifest["duplicates_removed"] == 2
    assert dataset.splits["validation"].bytes == sum(len(text.encode()) for text in texts[:5])
    assert prepare([rest], tmp_path / "data", options).reused
    assert not prepare([rest], tmp_path / "data", PrepareOptions("bpe", 400)).reused
    with pytest.raises(InputError, match="cannot be training and validation text at once"):
        prepare([own], tmp_path / "other", options)


def test_given_tokenizer_is_used(texts: list[str], tokenizer: TextTokenizer, tmp_path: Path):
    dataset = prepare([write(tmp_path / "texts", texts)], tmp_path / "out", tokenizer=tokenizer).dataset
    assert dataset.tokenizer().fingerprint() == tokenizer.fingerprint()


def test_default_vocabulary_shrinks_to_what_the_text_supports(tmp_path: Path):
    dataset = prepare([write(tmp_path / "t", ["abc abc abd"])], tmp_path / "out").dataset
    assert 258 < dataset.tokenizer().vocab_size < 270


def test_nothing_but_blanks(tmp_path: Path):
    with pytest.raises(InputError, match="no text found"):
        prepare([write(tmp_path / "t", [" \n", "\t"])], tmp_path / "out")


@pytest.mark.parametrize("fraction", [0.0, -1.0, 0.9, float("nan")])
def test_silly_validation_fractions(fraction: float, tmp_path: Path):
    with pytest.raises(InputError, match="--validation"):
        prepare([write(tmp_path / "t", ["abc"])], tmp_path / "out", PrepareOptions(validation=fraction))


def test_two_or_four_bytes_a_token(tmp_path: Path):
    for vocab_size, size in ((65_536, 2), (65_537, 4)):
        writer = ShardWriter(tmp_path, f"v{size}", token_dtype(vocab_size))
        writer.append([0, vocab_size - 1])
        writer.close()
        shard = np.load(tmp_path / writer.shards[0], mmap_mode="r")
        assert shard.itemsize == size and TokenStream([shard]).window(0, 2).tolist() == [0, vocab_size - 1]


def test_stream_joins_shards_and_goes_round():
    stream = TokenStream(
        [np.arange(0, 4, dtype=np.uint16), np.arange(4, 5, dtype=np.uint16), np.arange(5, 9, dtype=np.uint16)]
    )
    for start in range(12):
        assert stream.window(start, 20).tolist() == [(start + n) % 9 for n in range(20)]


@pytest.mark.shared_data
@pytest.mark.slow
def test_chinese_poetry_without_a_mangled_character(shared_data: Path, tmp_path: Path):
    import gzip

    from wenloom.text.clean import normalize

    source = shared_data / "chinese_poetry" / "poems.jsonl.gz"
    reading = ReadOptions(text_field=("title", "paragraphs"))
    dataset = prepare([str(source)], tmp_path / "out", reading=reading).dataset
    with gzip.open(source, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    expected = {normalize("\n".join([row["title"], "\n".join(row["paragraphs"])])) for row in rows}
    tokenizer = dataset.tokenizer()
    found = [
        text
        for split in dataset.splits
        for text in tokenizer.decode(whole(dataset, split)).split("<|endoftext|>")
        if text
    ]
    assert set(found) == {text for text in expected if text.strip()} and len(found) == len(set(found))
    originals = "".join(row["title"] + "".join(row["paragraphs"]) for row in rows)
    assert set(originals) - set("".join(found)) <= {"\r", "\ufeff"}


def test_stories_are_what_the_fixtures_say():
    assert conftest.story(1) != conftest.story(2)


def test_the_learning_sample_of_a_large_corpus_is_bounded_even_and_unseen_by_validation(
    texts: list[str], tmp_path: Path
):
    from wenloom.text.corpus import read_corpus
    from wenloom.text.documents import find_files

    corpus = read_corpus(find_files([write(tmp_path / "t", texts)]), ReadOptions(), 0.2, tmp_path)
    training = [text for split, text in corpus.documents() if split == "train"]
    assert [text for batch in corpus.learning_sample() for text in batch] == training
    half = [
        text for batch in corpus.learning_sample(sum(len(text.encode()) for text in training) // 2) for text in batch
    ]
    assert abs(len(half) - len(training) / 2) <= 2 and set(half) < set(training)
    assert max(training.index(b) - training.index(a) for a, b in pairwise(half)) <= 3
    assert [text for batch in corpus.learning_sample(None) for text in batch] == training
