"""Files as the world has them, and files made to do harm: a sentence, or what they say, in bounded time and memory."""

import bz2
import codecs
import gzip
import json
import lzma
import os
import socket
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from wenloom.core.errors import InputError
from wenloom.text import documents, html, lines
from wenloom.text.clean import composed, normalize
from wenloom.text.documents import ReadOptions, find_files, read_documents
from wenloom.text.html import visible_text
from wenloom.text.refusals import Refusals


def read(path: Path, refusals: Refusals | None = None, **options: object) -> list[str]:
    reading = ReadOptions(**options)  # pyright: ignore[reportArgumentType]
    return [document.text for document in read_documents(find_files([str(path)]), reading, refusals=refusals)]


GOOD = b'{"text": "fine"}'
BAD_ROWS = {
    "half a surrogate pair": rb'{"text": "\ud83d"}',
    "a number of 5,000 digits": b'{"text": "x", "n": ' + b"9" * 5000 + b"}",
    "deep nesting": b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "null": b"null",
    "a list": b'["x"]',
    "a string": b'"x"',
    "a number": b"3",
    "a trailing comma": b'{"text": "x",}',
    "a comma between rows": b'{"text": "x"},',
    "a name that stands twice": b'{"text": "x", "text": "y"}',
    "no field": b'{"body": "x"}',
    "text that is null": b'{"text": null}',
    "text that is NaN": b'{"text": NaN}',
    "Latin-1": b'{"text": "caf\xe9"}',
    "a zero byte": b'{"text": "a\0b"}',
    "two rows in a line": b'{"text": "x"} {"text": "y"}',
    "cut short": b'{"text": "x',
    "a raw surrogate": b'{"text": "\xed\xa0\xbd"}',
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_a_bad_row_is_named_by_file_and_line_or_left_out(kind: str, tmp_path: Path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"\n".join([GOOD, BAD_ROWS[kind], GOOD, b""]))
    with pytest.raises(InputError, match=r"rows\.jsonl, line 2: "):
        read(file)
    refusals = Refusals(strict=False)
    assert read(file, refusals, skip_bad=True) == ["fine", "fine"]
    assert [(each.path, each.line) for each in refusals.refused] == [(file, 2)] and refusals.count == 1


@pytest.mark.parametrize("content", [
    codecs.BOM_UTF8 + GOOD + b"\n" + codecs.BOM_UTF8 + GOOD, GOOD + b"\r" + GOOD, GOOD + b"\r\n\r\n" + GOOD + b"\r\n",
    b'{"text": "fine", "score": NaN}\n{"text": "fine", "score": -Infinity}', b"\n \n" + GOOD + b"\n\t\n" + GOOD,
], ids=["marks where files were joined", "old line ends", "two line ends", "numbers that are none", "empty lines"])  # fmt: skip
def test_oddities_that_lose_nothing_are_read(content: bytes, tmp_path: Path):
    (tmp_path / "rows.jsonl").write_bytes(content)
    assert read(tmp_path) == ["fine", "fine"]


@pytest.mark.parametrize("content, line", [
    (b'text\n"never closed\nx\ny\n', 2), (b'text\nx"y\n"a"b\n', 3), (b"text,text\na,b\n", 1), (b"text,id\na\n", 2),
    (b"text\na,b\n", 2), (b'text\na\n"' + b"x" * 2**21 + b'"\n', 3),
], ids=["a quote without end", "text behind a quote", "a column that stands twice", "a column too few",
        "a column too many", "a giant field"])  # fmt: skip
def test_bad_csv_is_named_by_line(content: bytes, line: int, tmp_path: Path):
    file = tmp_path / "rows.csv"
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"rows\.csv, line {line}: "):
        read(file, max_document_mb=1)


def test_csv_rows_that_do_not_fit_are_left_out_and_the_others_kept(tmp_path: Path):
    (tmp_path / "rows.csv").write_bytes(b"id,text\n1,a\n2\n3,b,c\n\xef\xbb\xbf4,d\r5,e\n")
    refusals = Refusals(strict=False)
    assert read(tmp_path, refusals, skip_bad=True) == ["a", "d", "e"]
    assert [each.line for each in refusals.refused] == [3, 4]


@pytest.mark.parametrize("content", [b"", b"MZ\0", b"\xff\xfe\x00", b"x\xff", b"a" * (2**20 + 1), b"ok" * 700_000 + b"\0"],
                         ids=["empty", "binary", "half a character", "wrong bytes", "too long", "a zero far behind"])  # fmt: skip
def test_a_file_that_cannot_be_used_is_left_out_as_a_whole(content: bytes, tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "b.txt").write_text("good")
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    with pytest.raises(InputError, match=r"a\.txt"):
        list(read_documents(files, ReadOptions(max_document_mb=1)))
    refusals, options = Refusals(strict=False), ReadOptions(skip_bad=True, max_document_mb=1)
    assert [each.text for each in read_documents(files, options, refusals=refusals)] == ["good"] and refusals.count == 1


@pytest.mark.parametrize("options", [
    {"separator": ""}, {"text_field": ()}, {"text_field": ("",)}, {"max_document_mb": 0},
    *({"encoding": name} for name in ("", "\0", "klingon", "hex", "rot13", "zlib", "idna", "punycode", "undefined",
                                      "unicode_escape", "../x", "a" * 5000)),
])  # fmt: skip
def test_options_that_mean_nothing_are_refused(options: dict[str, object]):
    with pytest.raises(InputError, match="--"):
        ReadOptions(**options)  # pyright: ignore[reportArgumentType]


def test_an_encoding_that_makes_half_characters_is_no_traceback(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"+2AA-")
    with pytest.raises(InputError, match=r"a\.txt: not valid utf-7"):
        read(tmp_path, encoding="utf-7")


# --- files that are none, and names ---


def test_pipes_devices_sockets_folders_and_dead_links_are_refused_by_name(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    (tmp_path / "nothing.txt").symlink_to(tmp_path / "gone")
    (tmp_path / "loop.txt").symlink_to(tmp_path / "loop.txt")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket.txt"))
    for name, what in (("pipe", "is a pipe"), ("zero", "is a device"), ("nothing", "link to nothing"), ("loop", "loop|links"),
                       ("socket", "is a socket")):  # fmt: skip
        with pytest.raises(InputError, match=rf"{name}\.txt: .*({what})"):
            read(tmp_path / f"{name}.txt")
    (tmp_path / "ring").symlink_to(tmp_path)
    (tmp_path / "good.txt").write_text("good")
    assert read(tmp_path) == ["good"]  # in a folder they are passed over


def test_names_of_bytes_and_control_characters_are_read_and_can_be_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    names = [b"\xff\xfe.txt", b"a\nb.txt", b"\x1b[31m.txt", b" .txt"]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text(f"text {name!r}")
    assert len(read(tmp_path)) == len(names)
    refusals = Refusals(strict=False)
    refusals.refuse(Path(os.fsdecode(b"\xff\x1b[31m")), 3, "x")
    refusals.report()
    assert "\x1b" not in capfd.readouterr().err


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(GOOD + b"\n")
    found = read_documents([file])
    next(found)
    with file.open("ab") as growing:
        growing.write(GOOD + b"\n")
    with pytest.raises(InputError, match="changed while it was read"):
        list(found)


# --- archives ---


@pytest.mark.parametrize("ending", ["gz", "zst"])
@pytest.mark.parametrize("spoil", [
    lambda data: data[:-3], lambda data: data[: len(data) // 2], lambda data: data + b"garbage", lambda data: b"garbage" + data,
    lambda data: data[:20] + b"\xff" * 20 + data[40:],
], ids=["cut by 3 bytes", "cut in half", "garbage behind", "garbage before", "damaged"])  # fmt: skip
def test_damaged_archives_are_named(ending: str, spoil, tmp_path: Path):
    pack = gzip.compress if ending == "gz" else zstandard.compress
    file = tmp_path / f"a.jsonl.{ending}"
    file.write_bytes(spoil(pack(b"\n".join(json.dumps({"text": f"row {n}"}).encode() for n in range(500)))))
    with pytest.raises(InputError, match=rf"a\.jsonl\.{ending}: .*(damaged|cut short)"):
        read(file)


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_joined_archives_are_read_to_the_end_and_nested_ones_refused(ending: str, tmp_path: Path):
    pack = gzip.compress if ending == "gz" else zstandard.compress
    (tmp_path / f"a.jsonl.{ending}").write_bytes(b"".join(pack(GOOD + b"\n") for _ in range(300)))
    assert len(read(tmp_path / f"a.jsonl.{ending}")) == 300
    (tmp_path / f"b.jsonl.{ending}.{ending}").write_bytes(pack(pack(GOOD)))
    with pytest.raises(InputError, match="is not known"):
        read(tmp_path / f"b.jsonl.{ending}.{ending}")


def test_a_frame_that_asks_for_much_memory_is_refused(tmp_path: Path):
    made = zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=30)).compressobj()
    (tmp_path / "a.txt.zst").write_bytes(made.compress(b"x" * 1000) + made.flush())
    with pytest.raises(InputError, match="too much memory"):
        read(tmp_path)


_BOMB = """
import gzip, resource, sys, zstandard
from pathlib import Path
from wenloom.core.errors import InputError
from wenloom.text.documents import find_files, read_documents
pack = gzip.compress if sys.argv[2] == "gz" else zstandard.compress
file = Path(sys.argv[1]) / f"bomb{sys.argv[3]}.{sys.argv[2]}"
file.write_bytes(pack(eval(sys.argv[4]) * 2**24) * int(sys.argv[5]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(sum(1 for _ in read_documents(find_files([str(file)]))))
except InputError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("ending", ["gz", "zst"])
@pytest.mark.parametrize("name, what, times, says, megabytes", [
    (".jsonl", 'b"a"', 60, "line 1: is longer than 16,777,216 bytes", 120),
    (".jsonl", 'b"\\n"', 60, "empty lines in a row", 60),
    (".csv", 'b"a"', 60, "a row of more than 16,777,216 characters", 200),
    (".html", 'b"a"', 60, "more than 16,777,216 bytes", 120),
    (".txt", 'b"a"', 60, "unpacks to more than 200 times what was read of it", 200),
], ids=["one line", "empty lines", "one row", "one page", "one text"])  # fmt: skip
def test_a_bomb_is_refused_in_bounded_memory(
    ending: str, name: str, what: str, times: int, says: str, megabytes: int, tmp_path: Path
):
    command = [sys.executable, "-c", _BOMB, str(tmp_path), ending, name, what, str(times)]
    said, used = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().rsplit("\n", 1)
    assert says in said and int(used) < megabytes


@pytest.mark.parametrize(
    "pack, ending", [(gzip.compress, "gz"), (bz2.compress, "bz2"), (lzma.compress, "xz"), (zstandard.compress, "zst")]
)
@pytest.mark.parametrize(
    "name, what", [("a.txt", b"fine\n"), ("a.jsonl", b'{"text": "fine"}\n'), ("a.csv", b"text\nfine\n")]
)
def test_what_unpacks_to_far_more_than_text_does_is_refused_whatever_lines_it_has(
    pack: Callable[[bytes], bytes], ending: str, name: str, what: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("wenloom.text.compression.SUSPICIOUS", 2**20)
    file = tmp_path / f"{name}.{ending}"
    file.write_bytes(pack(what * (2**20 // len(what))) * 4)
    with pytest.raises(InputError, match=rf"{name}\.{ending}: unpacks to more than 200 times what was read of it"):
        read(file)
    file.write_bytes(pack(os.urandom(2**20).hex().encode() + b"\n"))
    if name == "a.txt":
        assert len(read(file)[0]) == 2**21 + 1


def test_a_damaged_file_that_gave_documents_is_a_source_and_says_how_many(tmp_path: Path):
    rows = b"".join(json.dumps({"text": os.urandom(500).hex()}).encode() + b"\n" for _ in range(400))
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(rows)[:-2000])
    (tmp_path / "none.jsonl.gz").write_bytes(b"\x1f\x8b garbage")
    refusals = Refusals(strict=False)
    found = read(tmp_path, refusals, skip_bad=True)
    assert 350 < len(found) < 400 and refusals.whole_files == {tmp_path / "none.jsonl.gz"}
    assert (
        f"cut short (Compressed file ended before the end-of-stream marker was reached); the {len(found)} documents before that stay"
        in str(refusals.refused[0])
    )


@pytest.mark.slow
def test_a_long_archive_of_many_lines_is_read_in_bounded_memory(tmp_path: Path):
    rows = """b"".join(b'{"text": "%s"}\\n' % (hashlib.sha512(b"%d" % n).hexdigest().encode() * 16) for n in range(2**13))"""
    code = "import hashlib\n" + _BOMB.replace("2**24", "1")
    command = [sys.executable, "-c", code, str(tmp_path), "gz", ".jsonl", rows, "190"]
    said, used = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().rsplit("\n", 1)
    assert int(said) == 190 * 2**13 and int(used) < 100


# --- work that grows faster than the text ---


def steps(function, *arguments: object) -> int:
    """Lines of Python run by a call."""
    count = 0

    def trace(frame: object, event: str, argument: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)  # pyright: ignore[reportArgumentType]
    try:
        function(*arguments)
    finally:
        sys.settrace(None)
    return count


PAGES = [
    "<",
    "<p>",
    "<!--",
    "<a ",
    '<a b="',
    "<![",
    "&#",
    "</p",
    "<script>",
    "<style>x</styl",
    "<pre>",
    "&amp",
    "<b>x</b> ",
    "<svg>",
]


@pytest.mark.parametrize("part", PAGES)
def test_html_is_read_with_work_that_grows_like_the_page(part: str):
    small, large = (steps(visible_text, part * times) for times in (300, 3000))
    assert large <= 11 * small + 100


def test_tags_without_end_are_looked_for_once():
    seen = 0
    pattern = html._REST

    class Counted:
        def match(self, page: str, at: int):
            nonlocal seen
            found = pattern.match(page, at)
            seen += (found.end() if found else len(page)) - at
            return found

    for part in ("<a ", '<a b="', "<a b='x ", "<a =", "<a \"'"):
        seen = 0
        html._REST = Counted()  # pyright: ignore[reportAttributeAccessIssue]
        try:
            visible_text(part * 2000)
        finally:
            html._REST = pattern
        assert seen <= 3 * len(part) * 2000


@pytest.mark.parametrize("page, text", [
    ("a<![>b", "ab"), ("a<![CDATA[x]]>b", "ab"), ("&#9999999999;", "\ufffd"), ("&#" + "9" * 5000 + ";x", "\ufffdx"),
    ("&#xD800;", "\ufffd"), ("1 < 2", "1 < 2"), ("<p title='a>b'>c", "c"), ("a<!-- b", "a"), ("a<p", "a"), ("<!-->a", "a"),
    ("<head><title>t</title><body>seen", "seen"), ("<head><p>seen", "seen"), ("<script>if (a<b)</script>c", "c"),
    ("<b>" * 100_000 + "x", "x"), ("<svg/>a<svg><g>no</g></svg>b", "ab"), ("don't <p don't>x</p>", "don't\nx"),
])  # fmt: skip
def test_pages_that_are_not_well_formed(page: str, text: str):
    assert visible_text(page) == text


def test_marks_without_end_are_put_in_order_in_bounded_work(monkeypatch: pytest.MonkeyPatch):
    lengths = []
    original = unicodedata.normalize
    monkeypatch.setattr("wenloom.text.clean.unicodedata", type("Spy", (), {
        "normalize": staticmethod(lambda form, text: lengths.append(len(text)) or original(form, text)),
        "combining": staticmethod(unicodedata.combining)}))  # fmt: skip
    text = "e" + "\u0315\u0300" * 500_000 + "e\u0301"
    assert normalize(text) == text[:-2] + "é"
    assert max(lengths) < 10  # never the run of marks
    assert composed("a" + "\u0315\u0300" * 100) == original("NFC", "a" + "\u0315\u0300" * 100)


def test_a_corpus_of_many_lines_is_read_with_linear_work(tmp_path: Path):
    counts = []
    for n in (100, 1000):
        (tmp_path / f"{n}.jsonl").write_bytes((GOOD + b"\n") * n)
        (tmp_path / f"{n}.csv").write_text("text\n" + "a\n" * n)
        (tmp_path / f"{n}.txt").write_text("a|" * n)
        counts.append([steps(lambda name=name: read(tmp_path / name, separator="|"))
                       for name in (f"{n}.jsonl", f"{n}.csv", f"{n}.txt")])  # fmt: skip
    assert all(large <= 11 * small for small, large in zip(*counts, strict=True))


def test_a_text_parted_at_the_seams_of_what_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    parts = ["ab", "", "你好" * 5, "x" * 40, "é"]
    (tmp_path / "a.txt").write_text("<|end|>".join(parts), encoding="utf-8")
    (tmp_path / "a.csv").write_bytes(b"text\r\n" + "".join(f'"{part}\r\n"\r\n' for part in parts).encode())
    for size in (1, 2, 3, 7, 50):
        monkeypatch.setattr("wenloom.text.encoding._PIECE", size)
        assert read(tmp_path / "a.txt", separator="<|end|>") == parts
        assert read(tmp_path / "a.csv") == [f"{part}\r\n" for part in parts]
    monkeypatch.setattr("wenloom.text.encoding._PIECE", 7)
    with pytest.raises(InputError, match="part 4: is longer"):
        monkeypatch.setattr(documents.ReadOptions, "most", lambda self, default: 30)
        read(tmp_path / "a.txt", separator="<|end|>")


def test_memory_that_runs_out_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(text: str) -> object:
        raise MemoryError

    (tmp_path / "a.jsonl").write_bytes(GOOD)
    monkeypatch.setattr(lines, "parsed_json", fail)
    with pytest.raises(InputError, match=r"a\.jsonl: .*more memory than there is"):
        read(tmp_path)


@pytest.mark.parametrize(
    "name, what", [("a.jsonl", b"{}\n"), ("a.csv", b"{}\n"), ("a.csv", b"\n"), ("a.jsonl", b"\n"), ("a.tsv", b"x\ty\n")]
)
def test_a_file_without_end_of_which_nothing_can_be_used_is_left_behind(
    name: str, what: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("wenloom.text.refusals.MOST_IN_A_ROW", 50)
    monkeypatch.setattr("wenloom.text.lines.MOST_EMPTY", 50)
    monkeypatch.setattr("wenloom.text.tables.MOST_EMPTY", 50)
    (tmp_path / name).write_bytes(what * 10_000)
    (tmp_path / "b.txt").write_text("good")
    refusals = Refusals(strict=False)
    assert read(tmp_path, refusals, skip_bad=True) == ["good"]
    assert refusals.count <= 52 and refusals.refused[-1].line == 0
