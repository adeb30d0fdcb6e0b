"""LEACE against concept-erasure, and its merging into weights against the definition and transformers."""

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from concept_erasure import LeaceFitter as TheirFitter

from tests.checkpoint.folders import saved
from tests.cli.calling import call, refused
from tests.conftest import random_decoder, tiny_config
from wenloom.checkpoint.folder import load_decoder, write_model_files
from wenloom.core.errors import InputError
from wenloom.fairness.debias import DebiasRequest, debias
from wenloom.fairness.erasure import ConceptRow, LeaceFitter, concept_rows, erase, erased, linear_probe, states
from wenloom.model.decoder import Decoder
from wenloom.text.lexicon import lexicon
from wenloom.tokens.tokenizer import TextTokenizer


def drawn(n: int, d: int, k: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    z = torch.randint(0, 2, (n, k), generator=draw).double()
    mixed = torch.randn(n, d, generator=draw, dtype=torch.float64) @ torch.randn(
        d, d, generator=draw, dtype=torch.float64
    )
    return mixed + z @ torch.randn(k, d, generator=draw, dtype=torch.float64) * 3, z


@pytest.mark.parametrize("k", [1, 3])
def test_leace_is_that_of_concept_erasure(k: int):
    x, z = drawn(400, 12, k)
    ours = LeaceFitter(12, k)
    for part in range(0, 400, 90):
        ours.update(x[part : part + 90], z[part : part + 90])
    theirs = TheirFitter(12, k, dtype=torch.float64, shrinkage=False, constrain_cov_trace=False).update(x, z).eraser
    assert ours.eraser()(x).numpy() == pytest.approx(theirs(x).numpy(), abs=1e-4)


def test_after_it_no_linear_reader_finds_the_concept():
    x, z = drawn(2000, 10, 1)
    fitter = LeaceFitter(10, 1)
    fitter.update(x, z)
    clean = fitter.eraser()(x)
    before, after = (linear_probe(each[::2], z[::2, 0].long(), each[1::2], z[1::2, 0].long()) for each in (x, clean))
    assert before.accuracy > 0.9 and after.accuracy <= after.chance + 0.02
    covariance = (clean - clean.mean(0)).T @ (z - z.mean(0)) / len(x)
    assert float(covariance.abs().max()) < 1e-9
    assert torch.allclose(fitter.eraser()(clean), clean), "erasing twice is erasing once"


@pytest.mark.parametrize("k", [1, 3])
def test_the_linear_form_erases_too_and_changes_less_than_the_affine_one_without_its_mean(k: int):
    x, z = drawn(400, 12, k)
    x = x + 5.0
    fitter = LeaceFitter(12, k, affine=False)
    fitter.update(x, z)
    clean = fitter.eraser()(x)
    assert float(((clean - clean.mean(0)).T @ (z - z.mean(0))).abs().max()) / len(x) < 1e-9
    assert torch.allclose(fitter.eraser()(2 * x), 2 * clean), "linear"
    theirs = (
        TheirFitter(12, k, dtype=torch.float64, affine=False, shrinkage=False, constrain_cov_trace=False)
        .update(x, z)
        .eraser
    )
    assert float(((clean - x) ** 2).mean()) < float(((theirs(x) - x) ** 2).mean())


def test_vectors_in_a_plane_are_erased_too():
    """A covariance without full rank: directions without variance stay as they are."""
    x, z = drawn(100, 3, 1)
    flat = torch.cat((x, x[:, :1]), 1)
    fitter = LeaceFitter(4, 1)
    fitter.update(flat, z)
    clean = fitter.eraser()(flat)
    assert torch.allclose(clean[:, 0], clean[:, 3], atol=1e-8)
    with pytest.raises(InputError, match="from two vectors on"):
        LeaceFitter(4, 1).eraser()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mixtral"])
def test_merged_into_the_output_matrix_it_is_what_the_eraser_does(family: str, tmp_path: Path):
    saved(family, tmp_path / "theirs")
    decoder = load_decoder(tmp_path / "theirs").float()
    x, z = drawn(300, decoder.config.d_model, 1)
    fitter = LeaceFitter(decoder.config.d_model, 1, affine=False)
    fitter.update(x, z)
    eraser = fitter.eraser()
    tokens = torch.randint(2, decoder.config.vocab_size, (2, 9), generator=torch.Generator().manual_seed(1))
    made = erased(decoder, eraser)
    with torch.no_grad():
        wanted = decoder.unembed(eraser(decoder.hidden(tokens).double()).float())
        assert made(tokens).numpy() == pytest.approx(wanted.numpy(), abs=1e-4 * float(wanted.abs().max()))
    (tmp_path / "made").mkdir()
    write_model_files(made, tmp_path / "made")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "made").eval()
    with torch.no_grad():
        logits, ours = theirs(tokens).logits, load_decoder(tmp_path / "made")(tokens)
    assert float((logits - ours).abs().max()) <= 1e-4 * float(logits.abs().max())


def test_a_concept_stands_at_the_token_before_its_word(tokenizer: TextTokenizer):
    axis, text = lexicon("en").axes["gender"], "The old lamp. She saw him, said grandmother."
    (row,) = concept_rows(tokenizer, axis, [text, "The lamp."])
    assert row.sides == [0, 1, 0]
    for place, word in zip(row.places, ("lamp.", "saw", "said"), strict=True):
        assert tokenizer.decode(row.tokens[: place + 1]).rstrip().endswith(word)


def test_a_model_is_erased_to_chance_on_texts_it_has_not_seen(tokenizer: TextTokenizer):
    decoder = random_decoder(tiny_config(tokenizer.vocab_size, context_length=64))
    texts = [
        f"The old {noun} {n}: {word} lit it." for n in range(200) for noun, word in (("lamp", "she"), ("boat", "he"))
    ]
    rows = concept_rows(tokenizer, lexicon("en").axes["gender"], texts)
    done = erase(decoder, rows)
    assert done.before.accuracy > 0.9 and done.after.accuracy <= 0.65 and done.n_words == 400
    assert isinstance(done.decoder, Decoder) and not done.decoder.config.logits.tied
    x, sides = next(states(decoder, rows[:1]))
    assert x.shape == (1, decoder.config.d_model) and sides.tolist() == [0]
    with pytest.raises(
        InputError,
        match="1 places where a word of the two groups comes next; to erase the groups from a state of 32 numbers takes 128",
    ):
        erase(decoder, [ConceptRow([1, 2], [0], [1])])


def test_an_erasing_that_erases_nothing_says_so(tokenizer: TextTokenizer, tmp_path: Path):
    """A state that is the same whatever follows, and one in which the reader finds nothing to begin with."""
    decoder = random_decoder(tiny_config(tokenizer.vocab_size, context_length=64))
    (source := tmp_path / "model").mkdir()
    tokenizer.save_pretrained(source)
    texts = [f"The old lamp {n}: we saw {word}." for n in range(200) for word in ("her", "him")]
    (tmp_path / "texts.txt").write_text("\n".join(texts), "utf-8")
    asked = ("debias", source, "--method", "leace", "--data", "texts.txt", "--out", "out", "--lexicon", "en")
    write_model_files(decoder, source)
    told = call(*asked, cwd=tmp_path)
    assert told.code == 0 and "The reader was no better before" in told.out, told
    with torch.no_grad():
        decoder.embed.weight.zero_()
    write_model_files(decoder, source)
    told = call(*asked[:-3], "none", *asked[-2:], "--json", cwd=tmp_path)
    found = json.loads(told.out)["erasure"]
    assert found["directions"] == 0 and found["lacking"].startswith("nothing was erased: no direction"), found


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("mask", "--method", "cda"), "mask: does not go on with a text; debias takes a decoder"),
        (("experts", "--method", "equalize"), "--method equalize: is for models without experts"),
        (("model", "--method", "equalize", "--lexicon", "none.toml"), "--method equalize: no word of g and its counterpart are one token each"),
        (("model", "--method", "equalize", "--strength", 1001), "--strength 1001: must be above 0 and at most 1,000"),
        (("model", "--method", "equalize", "--strength", "nan"), "--strength nan: must be above 0"),
        (("model", "--method", "cda", "--data", "rows.jsonl"), 'no field "text" (found: body). Call the field that holds the text "text"'),
        (("model", "--method", "cda", "--data", "empty.txt"), "empty.txt: is empty"),
        (("model", "--method", "cda", "--steps", 0), "--steps"),
        (("model", "--method", "cda", "--budget", "soon"), "--budget"),
    ],
)  # fmt: skip
def test_what_debias_says_names_its_own_options(
    arguments: tuple[object, ...], words: str, tokenizer: TextTokenizer, tmp_path: Path
):
    for name, config in (("model", tiny_config(tokenizer.vocab_size, context_length=64)),):
        (tmp_path / name).mkdir()
        write_model_files(random_decoder(config), tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    saved("bert", tmp_path / "mask")
    saved("mixtral", tmp_path / "experts")
    tokenizer.save_pretrained(tmp_path / "experts")
    (tmp_path / "none.toml").write_text(
        '[axes.g]\nsides = ["a", "b"]\npairs = [["xylophonist", "glockenspieler", "rare"]]\n', "utf-8"
    )
    (tmp_path / "rows.jsonl").write_text('{"body": "She lit it."}\n', "utf-8")
    (tmp_path / "empty.txt").write_text("", "utf-8")
    axis = ("--axis", "g") if "--lexicon" in arguments else ()
    said = refused("debias", *arguments, *axis, "--out", "out", cwd=tmp_path)
    own = set(re.findall(r"--[a-z][a-z-]+", call("debias", "--help", cwd=tmp_path).out))
    assert words in said and set(re.findall(r"--[a-z][a-z-]+", said)) <= own, said
    assert not list(tmp_path.glob("out*")), "nothing is left behind"


def test_too_few_words_are_told_before_a_training(tokenizer: TextTokenizer, tmp_path: Path):
    (source := tmp_path / "model").mkdir()
    write_model_files(random_decoder(tiny_config(tokenizer.vocab_size, context_length=64)), source)
    tokenizer.save_pretrained(source)
    request = DebiasRequest(("cda", "leace"), lexicon("en"), "en:gender")
    with pytest.raises(InputError, match="takes 128 of them"):
        debias(source, tmp_path / "out", request, ["She lit the lamp.", "He saw dusk."])
    assert [each.name for each in tmp_path.iterdir()] == ["model"]


def test_a_text_longer_than_the_context_is_read_from_its_beginning(tokenizer: TextTokenizer):
    text = "She lit it. " + "The old lamp was lit by the river. " * 40 + "He saw it."
    (row,) = concept_rows(tokenizer, lexicon("en").axes["gender"], [text], 64)
    assert len(row.tokens) == 64 and row.sides == [0]
