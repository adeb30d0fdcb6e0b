"""Vectors of texts against transformers' hidden states and a pooling of a few lines of float64, for all that a folder of
sentence-transformers may ask for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

import wenloom
from wenloom.checkpoint.folder import load_tokenizer
from wenloom.checkpoint.sentence import read_sentence_config, write_sentence_config
from wenloom.core.errors import CheckpointError, InputError
from wenloom.runtime.embedder import Embedder, load_embedder
from wenloom.tokens.tokenizer import TextTokenizer

from ..mixed_lines import mixed_lines

TEXTS = ["The lamp was lit at dusk.", "春眠不觉晓", "a", "", " ", "The lamp " * 40, "[SEP] x", "🌸"]
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def around(tokenizer: TextTokenizer) -> TextTokenizer:
    """A tokenizer that puts something around every text."""
    end = str(tokenizer.eos_token)
    return tokenizer.extended([], tokenizer.special_tokens, f"{end} $A {end}", f"{end} $A {end} $B {end}")


def model_folder(folder: Path, tokenizer: TextTokenizer, kind: str) -> Path:
    torch.manual_seed(1)
    size: dict[str, Any] = {"vocab_size": tokenizer.vocab_size, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
                            "intermediate_size": 64, "max_position_embeddings": 64, "initializer_range": 0.5}  # fmt: skip
    if kind == "bert":
        model: Any = transformers.BertModel(transformers.BertConfig(**size))
    else:
        config = transformers.Qwen3Config(**size, num_key_value_heads=2, head_dim=8, tie_word_embeddings=False)
        model = transformers.Qwen3Model(config)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def modules(folder: Path, *kinds: str) -> None:
    old = "sentence_transformers.models"
    listed = [("", "Transformer"), *((f"{n}_{kind}", kind) for n, kind in enumerate(kinds, 1))]
    (folder / "modules.json").write_text(
        json.dumps(
            [{"idx": n, "name": str(n), "path": path, "type": f"{old}.{kind}"} for n, (path, kind) in enumerate(listed)]
        )
    )
    for path, _ in listed[1:]:
        (folder / path).mkdir(exist_ok=True)


def write(path: Path, **table: Any) -> None:
    path.write_text(json.dumps(table, ensure_ascii=False))


def hidden(folder: Path, texts: list[str], longest: int) -> tuple[list[Array], list[int]]:
    """Hidden states of each text alone, through transformers; and the tokens of each."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = [tokenizer(text, truncation=True, max_length=longest)["input_ids"] for text in texts]
    with torch.no_grad():
        found = [
            model(torch.tensor([row])).last_hidden_state[0].double().numpy() if row else np.zeros((0, 32))
            for row in rows
        ]
    return found, [len(row) for row in rows]


def weighted(x: Array, first: int) -> Array:
    weights = np.arange(first + 1, len(x) + 1)[:, None]
    return (weights * x[first:]).sum(0) / weights.sum()


POOLS: dict[str, Callable[[Array, int], Array]] = {
    "cls": lambda x, n: x[n], "max": lambda x, n: x[n:].max(0), "mean": lambda x, n: x[n:].mean(0),
    "mean_sqrt_len_tokens": lambda x, n: x[n:].sum(0) / (len(x) - n) ** 0.5, "weightedmean": weighted,
    "lasttoken": lambda x, n: x[-1],
}  # fmt: skip
OLD = {"cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens", "mean": "pooling_mode_mean_tokens",
       "lasttoken": "pooling_mode_lasttoken", "weightedmean": "pooling_mode_weightedmean_tokens",
       "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens"}  # fmt: skip


def own(states: list[Array], modes: list[str], first: int = 0) -> Array:
    return np.stack(
        [np.concatenate([POOLS[mode](x, first) if len(x) > first else np.zeros(32) for mode in modes]) for x in states]
    )


@pytest.mark.parametrize("kind", ["bert", "qwen3"])
@pytest.mark.parametrize("mode", POOLS)
def test_every_pooling_is_that_of_its_definition(tmp_path: Path, around: TextTokenizer, kind: str, mode: str):
    folder = model_folder(tmp_path, around, kind)
    modules(folder, "Pooling")
    write(
        folder / "1_Pooling" / "config.json",
        word_embedding_dimension=32,
        **{OLD[mode]: True, "pooling_mode_other": False},
    )
    write(folder / "sentence_bert_config.json", max_seq_length=24, do_lower_case=False)
    states, _ = hidden(folder, TEXTS, 24)
    embedder = load_embedder(folder)
    for batch_tokens in (1, 64, 4096):
        assert np.allclose(embedder.embed(TEXTS, batch_tokens=batch_tokens), own(states, [mode]), rtol=1e-4, atol=2e-5)


def test_several_poolings_dense_layers_norm_and_length_follow_each_other(tmp_path: Path, around: TextTokenizer):
    folder = model_folder(tmp_path, around, "bert")
    modules(folder, "Pooling", "LayerNorm", "Dense", "Dropout", "Dense", "Normalize")
    write(
        folder / "1_Pooling" / "config.json", embedding_dimension=32, pooling_mode=["max", "cls"], include_prompt=True
    )
    drawn = np.random.default_rng(0)
    scale, shift, w1, b1, w2, w3 = (
        drawn.normal(size=size) for size in ((64,), (64,), (16, 64), (16,), (8, 16), (8, 16))
    )
    given = {2: {"norm.weight": scale, "norm.bias": shift}, 3: {"linear.weight": w1, "linear.bias": b1},
             5: {"linear.weight": w2, "residual.weight": w3}}  # fmt: skip
    for number, kind in ((2, "LayerNorm"), (3, "Dense"), (5, "Dense")):
        tensors = {name: torch.tensor(each, dtype=torch.float32) for name, each in given[number].items()}
        save_file(tensors, folder / f"{number}_{kind}" / "model.safetensors")
    write(folder / "2_LayerNorm" / "config.json", dimension=64)
    write(
        folder / "3_Dense" / "config.json",
        in_features=64,
        out_features=16,
        bias=True,
        activation_function="torch.nn.modules.activation.Tanh",
    )
    write(folder / "5_Dense" / "config.json", in_features=16, out_features=8, bias=False, use_residual=True,
          activation_function="torch.nn.modules.linear.Identity")  # fmt: skip
    states, _ = hidden(folder, TEXTS, 64)
    x = own(states, ["max", "cls"])
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * scale + shift
    x = np.tanh(x @ w1.T + b1)
    x = x @ w2.T + x @ w3.T
    found = load_embedder(folder).embed(TEXTS)
    assert np.allclose(found, x / np.linalg.norm(x, axis=1, keepdims=True), atol=1e-5)
    assert np.allclose(load_embedder(folder).embed(TEXTS, normalize=False), x, rtol=1e-4, atol=1e-4)
    short = load_embedder(folder).embed(TEXTS, dimensions=3)
    assert np.allclose(short, x[:, :3] / np.linalg.norm(x[:, :3], axis=1, keepdims=True), atol=1e-5)


def test_prompts_are_read_and_left_out_of_the_pooling_where_a_folder_says_so(tmp_path: Path, around: TextTokenizer):
    folder = model_folder(tmp_path, around, "bert")
    modules(folder, "Pooling")
    prompt = "find: "
    write(
        folder / "config_sentence_transformers.json",
        prompts={"query": prompt, "document": ""},
        default_prompt_name="query",
    )
    texts = [text for text in TEXTS if text]
    states, _ = hidden(folder, [prompt + text for text in texts], 64)
    first = len(around.encode(prompt)) - 1
    for include, skipped in ((True, 0), (False, first)):
        write(
            folder / "1_Pooling" / "config.json",
            embedding_dimension=32,
            pooling_mode=["mean", "cls", "weightedmean"],
            include_prompt=include,
        )
        embedder = load_embedder(folder)
        expected = own(states, ["mean", "cls", "weightedmean"], skipped)
        assert np.allclose(embedder.embed(texts), expected, atol=1e-5), "the default prompt"
        assert np.allclose(embedder.embed(texts, prompt_name="query"), expected, atol=1e-5)
        assert np.allclose(embedder.embed(texts, prompt=prompt), expected, atol=1e-5)
        assert embedder.prompt_of("document", "passage") == "" and embedder.prompt_of("passage") == prompt
    with pytest.raises(InputError, match=r'prompt "answer".*query, document'):
        embedder.embed(texts, prompt_name="answer")


def test_long_texts_are_cut_and_counted_and_empty_ones_have_zeros(
    tmp_path: Path, tokenizer: TextTokenizer, capsys: pytest.CaptureFixture[str]
):
    folder = model_folder(tmp_path, tokenizer, "bert")
    found = load_embedder(folder).embed(["The lamp " * 200, "", "a"])
    assert not found[1].any() and np.allclose(np.linalg.norm(found[[0, 2]], axis=1), 1, atol=1e-5)
    said = " ".join(capsys.readouterr().err.split())
    assert "1 text of 3 had more than 64 tokens" in said and "1 text of 3 had no tokens" in said


def test_what_is_written_is_read_as_it_was(tmp_path: Path, around: TextTokenizer):
    folder = model_folder(tmp_path / "one", around, "bert")
    modules(folder, "Pooling", "Dense", "Normalize")
    write(
        folder / "1_Pooling" / "config.json", embedding_dimension=32, pooling_mode=["mean", "cls"], include_prompt=False
    )
    write(
        folder / "2_Dense" / "config.json",
        in_features=64,
        out_features=8,
        bias=True,
        activation_function="torch.nn.modules.activation.GELU",
    )
    weights = {"linear.weight": torch.randn(8, 64), "linear.bias": torch.randn(8)}
    save_file(weights, folder / "2_Dense" / "model.safetensors")
    write(folder / "config_sentence_transformers.json", prompts={"query": "问："}, similarity_fn_name="dot")
    config = read_sentence_config(folder)
    other = model_folder(tmp_path / "two", around, "bert")
    write_sentence_config(config, 32, other)
    again = read_sentence_config(other)
    assert (again.pooling, again.include_prompt, again.prompts, again.similarity) == (
        ("mean", "cls"),
        False,
        {"query": "问："},
        "dot",
    )
    assert np.array_equal(load_embedder(other).embed(TEXTS, "query"), load_embedder(folder).embed(TEXTS, "query"))


def test_a_lowercasing_folder_reads_capitals_as_small_letters(tmp_path: Path, tokenizer: TextTokenizer):
    folder = model_folder(tmp_path, tokenizer, "bert")
    modules(folder, "Pooling")
    write(folder / "1_Pooling" / "config.json", embedding_dimension=32, pooling_mode="mean")
    write(folder / "sentence_bert_config.json", max_seq_length=32, do_lower_case=True)
    big, small = load_embedder(folder).embed(["The LAMP", "the lamp"])
    assert np.allclose(big, small, atol=1e-6)


def test_a_model_loaded_from_python_embeds(tmp_path: Path, tokenizer: TextTokenizer):
    folder = model_folder(tmp_path, tokenizer, "bert")
    model = wenloom.load(folder, device="cpu")
    assert isinstance(model, Embedder) and model.embed("The lamp").shape == (1, 32)
    with pytest.raises(InputError, match="draft_model"):
        wenloom.load(folder, draft_model=folder)
    with pytest.raises(InputError, match="from 1 to 32"):
        model.embed("a", dimensions=33)


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "modules.json": ({"a": 1}, "list of modules"), "1_Pooling/config.json": ({"pooling_mode": "median"}, "median.*known are cls"),
    "2_Dense/config.json": ({"in_features": 32, "out_features": 9}, r"weights.*linear.weight \(9, 32\)"),
    "sentence_bert_config.json": ({"max_seq_length": "many"}, "max_seq_length"),
    "config_sentence_transformers.json": ({"prompts": {}, "default_prompt_name": "q"}, "default_prompt_name q"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_file_is_named(tmp_path: Path, tokenizer: TextTokenizer, name: str):
    folder = model_folder(tmp_path, tokenizer, "bert")
    modules(folder, "Pooling", "Dense")
    write(folder / "1_Pooling" / "config.json", embedding_dimension=32, pooling_mode="mean")
    write(folder / "2_Dense" / "config.json", in_features=32, out_features=8)
    save_file(
        {"linear.weight": torch.randn(8, 32), "linear.bias": torch.randn(8)}, folder / "2_Dense" / "model.safetensors"
    )
    load_embedder(folder)
    content, said = BROKEN[name]
    write(folder / name, **content)
    with pytest.raises(CheckpointError, match=said) as error:
        load_embedder(folder)
    assert name.split("/")[0] in str(error.value)


def test_a_module_outside_the_folder_is_refused(tmp_path: Path, tokenizer: TextTokenizer):
    folder = model_folder(tmp_path, tokenizer, "bert")
    for path in ("../other", "/etc", "a/b"):
        (folder / "modules.json").write_text(json.dumps([{"type": "x.Pooling", "path": path}]))
        with pytest.raises(CheckpointError, match="path"):
            load_embedder(folder)


def test_a_folder_that_sentence_transformers_wrote_embeds_alike(tmp_path: Path, around: TextTokenizer):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    base = model_folder(tmp_path / "base", around, "qwen3")
    parts = sentence_transformers.models
    theirs = sentence_transformers.SentenceTransformer(device="cpu", modules=[
        parts.Transformer(str(base), max_seq_length=20), parts.Pooling(32, "lasttoken"), parts.Dense(32, 16), parts.Normalize()])  # fmt: skip
    theirs.save(str(tmp_path / "theirs"))
    texts = [text for text in TEXTS if text]
    assert load_tokenizer(tmp_path / "theirs").encode(texts[0])
    assert np.allclose(load_embedder(tmp_path / "theirs").embed(texts), theirs.encode(texts), atol=1e-5)


@pytest.mark.slow
@pytest.mark.real_models
@pytest.mark.shared_data
def test_a_thousand_texts_have_the_vectors_of_sentence_transformers(real_models: Path, shared_data: Path):
    library = pytest.importorskip("sentence_transformers")
    lines = mixed_lines(shared_data, 960, ["[SEP]", "[MASK]"])
    texts = [*lines, "", " ", "\n", "a", *("\n".join(lines[begin : begin + 25]) for begin in range(0, 900, 25))]
    assert len(texts) == 1000 and max(map(len, texts)) > 2000
    expected = library.SentenceTransformer(str(real_models / "minilm"), device="cpu").encode(texts)
    assert np.abs(load_embedder(real_models / "minilm").embed(texts) - expected).max() <= 1e-5
