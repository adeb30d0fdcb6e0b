"""Crawls and books as other tools write them."""

import io
import zipfile
from pathlib import Path

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter


def warc(*pages: tuple[str, bytes], packed: bool = True, **headers: str) -> bytes:
    """A crawl as warcio writes it."""
    out = io.BytesIO()
    writer = WARCWriter(out, gzip=packed)
    writer.write_record(writer.create_warcinfo_record("a.warc.gz", {"software": "tests"}))
    for kind, body in pages:
        http = StatusAndHeaders("200 OK", [("Content-Type", kind), *headers.items()], protocol="HTTP/1.1")
        writer.write_record(
            writer.create_warc_record("http://a.example/", "response", io.BytesIO(body), http_headers=http)
        )
    return out.getvalue()


def epub(path: Path, chapters: list[str], **others: bytes) -> None:
    """A book of XHTML chapters, listed from the last to the first."""
    items = "".join(
        f'<item id="c{n}" href="c%20{n}.xhtml" media-type="application/xhtml+xml"/>' for n, _ in enumerate(chapters)
    )
    order = "".join(f'<itemref idref="c{n}"/>' for n, _ in reversed([*enumerate(chapters)]))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr(
            "META-INF/container.xml", '<container><rootfiles><rootfile full-path="O/p.opf"/></rootfiles></container>'
        )
        book.writestr("O/p.opf", '<package xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata><dc:title>书</dc:title></metadata>'
                      f"<manifest>{items}</manifest><spine>{order}</spine></package>")  # fmt: skip
        for number, text in enumerate(chapters):
            book.writestr(f"O/c {number}.xhtml", f"<html><body><p>{text}</p></body></html>")
        for name, data in others.items():
            book.writestr(name, data)
