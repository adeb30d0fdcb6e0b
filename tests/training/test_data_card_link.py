"""A run leads to the data card of its corpus."""

from dataclasses import replace
from pathlib import Path

from wenloom.text.recipe import load_recipe
from wenloom.tokens.prepare import PrepareOptions, prepare
from wenloom.training.pretrain import pretrain, resume
from wenloom.training.run_file import read_run

from ..conftest import story
from .runs import MODEL, TRAINING


def test_model_card_and_report_link_the_data_card(tmp_path: Path):
    for number in range(12):
        (tmp_path / f"{number}.txt").write_text(story(number))
    recipe = load_recipe("plain")
    prepare(
        [str(tmp_path / f"{number}.txt") for number in range(12)],
        tmp_path / "data",
        PrepareOptions("byte"),
        recipe=recipe,
    )
    pretrain(tmp_path / "data", tmp_path / "run", MODEL, replace(TRAINING, steps=2))
    card = str((tmp_path / "data").resolve() / "data-card.html")
    assert Path(card).is_file() and read_run(tmp_path / "run")["data"]["data_cards"] == [card]
    assert f"| Data card | [data]({card}) |" in (tmp_path / "run/README.md").read_text()
    assert f'href="file://{card}"' in (tmp_path / "run/report.html").read_text()
    resume(tmp_path / "run", more=replace(TRAINING, steps=1))
