"""Adapters are models of their own, by name; steering vectors are chosen by each request."""

import torch

from wenloom.checkpoint.steering import SteeringVector
from wenloom.serving.app import create_app
from wenloom.serving.models import Models
from wenloom.tokens.tokenizer import TextTokenizer

from ..conftest import random_decoder
from .conftest import chat_model, serving


def test_each_adapter_answers_under_its_name(tokenizer: TextTokenizer):
    config = chat_model(tokenizer).decoder.config
    model = chat_model(
        tokenizer, adapters={name: random_decoder(config, seed) for seed, name in ((7, "poems"), (8, "letters"))}
    )
    with serving(create_app(Models({"tiny": lambda: model})), model) as running:
        client = running.client()
        assert [each.id for each in client.models.list()] == ["tiny", "poems", "letters"]
        for name, adapter in (("tiny", None), ("poems", "poems"), ("letters", "letters")):
            found = client.completions.create(model=name, prompt="The lamp", max_tokens=12, temperature=0)
            own = model.complete("The lamp", max_new_tokens=12, do_sample=False, adapter=adapter)[0][0]
            assert found.choices[0].text == own.text and found.model == name
        texts = {client.completions.create(model=each, prompt="The lamp", max_tokens=12, temperature=0).choices[0].text
                 for each in ("tiny", "poems", "letters")}  # fmt: skip
        assert len(texts) == 3


def test_each_request_is_steered_by_the_vectors_that_it_names(tokenizer: TextTokenizer):
    vectors = {"calm": SteeringVector(0, torch.randn(32, generator=torch.Generator().manual_seed(0)))}
    model = chat_model(tokenizer, steering=vectors)
    asked = {"model": "tiny", "prompt": "The lamp", "max_tokens": 12, "temperature": 0}
    with serving(create_app(Models({"tiny": lambda: model})), model) as running:
        for steer in (None, "calm", ["calm:-2"], {"calm": 3}):
            answer = running.post("/v1/completions", asked | {"steer": steer}).json()
            own = model.complete("The lamp", max_new_tokens=12, do_sample=False, steer=steer or ())[0][0]
            assert answer["choices"][0]["text"] == own.text
        chat = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, "temperature": 0}
        said = [running.post("/v1/chat/completions", chat | {"steer": {"calm": s}}).json() for s in (0, 9)]
        assert said[0]["choices"][0]["message"] != said[1]["choices"][0]["message"]
        for steer in ("/etc/passwd", {"calm": "x"}, {"calm": 1e30}, 3):
            refused = running.post("/v1/completions", asked | {"steer": steer})
            assert refused.status_code == 400 and "steer" in refused.text
