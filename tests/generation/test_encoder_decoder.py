"""Writing from an encoder: the same tokens as transformers, alone and beside others."""

from pathlib import Path

import pytest
import torch
import transformers

from wenloom.checkpoint.folder import load_model
from wenloom.core.errors import InputError
from wenloom.generation.engine import Engine
from wenloom.generation.request import GenerationRequest
from wenloom.model.encoder_decoder import EncoderDecoder

VOCAB = 61
SOURCES = [[5, 6, 7, 8, 2], [9, 2], [11, 30, 4, 17, 22, 45, 3, 2], [8, 8, 8, 2]]


def models(family: str, folder: Path) -> tuple[EncoderDecoder, transformers.PreTrainedModel]:
    torch.manual_seed(0)
    common = dict(vocab_size=VOCAB, pad_token_id=1, eos_token_id=2, decoder_start_token_id=1)
    if family == "m2m_100":  # which takes a first token that is padding for none
        common["decoder_start_token_id"] = 2
    if family in ("t5", "mt5", "umt5"):
        config = transformers.AutoConfig.for_model(
            family, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, **common
        )
    else:
        config = transformers.AutoConfig.for_model(
            family, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, init_std=0.3,
                      decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=64,
                      forced_eos_token_id=None, **common)  # fmt: skip
    theirs = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
    theirs.generation_config.forced_eos_token_id = None
    for parameter in theirs.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape)
    theirs.save_pretrained(folder)
    ours = load_model(folder)
    assert isinstance(ours, EncoderDecoder)
    return ours, theirs


@pytest.mark.parametrize("family", ["bart", "mbart", "m2m_100", "pegasus", "marian", "t5", "mt5", "umt5"])
@pytest.mark.parametrize("beams", [1, 4])
def test_the_same_tokens_as_transformers(family: str, beams: int, tmp_path: Path):
    ours, theirs = models(family, tmp_path)
    request = GenerationRequest(do_sample=False, num_beams=beams, max_new_tokens=12, length_penalty=1.0)
    engine = Engine(ours)
    jobs = [engine.submit(source, request) for source in SOURCES]
    engine.run(jobs)
    for source, job in zip(SOURCES, jobs, strict=True):
        expected = theirs.generate(torch.tensor([source]), num_beams=beams, max_new_tokens=12, do_sample=False)[0, 1:]  # pyright: ignore[reportCallIssue]
        assert job.result()[0].tokens == expected[: len(job.result()[0].tokens)].tolist()
        assert expected[len(job.result()[0].tokens) :].eq(1).all()
        alone = engine.submit(source, request)
        engine.run([alone])
        assert alone.result()[0].tokens == job.result()[0].tokens
    assert engine.slots_in_use == 0


def test_what_does_not_fit_is_refused(tmp_path: Path):
    ours, _ = models("marian", tmp_path)
    engine = Engine(ours)
    with pytest.raises(InputError, match="encoder reads 64"):
        engine.submit([5] * 65, GenerationRequest())
    with pytest.raises(InputError, match="guidance_scale"):
        engine.submit([5], GenerationRequest(guidance_scale=2.0))
    with pytest.raises(InputError, match="second model"):
        Engine(ours, draft_model=ours.decoder)


def test_sampled_texts_do_not_depend_on_their_neighbours(tmp_path: Path):
    ours, _ = models("t5", tmp_path)
    request = GenerationRequest(do_sample=True, temperature=1.0, max_new_tokens=10, seed=3, num_return_sequences=2)
    together = Engine(ours)
    jobs = [together.submit(source, request, index) for index, source in enumerate(SOURCES)]
    together.run(jobs)
    for index, source in enumerate(SOURCES):
        engine = Engine(ours)
        job = engine.submit(source, request, index)
        engine.run([job])
        assert [each.tokens for each in job.result()] == [each.tokens for each in jobs[index].result()]
