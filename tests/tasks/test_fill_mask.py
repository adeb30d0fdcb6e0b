"""Hidden tokens: how they are chosen, learned and filled in, and the pseudo-likelihood."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from wenloom.checkpoint.folder import load_model
from wenloom.core.errors import InputError
from wenloom.evaluation.pseudo import pseudo_score
from wenloom.model.encoder import Encoder
from wenloom.tasks.fill_mask import MASK, Masking, fill, masked_tokenizer
from wenloom.tasks.finetune import finetune
from wenloom.tasks.settings import DataSettings, FreshSettings, LearningSettings
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.tokens.train import train_tokenizer
from wenloom.training.cross_entropy import IGNORED
from wenloom.training.settings import TrainSettings

SENTENCES = ["The dog barks loudly.", "The cat sleeps here.", "A bird sings loudly.", "Eine Katze schläft.", "狗在叫。"]


@pytest.mark.parametrize("kind", ["token", "word", "span"])
def test_what_is_hidden(kind: str):
    tokens = list(range(100, 1100))
    words = [0, *(1 + index // 3 for index in range(998)), 0]  # words of three tokens between special ones
    hide = Masking(mask_id=5, vocab_size=2000, part=0.15, kind=kind)
    example = {"inputs_BT": tokens, "words_BT": words}
    made = [hide(example, seed) for seed in range(40)]
    inputs, targets = (np.array([each[name] for each in made]) for name in ("inputs_BT", "targets_BT"))
    chosen = targets != IGNORED
    assert not chosen[:, [0, -1]].any()  # never the special ones
    assert (targets[chosen] == np.broadcast_to(tokens, targets.shape)[chosen]).all()
    assert (inputs[~chosen] == np.broadcast_to(tokens, targets.shape)[~chosen]).all()
    assert chosen.mean() == pytest.approx(0.15, abs=0.02)
    masked, kept = inputs[chosen] == 5, inputs[chosen] == targets[chosen]
    assert masked.mean() == pytest.approx(0.8, abs=0.03) and kept.mean() == pytest.approx(0.1, abs=0.03)
    if kind != "token":
        by_word = chosen[:, 1:-1][:, :996].reshape(40, -1, 3)
        assert (by_word.all(-1) | ~by_word.any(-1)).all()  # whole words
    assert hide(example, 7) == hide(example, 7) != hide(example, 8)


@pytest.fixture(scope="module")
def filler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masked")
    for number in range(3):
        shuffled = random.Random(number).sample(
            SENTENCES * 60, 5 * 60
        )  # what stands before a sentence tells nothing of it
        (folder / f"text{number}.txt").write_text("\n".join(shuffled))
    training = TrainSettings(steps=600, batch=8, evaluations=1, device="cpu", learning_rate=0.005)
    fresh = FreshSettings(layers=2, width=48, heads=2, dropout=0.0)
    data = DataSettings(train=str(folder), max_source_tokens=64)
    finetune("fill-mask", folder / "run", None, data, fresh, LearningSettings(), training)
    return folder / "run"


def test_a_model_learns_to_fill_in(filler: Path):
    model, tokenizer = load_model(filler), TextTokenizer.from_pretrained(filler)
    (guesses,) = fill(model, tokenizer, f"The dog barks {MASK}.", 2)
    assert guesses[0].text.strip() == "loudly" and guesses[0].probability > 0.3
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(filler).eval()
    ids = tokenizer.encode(f"The {MASK} sleeps here.")
    place = ids.index(tokenizer.mask_token_id or 0)
    assert fill(model, tokenizer, f"The {MASK} sleeps here.")[0][0].token == int(
        theirs(torch.tensor([ids])).logits[0, place].argmax()
    )
    with pytest.raises(InputError, match=r"no \[MASK\]"):
        fill(model, tokenizer, "No mask.")


def test_pseudo_likelihood_hides_every_token_alone(filler: Path):
    model, tokenizer = load_model(filler, dtype=torch.float64), TextTokenizer.from_pretrained(filler)
    assert isinstance(model, Encoder)
    text = "The dog barks loudly. 狗在叫。"
    found = pseudo_score(model, tokenizer, text)
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(filler, dtype=torch.float64).eval()
    ids = tokenizer.encode(text)
    expected = []
    for place in range(1, len(ids) - 1):
        hidden = torch.tensor([ids])
        hidden[0, place] = tokenizer.mask_token_id or 0
        expected.append(float(theirs(hidden).logits[0, place].log_softmax(-1)[ids[place]].detach()))
    assert found.log_probabilities == pytest.approx(expected, abs=1e-4)
    assert found.perplexity < pseudo_score(model, tokenizer, "loudly The loudly. dog barks barks").perplexity
    long = pseudo_score(model, tokenizer, text * 20)  # more than the model reads at once
    assert len(long.log_probabilities) == len(long.token_ids) > 64
    with pytest.raises(InputError, match="empty"):
        pseudo_score(model, tokenizer, "")


def test_a_tokenizer_gets_a_mask_and_its_brackets():
    tokenizer = masked_tokenizer(train_tokenizer(["a b c"], "byte"))
    ids = tokenizer.encode(f"a {MASK}")
    assert [tokenizer.decode([token]) for token in (ids[0], ids[-1])] == ["[CLS]", "[SEP]"]
    assert tokenizer.mask_token_id in ids
