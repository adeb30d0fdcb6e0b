"""Documents name what is there: files, names in them, each other."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
SOURCE = ROOT / "src/wenloom"


def unfenced(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """As code hosts make them of headings."""
    titles = re.findall(r"^#+ (.+)$", unfenced(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", unfenced(page)):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_relative_to(ROOT) and file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_the_site_shows_every_page():
    listed = set(re.findall(r"^\s+- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == {str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs")}


def test_the_architecture_is_that_of_the_source():
    rooms = {each.name for each in SOURCE.iterdir() if each.is_dir() and (each / "__init__.py").exists()}
    picture = (ROOT / "docs/architecture.svg").read_text(encoding="utf-8")
    assert set(re.findall(r'class="name"[^>]*>(\w+)<', picture)) == rooms | {"api"}
    page = unfenced(ROOT / "docs/architecture.md")
    assert set(re.findall(r"^\| `(\w+)/` \|", page, re.MULTILINE)) == rooms
    for path in re.findall(r"`([\w/]+\.py)`", page):
        assert (SOURCE / path).exists(), path
    named = re.findall(r"`([\w/]+\.py)`\s+`(\w+)`", page)
    assert len(named) > 10
    for path, name in named:
        assert re.search(rf"^(class|def) {name}\b", (SOURCE / path).read_text(encoding="utf-8"), re.MULTILINE), name
