"""Neurons against the model run with one of them changed, against its matrices, and against a reading of the whole corpus."""

import copy
from pathlib import Path

import pytest
import torch

import wenloom
from tests.conftest import random_decoder, tiny_config
from wenloom.core.errors import InputError
from wenloom.explanation.explanation import explain
from wenloom.explanation.inquiry import ask
from wenloom.explanation.neurons import logit_weights, neurons_of, pushed_tokens
from wenloom.explanation.subject import Subject
from wenloom.explanation.trace import Trace
from wenloom.model.quantize import quantize
from wenloom.model.taps import Taps
from wenloom.tokens.shards import Dataset


@pytest.fixture(scope="module")
def subject(dataset: Dataset) -> Subject:
    tokenizer = dataset.tokenizer()
    return Subject(random_decoder(tiny_config(tokenizer.vocab_size, context_length=64)), tokenizer)


def test_effects_are_what_a_neuron_a_little_weaker_costs(subject: Subject):
    inquiry = ask(subject, "The lamp was", 40, 41)
    found = neurons_of(inquiry)
    seen = wenloom.trace(subject, "The lamp was")

    def value(trace: Trace) -> float:
        log_p = trace.logits[0, -1].double().log_softmax(-1)
        return float(log_p[40] - log_p[41])

    assert len(found) == 8 and [abs(each.effect) for each in found] == sorted(
        (abs(e.effect) for e in found), reverse=True
    )
    for each in found[:3]:
        place = f"blocks.{each.layer}.mlp.hidden"
        assert float(seen[place][0, -1, each.number]) == pytest.approx(each.activation, rel=1e-4)
        slopes = []
        for part in (0.99, 1.01):
            changed = seen[place].clone()
            changed[0, -1, each.number] *= part
            slopes.append(value(seen.patch(place, changed)))
        assert (slopes[1] - slopes[0]) / 0.02 == pytest.approx(each.effect, rel=0.05, abs=2e-3)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_what_a_neuron_pushes_is_a_product_of_the_model_s_matrices(dataset: Dataset, architecture: str):
    tokenizer = dataset.tokenizer()
    model = random_decoder(tiny_config(tokenizer.vocab_size, architecture))
    subject, block = Subject(model, tokenizer), model.blocks[1]
    with torch.no_grad():
        model.final_norm.weight.mul_(torch.rand(32, generator=torch.Generator().manual_seed(0)) + 0.5)  # pyright: ignore
    column = block.mlp.down.weight[:, 5].detach().double()  # pyright: ignore
    column = column - column.mean() if architecture == "gpt2" else column
    matrix = model.embed.weight if model.head is None else model.head.weight
    expected = matrix.detach().double() @ (model.final_norm.weight.detach().double() * column)  # pyright: ignore
    torch.testing.assert_close(logit_weights(model, 1, 5), expected, rtol=1e-5, atol=1e-6)
    up, down = pushed_tokens(subject, 1, 5)
    assert up[0] == (subject.piece(int(expected.argmax())), pytest.approx(float(expected.max()), rel=1e-5))
    assert down[0] == (subject.piece(int(expected.argmin())), pytest.approx(float(expected.min()), rel=1e-5))
    with pytest.raises(InputError, match="there is no neuron 5 in block 2"):
        pushed_tokens(subject, 2, 5)


def test_the_texts_are_those_of_the_corpus_in_which_a_neuron_is_most_active(
    subject: Subject, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("wenloom.explanation.neurons.TOKENS", 640)
    read: list[int] = []
    found = neurons_of(ask(subject, "The lamp was", 40), dataset.folder, on_tokens=read.append)
    assert sum(read) == 640
    stream = dataset.stream("train")
    starts = [number * (len(stream) - 64) // 9 for number in range(10)]
    for each in found[:4]:
        sign = 1 if each.activation >= 0 else -1
        peaks = []
        for start in starts:
            tokens = torch.from_numpy(stream.window(start, 64))[None]
            kept: dict[str, torch.Tensor] = {}
            place = f"blocks.{each.layer}.mlp.hidden"
            taps = Taps({place: lambda x, kept=kept: kept.update(x=x)}, subject.model.places)  # pyright: ignore
            with torch.no_grad():
                subject.model.run(subject.model.token_vectors(tokens), taps=taps)  # pyright: ignore
            row = kept["x"][0, :, each.number] * sign
            peaks.append((float(row.max()), subject.piece(int(tokens[0, row.argmax()]))))
        peaks.sort(reverse=True)
        assert [text.activation * sign for text in each.texts] == pytest.approx(
            [peak for peak, _ in peaks[:4]], rel=1e-4
        )
        assert each.texts[0].token == peaks[0][1]


def test_neurons_are_on_the_page_and_in_json(subject: Subject, dataset: Dataset):
    found = explain(subject, "The lamp was", 40, steps=1, data=dataset.folder, with_neurons=True)
    data, page = found.data()["neurons"], found.page()
    assert [(each["layer"], each["number"]) for each in data] == [(each.layer, each.number) for each in found.neurons]
    assert f"<code>blocks.{found.neurons[0].layer}.mlp.hidden</code> {found.neurons[0].number}" in page
    assert "neurons" not in explain(subject, "The lamp was", 40, steps=1).data()


def test_models_without_such_neurons_are_refused(subject: Subject, tmp_path: Path):
    from tests.model.test_taps import both

    _, bart = both("bart", tmp_path)
    with pytest.raises(InputError, match="in a decoder that predicts next tokens"):
        neurons_of(ask(Subject(bart, subject.tokenizer), "The", 5))
    model = copy.deepcopy(subject.model)
    quantize(model, 8)  # pyright: ignore
    with pytest.raises(InputError, match="measured with gradients"):
        neurons_of(ask(Subject(model, subject.tokenizer), "The lamp", 40))
