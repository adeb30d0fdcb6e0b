"""Span corruption, and what comes of it; noise; extra examples."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wenloom.checkpoint.folder import load_model
from wenloom.core.errors import InputError
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.tasks.augment import Noise
from wenloom.tasks.denoising import SpanCorruption, sentinel
from wenloom.tasks.finetune import finetune
from wenloom.tasks.settings import DataSettings, FreshSettings, LearningSettings
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.settings import TrainSettings

SENTINELS, FIRST, END = list(range(1000, 1100)), 1, 2
FRESH = FreshSettings(layers=1, width=32, heads=2, vocab_size=270)


@given(st.integers(2, 200), st.floats(0.01, 0.9), st.integers(0, 2**31))
def test_source_and_target_together_are_the_text(length: int, part: float, seed: int):
    text = list(range(10, 10 + length))
    found = SpanCorruption(SENTINELS, FIRST, END, part)({"source_BS": text}, seed)
    source, target = found["source_BS"], found["targets_BT"]
    assert isinstance(source, list) and isinstance(target, list)
    assert source[-1] == target[-1] == END and found["inputs_BT"] == [FIRST, *target[:-1]]
    spans: dict[int, list[int]] = {}
    for token in target[:-1]:
        if token in SENTINELS:
            spans[token] = []
        else:
            spans[list(spans)[-1]].append(token)
    assert list(spans) == SENTINELS[: len(spans)] and all(spans.values())
    whole = [each for token in source[:-1] for each in spans.get(token, [token])]
    assert whole == text
    hidden = sum(map(len, spans.values()))
    assert hidden == min(max(1, round(part * length)), length - 1)


def test_other_spans_each_time_about_three_tokens_long():
    hide = SpanCorruption(SENTINELS, FIRST, END, 0.15)
    found = [hide({"source_BS": list(range(10, 310))}, seed) for seed in range(50)]
    assert len({tuple(each["source_BS"]) for each in found}) == 50  # pyright: ignore[reportArgumentType]
    n_spans = [sum(token in SENTINELS for token in each["source_BS"]) for each in found]  # pyright: ignore
    assert np.mean(n_spans) == pytest.approx(45 / 3)


@pytest.mark.parametrize("arch", ["t5", pytest.param("bart", marks=pytest.mark.slow)])
def test_learned_from_plain_text_then_tuned(arch: str, tmp_path: Path):
    lines = [f"the {colour} {animal} sleeps in the {place}.\n" * 20
             for colour in ("red", "blue", "grey") for animal in ("cat", "dog", "owl") for place in ("barn", "sun")]  # fmt: skip
    (tmp_path / "text.txt").write_text("\n".join(lines))
    fresh = FreshSettings(arch=arch, layers=1, width=32, heads=2, vocab_size=270)  # pyright: ignore[reportArgumentType]
    training = TrainSettings(steps=150, batch=8, seed=1, evaluations=2)
    result = finetune("denoising", tmp_path / "run", None, DataSettings(str(tmp_path / "text.txt"), max_source_tokens=64),
                      fresh, training=training)  # fmt: skip
    assert result.run.loss.nats_per_token < 3.0  # of 5.7 at the beginning
    model, tokenizer = load_model(tmp_path / "run"), TextTokenizer.from_pretrained(tmp_path / "run")
    assert isinstance(model, EncoderDecoder)
    assert tokenizer.decode(tokenizer.encode(sentinel(7)), skip_special_tokens=True) == ""
    (tmp_path / "pairs.tsv").write_text("".join(f"the {n} cats\t{n}\n" for n in range(60)))
    tuned = finetune("summarization", tmp_path / "tuned", tmp_path / "run", DataSettings(str(tmp_path / "pairs.tsv")),
                     training=TrainSettings(steps=3, batch=4, evaluations=1))  # fmt: skip
    assert tuned.run.folder == tmp_path / "tuned"
    again = finetune("denoising", tmp_path / "again", tmp_path / "run", DataSettings(str(tmp_path / "text.txt"), max_source_tokens=64),
                     training=TrainSettings(steps=3, batch=4, evaluations=1))  # fmt: skip
    assert again.run.loss.nats_per_token < result.run.loss.nats_per_token + 0.5


def test_noise_changes_ordinary_tokens_only():
    special = frozenset([0, 1])
    example = {"source_BS": [0, *range(5, 105), 1], "source_mask_BS": [1] * 102, "targets_BT": [7, 1]}
    change = Noise(200, special, noise=0.2, deletion=0.0)
    made = [change(example, seed)["source_BS"] for seed in range(40)]
    assert all(row[0] == 0 and row[-1] == 1 and len(row) == 102 for row in made)  # pyright: ignore
    changed = np.mean([np.mean(np.array(row) != example["source_BS"]) for row in made])
    assert changed == pytest.approx(0.2 * 100 / 102, abs=0.02)
    change = Noise(200, special, noise=0.0, deletion=0.3)
    made = [change(example, seed) for seed in range(40)]
    lengths = [len(each["source_BS"]) for each in made]  # pyright: ignore
    assert np.mean(lengths) == pytest.approx(2 + 70, abs=3)
    assert all(set(each["source_BS"]) <= set(example["source_BS"]) for each in made)  # pyright: ignore
    assert all(len(each["source_BS"]) == len(each["source_mask_BS"]) for each in made)  # pyright: ignore
    assert all(each["targets_BT"] == [7, 1] for each in made)
    lone = {"inputs_BT": [0, 9, 1], "mask_BT": [1, 1, 1], "targets_B": 3}
    assert all(len(Noise(200, special, 0.0, 0.99)(lone, seed)["inputs_BT"]) == 3 for seed in range(20))  # pyright: ignore


def test_extra_examples_are_learned_from_and_never_held_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "pairs.tsv").write_text("".join(f"source {n}\ttarget {n}\n" for n in range(100)))
    (tmp_path / "more.tsv").write_text("".join(f"other {n}\ttarget {n}\n" for n in range(300)))
    data = DataSettings(str(tmp_path / "pairs.tsv"), extra=str(tmp_path / "more.tsv"))
    training = TrainSettings(steps=3, batch=4)
    result = finetune(
        "translation", tmp_path / "run", None, data, FRESH, LearningSettings(noise=0.1, deletion=0.1), training
    )
    from wenloom.training.run_file import read_run

    table = read_run(result.run.folder)["data"]
    assert (table["train_examples"], table["validation_examples"]) == (98 + 298, 2)
    assert "with a question or an answer of the validation data" in capsys.readouterr().err
    with pytest.raises(InputError, match="--noise"):
        finetune("fill-mask", tmp_path / "no", None, data, FRESH, LearningSettings(noise=0.1), training)
