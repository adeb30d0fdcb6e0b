"""Chat templates: bounds, equal text with transformers, and which tokens are learned."""

import time

import jinja2
import pytest
from tokenizers import AddedToken

from wenloom.core.errors import InputError
from wenloom.tokens.chat import PLAIN_TEMPLATE, ChatRenderer, Message, render
from wenloom.tokens.masked_conversation import MaskedConversation, masked_conversations
from wenloom.tokens.templates import render_template
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.tokens.train import train_tokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TALK = [
    Message("system", "Be brief."), Message("user", "你好吗？"), Message("assistant", "很好，谢谢！"),
    Message("user", "And\nin English?"), Message("assistant", "Fine, thanks."),
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    made = train_tokenizer(["User: how are you? Assistant: Fine, thanks. 你好吗？很好，谢谢！"] * 3, "byte")
    made.backend.add_special_tokens([AddedToken(name, special=True) for name in ("<|im_start|>", "<|im_end|>")])
    return made


def with_template(tokenizer: TextTokenizer, template: str | None) -> TextTokenizer:
    return TextTokenizer(tokenizer.backend, tokenizer.special_tokens, chat_template=template)


def masked(tokenizer: TextTokenizer, messages: list[Message]) -> MaskedConversation:
    """The only one."""
    [found] = masked_conversations(ChatRenderer(tokenizer), messages)
    return found


def learned_text(tokenizer: TextTokenizer, messages: list[Message]) -> list[str]:
    """The stretches that are learned."""
    found = masked(tokenizer, messages)
    stretches: list[list[int]] = []
    for index, (token, learns) in enumerate(zip(found.tokens, found.learned, strict=True)):
        if learns:
            if index and found.learned[index - 1]:
                stretches[-1].append(token)
            else:
                stretches.append([token])
    return [tokenizer.decode(each) for each in stretches]


def test_only_the_assistants_turns_and_their_ends_are_learned(tokenizer: TextTokenizer):
    plain = with_template(tokenizer, PLAIN_TEMPLATE)
    assert learned_text(plain, TALK) == [" 很好，谢谢！<|endoftext|>", " Fine, thanks.<|endoftext|>"]
    chatml = with_template(tokenizer, CHATML)
    assert learned_text(chatml, TALK) == ["很好，谢谢！<|im_end|>", "Fine, thanks.<|im_end|>"]
    assert chatml.decode(masked(chatml, TALK).tokens) == render(chatml, TALK, reply=False)


def test_templates_say_what_transformers_lets_them_say(tokenizer: TextTokenizer):
    source = "{% for m in messages %}{% generation %}{{ m | tojson }}{% endgeneration %}{% break %}{% endfor %}"
    assert (
        render_template(source, {"messages": [{"role": "user", "content": "ü"}]}) == '{"role": "user", "content": "ü"}'
    )
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    expected = environment.from_string(CHATML).render(messages=[m._asdict() for m in TALK], add_generation_prompt=True)
    assert render(with_template(tokenizer, CHATML), TALK) == expected


@pytest.mark.parametrize("template, why", [
    ("{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}", "takes more than"),
    ("{{ 'x' * 10 ** 10 }}", "memory"),
    ("{{ '%9999999999d' % 1 }}", "memory"),
    ("{{ 'ab' * 3000000 }}", "characters"),
    ("{{ ().__class__.__base__.__subclasses__() }}", "unsafe|undefined"),
    ("{% if %}", "Expected an expression"),
    ("{{ raise_exception('only two turns') }}", "only two turns"),
])  # fmt: skip
def test_hostile_templates_end_in_an_error(template: str, why: str):
    started = time.monotonic()
    with pytest.raises(InputError, match=why):
        render_template(template, {})
    assert time.monotonic() - started < 30
    assert render_template("{{ 1 + 1 }}", {}) == "2"  # the next one is served


@pytest.mark.parametrize("messages, why", [
    ([Message("user", "a")], "assistant last"),
    ([Message("assistant", "a"), Message("user", "b")], "the user first"),
    ([Message("user", "a"), Message("robot", "b")], 'role "robot"'),
    ([Message("user", "a"), Message("assistant", "  ")], "is empty"),
    ([Message("user", "a"), Message("assistant", "b"), Message("system", "c")], "stands first"),
])  # fmt: skip
def test_what_is_no_conversation_is_named(tokenizer: TextTokenizer, messages: list[Message], why: str):
    with pytest.raises(ValueError, match=why):
        masked(with_template(tokenizer, CHATML), messages)


def test_templates_that_cannot_be_learned_from_are_refused(tokenizer: TextTokenizer):
    with pytest.raises(InputError, match="never learn to stop"):
        masked(with_template(tokenizer, "{% for m in messages %}{{ m.content }}\n{% endfor %}"), TALK)
    forgetful = "{{ messages | length }}{% for m in messages %}{{ m.content | length }}<|im_end|>{% endfor %}"
    with pytest.raises(InputError, match="changes what it wrote before a reply"):
        masked(with_template(tokenizer, forgetful), TALK)
