"""What heads are worth: the estimate against small steps of the ablation itself, joint removal against a trace with the same
heads ablated, and two known tasks on SmolLM2."""

import random
from pathlib import Path

import pytest
import torch

import wenloom
from tests.conftest import random_decoder, tiny_config
from wenloom.core.errors import InputError
from wenloom.explanation.heads import Contrast, removed, study_heads
from wenloom.explanation.subject import Subject
from wenloom.tokens.tokenizer import TextTokenizer

SOME = [Contrast(text, 40, 41) for text in ("The lamp was lit", "A storm came from the west", "2 + 2 =")]


@pytest.fixture(scope="module")
def subject(tokenizer: TextTokenizer) -> Subject:
    return Subject(random_decoder(tiny_config(tokenizer.vocab_size)), tokenizer)


def test_an_estimate_is_the_limit_of_a_small_step_towards_the_mean(subject: Subject):
    study = study_heads(subject, SOME)
    assert study.strongest(1)[0] == divmod(int(study.losses.argmax()), 4) and len(study.strongest(3)) == 3
    for layer in range(2):
        for head in range(4):
            change = 0.0
            for text, target, against in SOME:
                seen = wenloom.trace(subject, text)
                name = f"blocks.{layer}.attention.heads"
                x = seen[name]
                moved = x + 1e-2 * (study.means[layer][None, :, None] - x)
                small = seen.patch(name, moved, heads=[head]).logits[0, -1] - seen.logits[0, -1]
                change += float(small[target] - small[against]) / len(SOME)
            assert float(study.losses[layer, head]) == pytest.approx(-1e2 * change, abs=0.1)


def test_removal_is_what_a_trace_with_these_heads_ablated_shows(subject: Subject):
    study = study_heads(subject, SOME)
    heads = [(0, 1), (0, 2), (1, 3)]
    reference = [wenloom.trace(subject, each.text) for each in SOME]
    before = after = 0.0
    for seen in reference:
        less = seen.ablate("blocks.0.attention.heads", "mean", heads=[1, 2], reference=reference)
        less = less.ablate("blocks.1.attention.heads", "mean", heads=[3], reference=reference)
        before += float(seen.logits[0, -1, 40] - seen.logits[0, -1, 41])
        after += float(less.logits[0, -1, 40] - less.logits[0, -1, 41])
    assert removed(study, SOME, heads) == pytest.approx(1 - after / before, abs=1e-3)
    assert study.difference == pytest.approx(before / len(SOME), abs=1e-4)
    assert removed(study, SOME, []) == pytest.approx(0, abs=1e-9)


def test_models_and_prompts_that_cannot_be_studied_are_refused(subject: Subject):
    with pytest.raises(InputError, match="at least one prompt"):
        study_heads(subject, [])
    with pytest.raises(InputError, match="no head 9"):
        removed(study_heads(subject, SOME), SOME, [(0, 9)])


NAMES = ["Mary", "John", "Anna", "Tom", "Paul", "Lucy", "Mark", "Kate"]
SUBJECTS = [
    ("key", "keys"),
    ("book", "books"),
    ("dog", "dogs"),
    ("picture", "pictures"),
    ("car", "cars"),
    ("house", "houses"),
]
TAILS = ["to the cabinet", "near the road", "on the table", "behind the door", "with the red mark", "from the old town"]


def indirect_objects(drawn: random.Random, count: int) -> list[Contrast]:
    made = []
    for _ in range(count):
        one, two = drawn.sample(NAMES, 2)
        place, thing = drawn.choice(["store", "park", "office", "station"]), drawn.choice(["drink", "book", "ring"])
        text = f"When {one} and {two} went to the {place}, {two} gave a {thing} to"
        made.append(Contrast(text, f" {one}", f" {two}"))
    return made


def agreements(drawn: random.Random, count: int) -> list[Contrast]:
    made = []
    for _ in range(count):
        pair, tail, is_plural = drawn.choice(SUBJECTS), drawn.choice(TAILS), drawn.random() < 0.5
        verbs = (" are", " is") if is_plural else (" is", " are")
        made.append(Contrast(f"The {pair[is_plural]} {tail}", *verbs))
    return made


@pytest.mark.real_models
@pytest.mark.parametrize(("task", "count"), [(indirect_objects, 5), (agreements, 5)])
def test_a_few_heads_of_smollm2_carry_a_task_and_others_do_not(real_models: Path, task: object, count: int):
    drawn = random.Random(0)
    known, fresh = (task(drawn, n) for n in (12, 16))  # pyright: ignore[reportCallIssue]
    study = study_heads(real_models / "smollm2", known)
    heads = study.strongest(count)
    assert removed(study, fresh, heads) >= 0.8
    every = [(layer, head) for layer in range(30) for head in range(9) if (layer, head) not in heads]
    by_chance = [removed(study, fresh, drawn.sample(every, count)) for _ in range(5)]
    assert torch.tensor(by_chance).mean() <= 0.2
