"""Path patching against activation patching, where both must agree, and against the same runs made by hand from traces."""

import pytest

import wenloom
from tests.conftest import random_decoder, tiny_config
from wenloom.core.errors import InputError
from wenloom.explanation.inquiry import ask
from wenloom.explanation.patching import Direction, patching
from wenloom.explanation.paths import Part, Receiver, path_effect, path_patching
from wenloom.explanation.subject import Subject
from wenloom.explanation.trace import Trace
from wenloom.tokens.tokenizer import TextTokenizer

PROMPTS = ("The lamp was lit at dusk", "The lamp was lit at dust", 40, 41)
PARTS: tuple[Part, ...] = ("query", "key", "value")


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def subject(tokenizer: TextTokenizer, request: pytest.FixtureRequest) -> Subject:
    """Of the first, two heads share a key and a value."""
    return Subject(random_decoder(tiny_config(tokenizer.vocab_size, request.param)), tokenizer)


def everything(subject: Subject, layer: int) -> list[Receiver]:
    config = subject.stack.config
    count = {"query": config.n_heads, "key": config.n_kv_heads, "value": config.n_kv_heads}
    return [Receiver(layer, head, part) for part in PARTS for head in range(count[part])]


@pytest.mark.parametrize("direction", ["noise", "denoise"])
def test_all_paths_together_are_activation_patching(subject: Subject, direction: Direction):
    whole = patching(subject, *PROMPTS, site="attention.heads", direction=direction)
    for head in range(4):
        last = path_patching(subject, *PROMPTS, sender=(1, head), direction=direction)
        assert last == pytest.approx(float(whole.effects[1, head]), abs=1e-4), (
            "behind the last block there is one way only"
        )
        receivers = ["logits", *everything(subject, 1)]
        found = path_patching(subject, *PROMPTS, sender=(0, head), receivers=receivers, direction=direction)  # pyright: ignore
        assert found == pytest.approx(float(whole.effects[0, head]), abs=1e-4)


def test_a_head_that_takes_what_it_has_changes_nothing(subject: Subject):
    inquiry = ask(subject, PROMPTS[0], 40, 41)
    row = inquiry.rows[0]
    for receivers in (["logits"], everything(subject, 1), ["logits", Receiver(1, 0, "value")]):
        assert path_effect(inquiry, row, row, (0, 2), receivers) == pytest.approx(0, abs=1e-5)  # pyright: ignore


def difference(seen: Trace) -> float:
    return float(seen.logits[0, -1, 40] - seen.logits[0, -1, 41])


@pytest.mark.parametrize("part", PARTS)
def test_a_path_is_two_runs_with_all_other_heads_held_still(subject: Subject, part: Part):
    clean, corrupted = (wenloom.trace(subject, text) for text in PROMPTS[:2])
    sent = clean.patch("blocks.0.attention.heads", corrupted, heads=[3])
    read = sent.patch("blocks.1.attention.heads", clean)[f"blocks.1.attention.{part}"]
    through = clean.patch(f"blocks.1.attention.{part}", read, heads=[1])
    expected = (difference(through) - difference(clean)) / (difference(corrupted) - difference(clean))
    found = path_patching(subject, *PROMPTS, sender=(0, 3), receivers=[Receiver(1, 1, part)])
    assert found == pytest.approx(expected, abs=1e-4)
    direct = sent.patch("blocks.1.attention.heads", clean)
    expected = (difference(direct) - difference(clean)) / (difference(corrupted) - difference(clean))
    assert path_patching(subject, *PROMPTS, sender=(0, 3)) == pytest.approx(expected, abs=1e-4)


def test_heads_that_cannot_be_are_refused(subject: Subject):
    for sender, receivers, words in (
        ((0, 9), ["logits"], "there are 2 blocks of 4 heads"),
        ((0, 1), [], "at least one receiver"),
        ((1, 1), [Receiver(1, 0, "query")], "must be in a block after 1"),
        ((0, 1), [Receiver(1, 7, "key")], "one of [24] heads"),
        ((0, 1), ["mlp"], 'neither "logits" nor a Receiver'),
    ):
        with pytest.raises(InputError, match=words):
            path_patching(subject, *PROMPTS, sender=sender, receivers=receivers)  # pyright: ignore
