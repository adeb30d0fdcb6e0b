"""Every document has its Chinese page, which says the same: `docs/zh/` beside `docs/`, README.zh.md beside README.md.

Page and translation are compared part by part (heading, paragraph, item, row of a table, example). Parts that stand in the
same place are of one kind and hold the same figures, the same `code` and the same links; examples are equal but for comments.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ENGLISH = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if DOCS / "zh" not in page.parents)]
POWERS = {"thousand": 3, "m": 6, "M": 6, "million": 6, "G": 9, "billion": 9, "万": 4, "亿": 8}
FIGURE = re.compile(
    rf"(?<![A-Za-z\d_.])(\d{{1,3}}(?:,\d{{3}})+|\d+)(\.\d+)?(?: ?({'|'.join(POWERS)})(?![A-Za-z]))?", re.ASCII
)
KINDS = r"#+ |[-*] |\d+\. |\||> |::: |!\["


def translated(file: Path) -> Path:
    """Where the translation of a file lies."""
    if file == ROOT / "README.md":
        return ROOT / "README.zh.md"
    return DOCS / "zh" / file.relative_to(DOCS)


PAIRS = [pytest.param(page, translated(page), id=str(page.relative_to(ROOT))) for page in ENGLISH]


@dataclass(frozen=True)
class Part:
    kind: str
    text: str

    @property
    def figures(self) -> list[Decimal]:
        """Numbers outside code and links; 2.9 M and 290 万 are one."""
        prose = re.sub(r"`[^`]*`|\]\([^)]*\)", " ", self.text)
        found = FIGURE.findall(prose)
        return sorted(
            Decimal(whole.replace(",", "") + part).scaleb(POWERS.get(power, 0)).normalize()
            for whole, part, power in found
        )

    @property
    def code(self) -> list[str]:
        return sorted(" ".join(each.split()) for each in re.findall(r"`([^`]+)`", self.text))

    @property
    def cells(self) -> int:
        return self.text.replace("\\|", "").count("|") if self.kind == "|" else 0

    @property
    def links(self) -> list[str]:
        return re.findall(r"\]\(([^)\s]+)\)", self.text)


def parts(page: Path) -> Iterator[Part]:
    """What a page consists of, in order; the line that leads to the other language aside."""
    text = page.read_text(encoding="utf-8")
    for outside, language, example in re.findall(r"(.*?)(?:^```(\w*)\n(.*?)^```$|\Z)", text, re.DOTALL | re.MULTILINE):
        kind, lines = "", []
        for line in [*outside.splitlines(), ""]:
            new = re.match(KINDS, line)
            if (new or not line.strip()) and lines:
                yield Part(kind, "\n".join(lines))
                kind, lines = "", []
            if new:
                kind = re.sub(r"\d+", "1", new[0].strip())
            if line.strip() and not re.fullmatch(r"\[(中文|English)\]\(\S+\)", line):
                lines.append(line)
        if language or example:
            yield Part(f"```{language}", without_comments(example))


def without_comments(example: str) -> str:
    """The example as its reader needs it in any language: no comment, and none of the blanks before one."""
    return re.sub(r"(?:^|\s+)#(?!!|SBATCH).*$", "", example, flags=re.MULTILINE)


def places(page: Path) -> dict[str, int]:
    """The headings of a page by the anchor that code hosts and the site make of them, each with its number."""
    titles = [part.text for part in parts(page) if part.kind.startswith("#")]
    return {
        re.sub(r"[^\w\- ]", "", title.lstrip("# ").lower()).replace(" ", "-"): number
        for number, title in enumerate(titles)
    }


def destinations(page: Path, part: Part, chinese: bool) -> list[tuple[str, int]]:
    """The files, and the headings in them, that links of a part lead to; of an English page, their translations."""
    found = []
    for link in part.links:
        if link.startswith(("http:", "https:", "mailto:")):
            found.append((link, 0))
            continue
        path, _, anchor = link.partition("#")
        file = (page.parent / path).resolve() if path else page
        place = places(file)[anchor] if anchor else 0
        if not chinese and (file in ENGLISH or (file.is_relative_to(DOCS) and translated(file).exists())):
            file = translated(file)
        found.append((str(file.relative_to(ROOT)), place))
    return sorted(found)


def test_every_page_has_a_translation_and_every_translation_a_page():
    assert {translated(page) for page in ENGLISH} == {ROOT / "README.zh.md", *DOCS.glob("zh/**/*.md")}


@pytest.mark.parametrize("page, translation", PAIRS)
def test_a_page_and_its_translation_say_the_same(page: Path, translation: Path):
    assert [part.kind for part in parts(translation)] == [part.kind for part in parts(page)]
    for part, other in zip(parts(page), parts(translation), strict=True):
        where = f"{part.text}\n\n{other.text}"
        if part.kind.startswith("```") or part.kind == ":::":
            assert other.text == part.text
            continue
        assert other.cells == part.cells, where
        assert other.code == part.code, where
        assert other.figures == part.figures, where
        assert destinations(translation, other, True) == destinations(page, part, False), where


@pytest.mark.parametrize("page, translation", PAIRS)
def test_the_third_line_leads_to_the_other_language(page: Path, translation: Path):
    for here, there, name in ((page, translation, "中文"), (translation, page, "English")):
        link = Path(os.path.relpath(there, here.parent)).as_posix()
        title, _, line = here.read_text(encoding="utf-8").splitlines()[:3]
        assert title.startswith("# ") and line == f"[{name}]({link})"


def test_translations_are_chinese():
    """Most letters of their prose are."""
    for _, translation in (pair.values for pair in PAIRS):
        prose = "".join(
            re.sub(r"`[^`]*`", "", part.text) for part in parts(translation) if part.kind[:3] not in ("```", ":::")
        )
        assert len(re.findall(r"[\u4e00-\u9fff]", prose)) > len(re.findall(r"[A-Za-z]+", prose)), translation


@pytest.mark.parametrize("picture", sorted(path.name for path in DOCS.glob("*.svg")))
def test_a_picture_and_its_translation_differ_in_words_only(picture: str):
    drawn = [
        re.sub(r'(class="what"[^>]*|<title[^>]*)>[^<]*<', r"\1><", (folder / picture).read_text(encoding="utf-8"))
        for folder in (DOCS, DOCS / "zh")
    ]
    assert drawn[0] == drawn[1]
