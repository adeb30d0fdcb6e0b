"""Streamed text: whole characters, equal to the text of all tokens at once, and stop texts wherever they are spelled."""

import random

import pytest
from tokenizers import Tokenizer, decoders, models

from wenloom.generation.engine import Engine
from wenloom.generation.request import GenerationRequest
from wenloom.generation.stream import TextStream
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.tokens.train import train_tokenizer

from ..conftest import random_decoder, tiny_config

TEXTS = ["好", "é", "😀", "\ufffd", "\ufffd\ufffd", " a", "b", "夥夥夻"]


def byte_fallback() -> TextTokenizer:
    """As Llama 2's: pieces with ▁ for a blank, and a token per byte for all else."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁the", "▁a", "b", "▁", "é", "."]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.add_special_tokens(["<s>", "</s>"])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return TextTokenizer(backend, {"bos_token": "<s>", "eos_token": "</s>"})


TOKENIZERS = {
    "byte fallback": byte_fallback(),
    "bytes": train_tokenizer(["bytes"], "byte"),
    "merged bytes": train_tokenizer(["春眠不觉晓 abc the lamp 😀ݥ夥夥夻倪" * 5 + "眠不" * 9], "bpe", 282),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_pieces_are_the_text_of_all_tokens(kind: str):
    """Also of tokens that end inside a character one after the other, and of bytes that are no character."""
    tokenizer, draw = TOKENIZERS[kind], random.Random(0)
    for _ in range(400):
        prompt = tokenizer.encode("a", add_special_tokens=False)
        tokens: list[int] = []
        for _ in range(draw.choice((2, 6, 60))):
            if draw.random() < 0.5:
                tokens += tokenizer.encode(draw.choice(TEXTS), add_special_tokens=False)
            else:
                tokens.append(draw.randrange(tokenizer.vocab_size))
        stream = TextStream(tokenizer, prompt, ())
        pieces = [*map(stream.push, tokens), stream.finish()]
        whole = tokenizer.decode(prompt + tokens, skip_special_tokens=True)[len(tokenizer.decode(prompt)) :]
        if kind == "byte fallback" and "\ufffd" in whole:
            continue  # broken bytes make a whole row of good ones unreadable there; no stream can take them back
        assert "".join(pieces) == whole == stream.take()


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_any_tokens_are_spelled(kind: str):
    """Whatever a model writes, no stream fails of it, and what it holds back stays short."""
    tokenizer, draw = TOKENIZERS[kind], random.Random(1)
    for _ in range(60):
        stream = TextStream(
            tokenizer, [draw.randrange(tokenizer.vocab_size) for _ in range(draw.randrange(9))], ("好", "ab")
        )
        for _ in range(100):
            stream.push(draw.randrange(tokenizer.vocab_size))
            assert len(stream._window) <= 40
        stream.finish()


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("stop", ["好", "éb", "b好 a", "😀", " a"])
def test_a_stop_text_fires_across_tokens(kind: str, stop: str):
    tokenizer = TOKENIZERS[kind]
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    stream = TextStream(tokenizer, encode("a"), (stop, "never"))
    found = ""
    for token in encode("bb" + stop + "bb"):
        found += stream.push(token)
        if stream.stopped:
            break
    assert stream.stopped and found + stream.finish() == tokenizer.decode(encode("bb"))


def test_a_stop_text_may_hold_special_tokens():
    """Its name alone, between other text, and at both ends; the text that is kept shows none of it."""
    tokenizer = TOKENIZERS["byte fallback"]
    tokens = [*tokenizer.encode("b.", add_special_tokens=False), 2, *tokenizer.encode("é", add_special_tokens=False)]
    for stop, kept, stopped in (
        ("</s>", "b.", True), (".</s>", "b", True), ("</s>é", "b.", True), (".</s>é", "b", True), ("<s>", "b.é", False),
        ("</s", "b.", True), ("s>é", "b.", True),
    ):  # fmt: skip
        stream = TextStream(tokenizer, [1], (stop,))
        found = ""
        for token in tokens:
            if not stream.stopped:
                found += stream.push(token)
        assert (found + stream.finish(), stream.stopped) == (kept, stopped), stop


@pytest.mark.parametrize("beams", [{}, {"num_beams": 2}])
def test_a_special_token_stops_in_every_way_of_writing(tokenizer: TextTokenizer, beams: dict[str, int]):
    engine = Engine(random_decoder(tiny_config()), tokenizer)
    special = tokenizer.bos_token
    assert special is not None
    options = {"do_sample": False, "max_new_tokens": 9, "eos_token_id": (), "stop_strings": special, **beams}
    job = engine.submit([5, 6], GenerationRequest(**options, forced_bos_token_id=tokenizer.bos_token_id))  # pyright: ignore
    engine.run([job])
    found = job.result()[0]
    assert (found.ended_by, found.text, found.tokens) == ("stop string", "", [tokenizer.bos_token_id])


def test_what_was_held_back_at_a_dead_end_is_streamed(tokenizer: TextTokenizer):
    """Text that might have begun a stop text is certain where the text cannot go on, is cancelled, or fails."""
    (token,) = (t for t in range(400) if tokenizer.decode([t]) == "a")
    engine = Engine(random_decoder(tiny_config()), tokenizer)
    request = GenerationRequest(
        do_sample=False, allowed_token_ids=(token,), no_repeat_ngram_size=2, stop_strings="aaab", eos_token_id=()
    )
    job = engine.submit([5], request)
    events = list(engine.stream(job))
    assert "".join(event.text for event in events) == job.result()[0].text == "aa"
    assert [event.finish_reason for event in events] == [None, None, "error"] and events[-1].token is None
    left = engine.submit([5], GenerationRequest(do_sample=False, logit_bias={token: 99}, stop_strings="a" * 9 + "b"))
    for _ in range(4):
        engine.step()
    engine.cancel(left)
    assert left.continuations[0].text == "a" * len(left.continuations[0].tokens) != ""


def test_the_prompt_is_repeated_where_echo_asks(tokenizer: TextTokenizer):
    engine = Engine(random_decoder(tiny_config()), tokenizer)
    for options in ({}, {"num_beams": 2, "do_sample": False}, {"num_return_sequences": 2}):
        request = GenerationRequest(max_new_tokens=4, seed=1, echo=True, **options)  # pyright: ignore
        job = engine.submit("The lamp", request)
        pieces = [""] * len(job.continuations)
        for index, _, text in engine.stream(job):
            pieces[index] += text
        assert pieces == [each.text for each in job.result()]
        assert all(each.text == "The lamp" + tokenizer.decode(each.tokens, True) for each in job.result())
