"""The data card: what became of everything that was given, whether it could be read or not."""

import json
from pathlib import Path

from wenloom.text.document import ReadOptions
from wenloom.text.recipe import load_recipe
from wenloom.tokens.prepare import PrepareOptions, prepare


def test_what_could_not_be_read_stands_on_the_card(tmp_path: Path):
    (source := tmp_path / "in").mkdir()
    rows = [json.dumps({"text": f"The keeper of lamp {number} lit it at dusk by the river."}) for number in range(30)]
    (source / "rows.jsonl").write_text("\n".join([*rows, '{"text": 5}', "{<b>"]), "utf-8")
    (source / "no.warc").write_text("a text\n")
    (source / "empty.txt").touch()
    prepare(
        [str(source)], tmp_path / "out", PrepareOptions("byte"), ReadOptions(skip_bad=True), recipe=load_recipe("plain")
    )
    card = json.loads((tmp_path / "out" / "data-card.json").read_text())
    assert card["read"]["documents"] == 30 and card["left_out"]["rows"] == 3
    assert {each["line"] for each in card["left_out"]["first"]} == {0, 31, 32}
    assert [Path(each["file"]).name for each in card["skipped"]] == ["empty.txt"]
    page = (tmp_path / "out" / "data-card.html").read_text()
    assert "4 rows, members and files" in page and "is not a WARC or WET file" in page and "{<b>" not in page
