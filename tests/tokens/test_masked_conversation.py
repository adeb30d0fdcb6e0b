"""Conversations: the text and tokens of transformers, nobody's words a control token, every turn learned after its prompt."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import transformers
from tokenizers import AddedToken, Tokenizer, models

from tests.tokens.chat_templates import CHATML, DEEPSEEK, NOT_SPECIAL, QWEN, SPECIAL, TEMPLATES
from wenloom.core.errors import InputError
from wenloom.tasks.messages import ChatEncoder
from wenloom.tokens import chat, literal
from wenloom.tokens.chat import ChatRenderer, Message, chat_ids, render
from wenloom.tokens.masked_conversation import masked_conversations
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.tokens.train import train_tokenizer

TALK = [
    Message("user", "你好吗？ How are you?"), Message("assistant", "很好，谢谢！"),
    Message("user", "And\nin English?"), Message("assistant", "<think>\nHm.\n</think>\n\nFine, thanks."),
    Message("user", "Once more."), Message("assistant", "Fine."),
]  # fmt: skip
NAMED = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<|pad|>"}


@pytest.fixture(scope="module")
def backends() -> dict[str, Tokenizer]:
    made = {"byte": train_tokenizer([], "byte"),
            "bpe": train_tokenizer([" ".join(each.content for each in TALK)] * 9 + ["user assistant system im start end"] * 9, "bpe", 330)}  # fmt: skip
    for each in made.values():
        each.backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
        each.backend.add_tokens([AddedToken(name, special=False, normalized=False) for name in NOT_SPECIAL])
    made["thoughts"] = train_tokenizer([], "byte")  # in which the marks of thinking are special
    made["thoughts"].backend.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in (*SPECIAL, *NOT_SPECIAL)]
    )
    return {name: each.backend for name, each in made.items()}


def ours_and_theirs(backend: Tokenizer, template: str) -> tuple[TextTokenizer, Any]:
    copy = Tokenizer.from_str(backend.to_str())
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=copy, chat_template=template, **NAMED)
    return TextTokenizer(backend, NAMED, chat_template=template), theirs


def plain(messages: list[Message]) -> list[dict[str, str]]:
    return [each._asdict() for each in messages]


@pytest.mark.parametrize("kind, name", [
    *((kind, name) for name in TEMPLATES for kind in ("byte", "bpe")), ("thoughts", "Qwen"), ("thoughts", "DeepSeek"),
])  # fmt: skip
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_a_conversation_is_the_text_and_the_tokens_of_transformers(
    backends: dict[str, Tokenizer], kind: str, name: str, system: str | None
):
    ours, theirs = ours_and_theirs(backends[kind], TEMPLATES[name])
    opening = [Message("system", system)] if system else []
    for end in (1, 2, 3, 5):
        messages = [*opening, *TALK[:end]]
        for reply in (True, False):
            try:
                text = theirs.apply_chat_template(plain(messages), tokenize=False, add_generation_prompt=reply)
            except Exception as error:
                with pytest.raises(InputError, match=re.escape(str(error))):
                    render(ours, messages, reply)
                continue
            ids = theirs.apply_chat_template(plain(messages), add_generation_prompt=reply, return_dict=False)
            assert render(ours, messages, reply) == text and chat_ids(ours, messages, reply) == ids


MENTIONS = "What does <|im_end|> mean? And </s>, <|eot_id|>, <end_of_turn> or <|user|>?"


@pytest.mark.parametrize("name", TEMPLATES)
def test_control_tokens_in_messages_are_text_as_transformers_sanitizes_them(backends: dict[str, Tokenizer], name: str):
    ours, theirs = ours_and_theirs(backends["byte"], TEMPLATES[name])
    messages = [
        Message("user", MENTIONS + "<｜User｜>"),
        Message("assistant", "It is </s> and <s>."),
        Message("user", "<|im_start|>"),
    ]
    expected = theirs.apply_chat_template(
        plain(messages), add_generation_prompt=True, return_dict=False, sanitize_control_tokens=True
    )
    assert chat_ids(ours, messages) == expected
    if name != "DeepSeek":  # there, what it names without being special stays a token in what the assistant says
        assert ours.decode(expected) == render(ours, messages)


@pytest.mark.parametrize("kind", ["byte", "bpe"])
@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("role", ["user", "assistant"])
def test_no_message_can_write_a_special_token(backends: dict[str, Tokenizer], kind: str, name: str, role: str):
    ours, _ = ours_and_theirs(backends[kind], TEMPLATES[name])
    special = {n for n, token in ours.backend.get_added_tokens_decoder().items() if token.special}

    def control(text: str) -> list[int]:
        messages = [Message(each, text if each == role else "x") for each in ("user", "assistant", "user")]
        return [token for token in chat_ids(ours, messages) if token in special]

    assert control("".join(SPECIAL) + MENTIONS) == control("innocent")


def test_models_whose_vocabulary_spells_special_tokens_do_not_find_them_in_text():
    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((char, -2.0) for char in "</s>ab ")]
    for model in (
        models.Unigram(pieces, unk_id=0),
        models.WordLevel({"<unk>": 0, "</s>": 1, "a": 2}, unk_token="<unk>"),
    ):
        backend = Tokenizer(model)
        backend.add_special_tokens(["</s>"])
        tokenizer = TextTokenizer(backend, {"eos_token": "</s>"})
        assert 1 in tokenizer.encode("</s>") and 1 not in tokenizer.encode_documents(["</s>"])[0]


@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_text_with_control_tokens_taken_apart_is_encoded_as_the_backend_encodes_it(
    backends: dict[str, Tokenizer], kind: str
):
    encoder = literal.LiteralEncoder(backends[kind], SPECIAL)
    for text in ("", "a", "<s>a</s>", "<|im_start|>user\n你好 <|im_end|>\n\n <s><s>x", MENTIONS):
        expected = backends[kind].encode(text, add_special_tokens=False)
        assert encoder.encode(text, []) == (expected.ids, [begin for begin, _ in expected.offsets])


def test_what_is_learned_is_what_transformers_masks_for_templates_that_say_it(backends: dict[str, Tokenizer]):
    ours, theirs = ours_and_theirs(backends["byte"], CHATML)
    expected = theirs.apply_chat_template(plain(TALK), return_assistant_tokens_mask=True, return_dict=True)
    [found] = masked_conversations(ChatRenderer(ours), TALK)
    assert found.tokens == expected["input_ids"] and [*map(int, found.learned)] == expected["assistant_masks"]


@pytest.mark.parametrize("kind", ["byte", "bpe"])
@pytest.mark.parametrize("system", [None, "Be brief."])
@pytest.mark.parametrize("name", TEMPLATES)
def test_every_turn_is_learned_once_after_what_the_model_sees_before_it(
    backends: dict[str, Tokenizer], kind: str, name: str, system: str | None
):
    ours, theirs = ours_and_theirs(backends[kind], TEMPLATES[name])
    if name == "Gemma" and system:
        pytest.skip("refuses system messages")
    talk = [Message("system", system)] * bool(system) + TALK
    found = masked_conversations(ChatRenderer(ours), talk)
    turn_by_turn = name in ("Qwen", "DeepSeek", "Phi") or (name == "Mistral" and system is not None)
    assert len(found) == (3 if turn_by_turn else 1)
    stretches = []
    for each in found:
        begins = [i for i in range(1, len(each.learned)) if each.learned[i] and not each.learned[i - 1]]
        assert len(begins) == each.turns
        stretches += [(each.tokens[:begin], _stretch(each.tokens, each.learned, begin)) for begin in begins]
    places = [index for index, each in enumerate(talk) if each.role == "assistant"]
    for place, (before, reply) in zip(places, stretches, strict=True):
        prompt = theirs.apply_chat_template(plain(talk[:place]), add_generation_prompt=True, return_dict=False)
        asked = ours.encode("<think>\n") if name == "DeepSeek" else []
        assert before == prompt[: len(prompt) - len(asked)]
        said = ours.decode(reply)
        content = talk[place].content.split("</think>")[-1] if name == "DeepSeek" else talk[place].content
        assert content in said and said.endswith(("<|im_end|>", "</s>", "<|eot_id|>", "<end_of_turn>"))


def _stretch(tokens: list[int], learned: list[bool], begin: int) -> list[int]:
    end = next((i for i in range(begin, len(learned)) if not learned[i]), len(learned))
    return tokens[begin:end]


def test_learned_replies_that_mention_control_tokens_end_where_the_template_ends_them(backends: dict[str, Tokenizer]):
    ours, _ = ours_and_theirs(backends["byte"], CHATML)
    talk = [
        Message("user", "<|im_end|>?"),
        Message("assistant", "a<|im_end|>b"),
        Message("user", "c"),
        Message("assistant", "d"),
    ]
    [found] = masked_conversations(ChatRenderer(ours), talk)
    learned = [token for token, learns in zip(found.tokens, found.learned, strict=True) if learns]
    assert ours.decode(learned) == "a<|im_end|>b<|im_end|>d<|im_end|>"
    assert learned.count(ours.backend.token_to_id("<|im_end|>")) == 2


def test_contents_that_hold_the_marks_themselves_are_kept(backends: dict[str, Tokenizer]):
    ours, _ = ours_and_theirs(backends["byte"], CHATML)
    odd = [Message("user", "\U000f0000<s>\U000f0001\U000f0002"), Message("assistant", "\U000f0003"), *TALK]
    [found] = masked_conversations(ChatRenderer(ours), odd)
    assert ours.decode(found.tokens) == render(ours, odd, reply=False)
    assert ours.bos_token_id not in found.tokens


@pytest.mark.parametrize("name", TEMPLATES)
def test_blanks_around_a_reply_are_learned_only_if_the_template_keeps_them(backends: dict[str, Tokenizer], name: str):
    ours, _ = ours_and_theirs(backends["byte"], TEMPLATES[name])
    talk = [Message("user", " Hi \n"), Message("assistant", " \n Hello. \n")]
    for each in masked_conversations(ChatRenderer(ours), talk):
        assert each.tokens == chat_ids(ours, talk, reply=False)
        learned = ours.decode([token for token, learns in zip(each.tokens, each.learned, strict=True) if learns])
        assert learned in ours.decode(each.tokens) and "Hello." in learned


def test_several_templates_without_a_usual_one_are_named(backends: dict[str, Tokenizer]):
    ours, _ = ours_and_theirs(backends["byte"], CHATML)
    ours.chat_template, ours.other_templates = None, {"rag": CHATML, "tool_use": CHATML, "x" * 5000: CHATML}
    with pytest.raises(InputError, match="rag, tool_use") as found:
        render(ours, TALK)
    assert len(str(found.value)) < 400


def test_a_template_for_tools_writes_conversations_with_tools(backends: dict[str, Tokenizer]):
    tools = [
        {"type": "function", "function": {"name": "now", "description": "The time.", "parameters": {"type": "object"}}}
    ]
    for_tools = "{{ tools | tojson }} <tool_call>" + CHATML
    ours, theirs = ours_and_theirs(Tokenizer.from_str(backends["byte"].to_str()), CHATML)
    ours.other_templates, theirs.chat_template = {"tool_use": for_tools}, {"default": CHATML, "tool_use": for_tools}
    for given in (None, tools):
        expected = theirs.apply_chat_template(plain(TALK[:1]), tokenize=False, add_generation_prompt=True, tools=given)
        assert ChatRenderer(ours).render(TALK[:1], tools=given).text == expected
        assert ("<tool_call>" in expected) == (given is not None)
    # what only that template writes is text, too, where a person writes it
    ours.backend.add_tokens([AddedToken("<tool_call>", special=False)])
    renderer, said = ChatRenderer(ours), [Message("user", "<tool_call>")]
    tokens = renderer.encode(renderer.render(said, tools=tools)).ids
    assert tokens.count(ours.backend.token_to_id("<tool_call>")) == 1


# --- growth ---


class Counter:
    """Counts calls and characters that pass through a function."""

    def __init__(self, wrapped: Callable[..., Any], measure: Callable[..., int]):
        self.wrapped, self.measure, self.calls, self.amount = wrapped, measure, 0, 0

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.calls += 1
        self.amount += self.measure(*given)
        return self.wrapped(*given, **named)


@pytest.mark.parametrize("template, longest", [(CHATML, 10**9), (CHATML, 500), (QWEN, 500), (DEEPSEEK, 10**9)])
def test_the_work_of_a_conversation_grows_with_its_length(
    backends: dict[str, Tokenizer], template: str, longest: int, monkeypatch: pytest.MonkeyPatch
):
    ours, _ = ours_and_theirs(backends["byte"], template)
    characters, calls = [], []
    for times in (1, 10, 100):
        talk = [Message("user", "问 <s> 题？"), Message("assistant", "答案" * 10)] * (3 * times)
        rendered = Counter(chat.render_template, lambda _, values: len(str(values["messages"])))
        encoded = Counter(literal.LiteralEncoder.encode, lambda _, text, words: len(text))
        monkeypatch.setattr(chat, "render_template", rendered)
        monkeypatch.setattr(literal.LiteralEncoder, "encode", lambda *given, encoded=encoded: encoded(*given))
        encoder = ChatEncoder(ours, longest)
        assert encoder.masked_conversations(tuple(talk))
        characters.append(rendered.amount + encoded.amount)
        calls.append(rendered.calls + encoded.calls)
        monkeypatch.undo()
    assert characters[1] < 15 * characters[0] and characters[2] < 15 * characters[1]
    assert calls[2] < 2 * calls[1] + 10


class Encodings:
    """A backend that counts how often the lists of an encoding are built."""

    built = 0

    def __init__(self, encoding: Any):
        self._encoding = encoding

    def __getattr__(self, name: str) -> Any:
        Encodings.built += 1
        return getattr(self._encoding, name)


def test_lists_of_an_encoding_are_built_once(backends: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch):
    ours, _ = ours_and_theirs(backends["byte"], CHATML)
    encode = TextTokenizer.encoding
    monkeypatch.setattr(TextTokenizer, "encoding", lambda *given, **named: Encodings(encode(*given, **named)))
    for times in (1, 30):
        Encodings.built = 0
        masked_conversations(ChatRenderer(ours), TALK[:2] * times)
        assert Encodings.built <= 2
