"""Features: the layout and formula of SAELens, training on known directions, figures against a plain forward pass."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import wenloom
from tests.conftest import VERSES, random_decoder, story, tiny_config
from wenloom.core.errors import CheckpointError, InputError
from wenloom.explanation import feature_training
from wenloom.explanation.activations import batches, flowing, token_rows
from wenloom.explanation.answer_features import load_features
from wenloom.explanation.explanation import explain
from wenloom.explanation.feature_report import coded_loss, measure_features
from wenloom.explanation.feature_training import BATCH, CoderSettings, CoderTraining, train_coder
from wenloom.explanation.features import find_features
from wenloom.explanation.inquiry import ask
from wenloom.explanation.neurons import ActiveText
from wenloom.explanation.sparse_coder import SparseCoder, load_coder, save_coder
from wenloom.explanation.steering import strengthen
from wenloom.explanation.subject import Reading, Subject
from wenloom.explanation.trace import Trace
from wenloom.tokens.tokenizer import TextTokenizer


def random_coder(layer: int = 1, m: int = 50, d: int = 32, k: int = 4, is_transcoder: bool = False) -> SparseCoder:
    draw = torch.Generator().manual_seed(0)
    encoder, decoder = (torch.randn(m, d, generator=draw) for _ in range(2))
    decoder /= decoder.norm(dim=1, keepdim=True)
    bias, start = torch.randn(m, generator=draw), torch.randn(d, generator=draw)
    threshold = torch.rand(m, generator=draw) * 8 if is_transcoder else None
    return SparseCoder(layer, k, encoder, bias, decoder, start, threshold)


@pytest.fixture
def subject(tokenizer: TextTokenizer) -> Subject:
    return Subject(random_decoder(tiny_config(tokenizer.vocab_size)), tokenizer)


@pytest.fixture
def text(tmp_path: Path) -> str:
    (tmp_path / "text.txt").write_text("\n".join(map(story, range(30))), encoding="utf-8")
    return str(tmp_path / "text.txt")


def test_the_folder_holds_what_saelens_computes_with(tmp_path: Path):
    """Its class topk, in NumPy: acts = relu(topk((x - b_dec) W_enc + b_enc)), x' = acts W_dec + b_dec."""
    coder = random_coder()
    save_coder(coder, tmp_path / "sae", {"features": []})
    config = json.loads((tmp_path / "sae/cfg.json").read_text())
    assert (config["architecture"], config["d_in"], config["d_sae"], config["k"]) == ("topk", 32, 50, 4)
    assert config["apply_b_dec_to_input"] and not config["rescale_acts_by_decoder_norm"]
    assert config["metadata"]["hook_name"] == "blocks.1.hook_resid_post"
    theirs = load_file(tmp_path / "sae/sae_weights.safetensors")
    assert {name: each.shape for name, each in theirs.items()} == {
        "W_enc": (32, 50), "b_enc": (50,), "W_dec": (50, 32), "b_dec": (32,)}  # fmt: skip
    x = torch.randn(20, 32) * 0.3
    pre = (x.numpy() - theirs["b_dec"]) @ theirs["W_enc"] + theirs["b_enc"]
    kept = np.where(pre >= np.sort(pre, 1)[:, -4:-3], np.maximum(pre, 0), 0)
    active = coder.encode(x)
    dense = torch.zeros(20, 50).scatter_(1, active.numbers_NK, active.values_NK)
    np.testing.assert_allclose(dense, kept, atol=1e-5)
    np.testing.assert_allclose(coder(x), kept @ theirs["W_dec"] + theirs["b_dec"], atol=1e-5)
    again = load_coder(tmp_path / "sae")
    assert (again.layer, again.active) == (1, 4) and torch.equal(again(x), coder(x))


def test_the_folder_holds_what_saelens_computes_a_transcoder_with(tmp_path: Path):
    """Its class jumprelu_transcoder, in NumPy: pre = x W_enc + b_enc, acts = relu(pre) where pre > threshold, y' = acts W_dec + b_dec."""
    coder = random_coder(is_transcoder=True)
    save_coder(coder, tmp_path / "coder", {"features": []})
    config = json.loads((tmp_path / "coder/cfg.json").read_text())
    assert (config["architecture"], config["d_in"], config["d_out"], config["d_sae"]) == (
        "jumprelu_transcoder",
        32,
        32,
        50,
    )
    assert not config["apply_b_dec_to_input"] and "k" not in config
    assert config["metadata"]["hook_name"] == "blocks.1.mlp.hook_in"
    assert config["metadata"]["hook_name_out"] == "blocks.1.hook_mlp_out"
    theirs = load_file(tmp_path / "coder/sae_weights.safetensors")
    x = torch.randn(20, 32)
    pre = x.numpy() @ theirs["W_enc"] + theirs["b_enc"]
    kept = np.where(pre > theirs["threshold"], np.maximum(pre, 0), 0)
    active = coder.encode(x)
    dense = torch.zeros(20, 50).scatter_(1, active.numbers_NK, active.values_NK)
    np.testing.assert_allclose(dense, kept, atol=1e-5)
    np.testing.assert_allclose(coder(x), kept @ theirs["W_dec"] + theirs["b_dec"], atol=1e-5)
    again = load_coder(tmp_path / "coder")
    assert (again.layer, again.reads, again.writes) == (1, "blocks.1.mlp.in", "blocks.1.mlp.out")
    assert torch.equal(again(x), coder(x)) and again(-100 * torch.ones(3, 32)).shape == (3, 32)
    (tmp_path / "coder/cfg.json").write_text(json.dumps(config | {"architecture": "transcoder"}))
    plain = load_coder(tmp_path / "coder")  # one without thresholds: ReLU
    np.testing.assert_allclose(plain(x), np.maximum(pre, 0) @ theirs["W_dec"] + theirs["b_dec"], atol=1e-4)


def test_folders_of_another_kind_are_refused(tmp_path: Path):
    save_coder(random_coder(), tmp_path / "sae", {})
    path = tmp_path / "sae/cfg.json"
    config = json.loads(path.read_text())
    hook = {"hook_name": "blocks.1.hook_mlp_out"}
    for change, words in (
        ({"architecture": "jumprelu"}, "another kind"), ({"normalize_activations": "layer_norm"}, "normalize_activations"),
        ({"metadata": hook}, "at which block"), ({"k": "many"}, "how many"),
    ):  # fmt: skip
        path.write_text(json.dumps(config | change))
        with pytest.raises(CheckpointError, match=words):
            load_coder(tmp_path / "sae")
    with pytest.raises(CheckpointError, match="no such file"):
        load_coder(tmp_path)
    broken = random_coder()
    broken.decoder_MD[7, 0] = math.nan
    save_coder(broken, tmp_path / "nan", {})
    with pytest.raises(CheckpointError, match="numbers that are none"):
        load_coder(tmp_path / "nan")
    with pytest.raises(CheckpointError, match=r"features of 32 numbers after block 5; this model has 2 blocks"):
        random_coder(layer=5).check(tiny_config(), "sae")


def sparse_data(n: int, draw: torch.Generator, directions: torch.Tensor) -> torch.Tensor:
    """Sums of 3 of the directions, each time others, around a mean, on a scale of its own."""
    numbers = torch.rand(n, len(directions), generator=draw).topk(3).indices
    strengths = 1 + torch.rand(n, 3, generator=draw)
    return 40 * ((directions[numbers] * strengths[..., None]).sum(1) + 0.5)


def test_training_finds_the_directions_that_data_is_made_of():
    draw = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(40, 24, generator=draw), dim=1)
    settings = CoderSettings(n_features=64, active=3, n_tokens=100_000, passes=4, learning_rate=3e-3)
    coder, silent = train_coder((sparse_data(2000, draw, directions) for _ in range(50)), 0, settings)
    fresh = sparse_data(4000, draw, directions)
    explained = 1 - (fresh - coder(fresh)).square().sum() / (fresh - fresh.mean(0)).square().sum()
    assert explained > 0.9
    torch.testing.assert_close(coder.decoder_MD.norm(dim=1), torch.ones(64))
    found = (directions @ coder.decoder_MD.T).amax(1)
    assert (found > 0.9).float().mean() > 0.8
    assert silent.shape == (64,)


def test_a_transcoder_learns_a_layer_from_what_it_reads():
    """y is a sum of directions, one for each direction of which x is a sum; scales and means are of their own."""
    draw = torch.Generator().manual_seed(0)
    reading, writing = (torch.nn.functional.normalize(torch.randn(40, 24, generator=draw), dim=1) for _ in range(2))

    def pairs(n: int) -> torch.Tensor:
        numbers = torch.rand(n, 40, generator=draw).topk(3).indices
        strengths = 1 + torch.rand(n, 3, 1, generator=draw)
        x, y = ((directions[numbers] * strengths).sum(1) for directions in (reading, writing))
        return torch.cat((0.02 * x - 1, 40 * (y + 0.5)), 1)

    settings = CoderSettings(64, 3, n_tokens=100_000, passes=4, learning_rate=3e-3, is_transcoder=True)
    coder, _ = train_coder((pairs(2000) for _ in range(50)), 0, settings)
    x, y = coder.split(pairs(4000))
    explained = 1 - (y - coder(x)).square().sum() / (y - y.mean(0)).square().sum()
    assert explained > 0.7
    assert (writing @ coder.decoder_MD.T).amax(1).gt(0.9).float().mean() > 0.7
    assert abs(float((coder.encode(x).values_NK > 0).sum(1).float().mean()) - 3) < 0.3, "3 of them on average"


def test_silent_features_learn_what_the_others_leave(monkeypatch: pytest.MonkeyPatch):
    """Half of the features are never among the strongest; without the auxiliary loss they stay silent."""
    back = []
    for weight in (feature_training._AUXILIARY, 0.0):
        monkeypatch.setattr(feature_training, "_AUXILIARY", weight)
        draw = torch.Generator().manual_seed(1)
        directions = torch.nn.functional.normalize(torch.randn(40, 24, generator=draw), dim=1)
        settings = CoderSettings(n_features=64, active=3, n_tokens=300_000, passes=1, learning_rate=3e-3)
        training = CoderTraining(settings, sparse_data(4000, draw, directions))
        with torch.no_grad():
            training._encoder_bias_M[:32] = -4.0
        for _ in range(290):
            training.step(sparse_data(BATCH, draw, directions))
        back.append(int((training.silent_M[:32] < 100_000).sum()))
    assert back[0] > 8 and back[1] == 0


def test_the_scale_of_the_data_is_in_the_weights():
    draw = torch.Generator().manual_seed(2)
    data = torch.randn(9000, 16, generator=draw) * 0.01 + 3
    settings = CoderSettings(n_features=32, active=4, n_tokens=9000, passes=1)
    one, _ = train_coder([data], 0, settings)
    large, _ = train_coder([data * 1024], 0, settings)
    torch.testing.assert_close(one(data) * 1024, large(data * 1024), rtol=1e-3, atol=2e-2)


def test_too_short_a_text_is_refused():
    with pytest.raises(InputError, match="too short"):
        train_coder([], 0, CoderSettings(8, 2, 100))


def test_the_stream_is_that_of_a_trace_and_what_follows_is_not_computed(subject: Subject, text: str):
    rows = [row for row, _ in zip(token_rows(subject, [text], 16), range(5), strict=False)]
    assert all(len(row) == 16 and row[0] == subject.tokenizer.bos_token_id for row in rows)
    for layer in range(2):
        (tokens,) = batches(subject, rows)
        found = flowing(subject.model, [f"blocks.{layer}.resid_post"], tokens).view(5, 15, 32)  # pyright: ignore[reportArgumentType]
        for row, stream in zip(rows, found, strict=True):
            trace = Trace(subject, Reading(torch.tensor([row]), 16))
            torch.testing.assert_close(stream, trace[f"blocks.{layer}.resid_post"][0, 1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_transcoder", [False, True])
def test_figures_are_those_of_the_model_with_the_stream_replaced(subject: Subject, text: str, is_transcoder: bool):
    rows = [row for row, _ in zip(token_rows(subject, [text], 17), range(12), strict=False)]
    coder = random_coder(is_transcoder=is_transcoder)
    silent = torch.full((50,), 999)
    figures, found = measure_features(subject, coder, rows, silent, 500)
    place = "blocks.1.mlp.out" if is_transcoder else "blocks.1.resid_post"
    losses, streams, written = {"loss": [], "loss_coded": [], "loss_zero": []}, [], []
    for row in rows:
        plain = Trace(subject, Reading(torch.tensor([row]), 17))
        stream, read = plain[place], plain["blocks.1.mlp.in"] if is_transcoder else plain[place]
        streams.append(read[0, 1:])
        written.append(stream[0, 1:])
        inside = torch.cat((stream[:, :1], coder(read[:, 1:])), 1)
        nothing = torch.cat((stream[:, :1], torch.zeros_like(stream[:, 1:])), 1)
        for name, logits in (
            ("loss", plain.logits), ("loss_coded", plain.patch(place, inside).logits), ("loss_zero", plain.patch(place, nothing).logits),
        ):  # fmt: skip
            losses[name].append(torch.nn.functional.cross_entropy(logits[0, 1:-1], torch.tensor(row[2:])))
    for name, values in losses.items():
        assert math.isclose(getattr(figures, name), torch.stack(values).mean(), rel_tol=1e-4)
    expected = (figures.loss_zero - figures.loss_coded) / (figures.loss_zero - figures.loss)
    assert math.isclose(figures.recovered, expected)
    x, y = torch.cat(streams), torch.cat(written)
    explained = 1 - (y - coder(x)).square().sum() / (y - y.mean(0)).square().sum()
    assert math.isclose(figures.explained, explained, rel_tol=1e-3) and figures.n_tokens == len(x) == 12 * 16
    active = coder.encode(x)
    times = torch.bincount(active.numbers_NK[active.values_NK > 0], minlength=50)
    assert math.isclose(figures.active, float(times.sum() / len(x)))
    assert [each["frequency"] for each in found] == pytest.approx((times / len(x)).tolist())
    assert math.isclose(figures.dead, float((times == 0).float().mean()), abs_tol=1e-6)
    assert measure_features(subject, coder, rows, silent, 1000)[0].dead == 0, "they were active in training"
    some = int(times.argmax())
    where = (active.numbers_NK == some) & (active.values_NK > 0)
    assert math.isclose(found[some]["most"], float(active.values_NK[where].max()), rel_tol=1e-4)
    assert math.isclose(found[some]["texts"][0]["value"], found[some]["most"], rel_tol=1e-3)
    best = int(where.any(1).nonzero()[active.values_NK[where].argmax(), 0])
    assert found[some]["texts"][0]["token"] == subject.piece(rows[best // 16][best % 16 + 1])
    direction = coder.decoder_MD[some] * subject.stack.final_norm.weight  # pyright: ignore
    token = int((subject.stack.output_weight @ direction).argmax())  # pyright: ignore
    assert found[some]["promotes"][0] == subject.piece(token)


def test_nothing_replaced_loses_nothing(subject: Subject, text: str):
    rows = [row for row, _ in zip(token_rows(subject, [text], 17), range(4), strict=False)]
    decoder = subject.model
    coder = random_coder(0)
    same, other = (coded_loss(decoder, coder, rows, each) for each in (lambda _, y: y, lambda _, y: y.clone()))  # pyright: ignore
    assert same == other < coded_loss(decoder, coder, rows, lambda _, y: torch.zeros_like(y)) + 5  # pyright: ignore


def test_features_of_a_text_are_measured_on_passages_that_they_have_not_seen(subject: Subject, text: str):
    found = find_features(subject, [text], active=8, width=2, n_tokens=60_000)
    again = find_features(subject, [text], active=8, width=2, n_tokens=60_000)
    assert found.coder.layer == 1 and found.coder.n_features == 64 and len(found.found) == 64
    assert found.figures.explained > 0.3 and found.figures.dead < 0.1
    assert torch.equal(found.coder.decoder_MD, again.coder.decoder_MD) and found.figures == again.figures
    layer = find_features(subject, [text], active=8, width=2, n_tokens=60_000, transcoder=True)
    assert layer.coder.reads == "blocks.1.mlp.in" and abs(layer.figures.active - 8) < 2
    for wrong, words in (
        ({"layer": 2}, "blocks 0 to 1"),
        ({"active": 65}, "from 1 to the number of features, 64"),
        ({"width": 1e9}, "makes 32,000,000,000 features"),
        ({"width": math.inf}, "there may be 1 to 1,048,576"),
        ({"width": 0.001}, "makes 0 features"),
    ):
        with pytest.raises(InputError, match=words):
            find_features(subject, [text], **({"width": 2} | wrong))  # pyright: ignore[reportArgumentType]


def test_a_feature_steers_at_the_cost_that_is_allowed(subject: Subject):
    coder = random_coder()
    study = strengthen(subject, coder.layer, coder.decoder_MD[7], [*VERSES[:3], VERSES[5]], cost=0.1)
    assert study.vector.layer == 1 and torch.equal(study.vector.direction, coder.decoder_MD[7])
    assert math.isnan(study.chosen.effect.value) and 0 < study.trials[0].cost.value <= math.log(1.1) * 1.001
    with pytest.raises(InputError, match="blocks 0 to 1"):
        strengthen(subject, 2, replace(coder).decoder_MD[7], VERSES)


def test_what_a_feature_does_for_an_answer_is_what_the_model_loses_without_it(subject: Subject, tmp_path: Path):
    """Effects against the stream with a feature a little weaker; tokens against the matrices; texts as they were written."""
    texts = [{"before": "the ", "token": "lamp", "after": " was", "value": 3.0}]
    coder = random_coder()
    save_coder(coder, tmp_path / "sae", {"features": [{"feature": n, "texts": texts} for n in range(50)]})
    features = load_features(tmp_path / "sae", subject)
    inquiry = ask(subject, "The lamp was", 40, 41)
    found = features.of(inquiry)
    place, seen = "blocks.1.resid_post", wenloom.trace(subject, "The lamp was")
    active = coder.encode(seen[place][0, -1:])
    assert 1 <= len(found) <= 4 and {each.number for each in found} == set(
        active.numbers_NK[active.values_NK > 0].tolist()
    )
    assert [abs(each.effect) for each in found] == sorted((abs(each.effect) for each in found), reverse=True)
    matrix = subject.stack.output_weight * subject.stack.final_norm.weight  # pyright: ignore
    for each in found:
        direction, logs = coder.decoder_MD[each.number], []
        for part in (-0.01, 0.01):
            changed = seen[place].clone()
            changed[0, -1] += part * each.activation * direction
            log_p = seen.patch(place, changed).logits[0, -1].double().log_softmax(-1)
            logs.append(float(log_p[40] - log_p[41]))
        assert (logs[1] - logs[0]) / 0.02 == pytest.approx(each.effect, rel=0.05, abs=2e-3)
        assert each.promotes == [subject.piece(n) for n in (matrix @ direction).topk(8).indices.tolist()]
        assert each.texts == [ActiveText("the ", "lamp", " was", 3.0)]


def test_the_page_shows_features_and_folders_without_their_texts_do(subject: Subject, tmp_path: Path):
    coder = random_coder()
    save_coder(coder, tmp_path / "sae", {})
    (tmp_path / "sae/features.json").unlink()  # as SAELens writes it
    explained = explain(subject, "The lamp was", features=load_features(tmp_path / "sae", subject))
    assert explained.features and all(not each.texts for each in explained.features)
    assert [each["number"] for each in explained.data()["features"]] == [each.number for each in explained.features]
    page = explained.page()
    assert 'href="#features"' in page and "Features it depends on" in page
    (tmp_path / "sae/features.json").write_text('{"features": [{"feature": "one"}]}')
    with pytest.raises(CheckpointError, match=r"features\.json: a feature lacks"):
        load_features(tmp_path / "sae", subject)
    save_coder(random_coder(d=16), tmp_path / "narrow", {})
    with pytest.raises(CheckpointError, match="features of 16 numbers"):
        load_features(tmp_path / "narrow", subject)
