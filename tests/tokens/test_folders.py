"""Tokenizer folders of other tools: the same ids, text, special tokens and templates as in transformers.

Every variant is something that transformers, or somebody's editor, writes beside tokenizer.json or in it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from wenloom.tokens.tokenizer import TextTokenizer

SAMPLES = [
    "Hello, world! It's 3 o'clock.", "  two  blanks\n\nand lines\t.", "你好，世界！", "<s>a</s><img> b <tool> c<|end|>d [MASK] e",
    "", "Žluťoučký KŮŇ ", "do n't , he 's . ok ?", "<S> <think>x</think>",
]  # fmt: skip
LEARNED = ["Hello world, it's three o'clock. do not, he is ok? 你好世界 Žluťoučký kůň <s> </s> a b c d"] * 4
Edit = Callable[[Path], None]


def byte_level() -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(LEARNED, trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<unk>", "<s>", "</s>", "<pad>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))  # fmt: skip
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return backend


def unigram() -> Tokenizer:
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.train_from_iterator(LEARNED, trainers.UnigramTrainer(
        vocab_size=120, special_tokens=["<unk>", "<s>", "</s>", "<pad>"], unk_token="<unk>", show_progress=False))  # fmt: skip
    return backend


def word_piece() -> Tokenizer:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.train_from_iterator(LEARNED, trainers.WordPieceTrainer(
        vocab_size=160, special_tokens=["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"], show_progress=False))  # fmt: skip
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return backend


BASES = {"byte-level": byte_level(), "unigram": unigram(), "word-piece": word_piece()}
NAMES = {
    "byte-level": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
    "unigram": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
    "word-piece": {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"},
}  # fmt: skip
FLAGS = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}


def token(content: str, **flags: Any) -> dict[str, Any]:
    return {"content": content, **FLAGS, **flags}


def config(**fields: Any) -> Edit:
    return edited("tokenizer_config.json", lambda content: content | fields)


def edited(name: str, change: Callable[[Any], Any]) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / name
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.write_text(json.dumps(change(content), ensure_ascii=False), encoding="utf-8")

    return edit


def tokenizer_json(**fields: Any) -> Edit:
    return edited("tokenizer.json", lambda content: content | fields)


def special_map(**fields: Any) -> Edit:
    return edited("special_tokens_map.json", lambda content: content | fields)


def added_json(**fields: int) -> Edit:
    return edited("added_tokens.json", lambda content: content | fields)


def without(*names: str) -> Edit:
    def edit(folder: Path) -> None:
        for name in names:
            (folder / name).unlink(missing_ok=True)

    return edit


def text_file(name: str, content: str) -> Edit:
    def edit(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")

    return edit


def flag_in_json(content: str, **flags: Any) -> Edit:
    def change(spec: Any) -> Any:
        for each in spec["added_tokens"]:
            each |= flags if each["content"] == content else {}
        return spec

    return edited("tokenizer.json", change)


CUT = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
FILL = {"strategy": {"Fixed": 12}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 3, "pad_type_id": 0,
        "pad_token": "<pad>"}  # fmt: skip
CHATML = "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<s>{% endif %}"
OTHER = "{% for m in messages %}{{ bos_token }}[{{ m.content }}]{{ eos_token }}{% endfor %}"
TEXTUAL = ("byte-level", "unigram")

VARIANTS: list[tuple[str, tuple[str, ...], list[Edit]]] = [
    ("nothing but tokenizer.json", TEXTUAL, [without("tokenizer_config.json")]),
    ("as transformers saves it", tuple(BASES), []),
    ("truncation in tokenizer.json", tuple(BASES), [tokenizer_json(truncation=CUT)]),
    ("truncation from the left", tuple(BASES), [tokenizer_json(truncation=CUT | {"direction": "Left"})]),
    ("padding to a fixed length", TEXTUAL, [tokenizer_json(padding=FILL)]),
    ("padding to the longest", TEXTUAL, [tokenizer_json(padding=FILL | {"strategy": "BatchLongest", "direction": "Right"})]),
    ("padding names the only padding token", TEXTUAL,
     [tokenizer_json(padding=FILL), edited("tokenizer_config.json", lambda c: {n: v for n, v in c.items() if n != "pad_token"})]),
    ("both", TEXTUAL, [tokenizer_json(truncation=CUT, padding=FILL)]),
    ("sides", tuple(BASES), [config(padding_side="left", truncation_side="left")]),
    ("a new token in added_tokens_decoder", TEXTUAL, [config(added_tokens_decoder={"900": token("<|end|>")})]),
    ("two, not in order", TEXTUAL, [config(added_tokens_decoder={"900": token("<|end|>"), "45": token("<tool>", special=False)})]),
    ("other flags in added_tokens_decoder", TEXTUAL,
     [config(added_tokens_decoder={"1": token("<s>", lstrip=True, rstrip=True), "2": token("</s>", single_word=True)})]),
    ("a special flag only there", TEXTUAL, [flag_in_json("</s>", special=False), config(added_tokens_decoder={"2": token("</s>")})]),
    ("a named token is not special in tokenizer.json", TEXTUAL, [flag_in_json("</s>", special=False)]),
    ("additional_special_tokens", tuple(BASES), [config(additional_special_tokens=["<img>", "<|end|>"])]),
    ("extra_special_tokens as a list", tuple(BASES), [config(extra_special_tokens=["<img>"])]),
    ("extra_special_tokens by name", tuple(BASES), [config(extra_special_tokens={"image_token": "<img>", "tool_token": "<tool>"})]),
    ("both, and an empty list", TEXTUAL, [config(extra_special_tokens=[], additional_special_tokens=["<img>"])]),
    ("a part of the model's own", TEXTUAL, [config(image_token="<img>")]),
    ("extra tokens as objects", TEXTUAL,
     [config(additional_special_tokens=[{"__type": "AddedToken", **token("<img>", lstrip=True)}])]),
    ("special tokens as typed objects", TEXTUAL, [config(eos_token={"__type": "AddedToken", **token("<|end|>", rstrip=True)})]),
    ("special tokens that are null", TEXTUAL, [config(pad_token=None, bos_token=None, cls_token=None)]),
    ("an end token that is not in the vocabulary", TEXTUAL, [config(eos_token="<|end|>")]),
    ("an end token that is an ordinary one", TEXTUAL, [config(eos_token="a")]),
    ("special_tokens_map.json alone", TEXTUAL, [without("tokenizer_config.json"), special_map(**NAMES["byte-level"])]),
    ("special_tokens_map.json of objects", TEXTUAL,
     [without("tokenizer_config.json"), special_map(eos_token=token("</s>"), pad_token=token("<|end|>", lstrip=True))]),
    ("the map says otherwise than the configuration", TEXTUAL, [special_map(eos_token="<|end|>")]),
    ("the map beside added_tokens_decoder", TEXTUAL,
     [special_map(eos_token="<|end|>"), config(added_tokens_decoder={"1": token("<s>")})]),
    ("additional tokens in the map", TEXTUAL, [special_map(additional_special_tokens=["<img>"])]),
    ("added_tokens.json", TEXTUAL, [added_json(**{"<tool>": 901, "<img>": 900})]),
    ("added_tokens.json with a special one", TEXTUAL, [added_json(**{"<|end|>": 900}), special_map(eos_token="<|end|>")]),
    ("add_bos_token and add_eos_token", TEXTUAL, [config(add_bos_token=True, add_eos_token=True)]),
    ("add_bos_token false", TEXTUAL, [config(add_bos_token=False)]),
    ("cleaning up", tuple(BASES), [config(clean_up_tokenization_spaces=True)]),
    ("not cleaning up", tuple(BASES), [config(clean_up_tokenization_spaces=False)]),
    ("special tokens are split", ("byte-level",), [config(split_special_tokens=True)]),
    ("a length", tuple(BASES), [config(model_max_length=77)]),
    ("no length", tuple(BASES), [config(model_max_length=1000000000000000019884624838656)]),
    ("unknown fields", tuple(BASES), [config(flavour="sweet", weights=[1, 2])]),
    ("legacy and SentencePiece fields", TEXTUAL, [config(legacy=False, sp_model_kwargs={}, use_default_system_prompt=False)]),
    ("lower case, by BERT's class", ("word-piece",), [config(tokenizer_class="BertTokenizer", do_lower_case=True)]),
    ("accents, by BERT's class", ("word-piece",), [config(tokenizer_class="BertTokenizerFast", do_lower_case=False, strip_accents=True)]),
    ("Chinese characters, by BERT's class", ("word-piece",),
     [config(tokenizer_class="BertTokenizer", do_lower_case=False, tokenize_chinese_chars=False)]),
    ("a leading blank, by GPT-2's class", ("byte-level",), [config(tokenizer_class="GPT2Tokenizer", add_prefix_space=True)]),
    ("a leading blank, by no class", ("byte-level",), [config(add_prefix_space=True)]),
    ("a template", TEXTUAL, [config(chat_template=CHATML)]),
    ("a list of templates", TEXTUAL,
     [config(chat_template=[{"name": "tool_use", "template": OTHER}, {"name": "default", "template": CHATML}])]),
    ("a file beside a template", TEXTUAL, [config(chat_template=OTHER), text_file("chat_template.jinja", CHATML)]),
    ("a folder of templates", TEXTUAL,
     [text_file("chat_template.jinja", CHATML), text_file("additional_chat_templates/tool_use.jinja", OTHER)]),
]  # fmt: skip
CASES = [pytest.param(base, edits, id=f"{name}, {base}") for name, bases, edits in VARIANTS for base in bases]


def folder_of(base: str, edits: list[Edit], folder: Path) -> Path:
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(BASES[base].to_str()), **NAMES[base]
    )
    made.save_pretrained(folder)
    for edit in edits:
        edit(folder)
    return folder


def assert_same(ours: TextTokenizer, theirs: Any) -> None:
    for text in SAMPLES:
        for special in (True, False):
            ids = theirs.encode(text, add_special_tokens=special)
            assert ours.encode(text, add_special_tokens=special) == ids, text
        for skip in (True, False):
            assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip), text
    for part in transformers.PreTrainedTokenizerBase.SPECIAL_TOKENS_ATTRIBUTES:
        assert ours.special_tokens.get(part) == getattr(theirs, part)
    assert {n: t for n, t in theirs.special_tokens_map.items() if isinstance(t, str)} == ours.special_tokens
    assert ours.vocab_size == len(theirs)
    assert ours.padding_side == theirs.padding_side and ours.truncation_side == theirs.truncation_side
    length = theirs.model_max_length
    assert ours.model_max_length == (length if length < 10**9 else None)
    added = {number: (each.content, each.special) for number, each in theirs.added_tokens_decoder.items()}
    mine = ours.backend.get_added_tokens_decoder().items()
    assert {number: (each.content, each.special) for number, each in mine} == added
    if ours.pad_token is not None:
        batch = {"padding": True, "truncation": True, "max_length": 9}
        assert ours(SAMPLES[:3], **batch)["input_ids"] == theirs(SAMPLES[:3], **batch)["input_ids"]
    known = theirs.chat_template
    known = known if isinstance(known, dict) else {} if known is None else {"default": known}
    assert ({} if ours.chat_template is None else {"default": ours.chat_template}) | ours.other_templates == known


@pytest.mark.parametrize("base, edits", CASES)
def test_folders_of_other_tools_are_read_as_transformers_reads_them(base: str, edits: list[Edit], tmp_path: Path):
    folder = folder_of(base, edits, tmp_path / "theirs")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = TextTokenizer.from_pretrained(folder)
    assert_same(ours, theirs)
    ours.save_pretrained(tmp_path / "ours")
    assert_same(TextTokenizer.from_pretrained(tmp_path / "ours"), theirs)
    assert_same(ours, transformers.AutoTokenizer.from_pretrained(tmp_path / "ours"))
    saved = json.loads((tmp_path / "ours" / "tokenizer.json").read_text(encoding="utf-8"))
    assert saved["truncation"] is None and saved["padding"] is None
