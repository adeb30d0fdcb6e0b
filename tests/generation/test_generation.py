"""Generation as users call it: from Python, as transformers is called, and as text arrives."""

from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

import wenloom
from wenloom.api import LanguageModel
from wenloom.auto import CausalLM
from wenloom.checkpoint.folder import write_model_files
from wenloom.core.errors import InputError
from wenloom.generation.stream import TextStream
from wenloom.model.decoder import Decoder
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.tokens.train import train_tokenizer


def pieces_of(tokenizer: TextTokenizer, prompt: list[int], tokens: list[int], stop: tuple[str, ...]) -> list[str]:
    stream, pieces = TextStream(tokenizer, prompt, stop), []
    for token in tokens:
        pieces.append(stream.push(token))
        if stream.stopped:
            return pieces
    return [*pieces, stream.finish()]


@settings(max_examples=60)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    stop=st.text("ab，\n ", min_size=1, max_size=3),
)
def test_streamed_pieces_are_the_text_up_to_the_stop(tokenizer: TextTokenizer, text: str, stop: str):
    prompt = tokenizer.encode("x")
    expected = text.split(stop)[0]
    pieces = pieces_of(tokenizer, prompt, tokenizer.encode(text), (stop,))
    assert "".join(pieces).rstrip("\ufffd") == expected.rstrip("\ufffd")
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


def test_a_character_of_several_tokens_arrives_whole(tokenizer: TextTokenizer):
    pieces = pieces_of(tokenizer, [], tokenizer.encode("鑫淼 ok"), ())
    assert "".join(pieces) == "鑫淼 ok" and not any("\ufffd" in piece for piece in pieces)


@pytest.fixture
def folder(decoder: Decoder, tokenizer: TextTokenizer, tmp_path: Path) -> Path:
    write_model_files(decoder, tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_language_model_from_python(folder: Path):
    model = wenloom.load(folder)
    assert isinstance(model, LanguageModel)
    text = model.generate("The lamp", max_new_tokens=12, seed=1)
    assert (
        text
        == "".join(model.stream("The lamp", max_new_tokens=12, seed=1))
        == model.generate("The lamp", max_new_tokens=12, seed=1)
    )
    assert model.generate(max_new_tokens=3, seed=1) is not None  # from nothing
    expected = model.next("The lamp", 400)
    assert sum(p for _, p in expected) == pytest.approx(1) and expected == sorted(expected, key=lambda pair: -pair[1])
    with pytest.raises(InputError, match="no option tempreature"):
        model.generate("x", tempreature=1.0)


def test_transformers_snippet(folder: Path):
    """What a transformers user would type."""
    tokenizer = wenloom.AutoTokenizer.from_pretrained(folder)
    model = wenloom.AutoModelForCausalLM.from_pretrained(str(folder), torch_dtype="auto")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert isinstance(model, CausalLM) and model.num_parameters() == theirs.num_parameters()
    ids = tokenizer.encode("The lamp was lit", return_tensors="pt")
    out = model.generate(input_ids=ids, max_length=30)
    assert out.equal(theirs.generate(input_ids=ids, max_length=30, do_sample=False))
    assert tokenizer.decode(out[0], skip_special_tokens=True).startswith("The lamp was lit")
    assert model.generate(ids).shape[1] <= ids.shape[1] + 20
    torch.manual_seed(0)
    one = model.generate(ids, do_sample=True, max_new_tokens=8, num_return_sequences=2, temperature=2.0)
    torch.manual_seed(0)
    assert one.equal(model.generate(ids, do_sample=True, max_new_tokens=8, num_return_sequences=2, temperature=2.0))
    assert one.shape[0] == 2 and not one[0].equal(one[1])
    output, expected = model(ids, labels=ids), theirs(ids, labels=ids)
    assert output.logits.allclose(expected.logits, atol=1e-4)
    assert float(output.loss) == pytest.approx(float(expected.loss), abs=1e-4)
    tokenizer.pad_token, tokenizer.padding_side = tokenizer.eos_token, "left"
    inputs = tokenizer(["The lamp", "A storm came from the west"], return_tensors="pt", padding=True).to(model.device)
    both = model.generate(**inputs, max_new_tokens=6, pad_token_id=tokenizer.pad_token_id)
    alone = model.generate(**tokenizer("The lamp", return_tensors="pt"), max_new_tokens=6)
    assert tokenizer.batch_decode(both, skip_special_tokens=True)[0] == tokenizer.decode(
        alone[0], skip_special_tokens=True
    )
    with pytest.raises(InputError, match="larger max_length"):
        model.generate(ids, max_length=2)
    with pytest.raises(InputError, match="wizardry"):
        model.generate(ids, wizardry=True)
    stop = tokenizer.decode(out[0, -3:-1])
    stopped = model.generate(ids, max_length=30, stop_strings=[stop], tokenizer=tokenizer)
    assert stopped.shape[1] < 30 and stop in tokenizer.decode(stopped[0])


def test_generation_config_gives_defaults(folder: Path):
    (folder / "generation_config.json").write_text('{"max_new_tokens": 5, "eos_token_id": [0, 399]}')
    model = wenloom.AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.eos_token_ids == (0, 399)
    assert model.generate(torch.tensor([[5, 6, 7]])).shape[1] <= 8


def test_saved_again_and_read_by_transformers(folder: Path, tmp_path: Path):
    model = wenloom.AutoModelForCausalLM.from_pretrained(folder)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "notes.txt").write_text("mine")
    model.save_pretrained(tmp_path / "again")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    ids = torch.tensor([[5, 6, 7]])
    assert theirs(ids).logits.allclose(model(ids).logits, atol=1e-4)
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "notes.txt",
    ]


def test_the_snippet_that_transformers_refuses(folder: Path, capsys: pytest.CaptureFixture[str]):
    tokenizer = wenloom.AutoTokenizer.from_pretrained(folder)
    model = wenloom.AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer.encode("The lamp was lit", return_tensors="pt")
    out = model.generate(
        input_ids=ids, max_length=50, num_return_sequences=3, no_repeat_ngram_size=2, early_stopping=True
    )
    assert "beam search with 3 beams" in capsys.readouterr().err
    assert len({tuple(row) for row in out.tolist()}) == 3
    same = dict(max_length=30, num_return_sequences=3, no_repeat_ngram_size=2, early_stopping=True)  # in its context
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).generate(input_ids=ids, num_beams=3, **same)
    assert model.generate(input_ids=ids, **same).equal(theirs)


def test_unknown_defaults_of_a_model_are_said(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "generation_config.json").write_text('{"max_new_tokens": 5, "repetition_penalty": 1.5, "sorcery": 2}')
    ids = torch.tensor([[5, 6, 7]])
    out = wenloom.AutoModelForCausalLM.from_pretrained(folder).generate(ids, eos_token_id=[])
    assert "sorcery" in capsys.readouterr().err
    (folder / "generation_config.json").write_text("{}")
    plain = wenloom.AutoModelForCausalLM.from_pretrained(folder)
    assert out.equal(plain.generate(ids, max_new_tokens=5, repetition_penalty=1.5, eos_token_id=[]))


def test_many_prompts_side_by_side(folder: Path):
    model = wenloom.load(folder)
    options = dict(max_new_tokens=9, seed=4, num_return_sequences=2, logprobs=3)
    found = model.complete(["The lamp", "春眠不觉晓", ""], **options)
    assert [len(each) for each in found] == [2, 2, 2]
    again = model.complete(["The lamp"], **options)[0]
    assert [each.tokens for each in again] == [each.tokens for each in found[0]]
    assert all(len(each.scores) == len(each.tokens) and len(each.scores[0].top) == 3 for each in again)


@pytest.mark.parametrize("text, cut", [("A lamp 春眠", 1), ("A lamp 春眠", 2), ("A lamp \ufffd", 0)])
def test_a_prompt_that_ends_inside_a_character_is_not_repeated(text: str, cut: int):
    """Bytes as tokens: the prompt lacks the last bytes of its last character, which the continuation brings."""
    tokenizer = train_tokenizer(["bytes"], "byte")
    ids = tokenizer.encode(text + " end.", add_special_tokens=False)
    n_prompt = len(text.encode()) - cut
    stream = TextStream(tokenizer, ids[:n_prompt], ())
    found = "".join(map(stream.push, ids[n_prompt:])) + stream.finish()
    assert found == ("眠 end." if cut else " end.")
