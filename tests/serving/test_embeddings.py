"""Vectors of texts, by encoders and decoders, against transformers' hidden states."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import torch
import transformers

from wenloom.checkpoint.folder import save_model
from wenloom.core.errors import CheckpointError, InputError
from wenloom.runtime.embedder import Embedder, load_embedder
from wenloom.serving.app import create_app
from wenloom.serving.loading import load_served
from wenloom.serving.models import Models
from wenloom.serving.settings import RequestLimits, ServerSettings
from wenloom.tokens.tokenizer import TextTokenizer

from ..conftest import random_decoder, tiny_config
from .conftest import LIMITS, Served, chat_model, serving

TEXTS = ["The lamp was lit at dusk.", "春眠不觉晓", "a", "The lamp " * 5]


def bert(folder: Path, tokenizer: TextTokenizer) -> Path:
    torch.manual_seed(1)
    config = transformers.BertConfig(vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                                     intermediate_size=64, max_position_embeddings=64, initializer_range=0.5)  # fmt: skip
    transformers.BertModel(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def pooled_by(folder: Path, mode: str) -> None:
    """Make it a folder of sentence-transformers."""
    modules = [{"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
               for n, (path, kind) in enumerate([("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")])]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, mode: True}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48}))


POOLS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": lambda x: x.mean(0), "pooling_mode_mean_tokens": lambda x: x.mean(0), "pooling_mode_cls_token": lambda x: x[0],
    "pooling_mode_max_tokens": lambda x: x.amax(0), "pooling_mode_lasttoken": lambda x: x[-1],
}  # fmt: skip


def theirs(folder: Path, rows: list[list[int]], pool: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray[Any, Any]:
    """Each text alone, through transformers."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        found = [pool(model(torch.tensor([row])).last_hidden_state[0]) for row in rows]
    return torch.nn.functional.normalize(torch.stack(found), dim=-1).numpy()


@pytest.mark.parametrize("mode", POOLS)
def test_vectors_are_pooled_as_the_folder_says(tmp_path: Path, tokenizer: TextTokenizer, mode: str):
    folder = bert(tmp_path, tokenizer)
    if mode != "mean":
        pooled_by(folder, mode)
    embedder = load_embedder(folder)
    assert embedder.max_tokens == (64 if mode == "mean" else 48)
    rows = [tokenizer.encode(text) for text in TEXTS]
    assert np.allclose(embedder.embed(TEXTS), theirs(folder, rows, POOLS[mode]), atol=1e-5)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tokenizer: TextTokenizer) -> dict[str, Path]:
    decoder = random_decoder(tiny_config(vocab_size=tokenizer.vocab_size, context_length=64))
    save_model(decoder, tmp_path_factory.mktemp("decoder") / "it")
    folder = tmp_path_factory.getbasetemp() / "decoder0" / "it"
    tokenizer.save_pretrained(folder)
    return {"encoder": bert(tmp_path_factory.mktemp("encoder"), tokenizer), "decoder": folder}


@pytest.fixture(scope="module")
def both(folders: dict[str, Path], tokenizer: TextTokenizer) -> Iterator[Served]:
    loaders: Any = {name: lambda folder=folder: load_served(folder, "cpu", "float32", None, None, None, {}, {}) for name, folder in folders.items()}  # fmt: skip
    with serving(create_app(Models(loaders), ServerSettings(limits=LIMITS)), chat_model(tokenizer)) as running:
        yield running


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_the_official_client_gets_vectors(both: Served, folders: dict[str, Path], tokenizer: TextTokenizer, name: str):
    rows = [tokenizer.encode(text) for text in TEXTS]
    own = theirs(folders[name], rows, POOLS["mean"])
    client = both.client()
    for asked in (TEXTS, rows):
        for more in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
            found = client.embeddings.create(model=name, input=asked, **more)  # pyright: ignore
            assert [each.index for each in found.data] == [0, 1, 2, 3] and found.usage.prompt_tokens == sum(
                map(len, rows)
            )
            got = [each.embedding for each in found.data]
            if more.get("encoding_format") == "base64":
                got = [np.frombuffer(base64.b64decode(each), "<f4") for each in got]  # pyright: ignore
            assert np.allclose(got, own, atol=1e-5) and np.allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
    short = [each.embedding for each in client.embeddings.create(model=name, input=TEXTS, dimensions=8).data]
    assert np.allclose(short, own[:, :8] / np.linalg.norm(own[:, :8], axis=1, keepdims=True), atol=1e-5)
    (one,) = client.embeddings.create(model=name, input=TEXTS[0]).data
    assert np.allclose(one.embedding, own[0], atol=1e-5)


def test_an_encoder_writes_nothing(both: Served):
    assert {each.id for each in both.client().models.list()} == {"encoder", "decoder"}
    assert both.client().models.retrieve("encoder").id == "encoder"
    with pytest.raises(openai.BadRequestError, match="embeddings"):
        both.client().completions.create(model="encoder", prompt="x")


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "input"), ({"input": ""}, "input"), ({"input": []}, "input"), ({"input": ["a", ""]}, "input[1]"), ({"input": [[]]}, "input[0]"),
    ({"input": "lamp " * 100}, "input"), ({"input": "a" * 1_000_000}, "input"), ({"input": [99999]}, "input"), ({"input": [-1]}, "input[0]"),
    ({"input": ["a"] * 2049}, "input"), ({"input": "a", "dimensions": 33}, "dimensions"), ({"input": "a", "dimensions": 0}, "dimensions"),
    ({"input": "a", "encoding_format": "int8"}, "encoding_format"), ({"input": "a", "x": 1}, "x"), ({"input": [1.5]}, "input[0]"), ({"input": {"a": 1}}, "input"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "param"), BAD, ids=lambda each: str(each)[:40])
def test_what_cannot_be_embedded_is_refused_by_name(both: Served, more: dict[str, Any], param: str):
    answer = both.post("/v1/embeddings", {"model": "encoder", **more})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param, answer.text


def test_folders_that_ask_for_more_than_pooling_are_refused(tmp_path: Path, tokenizer: TextTokenizer):
    folder = bert(tmp_path, tokenizer)
    pooled_by(folder, "pooling_mode_of_a_kind")
    with pytest.raises(CheckpointError, match=r"1_Pooling.*pooling_mode_of_a_kind"):
        load_embedder(folder)
    pooled_by(folder, "pooling_mode_cls_token")
    with pytest.raises(InputError, match="--quantize"):
        load_served(folder, "cpu", "float32", None, "int8", None, {}, {})
    (folder / "modules.json").write_text('[{"type": "sentence_transformers.models.CNN", "path": "3_CNN"}]')
    with pytest.raises(CheckpointError, match="CNN"):
        load_embedder(folder)


def test_a_decoder_embeds_beside_what_it_writes(served: Served, client: openai.OpenAI):
    stream = client.completions.create(model="tiny", prompt="The", max_tokens=100, seed=1, stream=True, extra_body={"eos_token_id": []})  # fmt: skip
    beginning = next(stream)
    vector = client.embeddings.create(model="tiny", input="The lamp").data[0].embedding
    rest = [beginning, *stream]
    own = Embedder(served.model.decoder, served.model.tokenizer).embed(["The lamp"])[0]
    assert np.allclose(vector, own, atol=1e-5)
    assert rest[-1].choices[0].finish_reason == "length"


def test_texts_of_one_request_are_bounded(tokenizer: TextTokenizer):
    model = chat_model(tokenizer)
    settings = ServerSettings(limits=RequestLimits(max_queued_tokens=50))
    with serving(create_app(Models({"tiny": lambda: model}), settings), model) as running:
        answer = running.post("/v1/embeddings", {"model": "tiny", "input": ["The lamp was lit."] * 20})
        assert answer.status_code == 400 and answer.json()["error"]["param"] == "input"
