"""A budget for a preference training: no more pairs are compared beforehand than there is time for."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import Tensor

from wenloom.checkpoint.folder import load_model, save_model
from wenloom.core.randomness import generator
from wenloom.model.decoder import Decoder
from wenloom.model.presets import from_scratch
from wenloom.tasks import dialogue
from wenloom.tasks.finetune import RECIPES
from wenloom.tasks.run_settings import Settings
from wenloom.tasks.settings import DataSettings, FreshSettings, LearningSettings
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.objectives import PreferenceObjective
from wenloom.training.settings import TrainSettings


@pytest.mark.parametrize(("seconds", "learned"), [(100, 1), (400, 9), (4_000, 59)])
def test_comparing_pairs_ends_in_its_part_of_the_budget(
    seconds: int, learned: int, tokenizer: TextTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Ten seconds a pair, however many are compared at once; a quarter of the budget is theirs, a tenth of it validation's."""
    now = 0.0
    compare = PreferenceObjective.margin

    def slow(self: PreferenceObjective, chosen: Tensor, *others: Tensor) -> Tensor:
        nonlocal now
        now += 10.0 * len(chosen)
        return compare(self, chosen, *others)

    monkeypatch.setattr(PreferenceObjective, "margin", slow)
    monkeypatch.setattr(dialogue, "time", SimpleNamespace(monotonic=lambda: now))
    config = from_scratch("llama", vocab_size=tokenizer.vocab_size, n_layers=1, d_model=32, n_heads=2, n_kv_heads=2,
                          context_length=96, bos_token_id=tokenizer.bos_token_id,
                          eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)  # fmt: skip
    decoder = Decoder(config)
    decoder.initialise(generator(3, "base"))
    base, path = tmp_path / "base", tmp_path / "pairs.jsonl"
    save_model(decoder, base)
    tokenizer.save_pretrained(base)
    rows: list[dict[str, Any]] = [{"prompt": f"{n}?", "chosen": "b", "rejected": "c"} for n in range(60)]
    path.write_text("\n".join(map(json.dumps, rows)))
    training = TrainSettings(budget=f"{seconds}s")
    work = RECIPES["preference"](Settings("preference", base, DataSettings(train=str(path)), FreshSettings(),
                                          LearningSettings(), training, deadline=float(seconds)))  # fmt: skip
    encoded = work.encode(work.prepared(load_model(base), tokenizer), tokenizer)
    assert (len(encoded.train), now <= max(20, 0.25 * seconds)) == (learned, True)
