"""The lens at the last block is the model; at others it is the final norm and output matrix, computed here in NumPy."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import wenloom
from tests.conftest import random_decoder, tiny_config
from tests.explanation.test_trace import traced
from tests.model.test_taps import MODELS, both
from wenloom.core.errors import InputError
from wenloom.explanation.lens import lens
from wenloom.explanation.subject import Subject
from wenloom.model.encoder import Encoder
from wenloom.tokens.tokenizer import TextTokenizer


class Pieces:
    """Stands for a tokenizer where texts are numbers."""

    def decode(self, ids: list[int]) -> str:
        return f" {ids[0]}"


@pytest.mark.parametrize("family", MODELS)
def test_at_the_last_block_it_is_the_models_own_prediction(family: str, tmp_path: Path):
    _, ours = both(family, tmp_path)
    trace = traced(ours, Pieces())
    found = lens(trace, top=3, asked={6: 11})
    p = trace.logits[0].double().softmax(-1)
    best = p.topk(3)
    assert torch.equal(found.top_ids[-1], best.indices)
    torch.testing.assert_close(found.top_probabilities[-1], best.values, rtol=1e-6, atol=1e-9)
    ids = trace.reading.tokens[0].tolist()
    assert found.wanted == ([*ids[:-1], 11] if isinstance(ours, Encoder) else [*ids[1:], 11])
    for place, token in enumerate(found.wanted):
        assert math.isclose(found.probability[-1, place], p[place, token], rel_tol=1e-6)
        assert found.rank[-1, place] == sorted(p[place].tolist(), reverse=True).index(float(p[place, token])) + 1
        assert math.isclose(found.entropy[-1, place], -float((p[place] * p[place].log2()).sum()), rel_tol=1e-6)


def test_at_an_earlier_block_it_is_norm_and_output_matrix(tokenizer: TextTokenizer):
    subject = Subject(random_decoder(tiny_config(tokenizer.vocab_size)), tokenizer)
    trace = wenloom.trace(subject, "The lamp was lit")
    found = lens(trace)
    x = trace["blocks.0.resid_post"][0].double().numpy()
    config, decoder = subject.stack.config, subject.stack
    normed = x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norms.eps) * decoder.final_norm.weight.detach().numpy()  # pyright: ignore[reportCallIssue]
    logits = normed @ decoder.output_weight.detach().double().numpy().T  # pyright: ignore[reportCallIssue]
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert found.top_ids[0, :, 0].tolist() == p.argmax(-1).tolist()
    for place, token in enumerate(found.wanted[:-1]):
        assert math.isclose(found.probability[0, place], p[place, token], rel_tol=1e-4)
    assert found.wanted[-1] is None and found.rank[0, -1] == 0 and math.isnan(found.probability[0, -1])


def test_where_an_answer_forms(tokenizer: TextTokenizer):
    subject = Subject(random_decoder(tiny_config(tokenizer.vocab_size)), tokenizer)
    found = lens(wenloom.trace(subject, "The lamp was lit"))
    for place in range(len(found.tokens)):
        same = found.top_ids[0, place, 0] == found.top_ids[1, place, 0]
        assert found.formed_at(place) == (0 if same else 1)


def test_a_model_of_classes_has_no_tokens_to_read(tokenizer: TextTokenizer):
    from wenloom.core.randomness import generator
    from wenloom.model.build import with_classes

    classifier = with_classes(random_decoder(tiny_config(tokenizer.vocab_size)), ("dull", "fine"), generator(0, "test"))
    with pytest.raises(InputError, match="this model gives none"):
        lens(wenloom.trace(Subject(classifier.eval(), tokenizer), "The lamp"))
    with pytest.raises(InputError, match="at least 1"):
        lens(wenloom.trace(Subject(random_decoder(tiny_config(tokenizer.vocab_size)), tokenizer), "The"), top=0)
