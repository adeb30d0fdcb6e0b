"""Adapters are models of their own, by name."""

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
