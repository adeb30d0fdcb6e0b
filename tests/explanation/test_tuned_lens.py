"""The tuned lens comes nearer to the model's answer than the logit lens, at every block, on text that it has not seen."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.conftest import random_decoder, story, tiny_config
from wenloom.core.errors import CheckpointError, InputError
from wenloom.explanation.activations import token_rows
from wenloom.explanation.explanation import explain
from wenloom.explanation.lens import lens
from wenloom.explanation.subject import Reading, Subject
from wenloom.explanation.trace import Trace
from wenloom.explanation.tuned_lens import TunedLens, lens_divergence, load_lens, save_lens, train_lens
from wenloom.model.decoder import Decoder
from wenloom.tokens.tokenizer import TextTokenizer


@pytest.fixture(scope="module")
def subject(tokenizer: TextTokenizer) -> Subject:
    return Subject(random_decoder(tiny_config(tokenizer.vocab_size)), tokenizer)


@pytest.fixture(scope="module")
def passages(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("lens") / "text.txt"
    path.write_text("\n".join(map(story, range(40))), encoding="utf-8")
    return [str(path)]


def kl_by_hand(subject: Subject, tuned: TunedLens | None, rows: list[list[int]]) -> list[float]:
    """In float64, from traces."""
    n_layers = subject.stack.config.n_layers
    found = []
    for layer in range(n_layers):
        values = []
        for row in rows:
            trace = Trace(subject, Reading(torch.tensor([row]), len(row)))
            own = trace.logits[0, 1:].double().log_softmax(-1)
            stream = trace[f"blocks.{layer}.resid_post"][0, 1:]
            if tuned is not None and layer < n_layers - 1:
                stream = stream + stream @ tuned.weight_LDD[layer].T + tuned.bias_LD[layer]
            with torch.no_grad():
                read = subject.unembed(subject.stack.final_norm(stream)).double().log_softmax(-1)
            values.append(float(torch.nn.functional.kl_div(read, own, log_target=True, reduction="batchmean")))
        found.append(sum(values) / len(values))
    return found


def test_it_is_nearer_than_the_logit_lens_at_every_block_and_the_last_is_the_model(
    subject: Subject, passages: list[str]
):
    found = train_lens(subject, passages, n_steps=60)
    assert found.kl_tuned[0] < 0.9 * found.kl_logit[0] and found.n_tokens > 100
    assert found.kl_tuned[-1] == found.kl_logit[-1] == pytest.approx(0, abs=1e-6)
    rows = list(token_rows(subject, passages, 32))[::10][:16]
    assert found.kl_tuned == pytest.approx(kl_by_hand(subject, found.lens, rows), rel=1e-3, abs=1e-5)
    assert found.kl_logit == pytest.approx(kl_by_hand(subject, None, rows), rel=1e-3, abs=1e-5)
    assert isinstance(subject.model, Decoder)
    assert lens_divergence(subject.model, found.lens, rows) == pytest.approx(found.kl_tuned)
    again = train_lens(subject, passages, n_steps=60)
    assert torch.equal(again.lens.weight_LDD, found.lens.weight_LDD)


def test_a_lens_of_zeros_is_the_logit_lens_and_the_last_block_is_read_as_it_is(subject: Subject):
    trace = Trace(subject, subject.read("The lamp was lit"))
    zeros = TunedLens(torch.zeros(1, 32, 32), torch.zeros(1, 32))
    plain, same = lens(trace), lens(trace, tuned=zeros)
    assert torch.equal(plain.top_ids, same.top_ids) and torch.equal(plain.entropy, same.entropy)
    other = lens(trace, tuned=TunedLens(torch.randn(1, 32, 32), torch.randn(1, 32)))
    assert not torch.equal(other.entropy[0], plain.entropy[0])
    assert torch.equal(other.entropy[-1], plain.entropy[-1]) and torch.equal(other.top_ids[-1], plain.top_ids[-1])


def test_the_page_shows_it_and_the_json_has_both(subject: Subject):
    tuned = TunedLens(torch.randn(1, 32, 32) / 9, torch.randn(1, 32))
    found = explain(subject, "The lamp was lit", steps=4, tuned=tuned)
    data = found.data()
    assert found.tuned is not None and found.shown_lens is found.tuned
    assert data["tuned_lens"]["entropy"] != data["lens"]["entropy"]
    assert data["tuned_lens"]["entropy"][-1] == data["lens"]["entropy"][-1]
    page = found.page("m")
    curves = {
        name: colour for colour, name in re.findall(r'"colour": "(\w+)"[^{}]*?"name": "(logit lens|tuned lens)"', page)
    }
    assert len(curves) == 2 == len(set(curves.values())), "two curves of one colour cannot be told apart"
    plain = explain(subject, "The lamp was lit", steps=4)
    assert "tuned_lens" not in plain.data() and "tuned lens" not in plain.page("m")


def test_a_file_gives_the_lens_back_and_others_are_refused(tmp_path: Path):
    tuned = TunedLens(torch.randn(3, 8, 8), torch.randn(3, 8))
    save_lens(tuned, tmp_path / "lens.safetensors")
    again = load_lens(tmp_path / "lens.safetensors")
    assert torch.equal(again.weight_LDD, tuned.weight_LDD) and torch.equal(again.bias_LD, tuned.bias_LD)
    with pytest.raises(CheckpointError, match="a lens for 4 blocks with 8 numbers; this model has 2 with 32"):
        again.check(tiny_config(), "lens.safetensors")
    save_lens(TunedLens(torch.randn(3, 8, 7), torch.randn(3, 8)), tmp_path / "odd.safetensors")
    with pytest.raises(CheckpointError, match="holds no tuned lens"):
        load_lens(tmp_path / "odd.safetensors")
    with pytest.raises(InputError, match="no such file"):
        load_lens(tmp_path / "none.safetensors")


def test_what_no_lens_can_be_trained_for_is_refused(subject: Subject, tmp_path: Path, tokenizer: TextTokenizer):
    (tmp_path / "short.txt").write_text("Too short.")
    with pytest.raises(InputError, match="too short"):
        train_lens(subject, [str(tmp_path / "short.txt")])
    one = random_decoder(replace(tiny_config(tokenizer.vocab_size), n_layers=1))
    with pytest.raises(InputError, match="one block only"):
        train_lens(Subject(one, tokenizer), [str(tmp_path / "short.txt")])
