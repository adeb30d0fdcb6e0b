"""Learning to write down what is heard: from nothing and from a folder, the loss, and what stands in the run folder."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import transformers
from torch.nn import functional

from wenloom.audio.augment import augmented
from wenloom.audio.log_mel import LogMel
from wenloom.audio.reading import RATE
from wenloom.checkpoint.folder import load_model
from wenloom.core.errors import InputError
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.sound import SoundEncoder
from wenloom.tasks.recipe import EncodedExamples
from wenloom.tasks.run_settings import Settings
from wenloom.tasks.settings import DataSettings, FreshSettings, LearningSettings
from wenloom.tasks.speech.fresh import fresh_shape, fresh_vocabulary
from wenloom.tasks.transcription import TranscriptionRecipe
from wenloom.training import transcription
from wenloom.training.columns import Example, Vectors
from wenloom.training.cross_entropy import IGNORED
from wenloom.training.ctc import levelled_ctc
from wenloom.training.settings import TrainSettings
from wenloom.training.transcription import TranscriptionObjective

from ...cli.calling import call, succeed
from ...hearing import hearing_config, hearing_model, spoken, write_hearing, write_spoken

WORDS = {"low": 200.0, "high": 900.0}


def manifest(folder: Path, count: int = 24) -> None:
    """Two words that are two tones."""
    draw, rows = np.random.default_rng(0), ["path\ttext"]
    for number in range(count):
        word = ("low", "high")[number % 2]
        time = np.arange(round(RATE * draw.uniform(0.3, 0.6))) / RATE
        tone = 0.3 * np.sin(2 * np.pi * WORDS[word] * draw.uniform(0.95, 1.05) * time)
        soundfile.write(folder / f"{number}.wav", tone + 0.001 * draw.normal(size=len(time)), RATE)
        rows.append(f"{number}.wav\t{word}")
    (folder / "train.tsv").write_text("\n".join(rows) + "\n")
    (folder / "valid.tsv").write_text("\n".join([rows[0], *rows[1:9]]) + "\n")


def test_the_loss_is_the_decoders_and_ctcs(monkeypatch: pytest.MonkeyPatch):
    model = hearing_model()
    tokens, end, blank = [257, 266, 5, 6, 7], 256, 265
    frames = LogMel(spoken(1.0), 80).window(0, 100).T
    rows = {"inputs_BT": torch.tensor([tokens]), "targets_BT": torch.tensor([[IGNORED, 5, 6, 7, end]]),
            "frames_BFM": frames[None], "length_B": torch.tensor([100]), "silence_B": torch.tensor([-0.5])}  # fmt: skip
    features = functional.pad(frames.T[None], (0, 2900), value=-0.5)
    logprobs = model(features, torch.tensor([tokens])).detach().log_softmax(-1)[0]
    nats = -sum(float(logprobs[place, token]) for place, token in enumerate([5, 6, 7, end], 1))
    encoded = model.encoder.hidden(features)[0] @ model.decoder.embed.weight.T
    share = encoded[:50].softmax(-1).mean(0)

    def both(prior: float) -> float:
        levelled = (encoded - prior * (share + 1e-4).log()).log_softmax(-1)
        ctc = functional.ctc_loss(levelled[:, None], torch.tensor([[5, 6, 7]]), torch.tensor([50]), torch.tensor([3]),
                                  blank, reduction="sum")  # fmt: skip
        return 0.7 * nats + 0.3 * float(ctc.detach())

    measured = TranscriptionObjective(model, 0.1, 0.3, blank, end)(**rows)
    assert float(measured.total.detach()) == pytest.approx(both(0), rel=1e-4) and int(measured.weight) == 4
    objective = TranscriptionObjective(model.train(), 0.0, 0.3, blank, end)
    for done, prior, found in ((0, 0.3, 1e4), (0.5, 0.3, 1e4), (0.75, 0.15, 1e4), (1, 0, 1e4), (1, 0.3, 2)):
        objective.done = done
        monkeypatch.setattr(transcription, "_FOUND", found)
        assert float(objective(**rows).total.detach()) == pytest.approx(both(prior), rel=1e-4), (done, prior, found)
    tuned = TranscriptionObjective(model.eval(), 0.1, 0.0, 0, end)(**rows)
    assert float(tuned.total.detach()) == pytest.approx(nats, rel=1e-4)


def test_paths_are_weighed_by_the_shares_of_their_tokens():
    """Against all paths, spelled out, whose gradient autograd takes."""
    n_places, n_tokens, blank, text = 4, 3, 0, (1, 2)
    logits = torch.randn(1, 6, n_tokens, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    logprobs = logits[0].log_softmax(-1)
    share = logprobs[:n_places].exp().mean(0).detach()
    paths = [path for path in itertools.product(range(n_tokens), repeat=n_places)
             if tuple(token for token, _ in itertools.groupby(path) if token != blank) == text]  # fmt: skip
    sums = torch.stack([sum((logprobs[place, token] - 0.3 * (share[token] + 1e-4).log() for place, token in enumerate(path)),
                            torch.zeros((), dtype=torch.float64)) for path in paths])  # fmt: skip
    (expected,) = torch.autograd.grad(-sums.logsumexp(0), logits)
    found = levelled_ctc(logits, torch.tensor(text), torch.tensor([n_places]), torch.tensor([2]), blank)
    (gradient,) = torch.autograd.grad(found, logits)
    torch.testing.assert_close(gradient, expected, atol=1e-10, rtol=0)
    assert not gradient[0, n_places:].any()
    impossible = levelled_ctc(logits, torch.tensor([1, 1, 1, 1, 1]), torch.tensor([n_places]), torch.tensor([5]), blank)
    (gradient,) = torch.autograd.grad(impossible, logits)
    assert not gradient.any() and not float(impossible.detach())


def test_the_gradient_over_the_tokens_of_a_batch_is_that_of_the_whole_vocabulary():
    """Against PyTorch's own CTC of levelled probabilities, whose gradient autograd takes to all logits; p minus them is added."""
    draw = torch.Generator().manual_seed(0)
    n_places, n_tokens, blank, prior = 9, 12, 7, 0.3
    logits = (2 * torch.randn(4, n_places, n_tokens, generator=draw).double()).requires_grad_()
    texts, lengths = torch.tensor([3, 5, 3, 3, 3, 11, 0, 5, 2, 2, 2]), torch.tensor([3, 2, 3, 3])
    places = torch.tensor([9, 6, 4, 4])  # the last has too few for two blanks between three equal tokens
    logprobs = logits.log_softmax(-1)
    is_sound = (torch.arange(n_places) < places[:, None])[..., None]
    share = ((logprobs.exp() * is_sound).sum(1) / places[:, None]).detach()
    quotients = (logits - prior * (share + 1e-4).log()[:, None]).log_softmax(-1)
    nats = functional.ctc_loss(
        quotients.transpose(0, 1), texts, places, lengths, blank, reduction="none", zero_infinity=True
    )
    assert (nats > 0).tolist() == [True, True, True, False]
    (by_levelled,) = torch.autograd.grad(nats.sum(), logits)
    apart = (logprobs.exp() - quotients.exp()) * is_sound * torch.tensor([1, 1, 1, 0])[:, None, None]
    found = levelled_ctc(logits, texts, places, lengths, blank, prior)
    (gradient,) = torch.autograd.grad(3 * found, logits)
    assert float(found.detach()) == pytest.approx(float(nats.sum().detach()), rel=1e-12)
    torch.testing.assert_close(gradient / 3, (by_levelled + apart).detach(), atol=1e-12, rtol=0)
    assert float(levelled_ctc(logits.detach(), texts, places, lengths, blank, prior)) == float(found.detach())


def test_a_batch_is_as_long_as_its_longest_and_one_of_64_as_in_a_transcription():
    model, read = hearing_model().train(), list[int]()
    assert isinstance(model, EncoderDecoder) and isinstance(model.encoder, SoundEncoder)
    model.encoder.conv_in.register_forward_hook(lambda _, given, __: read.append(given[0].shape[-1]))
    rows = {"inputs_BT": torch.tensor([[257, 266, 5]] * 2), "targets_BT": torch.tensor([[IGNORED, 5, 256]] * 2),
            "frames_BFM": torch.randn(2, 61, 80), "length_B": torch.tensor([40, 61]), "silence_B": torch.tensor([-0.5, -0.5])}  # fmt: skip
    objective = TranscriptionObjective(model, 0.0, 0.3, 265, 256, short=True)
    for first in range(128):
        objective(**rows, dropout_keys_B=torch.tensor([first, 64]))
    assert read == [3000 if first % 64 == 0 else 62 for first in range(128)]
    objective.eval()(**rows)
    TranscriptionObjective(model.train(), 0.0, 0.3, 265, 256)(**rows)
    assert read[-2:] == [3000, 3000]


def test_a_fresh_encoder_hears_all_directions_of_its_bands_and_its_blocks_add_nothing():
    encoder = EncoderDecoder(hearing_config()).encoder
    assert isinstance(encoder, SoundEncoder)
    encoder.initialise(torch.Generator().manual_seed(0))
    draw = np.random.default_rng(0)
    loudness = draw.normal(size=(4000, 1)) - 1  # shared by all bands, the loudest direction by far
    frames_FM = torch.tensor(loudness + 1.2 * draw.normal(size=(4000, 80)))
    covariance_MM = frames_FM.T.cov()
    filters_DMK = encoder.conv_in.weight.detach().double() / 2
    encoder.whiten(frames_FM.mean(0), covariance_MM)
    heard = functional.conv1d(frames_FM.T[None].float(), encoder.conv_in.weight, encoder.conv_in.bias)[0]
    values, vectors = np.linalg.eigh(covariance_MM.numpy())
    white = vectors @ np.diag((values + values[-1] / 100) ** -0.5) @ vectors.T
    centred = torch.from_numpy((frames_FM - frames_FM.mean(0)).numpy() @ white)
    assert torch.allclose(heard.double(), functional.conv1d(centred.T[None], filters_DMK)[0], atol=1e-3)
    spread = (centred.numpy() @ vectors).var(0)
    assert spread.max() / spread.min() < 2 < 50 < values[-1] / values[0]
    silence = torch.zeros(3, 80)
    encoder.whiten(silence.mean(0), silence.T.cov())
    assert encoder.conv_in.weight.isfinite().all()
    sound_BMF = torch.randn(1, 80, 40, generator=torch.Generator().manual_seed(1))
    stream = encoder.token_vectors(sound_BMF) + encoder.positions.weight[:20]
    assert torch.allclose(encoder.hidden(sound_BMF), encoder.final_norm(stream), atol=1e-5)


def test_a_changed_spectrogram_is_another_for_every_seed_and_the_same_for_one():
    frames = LogMel(spoken(2.0), 80).window(0, 200).T.numpy()
    one, same, other = augmented(frames, 1), augmented(frames, 1), augmented(frames, 2)
    assert np.array_equal(one, same) and (one.shape != other.shape or not np.array_equal(one, other))
    assert 180 <= len(one) <= 223 and augmented(frames, 1, longest=50).shape == (50, 80)
    assert (
        np.abs(augmented(frames, 1, voices=True) - one).max() > 0.1
        and np.ptp(augmented(frames, 1, voices=True)) <= 2 + 1e-5
    )
    kept = augmented(frames, 3, (1.0, 1.0))
    assert kept.shape == frames.shape and (kept == frames).mean() > 0.4


def test_two_words_are_learned_from_nothing_and_transformers_reads_the_model(tmp_path: Path):
    manifest(tmp_path)
    succeed("finetune", "--task", "transcription", "--train", "train.tsv", "--validation", "valid.tsv", "--layers", 1, "--width", 32,
            "--heads", 2, "--steps", 100, "--batch", 8, "--evaluations", 1, "--out", "run", cwd=tmp_path)  # fmt: skip
    found = json.loads(
        succeed(
            "transcribe", "run", "0.wav", "1.wav", "--json", "--min-speech-seconds", 0, "--num-beams", 1, cwd=tmp_path
        )
    )
    assert [each["text"] for each in found] == ["low", "high"]
    report = (tmp_path / "run/report.html").read_text()
    assert report.count('<audio controls preload="none"') == 3 and report.count("data:audio/wav;base64,UklGR") == 3
    [timed] = json.loads(
        succeed(
            "transcribe", "run", "0.wav", "--words", "--json", "--min-speech-seconds", 0, "--num-beams", 1, cwd=tmp_path
        )
    )
    [word] = timed["words"]
    assert word["word"].strip() == "low" and 0 <= word["start"] < word["end"] <= timed["duration"] + 0.02
    ours = load_model(tmp_path / "run")
    theirs = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path / "run").eval()
    assert isinstance(ours, EncoderDecoder) and ours.config.encoder is not None
    features = LogMel(spoken(0.4), 80).window(0, 2 * ours.config.encoder.context_length)[None]
    with torch.no_grad():
        expected = theirs(input_features=features, decoder_input_ids=torch.tensor([[5, 6]])).logits
        torch.testing.assert_close(ours(features, torch.tensor([[5, 6]])), expected, atol=1e-4, rtol=0)
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(tmp_path / "run")
    heard = extractor(spoken(0.4), sampling_rate=RATE, return_tensors="pt").input_features
    torch.testing.assert_close(heard, features, atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_folder_is_tuned_and_keeps_what_it_says_of_decoding(tmp_path: Path, method: str):
    write_hearing(tmp_path / "base")
    write_spoken(tmp_path / "a.wav", 1.0)
    write_spoken(tmp_path / "b.wav", 1.5, 1)
    rows = "a.wav\tThe lamp\ten\nb.wav\tein Licht\tde\n"
    (tmp_path / "train.tsv").write_text("path\ttext\tlanguage\n" + rows)
    succeed("finetune", "base", "--task", "transcription", "--train", "train.tsv", "--validation", "train.tsv", "--method", method, "--steps", 2,
            "--batch", 2, "--out", "run", cwd=tmp_path)  # fmt: skip
    if method == "full":
        assert json.loads((tmp_path / "run/generation_config.json").read_text())["is_multilingual"] is True
    [found] = json.loads(succeed("transcribe", "run", "a.wav", "--language", "de", "--json", cwd=tmp_path))
    assert found["language"] == "de"


def test_what_does_not_hear_is_not_tuned_and_bad_recordings_are_left_out(tmp_path: Path):
    manifest(tmp_path, 4)
    (tmp_path / "0.wav").write_bytes(b"text")
    done = call("finetune", "--task", "transcription", "--train", "train.tsv", "--validation", "valid.tsv", "--layers", 1, "--width", 32, "--heads", 2,
                "--steps", 1, "--batch", 2, "--out", "run", cwd=tmp_path)  # fmt: skip
    assert done.code == 0 and "Left out" in done.err and "0.wav" in done.err, done
    refused = call(
        "finetune", "--task", "transcription", "--train", "train.tsv", "--source", "x", "--out", "other", cwd=tmp_path
    )
    assert refused.code == 2 and "--source" in refused.err
    with pytest.raises(InputError, match="no row"):
        from wenloom.tasks.rows import RowReader
        from wenloom.tasks.speech.manifest import read_manifest

        (tmp_path / "none.tsv").write_text("path\ttext\n")
        read_manifest(tmp_path / "none.tsv", RowReader())


def test_few_words_are_tokens_and_of_many_the_characters():
    words = ["".join(each) for each in itertools.product("aeiou", "bcd", "lmn", "xyz")]
    few, derived = fresh_vocabulary(FreshSettings(), [" ".join(words[:50])] * 40, 256, [])
    assert derived is None and len(few.encode(f" {words[7]}", add_special_tokens=False)) == 1
    texts = [f"{one} {other}" for one, other in itertools.pairwise(words)]
    many, derived = fresh_vocabulary(FreshSettings(), [*texts * 40, "山水 油"], 256, ["zh"])
    assert derived is not None and derived.value == "characters"
    assert [many.decode([each]) for each in many.encode(" axe", add_special_tokens=False)] == [" ", "a", "x", "e"]
    assert many.decode(many.encode("山水", add_special_tokens=False)) == "山水" and many.backend.token_to_id("<|zh|>")
    long, derived = fresh_vocabulary(
        FreshSettings(), [*texts * 40, " ".join(words)], 256, []
    )  # does not fit as characters
    assert derived is None and len(long.encode(f" {words[7]}", add_special_tokens=False)) < 5
    named, derived = fresh_vocabulary(FreshSettings(vocab_size=270), texts * 40, 256, [])
    assert derived is None and named.vocab_size == 270 + 8


def test_what_is_heard_has_more_layers_than_what_is_written():
    tokenizer, _ = fresh_vocabulary(FreshSettings(), ["low high"], 256, [])
    shape = fresh_shape(FreshSettings(layers=5, width=32, heads=2), tokenizer, 150, 100)
    assert shape.encoder is not None and (shape.encoder.n_layers, shape.n_layers) == (5, 3)
    assert (shape.encoder.context_length, shape.context_length) == (150, 216)
    with pytest.raises(InputError, match="--width 32"):
        fresh_shape(FreshSettings(width=32, heads=3), tokenizer, 150, 100)


def test_a_step_holds_more_speech_where_there_are_hours(tmp_path: Path):
    manifest(tmp_path, 4)
    data = DataSettings(train=str(tmp_path / "train.tsv"))
    recipe = TranscriptionRecipe(
        Settings("transcription", None, data, FreshSettings(), LearningSettings(), TrainSettings())
    )
    for count, frames, rows in ((30, 600, 4), (2700, 45, 16), (5000, 302, 8), (9000, 40, 30), (100_000, 360, 33)):
        example: Example = {"frames_BFM": Vectors([0.0] * frames)}
        assert recipe.usual_batch(EncodedExamples([example] * count, [], {}))[0] == rows, count
