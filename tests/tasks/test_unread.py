"""Settings of finetune: each is read by a task, or refused by name."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from wenloom.checkpoint.folder import write_model_files
from wenloom.core.errors import InputError
from wenloom.model.decoder import Decoder
from wenloom.model.presets import from_scratch
from wenloom.tasks.finetune import RECIPES, finetune
from wenloom.tasks.run_settings import Settings
from wenloom.tasks.settings import DataSettings, FreshSettings, LearningSettings
from wenloom.tasks.unread import UNREAD, Case
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.settings import TrainSettings
from wenloom.training.unread import TRAINING, changed

OTHER: dict[str, object] = {
    "arch": "bart", "tokenizer": "somewhere", "vocab_size": 300, "layers": 7, "width": 64, "heads": 2, "dropout": 0.3,
    "source": "a", "target": "b", "reverse": True, "strict": True, "max_source_tokens": 33, "max_target_tokens": 34,
    "max_length": 35, "rank": 3, "alpha": 3.0, "layer_decay": 0.5, "smoothing": 0.3, "noise": 0.1, "deletion": 0.1,
    "beta": 0.3, "temperature": 0.2, "pair_loss": "cosine", "matryoshka": "8", "masking": "span", "mask_ratio": 0.4, "pack": False, "document_mask": True, "compile": "on",
    "decay": 0.1, "momentum": 0.5,
}  # fmt: skip
"""A value of each setting that is not its default."""
GROUPS = (DataSettings, FreshSettings, LearningSettings, TrainSettings)


@pytest.fixture
def model(tokenizer: TextTokenizer, tmp_path: Path) -> Path:
    """A decoder that knows nothing."""
    config = from_scratch("llama", vocab_size=tokenizer.vocab_size, n_layers=1, d_model=8, n_heads=1, n_kv_heads=1,
                          context_length=16, eos_token_id=tokenizer.eos_token_id)  # fmt: skip
    (tmp_path / "model").mkdir()
    write_model_files(Decoder(config), tmp_path / "model")
    return tmp_path / "model"


def made(name: str) -> list[object]:
    """All groups of settings, one setting of them changed."""
    groups = [DataSettings(train="nowhere.jsonl"), FreshSettings(), LearningSettings(), TrainSettings()]
    return [replace(g, **{name: OTHER[name]}) if name in g.__dataclass_fields__ else g for g in groups]  # pyright: ignore


def test_the_table_names_settings_that_exist_and_a_value_is_known_for_each():
    known = {field.name for group in GROUPS for field in fields(group)}
    named = [each.name for each in (*UNREAD, *TRAINING)]
    assert set(named) <= known and set(named) == set(OTHER) and len(named) == len(set(named))
    assert all(
        any(changed(group, name) for group in made(name) if name in group.__dataclass_fields__) for name in OTHER
    )  # pyright: ignore


@pytest.mark.parametrize("task", list(RECIPES))
def test_what_a_task_does_not_read_is_refused_by_name_before_a_row_is_read(
    task: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(RECIPES[task], "__init__", lambda *_: (_ for _ in ()).throw(AssertionError("it was read")))
    n_refused = 0
    for name in OTHER:
        training = TrainSettings(optimizer="adamw")
        case = Case(
            task, "full", "decoder", replace(training, **{name: OTHER[name]}) if name == "compile" else training
        )
        idle = any(each.name == name and each.when(case) for each in UNREAD)
        idle |= any(each.name == name and each.when(case.training) for each in TRAINING)
        with pytest.raises(
            (InputError, AssertionError), match=f"--{name.replace('_', '-')} has no effect" if idle else "it was read"
        ):
            finetune(task, tmp_path / "out", model, *made(name))  # pyright: ignore
        n_refused += idle
    assert n_refused >= 14


def test_the_optimizer_that_is_asked_for_is_taken(model: Path, tmp_path: Path):
    """Muon, too, from a trained model; without a word AdamW."""
    from wenloom.tasks.pair_recipe import PairRecipe
    from wenloom.tasks.run_settings import Settings

    path = tmp_path / "pairs.tsv"
    path.write_text("\n".join(f"word {n}\tWort {n}" for n in range(60)), encoding="utf-8")
    for asked, taken in ((None, "adamw"), ("muon", "muon"), ("adamw", "adamw")):
        settings = Settings("translation", model, DataSettings(train=str(path)), FreshSettings(), LearningSettings(),
                            TrainSettings(optimizer=asked))  # fmt: skip
        assert PairRecipe(settings).settings.training.optimizer == taken


def test_a_run_names_its_files_wherever_it_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.en", "a.de", "one, of two.txt"):
        Path(name).write_text("x")
    Path("vocabulary").mkdir()
    data = DataSettings(train="a.en, a.de", validation="one, of two.txt", extra="texts/*.txt")
    table = Settings(
        "translation", None, data, FreshSettings(tokenizer="vocabulary"), LearningSettings(), TrainSettings()
    ).table()
    here = str(tmp_path)
    assert table["train"] == f"{here}/a.en,{here}/a.de" and table["validation"] == f"{here}/one, of two.txt"
    assert table["extra"] == f"{here}/texts/*.txt" and table["tokenizer"] == f"{here}/vocabulary"
