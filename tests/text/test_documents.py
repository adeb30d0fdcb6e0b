"""Readers: what they give, and what they say about files they cannot use."""

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from wenloom.core.errors import InputError
from wenloom.text.documents import ReadOptions, find_files, read_documents
from wenloom.text.readers import plain


def read(path: Path, **options: object) -> list[str]:
    reading = ReadOptions(**options)  # pyright: ignore[reportArgumentType]
    return [document.text for document in read_documents(find_files([str(path)]), reading)]


def test_txt_and_md_are_one_document_each(tmp_path: Path):
    (tmp_path / "b.md").write_text("# Titel\n你好", encoding="utf-8")
    (tmp_path / "a.txt").write_text("one\ntwo")
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "LICENSE.txt").write_text("no")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    assert read(tmp_path) == ["one\ntwo", "# Titel\n你好"]


def test_separator_splits_a_file_into_documents(tmp_path: Path):
    (tmp_path / "a.txt").write_text("one\n<|endoftext|>\ntwo\n")
    assert read(tmp_path, separator="<|endoftext|>") == ["one", "two"]


def test_globs_and_files_are_taken_once(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "sub" / "b.txt").write_text("b")
    files = find_files([str(tmp_path / "**/*.txt"), str(tmp_path / "a.txt"), str(tmp_path)])
    assert sorted(file.name for file in files) == ["a.txt", "b.txt"]


def test_jsonl_with_several_fields_and_lists_of_lines(tmp_path: Path):
    rows = [{"title": "静夜思", "lines": ["床前明月光", "疑是地上霜"], "by": "李白"}, {"title": "x", "lines": []}]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    assert read(tmp_path, text_field=("title", "lines")) == ["静夜思\n床前明月光\n疑是地上霜", "x\n"]
    documents = list(read_documents(find_files([str(tmp_path)]), ReadOptions(text_field=("title",))))
    assert documents[0].fields["by"] == "李白" and documents[1].source.endswith("a.jsonl, line 2")


def test_csv_with_quotes_and_line_breaks(tmp_path: Path):
    (tmp_path / "a.csv").write_text('id,text\n1,"one, ""two""\nthree"\n2,four\n')
    assert read(tmp_path) == ['one, "two"\nthree', "four"]
    (tmp_path / "b.tsv").write_text("text\tn\nfive, six\t1\n")
    assert read(tmp_path / "b.tsv") == ["five, six"]


def test_html_keeps_what_is_seen(tmp_path: Path):
    page = """<!doctype html><html><head><title>T</title><style>p{}</style></head><body><script>if (a<b) x()</script>
    <h1>A &amp; B</h1><p>One <b>two</b>
    three&nbsp;four</p><ul><li>first<li>second</ul><pre>  code
      more</pre>四<br>五</body></html>"""
    (tmp_path / "a.html").write_text(page, encoding="utf-8")
    [text] = read(tmp_path, html="all")
    assert text.splitlines()[0] == "A & B"
    assert "One two three\xa0four" in text or "One two three four" in text
    assert "first\n" in text and "  code\n      more" in text and "四\n五" in text
    assert "x()" not in text and "p{}" not in text and "T\n" not in text


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_compressed_files(ending: str, tmp_path: Path):
    pack = gzip.compress if ending == "gz" else zstandard.compress
    data = "".join(json.dumps({"text": f"row {n} 你好"}) + "\n" for n in range(500)).encode()
    (tmp_path / f"a.jsonl.{ending}").write_bytes(pack(data))
    (tmp_path / f"b.txt.{ending}").write_bytes(pack("词".encode()))
    assert read(tmp_path)[0] == "row 0 你好" and len(read(tmp_path)) == 501
    (tmp_path / f"b.txt.{ending}").write_bytes(pack(data)[:-9])
    with pytest.raises(InputError, match=r"b\.txt.*(damaged|cut short)"):
        read(tmp_path / f"b.txt.{ending}")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(encoding: str, tmp_path: Path):
    (tmp_path / "a.txt").write_bytes("汉字 text".encode(encoding))
    assert read(tmp_path) == ["汉字 text"]


CHINESE = "床前明月光，疑是地上霜。举头望明月，低头思故乡。" * 10


def test_wrong_encoding_is_refused_with_place_and_mend(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"abc " + CHINESE.encode("gb18030"))
    with pytest.raises(InputError, match=r"a\.txt: byte 0x.. at offset 4 is not valid utf-8.*--encoding gb18030"):
        read(tmp_path)
    assert read(tmp_path, encoding="gb18030") == ["abc " + CHINESE]
    assert read(tmp_path, encoding="auto") == ["abc " + CHINESE]
    with pytest.raises(InputError, match="no such encoding"):
        read(tmp_path, encoding="klingon")


def test_single_wrong_bytes_can_be_replaced(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"good \xff good")
    assert read(tmp_path, repair=True) == ["good \ufffd good"]


def test_offset_in_jsonl_counts_from_the_start_of_the_file(tmp_path: Path):
    first = b'{"text": "fine"}\n'
    (tmp_path / "a.jsonl").write_bytes(first + b'{"text": "bad \xe9"}\n')
    with pytest.raises(InputError, match=f"at offset {len(first) + 14}"):
        read(tmp_path)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b"MZ\x00\x01binary", "is binary.*offset 2"),
        ("letter.txt", b"PK\x03\x04\x14\x00", "begins like a docx, epub or zip file; rename it, as in letter.docx"),
        ("paper.txt", b"%PDF-1.7\n", "begins like a pdf file"),
        ("a.jsonl", b'{"body": "x", "title": "y"}\n', r'line 1: no field "text" \(found: body, title\).*--text-field'),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "line 2: not valid JSON"),
        ("a.jsonl", b'{"text": "x"}\n["y"]\n', "line 2: holds a list"),
        ("a.jsonl", b'{"text": 7}\n', "holds a number, not text"),
        ("a.jsonl", b"[" * 100_000, "line 1: not valid JSON"),
        ("a.csv", b"id,body\n1,x\n", r'line 2: no field "text" \(found: id, body; line 1 names the columns\)'),
        ("a.csv", b"id,text\n1,x,y\n", "line 2: has another number of columns"),
        ("a.csv", b'id,text\n1,"x\n', "not valid CSV"),
        ("a.doc", b"x", r"kind '.doc' is not known"),
        ("a.txt.gz", b"not gzip", "damaged"),
        ("a.txt.gz", gzip.compress(b"some text " * 99, mtime=0)[:20] + b"\xff" * 40, "damaged"),
        ("a.txt.zst", b"not zstd", "damaged"),
    ],
)
def test_bad_files_are_named_with_the_mend(name: str, content: bytes, message: str, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_nothing_there(tmp_path: Path):
    for name, message in (("nowhere.txt", "no such file"), ("*.txt", "no file matches"), ("", "holds no files")):
        with pytest.raises(InputError, match=message):
            find_files([str(tmp_path / name)])


def test_spoken_sentences_are_documents_of_their_own(tmp_path: Path):
    file = tmp_path / "book.txt"
    file.write_text('# One\n\n"Mr. Smith\'s here!" she said. It was 9.\r\n\r\n‘Don’t go,’ he said;\nand went.\n')
    found = list(read_documents([file], ReadOptions(spoken=True)))
    assert [each.text for each in found] == [
        "one", "mister smith's here she said", "don't go he said and went"]  # fmt: skip
    assert found[1].source == f"{file}, sentence 2"


def test_files_of_a_folder_that_are_not_read_are_counted_in_a_remark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name, content in {
        "a.txt": "a",
        "empty.txt": "",
        "b.odt": "b",
        "c.odt": "c",
        "README.md": "d",
        "x": "e",
    }.items():
        (tmp_path / name).write_text(content)
    assert find_files([str(tmp_path)]) == [tmp_path / "a.txt"]
    said = capsys.readouterr().err
    assert (
        "skipped 5 files: 2 .odt, 1 notes, 1 empty, 1 no ending; `wenloom prepare --show-skipped` lists them; name a file itself"
        in said
    )


SHORT = {
    "cp1252": {
        "French": "Les élèves étaient déjà là. Où est passé le garçon ? Il a mangé à la fenêtre.",
        "French, one sentence": "Le père a été très fâché.",
        "French, two words": "déjà vu",
        "Spanish": "¿Dónde está el niño? Mañana será otro día.",
        "Portuguese": "Não há ninguém aqui, a canção já começou.",
        "Italian": "La città è più bella di così, perché è là.",
        "German": "Die Mädchen hörten süße Grüße von drüben.",
        "Dutch": "De drieëntwintig geïnteresseerden zijn hier één keer geweest.",
        "Swedish": "Han är på väg till ön, där de små båtarna låg.",
        "Danish": "Børnene gik ud på åen og så en blå fugl.",
        "Finnish": "Hän ei ollut täällä, mutta äiti tuli yöllä.",
        "Icelandic": "Það er gott að búa hér þó að það sé kalt.",
        "typed": "He said “the café is closed” – and left… It’s over.",
    },
    "iso8859_15": {"French with œ": "Ma sœur a un cœur à toute épreuve, et elle a dîné à côté."},
    "cp1250": {
        "Polish": "Żółty dom stoi już przy drodze, a mały miś się śmieje.",
        "Polish, one sentence": "Gdzie są moje książki?",
        "Czech": "Příliš žluťoučký kůň úpěl ďábelské ódy.",
        "Czech, one sentence": "Člověk čte knihu a pak jde do města.",
        "Slovak": "Kŕdeľ šťastných ďatľov učí mĺkveho koňa žrať kôru.",
        "Hungarian": "A fiú és a lány nem őrült meg, hogy a tűz ég.",
        "Croatian": "Što je to za čovjeka koji nije došao u kuću?",
        "Romanian": "Fata şi băiatul nu sunt în casă, că este târziu.",
    },
    "iso8859_2": {
        "Polish": "Żółty dom stoi już przy drodze, a mały miś się śmieje.",
        "Czech": "Šest žlutých koní šlo za naším učitelem až do města.",
    },
    "cp1257": {"Lithuanian": "Žmogus yra geras, bet jis ne visada išmintingas, o kad būtų ąžuolas."},
    "cp1254": {"Turkish": "Çocuk çok güzel bir ağaç gördü ve ışık gibi şaşırdı."},
    "cp1251": {"Russian": "Все люди рождаются свободными и равными в своём достоинстве и правах."},
    "koi8_r": {"Russian": "Все люди рождаются свободными и равными в своём достоинстве и правах."},
    "iso8859_7": {"Greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα."},
    "shift_jis": {"Japanese": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。"},
    "gb18030": {"Chinese": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心。"},
    "euc_kr": {"Korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다."},
}  # fmt: skip


@pytest.mark.parametrize(
    "encoding, language", [(encoding, each) for encoding, texts in SHORT.items() for each in texts]
)
def test_short_texts_are_read_in_the_encoding_of_their_language(encoding: str, language: str, tmp_path: Path):
    text = SHORT[encoding][language]
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert read(tmp_path, encoding="auto") == [text]


@given(st.lists(st.text("ab\n\r", max_size=5), min_size=1, max_size=5))
def test_a_long_text_is_parted_behind_its_last_paragraph_or_line_wherever_it_was_read_in_pieces(pieces: list[str]):
    whole = "".join(pieces)
    cut = whole.rfind("\n\n") + 1 or whole.rfind("\n") + 1
    expected = (whole[:cut].strip("\r\n"), whole[cut:]) if cut else (None, whole)
    assert (plain._first_part(pieces), "".join(pieces)) == expected


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_long_text_is_held_twice_beside_the_one_before_it_however_it_is_packed(ending: str, tmp_path: Path):
    line = b"".join(b"%x\n" % (number * 2654435761 % 2**32) for number in range(2**20 // 8))
    packed = gzip.compress(line, 1) if ending else line
    (tmp_path / f"a.txt{ending}").write_bytes(packed * 30)
    tracemalloc.start()
    try:
        assert (
            len(
                [
                    len(each.text)
                    for each in read_documents([tmp_path / f"a.txt{ending}"], ReadOptions(max_document_mb=8))
                ]
            )
            > 3
        )
        assert tracemalloc.get_traced_memory()[1] < 3.8 * 8 * 2**20
    finally:
        tracemalloc.stop()


def test_a_line_without_end_stays_whole_up_to_what_a_document_may_have_and_other_texts_are_parted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(plain, "PART_BYTES", 2**20)
    monkeypatch.setattr(plain, "TEXT_BYTES", 6 * 2**20)
    line, paragraphs = "x" * (5 * 2**20), "\n\n".join("y" * 99_000 for _ in range(40))
    (tmp_path / "a.txt").write_text(line)
    assert read(tmp_path / "a.txt") == [line]
    (tmp_path / "a.txt").write_text(f"{paragraphs}\n{line}\n{paragraphs}")
    parts = read(tmp_path / "a.txt")
    assert "\n".join(parts).replace("\n", "") == f"{paragraphs}{line}{paragraphs}".replace("\n", "")
    assert line in "".join(parts) and sum(len(part) < 2**21 for part in parts) > 5
    (tmp_path / "a.txt").write_text(2 * line)
    with pytest.raises(InputError, match="more than 6,291,456 bytes, without the end of a line"):
        read(tmp_path / "a.txt")
