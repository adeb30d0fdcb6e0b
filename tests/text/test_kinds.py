"""Kinds of files: JSON in the layouts that are published, code as it is written, and the text of markup."""

import json
from pathlib import Path

import pytest

from wenloom.core.errors import InputError
from wenloom.text.documents import Document, ReadOptions, find_files, read_documents
from wenloom.text.markup import rst_text, tex_text, xml_text
from wenloom.text.skipped import SkippedFile
from wenloom.tokens.prepare import PrepareOptions, prepare

from ..tokens.test_prepare import whole, write

ROWS = [{"text": "one", "n": 1}, {"text": "二", "n": 2}]


def documents(folder: Path, name: str, content: str, options: ReadOptions | None = None) -> list[Document]:
    (folder / name).write_text(content, encoding="utf-8")
    return list(read_documents(find_files([str(folder / name)]), options))


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=4, ensure_ascii=False),
        json.dumps([row["text"] for row in ROWS]),
        json.dumps({"text": ["one", "二"], "n": [1, 2]}),
        json.dumps({"version": "1.1", "data": ROWS}, indent=1),
        "\n".join(map(json.dumps, ROWS)),
        "\ufeff" + json.dumps(ROWS),
    ],
    ids=["objects", "pretty", "texts", "columns", "one list inside", "lines", "byte order mark"],
)
def test_json_gives_its_rows_in_every_published_layout(content: str, tmp_path: Path):
    found = documents(tmp_path, "a.json", content)
    assert [each.text for each in found] == ["one", "二"]
    assert found[1].source.endswith("a.json, row 2")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[{"text": "x"}, {"body": "y"}]', r'a.json, row 2: no field "text" \(found: body\)'),
        ('[{"text": "x"}, 7]', "a.json, row 2: holds a number"),
        ("[1, 2", "a.json: not valid JSON"),
        ("7", "a.json: holds a number, expected a list of rows"),
        ("[" * 100_000, "a.json: not valid JSON"),
    ],
)
def test_json_that_cannot_be_used_is_named_by_row(content: str, said: str, tmp_path: Path):
    with pytest.raises(InputError, match=said):
        documents(tmp_path, "a.json", content)


def test_a_row_of_json_is_left_out_like_a_line(tmp_path: Path):
    found = documents(tmp_path, "a.json", '[{"text": "x"}, {"body": "y"}, {"text": "z"}]', ReadOptions(skip_bad=True))
    assert [each.text for each in found] == ["x", "z"]


PROGRAMS = {
    "a.py": "# Copyright 2026 somebody. Licensed under the MIT licence.\n\ndef f(x):\n    if x:\n        return '  '\n",
    "Makefile.mk": "all:\n\tcc -o x x.c  \n\n\n\n\tstrip x\n",
    "a.go": "package main\n\nfunc main() {\n\tprintln(`\n  raw\n`)\n}\n",
    "LICENSE_check.js": "if (1) {\n  x()\n}\n",
}


def test_code_reaches_the_corpus_with_indentation_and_licence(tmp_path: Path):
    folder = tmp_path / "code"
    folder.mkdir()
    for name, program in PROGRAMS.items():
        (folder / name).write_text(program)
    data = prepare([str(folder)], tmp_path / "out", PrepareOptions("byte", validation=0.4)).dataset
    texts = [
        text
        for split in ("train", "validation")
        for text in data.tokenizer().decode(whole(data, split)).split("<|endoftext|>")
        if text
    ]
    assert sorted(texts) == sorted(PROGRAMS.values())


def test_skipped_files_are_counted_by_kind_and_named_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = Path(write(tmp_path / "texts", ["some text", "more text"]))
    for name in ("a.png", "b.png", "c.odt", "README.md", "package.json", "no_ending"):
        (folder / name).write_text("x")
    (folder / "empty.txt").touch()
    skipped = list[SkippedFile]()
    assert len(find_files([str(folder)], skipped)) == 2
    said = capsys.readouterr().err
    assert "skipped 7 files: 2 .png, " in said and "1 empty" in said and "c.odt" not in said
    assert {each.path.name: each.why for each in skipped}["package.json"] == "about a package"
    data = prepare([str(folder)], tmp_path / "out", PrepareOptions("byte", show_skipped=True)).dataset
    assert "c.odt (.odt)" in capsys.readouterr().err
    assert {Path(each["file"]).name for each in data.manifest["skipped"]} == {each.path.name for each in skipped}


def test_much_that_is_dropped_is_warned_of_with_what_keeps_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    texts = [f"text {n % 8} of several" for n in range(10)]
    folder = write(tmp_path / "texts", texts)
    dropped = prepare([folder], tmp_path / "out", PrepareOptions("byte", validation=0.3)).dataset
    said = capsys.readouterr().err
    assert "Warning: 2 of 10 documents (20 %) are dropped by the step duplicates; --keep-duplicates keeps them" in said
    kept = prepare([folder], tmp_path / "out", PrepareOptions("byte", validation=0.3, keep_duplicates=True)).dataset
    assert "Warning" not in capsys.readouterr().err
    assert [sum(split.documents for split in each.splits.values()) for each in (dropped, kept)] == [8, 10]


def test_what_cannot_be_read_is_warned_of_as_what_it_is_and_counts_as_no_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rows = [json.dumps({"text": f"text {n % 20}"}) for n in range(24)] + ["no row"] * 8
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    prepare([str(tmp_path / "a.jsonl")], tmp_path / "out", PrepareOptions("byte"), ReadOptions(skip_bad=True))
    said = capsys.readouterr().err
    assert "Warning: 4 of 24 documents (17 %) are dropped by the step duplicates" in said
    assert "Warning: 8 rows, members or files cannot be read, beside 24 documents that can; --write-dropped" in said


def test_few_documents_that_hold_much_of_the_text_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = write(tmp_path / "texts", [f"text {n}" for n in range(38)] + [long := "a long one " * 50, long])
    prepare([folder], tmp_path / "out", PrepareOptions("byte", validation=0.3))
    assert (
        "1 of 40 documents (2 %, with 41 % of the text) are dropped by the step duplicates" in capsys.readouterr().err
    )


@pytest.mark.parametrize("read", [tex_text, rst_text, xml_text])
@pytest.mark.parametrize(
    "piece",
    [
        "<",
        "<!--",
        "<![CDATA[",
        "{",
        "\\",
        "$",
        "`",
        "%",
        ".. ",
        "\\begin{",
        "[",
        "\n=\n",
        "&#9",
        "\\[",
        "\\(",
        "\\a[",
        "<?",
        "<!DOCTYPE[",
        "` ",
        "`<",
        "\\ref{",
    ],
)
def test_markup_is_read_in_linear_time_whatever_it_holds(read, piece: str):
    assert len(read(piece * 100_000)) <= len(piece) * 100_000


def test_latex_without_its_commands():
    source = (
        "\\documentclass{article}\n\\usepackage{x}\n\\begin{document}\n\\section{On oil}\n"
        "Oil \\textbf{burns}~well, 5\\% of it. % a comment\n\\begin{itemize}\n\\item One \\cite{a,b}\n\\end{itemize}\n"
        "$$x_1 \\frac{1}{2}$$\n\\end{document}\nafter"
    )
    text = tex_text(source)
    assert "On oil\nOil burns well, 5% of it.\n" in text and "One" in text and "$$x_1 \\frac{1}{2}$$" in text
    assert "cite" not in text and "comment" not in text and "after" not in text and "itemize" not in text


def test_restructured_text_without_its_marks():
    source = "Oil\n===\n\n.. image:: a.png\n   :width: 3\n\nIt **burns**, see `the lamp <lamp.html>`_ and :func:`light`.\n\n    code stays\n"
    assert rst_text(source) == "Oil\n\nIt burns, see the lamp and light.\n\n    code stays"


def test_xml_gives_the_text_of_its_elements_and_expands_nothing():
    source = (
        '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "boom">]><a t="no"><p>One <i>two</i> &amp; 3</p><p>&x;</p></a>'
    )
    assert xml_text(source) == "One two & 3\n&x;"
