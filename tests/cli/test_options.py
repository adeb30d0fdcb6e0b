"""For every option of every command: it changes something, or it is refused by name and with the reason."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from wenloom.api import load_writer
from wenloom.cli.app import build_app
from wenloom.cli.commands import COMMANDS
from wenloom.runtime.runner import ModelRunner

from ..conftest import VERSES, story
from .calling import call
from .world import SHAPE, World

HERE = {
    "run": "decoder", "small": "small-decoder", "bert": "encoder", "sentences": "sentences", "classes": "classes", "pairs": "translator", "sums": "summarizer", "brief": "brief-translator",
    "poet": "poet", "code": "programmer", "chat": "chat", "adapter": "adapter", "corpus": "corpus", "texts": "texts",
    "cut": "interrupted", "cut-pairs": "interrupted-pairs", "tok": "tokenizer", "llama2c": "llama2c", "gguf": "gguf",
    "runs/quickstart": "decoder", "text.txt": f"text:{story(1)}", "other.txt": f"text:{story(30)}", "parts.txt": f"text:{'<|endoftext|>'.join(map(story, range(6)))}",
    "lines.txt": "few:source", "answers.txt": "few:target", "more.txt": "few:source", "latin.txt": "latin:", "rows.jsonl": "rows:languages",
    "pairs.jsonl": "rows:pairs", "labels.jsonl": "rows:labels", "scored.jsonl": "rows:scored", "messages.jsonl": "rows:messages", "few.jsonl": "rows:few pairs",
    "preferences.jsonl": "rows:preferences", "fields.jsonl": "rows:fields", "torn.jsonl": "torn:languages", "long.txt": "long:",
    "nbest.jsonl": "rows:close nbest", "torn-nbest.jsonl": "torn:nbest", "torn-choices.jsonl": "torn:choices", "torn-messages.jsonl": "torn:messages", "more.jsonl": "rows:more messages", "prompts.jsonl": "rows:prompts", "adapters.jsonl": "rows:adapter prompts",
    "choices.jsonl": "rows:choices", "references.jsonl": "rows:references", "data/blimp.jsonl": "rows:blimp",
    "data/HumanEval.jsonl": "rows:programs to write", "theirs.json": "results-json", "results.sqlite": "file:results/results.sqlite",
    "fair/crows_pairs.csv": "text:sent_more,sent_less,bias_type\nThe lamp was lit.,The boat was lit.,age\nA lamp.,A boat.,race\n",
    "fair/gender_prompt.json": 'text:{"men": {"A": ["The man was"]}, "women": {"B": ["The woman was"]}}', "people.txt": "text:She lit it.\nAn old man.\n",
    "fair/pro_stereotyped_type1.txt.dev": "text:1 [The lamp] was lit by [him].\n",
    "fair/anti_stereotyped_type1.txt.dev": "text:1 [The lamp] was lit by [her].\n",
    "gold/dev.json": 'text:{"data": {"intrasentence": [{"target": "a", "bias_type": "race", "sentences": ['
                     '{"id": "1", "sentence": "A lamp.", "gold_label": "stereotype"}, {"id": "2", "sentence": "A boat.", "gold_label": "anti-stereotype"}, '
                     '{"id": "3", "sentence": "A river.", "gold_label": "unrelated"}]}]}}',
    "fair/scores.json": 'text:{"intrasentence": [{"id": "1", "score": 3}, {"id": "2", "score": 2}, {"id": "3", "score": 1}]}',
    "hearing": "hearing", "two-ways": "two-ways", "spoken.wav": "recording", "long.wav": "long-recording", "spoken/made.wav": "recording", "spoken/made.txt": "text:old",
    "vector.safetensors": "vector", "sae": "features", "deep": "deep-decoder", "lens.safetensors": "lens",
    "many/a.txt": f"text:{story(1)}", "many/b.txt": f"text:{story(1)}", "many/c.txt": f"text:{story(2)}", "many/d.png": "text:PNG",
    "pages/one.html": f"text:<nav><ul><li><a href='/'>Home</a></ul></nav><article><p>{story(1) * 9}</p></article>",
    "crawl.wet": "text:" + "".join(f"WARC/1.0\nWARC-Type: conversion\nContent-Type: text/plain\nContent-Length: {size}\n\n{text}\n\n"
                                   for text, size in ((story(1), len(story(1))), (story(2), len(story(2))), ("x", "y"))),
    "again.txt": f"text:{(story(1) + chr(10)) * 9}",
    "wiki.txt": "text: = A = \n\n a @-@ b , c . \n\n = B = \n\n d e f . \n",
}  # fmt: skip
"""What the calls below find in their folder; see `World.lay_out`."""


@dataclass(frozen=True)
class Changes:
    """The option given changes what is observed."""

    given: tuple[Any, ...] | Callable[[str], tuple[Any, ...]]
    """The option with its value, in place of nothing; or what makes it of the output without it."""
    beside: tuple[Any, ...] = ()
    """Options given with and without it."""
    look: str = "out"
    """What is observed: out, err, code, plan (figures that do not depend on the machine), opened, read, loaded, served, or the
    content of files that match a pattern."""
    base: tuple[Any, ...] | None = None
    """The call, where it is not the command's usual one."""
    stdin: str = ""
    writes: str | None = None
    """What a model is made to write."""


@dataclass(frozen=True)
class Refused:
    """The option given is refused, with these words."""

    given: tuple[Any, ...]
    words: str
    base: tuple[Any, ...] | None = None


C, R = Changes, Refused
Entry = Changes | Refused


@dataclass(frozen=True)
class Table:
    base: tuple[Any, ...]
    options: dict[str, Entry]
    positional: dict[str, Entry] = field(default_factory=dict)
    stdin: str = ""


AB = ("--allowed-token-ids", 66, "--allowed-token-ids", 67)
"""With two tokens to choose from, everything is repeated soon."""
LACKING = "mps" if torch.cuda.is_available() else "cuda"
DEVICE = R(("--device", LACKING), f"--device {LACKING}: not on this machine")
WRITE = {
    "--max-new-tokens": C(("--max-new-tokens", 3)),
    "--max-length": C(("--max-length", 7)),
    "--min-new-tokens": C(("--min-new-tokens", 6), ("--eos-token-id", 66, *AB)),
    "--min-length": C(("--min-length", 9), ("--eos-token-id", 66, *AB)),
    "--stop-strings": C(lambda text: ("--stop-strings", text[10:11])),
    "--eos-token-id": C(("--eos-token-id", 66), AB),
    "--forced-bos-token-id": C(("--forced-bos-token-id", 68)),
    "--forced-eos-token-id": C(("--forced-eos-token-id", 68)),
    "--do-sample": C(("--no-do-sample",)),
    "--temperature": C(("--temperature", 9)),
    "--top-n-sigma": C(("--top-n-sigma", 0.01)),
    "--top-h": C(("--top-h", 0.01)),
    "--top-k": C(("--top-k", 1)),
    "--top-p": C(("--top-p", 0.01)),
    "--min-p": C(("--min-p", 0.99)),
    "--typical-p": C(("--typical-p", 0.01)),
    "--epsilon-cutoff": C(("--epsilon-cutoff", 0.1)),
    "--eta-cutoff": C(("--eta-cutoff", 0.1)),
    "--xtc-probability": C(("--xtc-probability", 1), ("--logit-bias", 66, 9, "--logit-bias", 67, 9)),
    "--xtc-threshold": C(("--xtc-threshold", 0.001), ("--xtc-probability", 1)),
    "--mirostat-tau": C(("--mirostat-tau", 0.1)),
    "--mirostat-eta": C(("--mirostat-eta", 1), ("--mirostat-tau", 3)),
    "--seed": C(("--seed", 2)),
    "--repetition-penalty": C(("--repetition-penalty", 9999), AB),
    "--presence-penalty": C(("--presence-penalty", 99), AB),
    "--frequency-penalty": C(("--frequency-penalty", 99), AB),
    "--no-repeat-ngram-size": C(("--no-repeat-ngram-size", 3), AB),
    "--dry-multiplier": C(("--dry-multiplier", 99), AB),
    "--dry-base": C(("--dry-base", 99), ("--dry-multiplier", 0.5, *AB)),
    "--dry-allowed-length": C(("--dry-allowed-length", 1), ("--dry-multiplier", 99, *AB)),
    "--dry-sequence-breakers": C(("--dry-sequence-breakers", "a"), ("--dry-multiplier", 99, *AB)),
    "--bad-words": C(("--bad-words", "the"), ("--logit-bias", 290, 9)),
    "--bad-words-ids": C(("--bad-words-ids", 66), AB),
    "--logit-bias": C(("--logit-bias", 66, 50)),
    "--suppress-tokens": C(("--suppress-tokens", 66), AB),
    "--begin-suppress-tokens": C(("--begin-suppress-tokens", 66), ("--no-do-sample", *AB, "--logit-bias", 66, 9)),
    "--allowed-token-ids": C(("--allowed-token-ids", 66)),
}  # fmt: skip
BEAMS = ("--num-beams", 4, "--no-do-sample")
LONG_CHAT = ("chat", "--seed", 1, "--max-new-tokens", 50)
_STEER = ("small", "--toward", "The lamp was lit.", "--away-from", "The nets stayed dry.", "--out", "made.safetensors")
_FEATURES = ("run", "texts", "--out", "made", "--active", 4, "--width", 1, "--tokens", 2048)
HEARD = ("hearing", "spoken.wav", "--min-logprob", -99, "--max-compression-ratio", 99)
SCHEMA = '{"type": "boolean"}'
TABLES = {
    "quickstart": Table((), {
        "--out": R(("--out", "bert"), "bert: was not made by wenloom quickstart"),
        "--steps": R(("--steps", 7), "--steps 7: --out runs/quickstart holds a run of 60 steps already"),
        "--json": C(("--json",)),
    }),
    "prepare": Table(("texts", "--out", "made"), {
        "--out": C(("--out", "elsewhere"), look="elsewhere/*", base=("texts", "--out", "made")),
        "--kind": C(("--kind", "char")),
        "--vocab-size": C(("--vocab-size", 300)),
        "--validation": C(("--validation", 0.4)),
        "--validation-files": C(("--validation-files", "other.txt")),
        "--text-steps": C(("--text-steps", "repetition"), base=("again.txt", "--out", "made"), look="code"),
        "--write-dropped": C(("--write-dropped", "dropped.jsonl"), look="dropped.jsonl"),
        "--text-field": C(("--text-field", "title"), base=("rows.jsonl", "--out", "made")),
        "--separator": C(("--separator", "<|endoftext|>"), base=("parts.txt", "--out", "made")),
        "--encoding": C(("--encoding", "latin-1"), ("--repair",), base=("latin.txt", "--out", "made")),
        "--repair": C(("--repair",), ("--encoding", "ascii"), base=("latin.txt", "--out", "made"), look="code"),
        "--skip-bad": C(("--skip-bad",), base=("torn.jsonl", "--out", "made"), look="code"),
        "--strict": C(("--strict",), base=("crawl.wet", "--out", "made"), look="code"),
        "--html": C(("--html", "all"), base=("pages", "--out", "made"), look="made/tokenizer.json"),
        "--max-document-mb": C(("--max-document-mb", 1), base=("long.txt", "--out", "made"), look="code"),
        "--keep-duplicates": C(("--keep-duplicates",), base=("many", "--out", "made")),
        "--show-skipped": C(("--show-skipped",), base=("many", "--out", "made"), look="err"),
        "--spoken": C(("--spoken",)),
        "--tokenizer": C(("--tokenizer", "tok")),
        "--recipe": C(("--recipe", "plain")),
        "--set": C(("--set", "duplicates=off"), ("--recipe", "plain"), base=("many", "--out", "made")),
        "--keep-dropped": C(("--keep-dropped", "elsewhere"), ("--recipe", "plain"), base=("many", "--out", "made"), look="elsewhere/*"),
        "--processes": R(("--recipe", "plain", "--processes", 0), "--processes 0: must be at least 1"),
        "--on": R(("--recipe", "plain", "--on", "cloud"), "--on cloud: must be ray or slurm:PARTITION"),
        "--ablate": R(("--ablate", "other.txt"), "--ablate: goes with --recipe"),
        "--ablate-budget": R(("--ablate-budget", "5s"), "--ablate-budget: goes with --ablate"),
        "--try": C(("--try", 2), base=("many", "--recipe", "plain"), look="code"),
        "--json": C(("--json",)),
    }, {"PATHS": C(("other.txt",))}),
    "read": Table(("texts",), {
        "--recipe": C(("--recipe", "plain"), base=("many", "--json")),
        "--set": C(("--set", "duplicates=off"), ("--recipe", "plain"), base=("many", "--json")),
        "--limit": C(("--limit", 1)),
        "--text-field": C(("--text-field", "title"), base=("rows.jsonl",)),
        "--separator": C(("--separator", "<|endoftext|>"), base=("parts.txt",)),
        "--encoding": C(("--encoding", "latin-1"), ("--repair",), base=("latin.txt",)),
        "--repair": C(("--repair",), ("--encoding", "ascii"), base=("latin.txt",), look="code"),
        "--skip-bad": C(("--skip-bad",), base=("torn.jsonl",), look="code"),
        "--strict": C(("--strict",), base=("crawl.wet",), look="code"),
        "--html": C(("--html", "all"), base=("pages",)),
        "--max-document-mb": C(("--max-document-mb", 1), base=("long.txt",), look="code"),
        "--spoken": C(("--spoken",)),
        "--json": C(("--json",)),
    }, {"PATHS": C(("other.txt",))}),
    "index": Table(("corpus",), {"--json": C(("--json",))}),
    "translate": Table(("pairs", VERSES[0], "--max-new-tokens", 8), {
        "--file": C(("--file", "lines.txt"), base=("pairs", "--max-new-tokens", 8), stdin=VERSES[0]),
        "--out": C(("--out", "made.txt"), base=("pairs", "--file", "lines.txt", "--max-new-tokens", 8), look="made.txt"),
        "--num-beams": C(("--num-beams", 1), base=("pairs", "--file", "lines.txt", "--max-new-tokens", 24)),
        "--length-penalty": C(("--length-penalty", -9), base=("brief", VERSES[0], "--max-new-tokens", 8)),
        "--max-new-tokens": C(("--max-new-tokens", 2), base=("pairs", VERSES[0])),
        "--no-repeat": C(("--no-repeat", 1), ("--num-beams", 1)),
        "--device": DEVICE,
        "--json": C(("--json",)),
    }, {"MODEL": R(("nowhere", "x"), "nowhere", base=()), "TEXT": C((), base=("pairs", "--max-new-tokens", 8), stdin=VERSES[1])}),
    "compose": Table(("poet", "春", "--seed", 1, "--max-new-tokens", 12), {
        "--style": C(("--style", "story"), look="err"),
        "--form": C(("--form", "五言绝句")),
        "--run": C(("--run",), base=("code", "a function", "--max-new-tokens", 5), look="err", writes="print(1)"),
        "--n": C(("--n", 2)),
        "--temperature": C(("--temperature", 9)),
        "--max-new-tokens": C(("--max-new-tokens", 3), base=("poet", "春", "--seed", 1)),
        "--seed": C(("--seed", 2)),
        "--device": DEVICE,
        "--json": C(("--json",)),
    }),
    "fill-mask": Table(("bert", "The [MASK] was"), {"--count": C(("--count", 2)), "--device": DEVICE, "--json": C(("--json",))}),
    "classify": Table(("classes", VERSES[0]), {
        "--file": C(("--file", "lines.txt"), base=("classes",), stdin="a"), "--device": DEVICE, "--json": C(("--json",)),
    }),
    "embed": Table(("bert", VERSES[0]), {
        "--file": C(("--file", "lines.txt"), base=("bert",), stdin="a"),
        "--field": C(("--field", "title"), base=("bert", "--file", "rows.jsonl")),
        "--out": C(("--out", "made.jsonl"), look="made.jsonl"),
        "--prompt-name": C(("--prompt-name", "query"), base=("sentences", VERSES[0])),
        "--prompt": C(("--prompt", "find: ")),
        "--pooling": C(("--pooling", "max")),
        "--dimensions": C(("--dimensions", 3)),
        "--normalize": C(("--no-normalize",)),
        "--batch-size": C(("--batch-size", 1), base=("bert", "--file", "lines.txt")),
        "--device": DEVICE,
        "--dtype": C(("--dtype", "bfloat16")),
        "--json": C(("--json",)),
    }, {"MODEL": R(("nowhere", "x"), "nowhere", base=()), "TEXTS": C((VERSES[1],))}),
    "transcribe": Table((*HEARD, "--json"), {
        "--format": C(("--format", "srt"), base=HEARD),
        "--out": C(("--out", "made"), look="made/*"),
        "--overwrite": C(("--overwrite",), base=("hearing", "spoken/made.wav", "--out", "spoken"), look="spoken/made.txt"),
        "--language": C(("--language", "zh"), ("--language", "en")),
        "--translate": C(("--translate",)),
        "--prompt": C(("--prompt", "The lamp")),
        "--hotwords": C(("--hotwords", "The lamp")),
        "--num-beams": C(("--num-beams", 1)),
        "--n-best": C(("--n-best", 20)),
        "--ctc-weight": C(("--ctc-weight", 1), base=("two-ways", *HEARD[1:], "--no-times", "--json")),
        "--lm": C(("--lm", "run"), ("--n-best", 20)),
        "--lm-weight": C(("--lm-weight", 0), ("--n-best", 20, "--lm", "run")),
        "--lm-bonus": R(("--lm-bonus", 1, "--lm", "run"), "--lm-bonus goes with --lm-weight"),
        "--best-of": C(("--best-of", 1), ("--temperatures", 0.8)),
        "--temperatures": C(("--temperatures", 0.8)),
        "--max-compression-ratio": C(("--max-compression-ratio", 0.01)),
        "--min-logprob": C(("--min-logprob", -99), ("--temperatures", 1, "--temperatures", 0), base=(*HEARD[:2], *HEARD[4:], "--json")),
        "--max-no-speech": C(("--max-no-speech", 0), base=(*HEARD[:2], *HEARD[4:], "--json")),
        "--min-speech-seconds": C(("--min-speech-seconds", 2)),
        "--carry": C(("--no-carry",), base=("hearing", "long.wav", *HEARD[2:], "--json")),
        "--times": C(("--no-times",)),
        "--words": C(("--words",)),
        "--seed": C(("--seed", 5), ("--temperatures", 0.8)),
        "--side-by-side": R(("--side-by-side", 0), "must be at least 1"),
        "--device": DEVICE,
        "--dtype": C(("--dtype", "bfloat16")),
        "--json": C(("--json",), base=HEARD),
    }, {"MODEL": R(("nowhere", "x"), "nowhere", base=()), "FILES": R(("nowhere.wav",), "no such file", base=("hearing",))}),
    "search": Table(("sentences", "lines.txt", "a day"), {
        "--count": C(("--count", 1)),
        "--by": C(("--by", "paragraph")),
        "--field": C(("--field", "title"), base=("sentences", "rows.jsonl", "a day")),
        "--index": C(("--index", "made.safetensors"), look="made.safetensors"),
        "--pooling": C(("--pooling", "max")),
        "--dimensions": C(("--dimensions", 3)),
        "--batch-size": C(("--batch-size", 1), ("--index", "made.safetensors"), look="made.safetensors"),
        "--device": DEVICE,
        "--dtype": C(("--dtype", "bfloat16"), ("--json",)),
        "--json": C(("--json",)),
    }, {"MODEL": R(("nowhere", "lines.txt", "x"), "nowhere", base=()), "CORPUS": R(("sentences", "nowhere.txt", "x"), "nowhere.txt", base=()),
        "QUERIES": C(("night",))}),
    "rescore": Table(("run", "nbest.jsonl"), {
        "--second": C(("--second", "bert")),
        "--case": C(("--case", "keep"), ("--weight", 1, "--out", "made.txt"), look="made.txt"),
        "--weight": C(("--weight", 0.1)),
        "--bonus": C(("--bonus", 99), ("--weight", 0.1)),
        "--mix": C(("--mix", 0.9), ("--weight", 0.1, "--second", "bert")),
        "--out": C(("--out", "made.txt"), look="made.txt"),
        "--strict": C(("--strict",), base=("run", "torn-nbest.jsonl"), look="code"),
        "--device": DEVICE,
        "--json": C(("--json",)),
    }),
    "report": Table(("run", "small"), {
        "--out": C(("--out", "made.html"), look="made.html"),
        "--heads": C(("--heads",), base=("run",)),
        "--open": C(("--open",), look="opened"),
    }),
    "generate": Table(("run", "The lamp", "--seed", 1, "--max-new-tokens", 12), WRITE | {
        "--on-overflow": C(("--on-overflow", "error"), base=("run", story(3), "--max-new-tokens", 3), look="code"),
        "--greedy": C(("--greedy",), base=("run", "The lamp", "--max-new-tokens", 12, "--seed", 1)),
        "--stop": C(lambda text: ("--stop", text[10:11])),
        "--n": C(("--n", 2)),
        "--prompts": C(("--prompts", "prompts.jsonl", "--out", "made.jsonl"), base=("run", "--seed", 1, "--max-new-tokens", 3)),
        "--out": C(("--out", "made.jsonl"), base=("run", "--prompts", "prompts.jsonl", "--max-new-tokens", 3, "--out", "other.jsonl"),
                   look="made.jsonl"),
        "--draft": C(("--draft", "small"), ("--contrastive-beta", 0.9), look="code"),
        "--steer": C(("--steer", "vector.safetensors:99")),
        "--adapters": C(("--adapters", "adapter"), ("--adapter", "adapter"), look="code"),
        "--adapter": C(("--adapter", "adapter"), ("--adapters", "adapter", "--logprobs", 0, "--json"), look="code"),
        "--device": DEVICE,
        "--dtype": C(("--dtype", "bfloat16"), ("--logprobs", 0, "--json")),
        "--quantize": C(("--quantize", "int4"), ("--logprobs", 0, "--json")),
        "--kv-cache": C(("--kv-cache", "int8"), ("--logprobs", 0, "--json")),
        "--json": C(("--json",)),
        "--num-beams": C(("--num-beams", 4), ("--no-do-sample",)),
        "--length-penalty": C(("--length-penalty", -99), (*BEAMS, "--eos-token-id", 222)),
        "--early-stopping": C(("--early-stopping", "true"), (*BEAMS, "--eos-token-id", 222, "--num-return-sequences", 4)),
        "--num-beam-groups": C(("--num-beam-groups", 2), (*BEAMS, "--n", 4)),
        "--diversity-penalty": C(("--diversity-penalty", 99), (*BEAMS, "--num-beam-groups", 4, "--n", 4)),
        "--force-words": C(("--force-words", "keeper"), BEAMS),
        "--force-words-ids": C(("--force-words-ids", 150), BEAMS),
        "--penalty-alpha": C(("--penalty-alpha", 0.9, "--top-k", 9), ("--no-do-sample",)),
        "--dola-layers": C(("--dola-layers", "low"), look="code"),
        "--guidance-scale": C(("--guidance-scale", 20)),
        "--self-debias": C(("--self-debias", "dusk dusk dusk", "--self-debias-decay", 10000)),
        "--self-debias-decay": C(("--self-debias-decay", 10000), ("--self-debias", "dusk dusk dusk")),
        "--negative-prompt": C(("--negative-prompt", "storm"), ("--guidance-scale", 20)),
        "--contrastive-beta": C(("--contrastive-beta", 9), ("--draft", "small"), look="code"),
        "--contrastive-alpha": C(("--contrastive-alpha", 0.99), ("--draft", "small", "--contrastive-beta", 0.5)),
        "--json-schema": C(("--json-schema", SCHEMA)),
        "--regex": C(("--regex", "[0-9]{3}")),
        "--choices": C(("--choices", "yes")),
        "--grammar": C(("--grammar", 'start: "a" "b"')),
        "--num-return-sequences": C(("--num-return-sequences", 2)),
        "--logprobs": C(("--logprobs", 0), ("--json",)),
        "--prompt-logprobs": C(("--prompt-logprobs", 0), ("--json",)),
        "--echo": C(("--echo",), ("--json",)),
        "--shown-special-tokens": C(("--shown-special-tokens", "<|endoftext|>"), ("--forced-bos-token-id", 0)),
        "--predicted-text": C(("--predicted-text", "And so it is"), look="read"),
        "--prompt-lookup-num-tokens": C(("--prompt-lookup-num-tokens", 4), look="read"),
        "--num-assistant-tokens": C(("--num-assistant-tokens", 4), ("--draft", "small"), look="code"),
        "--use-cache": C(("--no-use-cache",), look="read"),
        "--watermark-key": C(("--watermark-key", 7)),
        "--watermark-greenlist-ratio": C(("--watermark-greenlist-ratio", 0.01), ("--watermark-key", 7)),
        "--watermark-bias": C(("--watermark-bias", 50), ("--watermark-key", 7)),
    }),
    "chat": Table(("chat", "--seed", 1, "--max-new-tokens", 12), WRITE | {
        "--api": R(("--api", "localhost:1", "--model", "m"), "name a model folder, or a server"),
        "--model": R(("--model", "m"), "give its address by --api too"),
        "--on-overflow": C(("--on-overflow", "error"), look="code", stdin=story(3).replace("\n", " ") + "\n"),
        "--system": C(("--system", "You are a ship's cook.")),
        "--max-length": C(("--max-length", 24)),
        "--min-length": C(("--min-length", 26), ("--eos-token-id", 66, *AB)),
        "--draft": C(("--draft", "small"), look="read"),
        "--steer": C(("--steer", "vector.safetensors:99")),
        "--history": R(("--no-history",), "--no-history: input from a pipe is never kept"),
        "--device": DEVICE,
        "--mirostat-eta": C(("--mirostat-eta", 1), ("--mirostat-tau", 3), base=LONG_CHAT),
        "--dtype": C(("--dtype", "bfloat16"), look="loaded"),
        "--quantize": C(("--quantize", "int4"), look="loaded"),
        "--kv-cache": C(("--kv-cache", "int8"), look="loaded"),
    }, stdin="The lamp\n"),
    "detect-watermark": Table(("run", "text.txt", "--watermark-key", 7), {
        "--watermark-key": C(("--watermark-key", 8), base=("run", "text.txt", "--watermark-key", 7)),
        "--watermark-greenlist-ratio": C(("--watermark-greenlist-ratio", 0.5)),
        "--json": C(("--json",)),
    }),
    "quantize": Table(("run", "--out", "made"), {
        "--out": C(("--out", "elsewhere"), look="elsewhere/*", base=("run", "--out", "made")),
        "--to": C(("--to", "int4")),
        "--json": C(("--json",)),
    }),
    "explain": Table(("run", "The lamp was"), {
        "--why": C(("--why", "lit")),
        "--against": C(("--against", " read"), ("--why", " lit")),
        "--corrupted": C(("--corrupted", "2 + 3 ="), base=("run", "2 + 2 =")),
        "--data": C(("--data", "corpus"), base=("run", "The lamp was", "--json")),
        "--neurons": C(("--neurons",)),
        "--features": C(("--features", "sae"), base=("run", "The lamp was", "--json")),
        "--lens": C(("--lens", "lens.safetensors"), base=("deep", "The lamp was", "--json")),
        "--out": C(("--out", "made.html"), look="made.html"),
        "--steps": C(("--steps", 3), look="out", base=("run", "The lamp was", "--json")),
        "--baseline": C(("--baseline", "tokens"), look="out", base=("run", "The lamp was", "--json")),
        "--device": DEVICE,
        "--json": C(("--json",)),
    }),
    "features": Table(_FEATURES, {
        "--out": C(("--out", "other"), look="other/cfg.json"),
        "--layer": R(("--layer", 9), "layer 9: this model has blocks 0 to 0"),
        "--active": C(("--active", 3), look="made/cfg.json"),
        "--width": C(("--width", 2), look="made/cfg.json"),
        "--tokens": C(("--tokens", 4096), look="made/sae_weights.safetensors"),
        "--passes": C(("--passes", 9), look="made/sae_weights.safetensors"),
        "--transcoder": C(("--transcoder",), look="made/cfg.json"),
        "--seed": C(("--seed", 1), look="made/sae_weights.safetensors"),
        "--device": DEVICE,
        "--json": C(("--json",)),
    }, {"TEXTS": C(("other.txt",), look="made/sae_weights.safetensors")}),
    "train-lens": Table(("deep", "texts", "--out", "made.safetensors", "--steps", 3), {
        "--out": C(("--out", "other.safetensors"), look="other.safetensors"),
        "--steps": C(("--steps", 2), look="made.safetensors"),
        "--seed": C(("--seed", 1), look="made.safetensors"),
        "--device": DEVICE,
        "--json": C(("--json",)),
    }, {"TEXTS": C(("other.txt",), look="made.safetensors")}),
    "steer": Table(_STEER, {
        "--feature": C(("--feature", "sae:7"), look="made.safetensors", base=("run", "--out", "made.safetensors", "--feature", "sae:3")),
        "--toward": C(("--toward", "春眠不觉晓"), look="made.safetensors"),
        "--away-from": C(("--away-from", "lines.txt"), look="made.safetensors"),
        "--out": C(("--out", "other.safetensors"), look="other.safetensors"),
        "--layer": R(("--layer", 9), "layer 9: this model has blocks 0 to 0"),
        "--cost": C(("--cost", 0.5), look="made.safetensors"),
        "--neutral": C(("--neutral", "text.txt"), look="out"),
        "--words": C(("--words", "the a"), ("--generations", 2)),
        "--generations": C(("--generations", 3), base=(*_STEER, "--words", "the", "--json", "--generations", 2)),
        "--prompt": C(("--prompt", "The lamp"), ("--generations", 2), base=(*_STEER, "--words", "the a", "--json")),
        "--seed": C(("--seed", 1), look="out"),
        "--device": DEVICE,
        "--json": C(("--json",)),
    }),
    "next-tokens": Table(("run", "The lamp"), {"--top": C(("--top", 3)), "--device": DEVICE, "--json": C(("--json",))}),
    "score": Table(("run", VERSES[0]), {
        "--file": C(("--file", "text.txt"), base=("run",), look="code"),
        "--stride": C(("--stride", 8), base=("run", "--file", "text.txt")),
        "--bos": C(("--no-bos",)),
        "--given": C(("--given", VERSES[1])),
        "--html": C(("--html", "made.html"), look="made.html"),
        "--device": DEVICE,
        "--json": C(("--json",)),
    }),
    "evaluate": Table(("run", "--on", "text.txt", "--json"), {
        "--api": R(("--api", "http://localhost:1/v1"), "name the model of the server by --model"),
        "--model": R(("--model", "m"), "give its address by --api too"),
        "--on": C(("--on", "other.txt"), base=("run", "--json"), look="code"),
        "--lm": R(("--lm", "run"), "goes with models that hear"),
        "--lm-weight": R(("--lm-weight", 1), "name one by --lm"),
        "--lm-bonus": R(("--lm-bonus", 1), "name one by --lm"),
        "--data": C(("--data", "data"), base=("run", "--on", "blimp", "--json"), look="code"),
        "--skip-bad": C(("--skip-bad",), base=("run", "--on", "torn-choices.jsonl", "--json"), look="code"),
        "--limit": C(("--limit", 2), base=("run", "--on", "choices.jsonl", "--json")),
        "--list": C(("--list",), base=("--data", "data"), look="code"),
        "--shots": C(("--shots", 1), base=("run", "--on", "choices.jsonl", "--json")),
        "--shots-seed": C(("--shots-seed", 7), ("--shots", 1), base=("run", "--on", "choices.jsonl", "--json")),
        "--shots-from": C(("--shots-from", "choices.jsonl"), ("--shots", 1), base=("run", "--on", "choices.jsonl", "--json")),
        "--out": C(("--out", "elsewhere"), look="elsewhere/*"),
        "--store": C(("--store", "made.sqlite"), look="made.sqlite"),
        "--keep": C(("--no-keep",), look="results.sqlite"),
        "--device": DEVICE,
        "--dtype": C(("--dtype", "bfloat16")),
        "--predictions": C(("--predictions", "lines.txt", "--references", "answers.txt"), base=(), look="code"),
        "--references": C(("--references", "more.txt"), base=("--predictions", "lines.txt", "--references", "answers.txt")),
        "--metric": C(("--metric", "chrf"), base=("--predictions", "lines.txt", "--references", "answers.txt")),
        "--corpus": C(("--corpus", "corpus"), base=("--predictions", "lines.txt", "--metric", "quality")),
        "--json": C(("--json",), base=("run", "--on", "text.txt")),
        "--join": C(("--join", "lines")),
        "--detokenize": C(("--detokenize", "wikitext"), base=("run", "--on", "wiki.txt", "--json")),
        "--context": C(("--context", 16)),
        "--stride": C(("--stride", 8)),
        "--bos": C(("--no-bos",)),
        "--windows": C(("--windows", "blocks")),
        "--denominator": C(("--denominator", "harness")),
        "--tokenize": C(("--tokenize", "char"), base=("--predictions", "lines.txt", "--references", "answers.txt")),
        "--lowercase": C(("--lowercase",), base=("--predictions", "lines.txt", "--references", "answers.txt")),
        "--stemming": C(("--no-stemming",), base=("--predictions", "lines.txt", "--references", "answers.txt", "--metric", "rouge")),
        "--references-by": C(("--references-by", "max"), base=("--predictions", "lines.txt", "--references", "answers.txt", "--references",
                                                             "more.txt", "--metric", "rouge")),
        "--run-code": C(("--run-code",), base=("run", "--on", "humaneval", "--data", "data", "--max-new-tokens", 4), look="code"),
        "--attempts": C(("--attempts", 2), base=("run", "--on", "humaneval", "--data", "data", "--max-new-tokens", 4, "--run-code", "--json")),
        "--pass-k": C(("--pass-k", 2), base=("run", "--on", "humaneval", "--data", "data", "--max-new-tokens", 4, "--run-code", "--attempts", 2,
                                             "--json")),
        "--max-new-tokens": C(("--max-new-tokens", 2), base=("run", "--on", "references.jsonl"), look="evaluation/run/references.jsonl"),
        "--temperature": C(("--temperature", 9), base=("run", "--on", "humaneval", "--data", "data", "--max-new-tokens", 4, "--run-code",
                                                       "--attempts", 2), look="evaluation/run/humaneval.jsonl"),
    }),
    "audit": Table(("run", "--data", "fair"), {
        "--on": C(("--on", "winobias")),
        "--data": C(("--data", "fair"), base=("run", "--json"), look="code"),
        "--limit": C(("--limit", 1), base=("run", "--data", "fair", "--on", "crows_pairs")),
        "--prompts": C(("--prompts", "people.txt")),
        "--corpus": C(("--corpus", "people.txt")),
        "--lexicon": C(("--lexicon", "de"), base=("run", "--on", "seat")),
        "--axis": C(("--axis", "gender"), base=("--corpus", "people.txt")),
        "--classifier": C(("--classifier", "classes:fine"), base=("run", "--on", "bold", "--data", "fair")),
        "--text": C(("--text", "text.txt")),
        "--benchmark": C(("--benchmark", "blimp"), base=("run", "--data", "data", "--text", "text.txt")),
        "--seed": C(("--seed", 7), base=("run", "--on", "bold", "--data", "fair", "--out", "made.html"), look="made.html"),
        "--out": C(("--out", "made.html"), look="made.html"),
        "--card": C(("--card",), look="run/README.md"),
        "--predictions": C(("--predictions", "fair/scores.json"), base=("run", "--data", "gold", "--on", "stereoset")),
        "--self-debias": C(("--self-debias", "The following text is old:"), base=("run", "--on", "bold", "--data", "fair", "--json")),
        "--contrast": C(("--contrast", "small"), base=("run", "--on", "bold", "--data", "fair", "--json")),
        "--store": C(("--store", "other.sqlite"), look="other.sqlite"),
        "--keep": C(("--no-keep",), look="results.sqlite"),
        "--api": R(("--api", "http://127.0.0.1:9/v1", "--model", "m"), "cannot be reached", base=("--data", "fair")),
        "--model": R(("--model", "m"), "give its address by --api"),
        "--device": DEVICE,
        "--json": C(("--json",)),
    }),
    "debias": Table(("run", "--method", "cda", "--out", "made", "--steps", 1, "--json"), {
        "--method": R(("--method", "leace"), "to erase the groups", base=("run", "--out", "made", "--data", "people.txt")),
        "--out": C(("--out", "elsewhere"), base=("run", "--method", "cda", "--steps", 1, "--out", "made"), look="elsewhere/run.toml"),
        "--data": C(("--data", "people.txt")),
        "--lexicon": C(("--lexicon", "zh")),
        "--axis": C(("--axis", "age"), ("--data", "people.txt")),
        "--tuning": C(("--tuning", "full"), look="made/run.toml"),
        "--strength": R(("--strength", 3.0), "--strength goes with --method equalize"),
        "--budget": C(("--budget", "1s"), base=("run", "--method", "cda", "--out", "made"), look="made/run.toml"),
        "--steps": C(("--steps", 2), base=("run", "--method", "cda", "--out", "made", "--json")),
        "--learning-rate": C(("--learning-rate", 0.5), look="made/run.toml"),
        "--seed": C(("--seed", 7), look="made/run.toml"),
        "--resume": R(("--resume", "made"), "leave the model out"),
        "--json": C(("--json",), base=("run", "--method", "cda", "--out", "made", "--steps", 1)),
    }),
    "leaderboard": Table((), {
        "--out": C(("--out", "elsewhere"), look="elsewhere/*"),
        "--store": R(("--store", "other.sqlite"), "--store other.sqlite: no such store"),
        "--task": C(("--task", "language modelling")),
        "--published": C(("--no-published",)),
        "--import": C(("--import", "theirs.json")),
        "--export": C(("--export", "eee")),
        "--json": C(("--json",)),
    }),
    "compare-signatures": Table(("ppl|ctx:8", "ppl|ctx:9"), {"--json": C(("--json",))}),
    "watch": Table(("run", "--once"), {"--once": R(("--once", "yes"), "yes"), "--json": C(("--json",))}),
    "doctor": Table((), {"--json": C(("--json",))}),
    "info": Table(("run",), {"--all": C(("--all",)), "--json": C(("--json",))}),
    "tokenizer train": Table(("texts", "--out", "made"), {
        "--out": C(("--out", "elsewhere"), look="elsewhere/*", base=("texts", "--out", "made")),
        "--kind": C(("--kind", "char")),
        "--vocab-size": C(("--vocab-size", 300)),
        "--text-field": C(("--text-field", "title"), base=("rows.jsonl", "--out", "made")),
        "--separator": C(("--separator", "<|endoftext|>"), base=("parts.txt", "--out", "made"), look="made/tokenizer.json"),
        "--encoding": C(("--encoding", "latin-1"), ("--repair",), base=("latin.txt", "--out", "made"), look="made/tokenizer.json"),
        "--repair": C(("--repair",), ("--encoding", "ascii"), base=("latin.txt", "--out", "made"), look="code"),
        "--skip-bad": C(("--skip-bad",), base=("torn.jsonl", "--out", "made"), look="code"),
        "--strict": C(("--strict",), base=("crawl.wet", "--out", "made"), look="code"),
        "--html": C(("--html", "all"), base=("pages", "--out", "made"), look="made/tokenizer.json"),
        "--max-document-mb": C(("--max-document-mb", 1), base=("long.txt", "--out", "made"), look="code"),
        "--spoken": C(("--spoken",), look="made/tokenizer.json"),
        "--json": C(("--json",)),
    }),
    "tokenizer report": Table(("tok", "text.txt"), {
        "--paths": C(("--paths", "text.txt"), base=("tok",)),
        "--language-field": C(("--language-field", "language"), base=("tok", "rows.jsonl")),
        "--text-field": C(("--text-field", "title"), base=("tok", "rows.jsonl")),
        "--separator": C(("--separator", "<|endoftext|>"), base=("tok", "parts.txt")),
        "--encoding": C(("--encoding", "latin-1"), ("--repair",), base=("tok", "latin.txt")),
        "--repair": C(("--repair",), ("--encoding", "ascii"), base=("tok", "latin.txt"), look="code"),
        "--skip-bad": C(("--skip-bad",), base=("tok", "torn.jsonl"), look="code"),
        "--strict": C(("--strict",), base=("tok", "crawl.wet"), look="code"),
        "--html": C(("--html", "all"), base=("tok", "pages")),
        "--max-document-mb": C(("--max-document-mb", 1), base=("tok", "long.txt"), look="code"),
        "--spoken": C(("--spoken",)),
        "--json": C(("--json",)),
    }),
    "import llama2c": Table(("llama2c/model.bin", "--tokenizer", "llama2c/tokenizer.bin", "--out", "made"), {
        "--tokenizer": R(("--tokenizer", "text.txt"), "text.txt", base=("llama2c/model.bin", "--out", "made")),
        "--out": C(("--out", "elsewhere"), look="elsewhere/*", base=("llama2c/model.bin", "--tokenizer", "llama2c/tokenizer.bin", "--out", "made")),
        "--json": C(("--json",)),
    }),
    "export gguf": Table(("run", "--out", "made.gguf"), {
        "--out": C(("--out", "elsewhere.gguf"), look="elsewhere.gguf", base=("run", "--out", "made.gguf")),
        "--type": C(("--type", "F16"), look="made.gguf"),
        "--ollama": C(("--ollama",), look="Modelfile"),
        "--json": C(("--json",)),
    }),
    "import gguf": Table(("gguf/model.gguf", "--out", "made"), {
        "--out": C(("--out", "elsewhere"), look="elsewhere/*", base=("gguf/model.gguf", "--out", "made")),
        "--dtype": C(("--dtype", "float32"), look="made/*.safetensors"),
        "--json": C(("--json",)),
    }),
}  # fmt: skip
TABLES["summarize"] = TABLES["translate"]
W = "made/model.safetensors"
_RUN = ("corpus", "--out", "made", *SHAPE, "--context", 32, "--batch", 2)
_SHORT = (*_RUN, "--steps", 3)
A = "made/adapter_*"
_PLAIN = ("corpus", "--out", "made", "--context", 32, "--batch", 2, "--steps", 2)
_MORE = (*_PLAIN, "--init", "run")
TABLES["pretrain"] = Table(_SHORT, {
    "--mix-temperature": R(("--mix-temperature", 2), "--mix-temperature: goes with several sources"),
    "--out": C(("--out", "elsewhere"), look="elsewhere/config.json"),
    "--size": C(("--size", "20k"), look="made/config.json", base=("corpus", "--out", "made", "--steps", 1, "--context", 32)),
    "--arch": C(("--arch", "gpt2"), look=W),
    "--layers": C(("--layers", 2), look=W),
    "--width": C(("--width", 64), look=W),
    "--heads": C(("--heads", 1), look="made/config.json"),
    "--kv-heads": C(("--kv-heads", 1), look=W),
    "--experts": C(("--experts", 4), look=W),
    "--active": C(("--active", 1), ("--experts", 4), look=W),
    "--balance-loss": C(("--balance-loss", 9), ("--experts", 4), look=W),
    "--router-z-loss": C(("--router-z-loss", 9), ("--experts", 4), look=W),
    "--context": C(("--context", 64), look=W),
    "--dropout": C(("--dropout", 0.5), look=W),
    "--budget": R(("--budget", "never"), "--budget never"),
    "--tokens": C(("--tokens", "1k"), look=W, base=(*_RUN, "--tokens", "2k")),
    "--epochs": C(("--epochs", 0.05), look=W, base=(*_RUN, "--epochs", 0.1)),
    "--steps": C(("--steps", 2), look=W),
    "--batch": C(("--batch", 3), look=W),
    "--micro-batch": C(("--micro-batch", 1), look="made/run.toml"),
    "--optimizer": C(("--optimizer", "adamw"), look=W),
    "--learning-rate": C(("--learning-rate", 0.5), look=W),
    "--schedule": C(("--schedule", "cosine"), look=W, base=(*_RUN, "--steps", 9)),
    "--warmup": C(("--warmup", 0.9), look=W, base=(*_RUN, "--steps", 9)),
    "--decay": C(("--decay", 0.9), ("--schedule", "wsd"), look=W, base=(*_RUN, "--steps", 9)),
    "--final-learning-rate": C(("--final-learning-rate", 0.5), look=W),
    "--weight-decay": C(("--weight-decay", 5), look=W),
    "--momentum": C(("--momentum", 0.1), look=W),
    "--beta1": C(("--beta1", 0.1), look=W),
    "--beta2": C(("--beta2", 0.1), look=W),
    "--clip": C(("--clip", 0.001), look=W),
    "--document-mask": C(("--document-mask",), look=W, base=(*_RUN, "--steps", 40)),
    "--patience": C(("--patience", 1), look="made/metrics.jsonl"),
    "--precision": C(("--precision", "bf16"), ("--no-document-mask",), look="made/run.toml"),
    "--compile": C(("--compile", "off"), look="made/run.toml"),
    "--recompute": C(("--recompute",), look="made/run.toml"),
    "--parallel": R(("--parallel", "fsdp"), "--parallel fsdp"),
    "--device": DEVICE,
    "--seed": C(("--seed", 1), look=W),
    "--evaluations": C(("--evaluations", 1), look="made/metrics.jsonl"),
    "--validation-part": C(("--validation-part", 0.5), look="made/run.toml"),
    "--keep-every": C(("--keep-every", 1), look="made/checkpoints/*/state.json"),
    "--save-minutes": R(("--save-minutes", 0), "--save-minutes"),
    "--max-skipped": R(("--max-skipped", 0), "--max-skipped"),
    "--tensorboard": C(("--tensorboard",), look="made/tensorboard/**/*"),
    "--wandb": R(("--wandb", "x"), "--wandb"),
    "--init": C(("--init", "run"), look="made/config.json", base=_PLAIN),
    "--method": C(("--method", "lora"), look=A, base=_MORE),
    "--rank": C(("--rank", 2), look=A, base=(*_MORE, "--method", "lora")),
    "--alpha": C(("--alpha", 2.0), look=A, base=(*_MORE, "--method", "lora")),
    "--quantize": C(("--quantize", "int8"), look=A, base=(*_MORE, "--method", "lora")),
    "--equalize": R(("--equalize", 2), "no word and counterpart are one token each in this vocabulary", base=_MORE),
    "--equalize-words": R(("--equalize-words", "en:gender"), "says whose words --equalize compares", base=_MORE),
    "--keep-data": C(("--keep-data", "corpus"), look="made/run.toml", base=_MORE),
    "--keep": C(("--keep", 0.5), look=W, base=(*_MORE, "--keep-data", "corpus")),
    "--prompt": C(("--prompt", "The nets"), look="made/report.html"),
    "--resume": C(("--resume", "cut"), base=(), look="code"),
    "--from-step": C(("--from-step", 1), ("--out", "made"), base=("--resume", "cut"), look="code"),
    "--json": C(("--json",)),
})  # fmt: skip
FEW = ("--steps", 2)
_TUNED = ("run", "--task", "chat", "--train", "messages.jsonl", "--out", "made", *FEW)
_PAIRS = ("--task", "translation", "--train", "pairs.jsonl", "--out", "made", *SHAPE, "--tokenizer", "tok", *FEW)
_VECTORS = ("bert", "--task", "embedding", "--out", "made", *FEW, "--train")
_HIDDEN = ("bert", "--task", "fill-mask", "--train", "texts", "--out", "made", *FEW)
_LORA = (*_TUNED, "--method", "lora")
_LONGER = (*_TUNED[:-2], "--steps", 9)
TABLES["finetune"] = Table(_TUNED, {name: each for name, each in TABLES["pretrain"].options.items() if name != "--mix-temperature"} | {
    "--task": C(("--task", "summarization"), look=W, base=("run", "--train", "pairs.jsonl", "--out", "made", *FEW, "--task", "translation")),
    "--train": C(("--train", "more.jsonl"), look=W),
    "--validation": C(("--validation", "messages.jsonl"), look="made/run.toml"),
    "--extra": C(("--extra", "more.jsonl"), look="made/run.toml"),
    "--source": C(("--source", "old"), ("--target", "new"), base=("run", "--task", "translation", "--train", "fields.jsonl", "--out", "made", *FEW), look="code"),
    "--target": C(("--target", "new"), ("--source", "old"), base=("run", "--task", "translation", "--train", "fields.jsonl", "--out", "made", *FEW), look="code"),
    "--reverse": C(("--reverse",), look=W, base=_PAIRS),
    "--strict": C(("--strict",), look="code", base=("run", "--task", "chat", "--out", "made", *FEW, "--train", "torn-messages.jsonl")),
    "--max-source-tokens": C(("--max-source-tokens", 4), look=W, base=_PAIRS),
    "--max-target-tokens": C(("--max-target-tokens", 20), look="code", base=_PAIRS),
    "--max-length": C(("--max-length", 40), look=W),
    "--arch": C(("--arch", "t5"), look="made/config.json", base=_PAIRS),
    "--layers": C(("--layers", 2), look=W, base=_PAIRS),
    "--width": C(("--width", 64), look=W, base=_PAIRS),
    "--heads": C(("--heads", 1), look="made/config.json", base=_PAIRS),
    "--vocab-size": C(("--vocab-size", 290), look="made/config.json", base=("--task", "translation", "--train", "pairs.jsonl", "--out", "made", *SHAPE, *FEW)),
    "--tokenizer": C(("--tokenizer", "tok"), look="made/config.json", base=("--task", "translation", "--train", "pairs.jsonl", "--out", "made", *SHAPE, *FEW)),
    "--dropout": C(("--dropout", 0.5), look=W, base=_PAIRS),
    "--method": C(("--method", "lora"), look="made/*.safetensors"),
    "--rank": C(("--rank", 3), look=A, base=_LORA),
    "--alpha": C(("--alpha", 3), look=A, base=_LORA),
    "--quantize": C(("--quantize", "int8"), look=A, base=_LORA),
    "--layer-decay": C(("--layer-decay", 0.5), look=W),
    "--smoothing": C(("--smoothing", 0.5), look=W, base=_PAIRS),
    "--noise": C(("--noise", 0.3), look=W, base=_PAIRS),
    "--deletion": C(("--deletion", 0.3), look=W, base=_PAIRS),
    "--beta": C(("--beta", 2), look=W, base=("run", "--task", "preference", "--train", "preferences.jsonl", "--out", "made", *FEW)),
    "--temperature": C(("--temperature", 9), look=W, base=(*_VECTORS, "pairs.jsonl")),
    "--pair-loss": C(("--pair-loss", "cosine"), look=W, base=(*_VECTORS, "scored.jsonl")),
    "--matryoshka": C(("--matryoshka", "8"), look=W, base=(*_VECTORS, "pairs.jsonl")),
    "--masking": C(("--masking", "token"), look=W, base=_HIDDEN),
    "--mask-ratio": C(("--mask-ratio", 0.5), look=W, base=_HIDDEN),
    "--pack": C(("--no-pack",), look=W),
    "--tokens": C(("--tokens", "1k"), look=W, base=(*_TUNED[:-2], "--tokens", "3k")),
    "--epochs": C(("--epochs", 1), look=W, base=(*_TUNED[:-2], "--epochs", 2, "--batch", 2)),
    "--steps": C(("--steps", 1), look=W),
    "--optimizer": C(("--optimizer", "muon"), look=W),
    "--schedule": C(("--schedule", "cosine"), look=W, base=_LONGER),
    "--warmup": C(("--warmup", 0.9), look=W, base=_LONGER),
    "--decay": C(("--decay", 0.9), ("--schedule", "wsd"), look=W, base=_LONGER),
    "--final-learning-rate": C(("--final-learning-rate", 0.9), look=W, base=_LONGER),
    "--precision": C(("--precision", "bf16"), look="made/run.toml"),
    "--momentum": C(("--momentum", 0.1), ("--optimizer", "muon"), look=W),
    "--document-mask": R(("--document-mask",), "--document-mask has no effect here"),
    "--compile": R(("--compile", "on"), "--compile has no effect here"),
    "--resume": C(("--resume", "cut-pairs"), base=(), look="code"),
})  # fmt: skip
for _name in (
    "--size",
    "--kv-heads",
    "--experts",
    "--active",
    "--balance-loss",
    "--router-z-loss",
    "--context",
    "--prompt",
    "--init",
    "--keep-data",
    "--keep",
    "--equalize",
    "--equalize-words",
    "--from-step",
):
    del TABLES["finetune"].options[_name]
_PLAN = ("corpus", *SHAPE, "--context", 32, "--batch", 2, "--evaluations", 2, "--json")
TABLES["plan"] = Table((*_PLAN, "--steps", 9), {
    **{name: R((name, value), f"{name} has no effect here") for name, value in {
        "--schedule": "cosine", "--warmup": 0.9, "--decay": 0.9, "--final-learning-rate": 0.5, "--weight-decay": 5, "--momentum": 0.1,
        "--beta1": 0.1, "--beta2": 0.1, "--clip": 0.1, "--patience": 3, "--parallel": "ddp", "--seed": 3, "--save-minutes": 1,
        "--keep-every": 2, "--max-skipped": 2, "--wandb": "x"}.items()},
    **{name: R((name, 9, "--experts", 4), f"{name} has no effect here") for name in ("--balance-loss", "--router-z-loss")},
    "--tensorboard": R(("--tensorboard",), "--tensorboard has no effect here"),
    "--experts": C(("--experts", 4), look="plan"),
    "--active": C(("--active", 1), ("--experts", 4), look="plan"),
    **{name: C((name, value), look="plan") for name, value in {
        "--arch": "gpt2", "--layers": 2, "--width": 64, "--heads": 1, "--kv-heads": 1, "--context": 64, "--dropout": 0.5, "--batch": 4,
        "--steps": 7, "--micro-batch": 1, "--optimizer": "adamw", "--learning-rate": 0.5, "--evaluations": 3,
        "--validation-part": 0.5}.items()},
    "--size": C(("--size", "20k"), look="plan", base=("corpus", "--steps", 1, "--context", 32, "--json")),
    "--budget": R(("--budget", "never"), "--budget never"),
    "--tokens": C(("--tokens", "1k"), look="plan", base=_PLAN),
    "--epochs": C(("--epochs", 1), look="plan", base=_PLAN),
    "--document-mask": C(("--document-mask",), look="plan"),
    "--precision": C(("--precision", "fp32"), ("--no-document-mask",), look="plan"),
    "--compile": C(("--compile", "on"), look="plan"),
    "--recompute": C(("--recompute",), look="plan"),
    "--device": DEVICE,
    "--vocab-size": C(("--vocab-size", 300), look="plan", base=_PLAN[1:]),
    "--json": C(("--json",), base=_PLAN[:-1]),
})  # fmt: skip
_ELSEWHERE = ("--host", "0.0.0.0")
TABLES["serve"] = Table(("run", "--port", 0), {
    **{name: C((name, value), look="served") for name, value in {
        "--host": "::1", "--port": 1234, "--allow-host": "a.example", "--allow-origin": "https://a.example", "--max-concurrent-requests": 3,
        "--max-queued-tokens": 3, "--max-body-mb": 3, "--max-audio-mb": 3, "--max-stop-strings": 3, "--max-total-tokens": 3, "--max-choices": 3,
        "--max-schema-kb": 3, "--rate": 3, "--deadline": 3, "--drain": 3, "--watchdog": 3, "--access-log": "made.jsonl", "--adapter": "adapter", "--steer": "vector.safetensors",
        "--draft": "small", "--device": "cpu", "--dtype": "bfloat16", "--quantize": "int8", "--kv-cache": "int8"}.items()},
    "--no-auth": C(("--no-auth",), _ELSEWHERE, look="served code"),
    "--api-key-file": C(("--api-key-file", "text.txt"), _ELSEWHERE, look="served code"),
    "--log-prompts": C(("--log-prompts",), look="served"),
    "--on": C(("--on", "ray"), look="served"),
    "--replicas": C(("--replicas", 2), ("--on", "ray", "--most-replicas", 3), look="served"),
    "--most-replicas": C(("--most-replicas", 3), ("--on", "ray"), look="served"),
})  # fmt: skip
SLOW = ("pretrain", "finetune", "plan")
"""Commands whose entries take a training each."""


def options_of(command: str) -> list[str]:
    """The first name of each option, from the command itself."""
    app = build_app(command.split())
    for part in command.split():
        app = app[part]
    names = [each.names[0] for each in app.assemble_argument_collection() if each.parse and each.show]
    return [name for name in names if name.startswith("--")]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_an_entry(command: str):
    assert set(options_of(command)) == set(TABLES[command].options)


def replaced(base: tuple[Any, ...], given: tuple[Any, ...]) -> tuple[Any, ...]:
    """The call with an option given; one that stood there already makes room."""
    if given and given[0] in base and str(given[0]).startswith("--"):
        at = base.index(given[0])
        base = base[:at] + base[at + 2 :]
    return base + given


def watched(command: str, arguments: tuple[Any, ...], look: str, stdin: str, folder: Path, writes: str | None) -> Any:
    """What is observed of a call: see `Changes.look`."""
    opened, read, loaded, served = [], [], [], []
    reading = ModelRunner.read

    def counted(reader: ModelRunner, tokens: Any, *more: Any, **named: Any) -> Any:
        read.append(len(tokens))
        return reading(reader, tokens, *more, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModelRunner, "read", counted)
        patch.setattr(
            "wenloom.api.load_writer",
            lambda *given, **named: loaded.append((given, named)) or load_writer(*given, **named),
        )
        if writes is not None:
            patch.setattr("wenloom.tasks.apply.PairWriter.write", lambda *_, **__: [SimpleNamespace(text=writes)])
        patch.setattr("webbrowser.open", opened.append)
        if "served" in look:
            patch.setattr(
                "wenloom.serving.server.serve",
                lambda loaders, settings: served.append(
                    (settings, [(*each.args, each.keywords) for each in loaders.values()])
                ),
            )
            patch.setattr("wenloom.serving.replicas.serve_on_ray", lambda loaders, *more: served.append(more))
        done = call(*command.split(), *arguments, cwd=folder, stdin=stdin,
                    environment={"WENLOOM_RESULTS": "results.sqlite", "WENLOOM_DATA": "none"})  # fmt: skip
    assert done.code in (0, 2), done
    if look in ("code", "served code"):
        return done.code
    assert done.code == 0, (command, arguments, done)
    if look in ("opened", "read", "loaded", "served"):
        return {"opened": opened, "read": read, "loaded": loaded, "served": served}[look]
    if look == "plan":
        plan = json.loads(done.out)
        return {name: plan[name] for name in _UNTIMED} | {
            "steps": plan["timetable"]["n_steps"],
            "at": plan["timetable"]["evaluate_at"],
        }
    if look in ("out", "err"):
        return untimed(getattr(done, look))
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.glob(look)) if path.is_file()}


_UNTIMED = ("model", "parameters", "derived", "flops", "tokens", "epochs", "micro_batch", "batch", "context", "disk",
            "validation_part")  # fmt: skip
"""What a plan says of the run and not of the machine."""


WITHOUT: dict[tuple[Any, ...], Any] = {}
"""What was observed of calls that many options change: each is made once."""


def untimed(text: str) -> str:
    """Without what differs from run to run."""
    return re.sub(r"[\d.,]+ s\b", "", re.sub(r'"(training_)?seconds": [\d.]+', "", text))


ENTRIES = [
    pytest.param(command, name, marks=[pytest.mark.slow] * (command in SLOW))
    for command, table in TABLES.items()
    for name in table.options
]


@pytest.mark.parametrize("command, name", ENTRIES, ids=lambda each: each)
def test_the_option_changes_something_or_is_refused(command: str, name: str, world: World):
    table = TABLES[command]
    entry = table.options[name]
    base = table.base if entry.base is None else entry.base
    if command == "summarize":
        base = tuple("sums" if each in ("pairs", "brief") else each for each in base)
    words = " ".join(map(str, (*base, *entry.given)) if isinstance(entry.given, tuple) else map(str, base))
    here = {
        name: kind
        for name, kind in HERE.items()
        if name in words
        or (isinstance(entry, Changes) and name in map(str, entry.beside))
        or (name.startswith("runs/") and command == "quickstart")
        or ("/" in name and name.partition("/")[0] in words.split())
        or (name == "results.sqlite" and command in ("leaderboard",))
    }
    if isinstance(entry, Refused):
        done = call(*command.split(), *replaced(base, entry.given), cwd=world.lay_out(here))
        assert done.code == 2 and entry.words in " ".join(done.err.split()), done
        return
    seen = entry.look, entry.stdin or table.stdin
    key = (command, base + entry.beside, *seen, entry.writes, tuple(here))
    if key not in WITHOUT:
        WITHOUT[key] = watched(command, base + entry.beside, *seen, world.lay_out(here), entry.writes)
    given = entry.given if isinstance(entry.given, tuple) else entry.given(WITHOUT[key])
    changed = watched(command, replaced(base + entry.beside, given), *seen, world.lay_out(here), entry.writes)
    assert changed != WITHOUT[key]


CONTRADICTIONS = [
    ("generate run x --greedy --temperature 0.5", "greedy", "temperature"),
    ("generate run x --draft small", "--draft", "--num-assistant-tokens"),
    ("generate run x --adapters adapter", "--adapters", "--adapter"),
    ("generate run x --logprobs 1", "--logprobs", "--json"),
    ("chat chat --draft small --no-do-sample --temperature 0.5", "--do-sample", "--temperature"),
    ("finetune run --task chat --train messages.jsonl --out made --method full --rank 4", "--rank", "--method"),
    (
        "finetune run --task chat --train messages.jsonl --out made --max-source-tokens 9",
        "--max-source-tokens",
        "conversations",
    ),
    ("finetune run --task chat --train messages.jsonl --out made --reverse", "--reverse", "translation"),
    ("finetune run --task chat --train messages.jsonl --out made --beta 0.5", "--beta", "preference"),
    ("finetune run --task chat --train messages.jsonl --out made --document-mask", "--document-mask", "conversations"),
    ("finetune run --task chat --train messages.jsonl --out made --decay 0.5", "--decay", "wsd"),
    ("pretrain corpus --out made --steps 1 --decay 0.5", "--decay", "wsd"),
    ("pretrain corpus --out made --steps 1 --optimizer adamw --momentum 0.5", "--momentum", "muon"),
    ("pretrain corpus --out made --steps 1 --epochs 2", "--epochs", "--steps"),
    ("pretrain corpus --out made --steps 1 --size 1m --layers 2", "--size", "layers"),
    ("pretrain corpus --resume cut", "--resume", "leave them out"),
    ("pretrain --resume cut --seed 3", "--resume", "--steps"),
    ("pretrain --resume cut --out made", "--from-step", "--out"),
    ("pretrain --resume cut --from-step 2", "--from-step", "--out"),
    ("pretrain corpus --out made --from-step 2", "--from-step", "--resume"),
    ("pretrain corpus --out made --method lora", "--method", "--init"),
    ("pretrain corpus --out made --init run --rank 3", "--rank", "lora"),
    ("pretrain corpus --out made --init run --keep 0.2", "--keep", "--keep-data"),
    ("pretrain corpus --out made --init run --layers 3", "--init", "--layers"),
    ("quickstart --steps 7", "--steps 7", "60 steps already"),
    ("prepare texts --out made --tokenizer tok --vocab-size 300", "--tokenizer", "--vocab-size"),
    ("prepare texts --out made --validation 0.3 --validation-files other.txt", "--validation:", "--validation-files"),
    ("tokenizer report tok --language-field x", "--language-field", "files"),
    ("tokenizer report tok --spoken", "--spoken", "files"),
    ("plan corpus --vocab-size 300", "--vocab-size", "vocabulary of its own"),
    ("plan corpus --patience 3", "--patience", "wenloom pretrain"),
    ("plan corpus --seed 3 --wandb mine", "--seed", "--wandb"),
    ("translate pairs x --num-beams 1 --length-penalty 2", "--length-penalty", "--num-beams"),
    ("translate pairs x --out made.txt", "--out", "--file"),
    ("translate pairs x --file lines.txt", "a text", "--file"),
    ("compose poet x --temperature 0 --seed 3", "--seed", "--temperature 0"),
    ("compose poet x --temperature 0 --n 3", "--n", "temperature 0"),
    ("compose poet x --run", "--run", "--style code"),
    ("rescore run nbest.jsonl --bonus 1", "--bonus", "--weight"),
    ("rescore run nbest.jsonl --weight 1 --mix 0.5", "--mix", "--second"),
    ("score bert x --stride 4", "--stride", "encoder"),
    ("score bert x --no-bos", "--no-bos", "encoder"),
    ("score run x --file text.txt", "a text", "--file"),
    ("generate run x --prompts prompts.jsonl --out made.jsonl", "a prompt", "--prompts"),
    ("generate run x --out made.jsonl", "--out", "--prompts"),
    ("evaluate run --predictions lines.txt --references answers.txt", "--predictions", "leave out models"),
    ("evaluate --predictions lines.txt --references answers.txt --limit 3", "--limit", "--predictions"),
    ("evaluate --predictions lines.txt --references answers.txt --stride 3", "--stride", "--predictions"),
    ("evaluate --predictions lines.txt --references answers.txt --dtype bfloat16", "--dtype", "--predictions"),
    ("evaluate --predictions lines.txt --references answers.txt --corpus corpus", "--corpus", "--metric quality"),
    ("evaluate --predictions lines.txt --references answers.txt --no-stemming", "--no-stemming", "bleu"),
    ("evaluate --predictions lines.txt --references answers.txt --metric rouge --tokenize char", "--tokenize", "rouge"),
    ("evaluate --predictions lines.txt --references answers.txt --metric wer --lowercase", "--lowercase", "wer"),
    ("evaluate run --on text.txt --corpus corpus", "--corpus", "--metric quality"),
    ("evaluate run --on text.txt --no-keep --store made.sqlite", "--store", "--no-keep"),
    ("evaluate run --on text.txt --metric bleu", "--metric", "references"),
    ("evaluate run --on text.txt --limit 3", "--limit", "text"),
    ("evaluate run --on text.txt --attempts 3", "--attempts", "writing"),
    ("evaluate run --on choices.jsonl --stride 3", "--stride", "texts"),
    ("evaluate run --on references.jsonl --run-code", "--run-code", "humaneval"),
    ("evaluate run --on references.jsonl --temperature 0.5", "--temperature", "--attempts"),
]
"""Calls whose options contradict each other or go with nothing that was asked, and what the refusal names."""


@pytest.mark.parametrize("line, first, second", CONTRADICTIONS, ids=lambda each: each)
def test_options_that_go_with_nothing_are_refused_naming_both(line: str, first: str, second: str, world: World):
    words = line.split()
    here = {
        name: kind
        for name, kind in HERE.items()
        if name in words or (name.startswith("runs/") and words[0] == "quickstart")
    }
    done = call(*words, cwd=world.lay_out(here), stdin="x\n")
    said = " ".join(done.err.split())
    assert done.code == 2 and first in said and second in said and not done.out, done


def test_answers_are_written_beside_json(world: World):
    folder = world.lay_out({"pairs": "translator", "lines.txt": "few:source"})
    shown = call(
        "translate", "pairs", "--file", "lines.txt", "--out", "made.txt", "--json", "--max-new-tokens", 4, cwd=folder
    )
    answers = [each["text"] for each in json.loads(shown.out)["answers"]]
    assert (folder / "made.txt").read_text(encoding="utf-8").splitlines() == answers


UNFIT = [("translate", "decoder"), ("translate", "chat"), ("summarize", "translator"), ("translate", "summarizer"), ("summarize", "denoiser"),
         ("translate", "adapter"), ("classify", "decoder"), ("summarize", "encoder")]  # fmt: skip


@pytest.mark.parametrize("command, kind", UNFIT)
def test_a_model_that_was_not_trained_for_the_task_is_refused(command: str, kind: str, world: World):
    done = call(command, "m", VERSES[0], cwd=world.lay_out({"m": kind, "decoder": "decoder"}))
    assert done.code == 2 and "wenloom finetune --task" in done.err and not done.out, done


def test_a_quantized_model_knows_its_task(world: World):
    folder = world.lay_out({"poet": "poet"})
    assert call("quantize", "poet", "--out", "small", cwd=folder).code == 0
    assert call("compose", "small", "春", "--max-new-tokens", 4, cwd=folder).code == 0
