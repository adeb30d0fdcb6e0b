"""Crawls, dumps, books, office files and archives: what they give, and one sentence for those that lie."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import nbformat
import pytest

from tests.foreign_files import epub, warc
from wenloom.core.errors import InputError
from wenloom.text.documents import Document, ReadOptions, find_files, read_documents
from wenloom.text.refusals import Refusals
from wenloom.text.wikitext import wiki_text

STORY = "The keeper lit the lamp at dusk, and the boats came home one after the other before the storm broke. " * 4
PAGE = f"<html><head><title>T</title></head><body><nav><a href=/>Home</a></nav><article><p>{STORY}</p></article></body></html>"


def read(path: Path, refusals: Refusals | None = None, **options: object) -> list[Document]:
    reading = ReadOptions(**options)  # pyright: ignore[reportArgumentType]
    return list(read_documents(find_files([str(path)]), reading, refusals=refusals))


@pytest.mark.parametrize("packed", [True, False])
def test_pages_of_a_crawl_are_read_with_their_address(packed: bool, tmp_path: Path):
    file = tmp_path / ("a.warc.gz" if packed else "a.warc")
    file.write_bytes(warc(("text/html; charset=gb2312", PAGE.replace("keeper", "守塔人").encode("gb18030")),
                          ("image/png", b"\x89PNG"), ("text/plain", b"plain"), packed=packed))  # fmt: skip
    page, plain = read(file)
    assert "守塔人 lit the lamp" in page.text and "Home" not in page.text
    assert page.source == f"{file}, record 2" and page.fields["url"] == "http://a.example/"
    assert plain.text == "plain"
    assert "Home" in read(file, html="all")[0].text


def test_bodies_in_chunks_and_packed_are_joined_and_unpacked(tmp_path: Path):
    body = gzip.compress(PAGE.encode())
    chunks = b"%x\r\n%b\r\n%x;x=y\r\n%b\r\n0\r\n\r\n" % (9, body[:9], len(body) - 9, body[9:])
    (tmp_path / "a.warc.gz").write_bytes(
        warc(("text/html", chunks), **{"Transfer-Encoding": "chunked", "Content-Encoding": "gzip"})
    )
    assert "lit the lamp" in read(tmp_path)[0].text


def test_a_record_whose_length_lies_is_named_and_the_next_is_read(tmp_path: Path):
    data = warc(("text/plain", b"one"), ("text/plain", b"two"), packed=False)
    first = data.index(b"one")
    length = data.rindex(b"Content-Length: ", 0, first)
    end = data.index(b"\r\n", length)
    for lie, kept in ((b"4", ["two"]), (b"99999999999", []), (b"-1", ["two"]), (b"9" * 40, ["two"])):
        (tmp_path / "a.warc").write_bytes(data[:length] + b"Content-Length: " + lie + data[end:])
        refusals = Refusals()
        assert [each.text for each in read(tmp_path / "a.warc", refusals)] == kept, lie
        assert refusals.count and "record" in str(refusals.refused[0])
        with pytest.raises(InputError, match=r"a\.warc, record \d: .*--strict"):
            read(tmp_path / "a.warc", strict=True)


def test_wikipedia_gives_articles_without_their_markup(tmp_path: Path):
    page = "<page><title>{}</title><ns>{}</ns>{}<revision><text>{}</text></revision></page>"
    dump = ('<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/"><siteinfo><sitename>W</sitename></siteinfo>'
            + page.format("灯塔", 0, "", "'''灯塔'''是[[建筑|建筑物]]。{{刊|a={{b}}}}&lt;ref&gt;x&lt;/ref&gt;")
            + page.format("Talk", 1, "", "no") + page.format("Old", 0, '<redirect title="x"/>', "no") + "</mediawiki>")  # fmt: skip
    (tmp_path / "zhwiki-pages-articles1.xml-p1p9.bz2").write_bytes(bz2.compress(dump.encode("utf-16")))
    [article] = read(tmp_path)
    assert article.text == "灯塔\n\n灯塔是建筑物。" and article.fields == {"title": "灯塔"}
    (tmp_path / "b.xml").write_text(dump[:-40])
    with pytest.raises(InputError, match="not a whole dump"):
        read(tmp_path / "b.xml")


@pytest.mark.parametrize("part", ["{{", "[[", "{|", "<ref>", "[[a|", "'''", "{{}}", "[http://a ", "<!--", "==", "|}"])
def test_wikitext_is_read_in_work_that_grows_like_the_page(part: str):
    from .test_hostile import steps

    few, many = (steps(wiki_text, part * n) for n in (200, 2000))
    assert many < 15 * few


def test_an_epub_is_one_document_in_the_order_of_reading(tmp_path: Path):
    epub(tmp_path / "a.epub", ["second", "first 一"])
    [book] = read(tmp_path)
    assert book.text == "first 一\n\nsecond" and book.fields["title"] == "书"


def docx(path: Path, body: str, before: str = "") -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
        book.writestr(
            "word/document.xml", f'{before}<w:document xmlns:w="{space}"><w:body>{body}</w:body></w:document>'
        )


def test_a_docx_gives_its_paragraphs_and_not_what_was_deleted(tmp_path: Path):
    docx(tmp_path / "a.docx", "<w:p><w:r><w:t>One </w:t></w:r><w:del><w:r><w:delText>no</w:delText></w:r></w:del><w:r><w:t>二</w:t>"
         "</w:r></w:p><w:tbl><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>b</w:t></w:r></w:p></w:tc></w:tr></w:tbl>")  # fmt: skip
    assert read(tmp_path)[0].text == "One 二\na\tb"


LAUGHS = '<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize("name", ["train_your_gpt", "look_inside"])
def test_a_notebook_is_what_stands_in_its_cells_as_nbformat_reads_it(name: str):
    file = Path(__file__).parents[2] / f"examples/{name}.ipynb"
    notebook = nbformat.read(file, as_version=4)
    assert [each.text for each in read(file)] == ["\n\n".join(cell.source for cell in notebook.cells)]


@pytest.mark.parametrize(
    "damaged", [b"{", b"[]", b'{"worksheets": []}', b'{"cells": [{"source": 7}]}', b'{"cells": ["x"]}']
)
def test_what_is_no_notebook_is_refused(damaged: bytes, tmp_path: Path):
    (tmp_path / "a.ipynb").write_bytes(damaged)
    with pytest.raises(InputError, match=r"a\.ipynb: is no Jupyter notebook"):
        read(tmp_path / "a.ipynb")


def test_xml_that_defines_entities_is_refused(tmp_path: Path):
    docx(tmp_path / "a.docx", "<w:p><w:r><w:t>&b;</w:t></w:r></w:p>", LAUGHS)
    with pytest.raises(InputError, match="defines entities"):
        read(tmp_path)


def pdf(pages: int, text: str = "") -> bytes:
    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = PdfWriter()
    for _ in range(pages):
        page = writer.add_blank_page(100, 100)
        if text:
            font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
            made = DictionaryObject({NameObject(key): NameObject(value) for key, value in font.items()})
            page[NameObject("/Resources")] = DictionaryObject(
                {NameObject("/Font"): DictionaryObject({NameObject("/F1"): made})}
            )
            stream = DecodedStreamObject()
            stream.set_data(f"BT /F1 12 Tf 10 50 Td ({text}) Tj ET".encode())
            page[NameObject("/Contents")] = writer._add_object(stream)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_a_pdf_gives_its_text_layer_or_says_that_there_is_none(tmp_path: Path):
    (tmp_path / "a.pdf").write_bytes(pdf(2, "The lamp."))
    assert read(tmp_path)[0].text == "The lamp.\n\nThe lamp."
    (tmp_path / "a.pdf.gz").write_bytes(gzip.compress(pdf(300)))
    with pytest.raises(InputError, match=r"a\.pdf\.gz: its 300 pages have no text layer"):
        read(tmp_path / "a.pdf.gz")


def test_arrow_files_and_streams_give_their_rows(tmp_path: Path):
    import pyarrow as pa

    table = pa.table({"text": ["one", "二"], "n": [1, 2]})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as out, pa.ipc.new_file(out, table.schema) as made:
        made.write_table(table)
    with pa.OSFile(str(tmp_path / "b.arrow"), "wb") as out, pa.ipc.new_stream(out, table.schema) as made:
        made.write_table(table)
    rows = read(tmp_path)
    assert [(each.text, each.fields["n"]) for each in rows] == [("one", 1), ("二", 2)] * 2
    (tmp_path / "c.arrow").write_bytes(b"ARROW1" + bytes(100))
    with pytest.raises(InputError, match="not Arrow, or damaged"):
        read(tmp_path / "c.arrow")


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_streams_of_bz2_and_xz_are_read_one_after_the_other_and_must_be_whole(pack, tmp_path: Path):
    file = tmp_path / ("a.txt.bz2" if pack is bz2.compress else "a.txt.xz")
    file.write_bytes(pack(b"one\n" * 9) + pack("二".encode()))
    assert read(file)[0].text == "one\n" * 9 + "二"
    for bad in (pack(b"x" * 99)[:-9], pack(b"x") + b"junk", b"junk"):
        file.write_bytes(bad)
        with pytest.raises(InputError, match="damaged or cut short"):
            read(file)


def zipped(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_members_of_archives_are_read_by_their_kind(tmp_path: Path):
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        for name, data in (("x/b.txt", "二".encode()), ("../../evil.md", b"evil"), ("n.png", b"PNG")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("loop.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "loop.txt"
        archive.addfile(link)
    zipped(
        tmp_path / "a.zip",
        **{"a.jsonl.gz": gzip.compress(b'{"text": "one", "n": 1}\n'), "t.tgz": inner.getvalue(), "e.txt": b""},
    )
    found = read(tmp_path)
    assert [each.text for each in found] == ["one", "二", "evil"] and found[0].fields == {"n": 1}
    assert found[0].source == f"{tmp_path}/a.zip/a.jsonl.gz, line 1"
    assert found[1].source == f"{tmp_path}/a.zip/t.tgz/x/b.txt"
    assert [each.name for each in tmp_path.iterdir()] == ["a.zip"]


def test_a_broken_member_is_named_and_counted_and_the_others_are_read(tmp_path: Path):
    zipped(
        tmp_path / "a.zip", **{"a.txt": b"\xff\xfe\xfd" * 9, "b.jsonl.gz": b"junk", "c.docx": b"PK", "d.txt": b"fine"}
    )
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(data.replace(b"fine", b"f1ne"))  # its checksum is wrong then, or it was packed
    refusals = Refusals()
    read(tmp_path / "a.zip", refusals)
    said = [str(each) for each in refusals.refused]
    assert any("a.zip/b.jsonl.gz: the compressed file is damaged" in each for each in said), said
    assert any("a.zip/c.docx: is not a docx document" in each for each in said)
    assert not any(os.path.sep + "wenloom-" in each for each in said)
    with pytest.raises(InputError, match=r"a\.zip/.*--strict"):
        read(tmp_path / "a.zip", strict=True)


def test_archives_that_would_not_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("wenloom.text.readers.archives._SUSPICIOUS", 2**20)
    zipped(tmp_path / "bomb.zip", **{"b.txt": b"fine", "a.txt": bytes(2**24).replace(b"\0", b"a")})
    refusals = Refusals()
    assert [each.text for each in read(tmp_path / "bomb.zip", refusals)] == ["fine"]
    assert "bomb.zip/a.txt: would unpack to 16,777,216 bytes, more than 200 times its size" in str(refusals.refused[0])
    half = bytes(2**19).replace(b"\0", b"a")  # each is small enough
    zipped(tmp_path / "inner.zip", **{f"{number}.txt": half for number in range(20)})
    zipped(tmp_path / "many.zip", **{f"{number}.zip": (tmp_path / "inner.zip").read_bytes() for number in range(20)})
    refusals = Refusals()
    found = list(read(tmp_path / "many.zip", refusals))
    assert 0 < len(found) < 4 and refusals.count == 1
    assert "times its archive; all others are left out" in str(refusals.refused[0])
    zipped(
        tmp_path / "fifty.zip", **{f"{number}.txt": b"fine\n" * 2**18 for number in range(50)}, **{"good.txt": b"fine"}
    )
    refusals = Refusals()
    assert [each.text for each in read(tmp_path / "fifty.zip", refusals)] == ["fine"] and refusals.count == 50
    zipped(tmp_path / "many.epub", **{f"{number}.xhtml": b"fine\n" * 2**18 for number in range(50)})
    monkeypatch.setattr("wenloom.text.readers.zipped._SUSPICIOUS", 2**20)
    with pytest.raises(InputError, match=r"many\.epub: would unpack to 65,536,000 bytes, more than 200 times its size"):
        read(tmp_path / "many.epub")
    data = b"one"
    for depth in range(4):
        zipped(tmp_path / "deep.zip", **{f"{depth}.zip" if depth else "a.txt": data})
        data = (tmp_path / "deep.zip").read_bytes()
    refusals = Refusals()
    assert not read(tmp_path / "deep.zip", refusals)
    assert str(refusals.refused[0]).startswith(f"{tmp_path}/deep.zip/3.zip/2.zip: lies in 2 archives")


@pytest.mark.parametrize(
    "ending", ["zip", "tar", "tgz", "epub", "docx", "pdf", "warc", "wet.gz", "arrow", "parquet", "xml"]
)
@pytest.mark.parametrize("data", [b"junk", b"PK\x03\x04" + b"\xff" * 60, b"%PDF-1.7\n" + b"\xff" * 60, b"\x1f\x8b" + b"\0" * 60,
                                  b"WARC/1.0\r\nContent-Length: 5", b"<mediawiki>" + b"<page>" * 2000])  # fmt: skip
def test_what_only_says_what_it_is_ends_in_a_sentence_or_a_count(ending: str, data: bytes, tmp_path: Path):
    (tmp_path / f"a.{ending}").write_bytes(data)
    refusals = Refusals()
    try:
        assert len(read(tmp_path, refusals)) <= 1
    except InputError as error:
        assert str(error).startswith(f"{tmp_path}/a.{ending}") and "\n" not in str(error)


@pytest.mark.parametrize("ending", ["zip", "tar", "tgz", "epub", "docx", "pdf", "warc", "wet", "arrow", "parquet"])
def test_a_text_that_is_called_something_else_is_no_file_of_that_kind(ending: str, tmp_path: Path):
    (tmp_path / f"a.{ending}").write_text("The keeper lit the lamp.\n" * 40, "utf-8")
    with pytest.raises(InputError, match=rf"a\.{ending}: is not|a\.{ending}: .*damaged"):
        read(tmp_path / f"a.{ending}")


def test_a_text_that_is_too_long_is_parted_where_lines_end(tmp_path: Path):
    text = "\n\n".join(f"{n} " + "词" * 999 for n in range(1000))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    parts = read(tmp_path, max_document_mb=1)
    assert len(parts) == 2 and "\n\n".join(each.text for each in parts) == text
    assert parts[1].source.endswith("a.txt, part 2")


@pytest.mark.shared_data
def test_the_main_content_of_pages_is_found_as_trafilatura_finds_it(shared_data: Path):
    import json

    from trafilatura import extract

    from wenloom.text.pages import main_text

    lines = gzip.decompress((shared_data / "web_pages/pages.jsonl.gz").read_bytes()).splitlines()
    rows = [json.loads(line) for line in lines[::4]]

    def f1(text_of) -> float:
        counts = [0, 0, 0]
        for row in rows:
            text = text_of(row["html"]) or ""
            counts[0] += sum(each in text for each in row["with"])
            counts[1] += sum(each not in text for each in row["with"])
            counts[2] += sum(each in text for each in row["without"])
        return 2 * counts[0] / (2 * counts[0] + counts[1] + counts[2])

    assert f1(main_text) > f1(extract) - 0.01
