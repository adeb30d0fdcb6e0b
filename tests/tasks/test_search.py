"""Search by meaning: passages with their places, and an index that can be neither stale nor another model's."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from wenloom.checkpoint.sentence import SentenceConfig
from wenloom.core.errors import InputError
from wenloom.core.files import write_atomically
from wenloom.core.randomness import generator
from wenloom.model.encoder import Encoder
from wenloom.model.presets import encoder_from_scratch
from wenloom.runtime.embedder import Embedder
from wenloom.tasks.passages import TextPassage, read_passages
from wenloom.tasks.search import index_file, indexed, search, similarity
from wenloom.tokens.tokenizer import TextTokenizer

from ..conftest import VERSES


@pytest.fixture(scope="module")
def embedder(tokenizer: TextTokenizer) -> Embedder:
    config = encoder_from_scratch("bert", vocab_size=tokenizer.vocab_size, n_layers=1, d_model=32, n_heads=2, context_length=64,
                                  dropout=0.0, pad_token_id=1)  # fmt: skip
    model = Encoder(config)
    model.initialise(generator(0, "weights"))
    return Embedder(model.eval(), tokenizer, SentenceConfig(prompts={"query": "ask: ", "passage": "read: "}))


def places(found: list[TextPassage], root: Path) -> list[tuple[str, int, str]]:
    return [(str(each.file.relative_to(root)), each.line, each.text) for each in found]


def test_passages_say_where_they_stand(tmp_path: Path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\nthree\r\n\n\n  \n四\n", encoding="utf-8")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "row"}\n\n{"text": "next"}\n'))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "d.csv").write_text('id,text\n1,"a, b"\n')
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "README.md").write_text("no")
    (tmp_path / "image.png").write_text("no")
    rows = [("b.jsonl.gz", 1, "row"), ("b.jsonl.gz", 3, "next"), ("c/d.csv", 2, "a, b")]
    lines = [("a.txt", 1, "one"), ("a.txt", 3, "two"), ("a.txt", 4, "three"), ("a.txt", 8, "四")]
    assert places(read_passages(tmp_path), tmp_path) == lines + rows
    paragraphs = [("a.txt", 1, "one"), ("a.txt", 3, "two three"), ("a.txt", 8, "四")]
    assert places(read_passages(tmp_path, by="paragraph"), tmp_path) == paragraphs + rows
    assert [each.text for each in read_passages(tmp_path / "a.txt", keep_empty=True)] == [
        "one",
        "",
        "two",
        "three",
        "",
        "",
        "  ",
        "四",
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [("a.jsonl", '{"text": "a"}\n{"title": "b"}\n', r'line 2: no field "text".*--field'), ("a.jsonl", '{"text": 5}\n', "line 1.*a number"),
     ("a.txt", "\n \n", "no text"), ("a.csv", "x,y\n1,2\n", 'no field "text"'), ("a.jsonl", "{\n", "line 1.*JSON")],
)  # fmt: skip
def test_a_corpus_that_cannot_be_read_is_named_with_its_line(tmp_path: Path, name: str, content: str, said: str):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=f"{name}.*{said}|{name}: .*empty"):
        read_passages(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no texts"):
        read_passages(tmp_path / "empty")


def test_what_is_found_is_what_an_exhaustive_comparison_finds(tmp_path: Path, embedder: Embedder):
    corpus = tmp_path / "texts.txt"
    corpus.write_text("\n".join(VERSES[:6]), encoding="utf-8")
    index = indexed(embedder, "it", read_passages(corpus), index_file(corpus))
    theirs, asked = (
        embedder.embed(VERSES[:6], prompt="read: ").astype(float),
        embedder.embed("lamp", prompt="ask: ").astype(float),
    )
    order = np.argsort(cdist(asked, theirs, "cosine")[0])
    (hits,) = search(embedder, index, ["lamp"], count=3)
    assert [hit.passage.line - 1 for hit in hits] == order[:3].tolist()
    assert np.allclose([hit.score for hit in hits], 1 - np.sort(cdist(asked, theirs, "cosine")[0])[:3], atol=1e-5)
    (short,) = search(embedder, index, ["lamp"], count=6, dimensions=4)
    assert np.allclose(
        [hit.score for hit in short], 1 - np.sort(cdist(asked[:, :4], theirs[:, :4], "cosine")[0]), atol=1e-5
    )


@pytest.mark.parametrize(("ours", "theirs"), [("euclidean", "euclidean"), ("manhattan", "cityblock")])
def test_distances_are_scipys(ours: str, theirs: str):
    a, b = torch.randn(3, 8), torch.randn(5, 8)
    assert np.allclose(-similarity(a, b, ours), cdist(a, b, theirs), atol=1e-4)  # pyright: ignore
    assert np.allclose(similarity(a, b, "dot"), a.numpy() @ b.numpy().T, atol=1e-5)


def test_of_a_changed_corpus_only_what_is_new_is_embedded(
    tmp_path: Path, embedder: Embedder, capsys: pytest.CaptureFixture[str]
):
    corpus = tmp_path / "texts.txt"

    def made(text: str, made_by: str = "it") -> int:
        corpus.write_text(text, encoding="utf-8")
        found = indexed(embedder, made_by, read_passages(corpus), index_file(corpus))
        lines = [line for line in text.split("\n") if line]
        assert np.allclose(found.vectors, embedder.embed(lines, prompt="read: "), atol=1e-5)
        return found.n_made

    assert made("one\ntwo\ntwo\n") == 2 and made("one\ntwo\ntwo\n") == 0
    assert made("two\n三\none") == 1, "moved lines keep their vectors"
    assert made("two\n三\none", made_by="another") == 3 and "another model" in capsys.readouterr().err
    index_file(corpus).write_bytes(b"damaged")
    assert made("two\n三\none", made_by="another") == 3 and "anew" in capsys.readouterr().err
    assert (
        json.dumps(sorted(path.name for path in tmp_path.iterdir())) == '["texts.txt", "texts.txt.vectors.safetensors"]'
    )


def test_what_was_embedded_before_ctrl_c_is_kept(tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch):
    write_atomically(tmp_path / "texts.txt", "".join(f"{n} {VERSES[n][: 5 * n + 5]}\n" for n in range(8)))
    passages = read_passages(tmp_path / "texts.txt")
    work, calls = Embedder._vectors, []

    def stopped(*given: object) -> torch.Tensor:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return work(*given)  # pyright: ignore

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Embedder, "_vectors", stopped)
        indexed(embedder, "it", passages, tmp_path / "index", batch_tokens=1)
    assert 0 < indexed(embedder, "it", passages, tmp_path / "index").n_made < 8


def test_an_index_that_cannot_be_written_costs_only_time(
    tmp_path: Path, embedder: Embedder, capsys: pytest.CaptureFixture[str]
):
    write_atomically(tmp_path / "file", "x")
    found = indexed(embedder, "it", [TextPassage("one", tmp_path, 1)], tmp_path / "file" / "index")
    assert len(found.vectors) == 1 and "not kept" in capsys.readouterr().err
