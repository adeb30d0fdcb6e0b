"""Tokens equal those that transformers' Whisper writes, greedy and by rules; rows do not depend on their neighbours."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from wenloom.audio.log_mel import LogMel
from wenloom.audio.reading import RATE, read_sound
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.tasks.speech.decoding import Decoded, decode
from wenloom.tasks.speech.rules import TokenRules
from wenloom.tasks.speech.transcriber import Transcriber
from wenloom.tasks.speech.vocabulary import SpeechTokens

from ...hearing import spoken, write_hearing


@pytest.fixture(scope="module")
def transcriber(tmp_path_factory: pytest.TempPathFactory) -> Transcriber:
    return Transcriber.load(write_hearing(tmp_path_factory.mktemp("model")))


def heard(transcriber: Transcriber, prompts: list[list[int]], times: bool = True, **more: Any) -> list[Decoded]:
    windows = torch.stack([LogMel(spoken(2.0, seed), 80).window() for seed in range(len(prompts))])
    with torch.inference_mode():
        encoder_kv = transcriber.model.encode(windows)
    rules = TokenRules(transcriber.tokens, transcriber.model.config.vocab_size, times)
    return decode(transcriber.model.decoder, transcriber.tokens, rules, encoder_kv, prompts, 20, **more)


@pytest.mark.parametrize("more", [{}, {"count": 3}, {"temperature": 0.7, "count": 2}])
def test_windows_side_by_side_are_heard_as_alone(transcriber: Transcriber, more: dict[str, Any]):
    opening = transcriber.tokens.opening("en", False, True)
    prompts = [
        opening,
        [transcriber.tokens.previous, 5, 6, 7, *opening],
        opening,
        [transcriber.tokens.previous, 9, *opening],
    ]

    def generators(first: int, count: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(number) for number in range(first, first + count)]

    together = heard(transcriber, prompts, generators=generators(0, 4), **more)
    windows = torch.stack([LogMel(spoken(2.0, seed), 80).window() for seed in range(4)])
    rules = TokenRules(transcriber.tokens, transcriber.model.config.vocab_size, True)
    for number, prompt in enumerate(prompts):
        with torch.inference_mode():
            encoder_kv = transcriber.model.encode(windows[number : number + 1])
        [alone] = decode(transcriber.model.decoder, transcriber.tokens, rules, encoder_kv, [prompt], 20,
                         generators=generators(number, 1), **more)  # fmt: skip
        assert alone.tokens == together[number].tokens
        assert alone.logprob == pytest.approx(together[number].logprob, abs=1e-3)


def test_the_logprob_is_that_of_the_tokens_under_the_rules(transcriber: Transcriber):
    tokens, opening = transcriber.tokens, transcriber.tokens.opening("de", False, True)
    rules = TokenRules(tokens, transcriber.model.config.vocab_size, True)
    [found] = heard(transcriber, [opening])
    [of_beams] = heard(transcriber, [opening], count=4)
    window = LogMel(spoken(2.0), 80).window()[None]
    for each in (found, of_beams):
        ended = each.tokens if len(each.tokens) == 20 else [*each.tokens, tokens.end]
        total = 0.0
        with torch.no_grad():
            logits = transcriber.model(window, torch.tensor([[*opening, *ended]]))[0, len(opening) - 1 : -1].double()
        for place, token in enumerate(ended):
            row = logits[place : place + 1].clone()
            rules.apply(row, [ended[:place]], place == 0)
            total += float(row.log_softmax(-1)[0, token])
        assert each.logprob == pytest.approx(total, abs=1e-3)
    assert of_beams.logprob / len(of_beams.tokens) >= found.logprob / len(found.tokens) - 1e-6


def test_beams_find_the_best_of_all_short_transcripts(transcriber: Transcriber):
    """With as many beams as there are tokens of time at first, two tokens are searched exhaustively."""
    tokens, opening = transcriber.tokens, transcriber.tokens.opening("en", False, False)
    rules = TokenRules(tokens, transcriber.model.config.vocab_size, False)
    window = LogMel(spoken(2.0), 80).window()[None]
    with torch.inference_mode():
        encoder_kv = transcriber.model.encode(window)
        first = transcriber.model(window, torch.tensor([opening]))[0, -1:]
        rules.apply(first, [[]], True)
        most, best = -np.inf, []
        for token in first[0].topk(300).indices.tolist():
            after = transcriber.model(window, torch.tensor([[*opening, token]]))[0, -1:]
            rules.apply(after, [[token]], False)
            score = float(first.log_softmax(-1)[0, token] + after.log_softmax(-1).max())
            if score > most:
                most, best = score, [token, int(after.argmax())]
    [found] = decode(transcriber.model.decoder, tokens, rules, encoder_kv, [opening], 2, count=90)
    assert (found.tokens, found.logprob) == (best, pytest.approx(most, abs=1e-4))


def oracle(model: EncoderDecoder, tokens: SpeechTokens) -> transformers.GenerationConfig:
    """What transformers needs to know to write by the same rules."""
    return transformers.GenerationConfig(
        decoder_start_token_id=tokens.start, bos_token_id=tokens.end, eos_token_id=tokens.end, pad_token_id=tokens.end,
        no_timestamps_token_id=tokens.no_times, suppress_tokens=list(tokens.suppressed), is_multilingual=False,
        begin_suppress_tokens=list(tokens.suppressed_first), max_initial_timestamp_index=50, return_timestamps=False,
        max_length=model.config.context_length, prev_sot_token_id=tokens.previous,
    )  # fmt: skip


@pytest.mark.real_models
@pytest.mark.shared_data
@pytest.mark.parametrize("count", [1, 5])
def test_tokens_of_tiny_en_equal_transformers(real_models: Path, shared_data: Path, count: int):
    transcriber = Transcriber.load(real_models / "whisper")
    tokens, model = transcriber.tokens, transcriber.model
    theirs = transformers.WhisperForConditionalGeneration.from_pretrained(real_models / "whisper").eval()
    theirs.generation_config = oracle(model, tokens)
    files = [
        *sorted((shared_data / "audio/ljspeech").glob("*.flac")),
        *sorted((shared_data / "audio/pocketsphinx").rglob("*.wav")),
    ]
    unequal = 0
    for path in files:
        window = LogMel(read_sound(path).samples[: 30 * RATE], 80).window()[None]
        for times in (False, True):
            with torch.inference_mode():
                expected = theirs.generate(input_features=window, return_timestamps=times, num_beams=count,
                                           do_sample=False)[0].tolist()  # fmt: skip
                rules = TokenRules(tokens, model.config.vocab_size, times)
                opening = tokens.opening(None, False, times)
                [found] = decode(model.decoder, tokens, rules, model.encode(window), [opening], 224, count=count)
            skipped = {tokens.start, tokens.no_times, tokens.end}
            unequal += found.tokens != [each for each in expected if each not in skipped]
    assert unequal <= (
        count > 1
    )  # its beams sum probabilities that no longer sum to 1 once tokens are ruled out, ours do
