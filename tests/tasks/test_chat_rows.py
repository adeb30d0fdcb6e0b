"""Rows that mention special tokens, and templates that rewrite earlier turns: learned, preferred and asked, end to end."""

import json
import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import AddedToken

from tests.cli.calling import call
from tests.tokens.chat_templates import CHATML, QWEN
from wenloom.checkpoint.folder import load_decoder, write_model_files
from wenloom.core.errors import InputError
from wenloom.core.randomness import generator
from wenloom.generation.engine import Engine
from wenloom.model.build import with_context
from wenloom.model.decoder import Decoder
from wenloom.model.presets import from_scratch
from wenloom.tasks import messages
from wenloom.tasks.fill_mask import Masking
from wenloom.tasks.finetune import finetune
from wenloom.tasks.messages import packed
from wenloom.tasks.settings import DataSettings
from wenloom.tokens.chat import Message, chat_ids
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.tokens.train import train_tokenizer
from wenloom.training.run_file import read_run
from wenloom.training.settings import TrainSettings

ONCE = TrainSettings(steps=1, batch=2, evaluations=1, device="cpu", learning_rate=1e-4)
MENTION = "Why does <|im_end|> or </s> or <|endoftext|> end it, and what is <think>?"


def model_folder(folder: Path, template: str) -> Path:
    tokenizer = train_tokenizer([], "byte")
    tokenizer = tokenizer.extended([AddedToken(name, special=True) for name in ("<|im_start|>", "<|im_end|>")],
                                   tokenizer.special_tokens | {"eos_token": "<|im_end|>"})  # fmt: skip
    tokenizer.backend.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = template
    config = from_scratch("llama", vocab_size=tokenizer.vocab_size, n_layers=1, d_model=16, n_heads=2, n_kv_heads=2,
                          context_length=512, eos_token_id=tokenizer.eos_token_id)  # fmt: skip
    decoder = Decoder(config)
    decoder.initialise(generator(0, "chat rows"))
    folder.mkdir()
    write_model_files(decoder, folder)
    tokenizer.save_pretrained(folder)
    return folder


def rows_file(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def talk(number: int, exchanges: int = 2) -> list[dict[str, str]]:
    turns = []
    for each in range(exchanges):
        turns += [
            {"role": "user", "content": f"{number}.{each}: {MENTION}"},
            {"role": "assistant", "content": f"{MENTION} ({each})"},
        ]
    return turns


@pytest.mark.parametrize("template", [CHATML, QWEN])
@pytest.mark.parametrize("task", ["chat", "preference"])
def test_rows_that_mention_special_tokens_are_learned(task: str, template: str, tmp_path: Path):
    base = model_folder(tmp_path / "base", template)
    if task == "chat":
        rows = [{"messages": talk(number)} for number in range(6)]
    else:
        rows = [{"prompt": [*talk(number), {"role": "user", "content": MENTION}], "chosen": f"yes {MENTION}", "rejected": "no"}
                for number in range(6)]  # fmt: skip
    data = DataSettings(train=rows_file(tmp_path / "rows.jsonl", rows))
    result = finetune(task, tmp_path / "run", base, data, training=ONCE)  # pyright: ignore[reportArgumentType]
    assert result.run.loss.nats_per_token > 0
    assert not json.loads((tmp_path / "run" / "tokenizer.json").read_text(encoding="utf-8"))["truncation"]


def test_what_a_user_types_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    base = model_folder(tmp_path / "base", CHATML)
    asked: list[list[int]] = []
    submit = Engine.submit
    monkeypatch.setattr(
        Engine, "submit", lambda self, prompt, *more: asked.append(prompt) or submit(self, prompt, *more)
    )
    done = call("chat", base, "--max-new-tokens", 1, "--system", "Say <|im_end|>.", cwd=tmp_path, stdin=f"{MENTION}\n")
    assert done.code == 0, done
    tokenizer = TextTokenizer.from_pretrained(base)
    [ids] = asked
    assert ids == chat_ids(tokenizer, [Message("system", "Say <|im_end|>."), Message("user", MENTION)])
    assert ids.count(tokenizer.eos_token_id) == 2


KINDS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "chat": lambda text, reply: {"prompt": text, "response": reply},
    "preference": lambda text, reply: {"prompt": text, "chosen": reply, "rejected": "no"},
    "translation": lambda text, reply: {"source": text, "target": reply},
    "classification": lambda text, reply: {"text": text, "label": "ab"[len(reply) % 2]},
}
"""Rows of each kind, of a text and a reply."""


@pytest.mark.parametrize("task", KINDS)
def test_few_rows_that_hold_much_of_the_text_are_warned_of(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    base = model_folder(tmp_path / "base", CHATML)
    rows = [KINDS[task](f"day {n}", f"it was {n}") for n in range(29)] + [KINDS[task]("a long day " * 120, "yes")]
    limit = "max_length" if task in ("chat", "preference") else "max_source_tokens"
    data = replace(DataSettings(rows_file(tmp_path / "rows.jsonl", rows)), **{limit: 128})
    finetune(task, tmp_path / "run", base, data, training=ONCE)  # pyright: ignore[reportArgumentType]
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(
        r"Warning: 1 \w+ has more than \d+ tokens.* \(3.3 %, with [3-9]\d % of all tokens\); allow more", said
    )


# --- growth ---


class Counter:
    """Counts calls."""

    def __init__(self, wrapped: Any):
        self.wrapped, self.calls = wrapped, 0

    def __call__(self, *given: Any) -> Any:
        self.calls += 1
        return self.wrapped(*given)


def test_packing_looks_up_a_space_in_few_steps(monkeypatch: pytest.MonkeyPatch):
    searched = []
    for times in (1, 10, 100):
        calls = Counter(bisect_left)
        monkeypatch.setattr(messages, "bisect_left", calls)
        rows = packed([1 + number % 37 for number in range(50 * times)], 100_000)
        assert sum(map(len, rows)) == 50 * times
        searched.append(calls.calls)
    assert searched == [50, 500, 5000]


class Counted(np.ndarray):
    """Counts the elements of arrays that are compared."""

    compared = 0

    def __ge__(self, other: Any) -> Any:
        Counted.compared += self.size
        return np.asarray(self) >= other


@pytest.mark.parametrize("kind", ["word", "span"])
def test_masking_compares_no_row_with_every_group(kind: str):
    amounts = []
    for times in (1, 10, 100):
        Counted.compared = 0
        words = np.array([1 + number // 2 for number in range(100 * times)]).view(Counted)
        chosen = Masking(9, 50, 0.3, kind)._chosen(words, np.random.default_rng(0))
        assert 0.3 <= chosen.mean() < 0.5
        amounts.append(Counted.compared)
    assert amounts[2] <= 11 * max(amounts[1], 100)


@pytest.mark.parametrize("task", ["chat", "preference"])
def test_a_decoder_that_reads_little_learns_to_read_conversations_whole(task: str, tmp_path: Path):
    """Where positions are computed; where they are learned, rows that are too long are left out as before."""
    rows = [{"prompt": f"q{n} " + "a b c " * 12, "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(60)]
    if task == "chat":
        rows = [{"prompt": row["prompt"], "response": row["chosen"]} for row in rows]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = train_tokenizer([json.dumps(rows)], "bpe", 300)
    for architecture, kept in (("qwen3", True), ("gpt2", False)):
        config = from_scratch(
            architecture, vocab_size=300, n_layers=1, d_model=32, n_heads=2, n_kv_heads=2, context_length=32,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        decoder = Decoder(config)
        decoder.initialise(generator(1, "context"))
        base, out = tmp_path / architecture, tmp_path / f"{architecture}-tuned"
        base.mkdir()
        write_model_files(decoder, base)
        tokenizer.save_pretrained(base)
        data = DataSettings(train=str(tmp_path / "rows.jsonl"))
        if not kept:
            with pytest.raises(InputError, match="all 60 are too long"):
                finetune(task, out, base, data, training=ONCE)
            continue
        finetune(task, out, base, data, training=ONCE)
        tuned = load_decoder(out)
        assert 64 <= tuned.config.context_length <= 256
        assert read_run(out)["data"]["too_long"] == []
        assert transformers.AutoConfig.from_pretrained(out).max_position_embeddings == tuned.config.context_length
        ids = torch.arange(60)[None]
        longer = with_context(load_decoder(base), 64)
        assert torch.equal(longer(ids[:, :32]), load_decoder(base)(ids[:, :32]))
        theirs = transformers.AutoModelForCausalLM.from_pretrained(out)
        assert torch.allclose(tuned(ids), theirs(ids).logits, atol=1e-4)
