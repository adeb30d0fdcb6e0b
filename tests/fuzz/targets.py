"""Every kind of file that Wenloom reads: a valid one to begin with, and the public function that reads it."""

import contextlib
import dataclasses
import gzip
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import zstandard

from wenloom.api import load
from wenloom.auto import AutoModelForCausalLM
from wenloom.checkpoint.adapter import write_adapter
from wenloom.checkpoint.folder import load_model, read_config, save_model
from wenloom.checkpoint.gguf.export import export_gguf
from wenloom.checkpoint.gguf.folder import read_gguf
from wenloom.checkpoint.llama2c import read_decoder, read_tokenizer
from wenloom.cli import app, prompts
from wenloom.cli.config_file import ConfigFile
from wenloom.core.errors import InputError, WenloomError
from wenloom.core.randomness import generator
from wenloom.evaluation import interchange
from wenloom.evaluation.folder import keep_comparisons, keep_figures
from wenloom.evaluation.page import write_page
from wenloom.evaluation.results import Result, ResultsStore
from wenloom.evaluation.rows import read_lines, read_text
from wenloom.evaluation.signature import Signature
from wenloom.evaluation.suite import MetricResult
from wenloom.evaluation.suites import SUITES
from wenloom.evaluation.writing_suites import own_rows
from wenloom.model.build import build
from wenloom.model.config import ModelConfig, reshaped
from wenloom.model.decoder import Decoder
from wenloom.model.lora import AdapterConfig, adapt
from wenloom.model.parts import Experts
from wenloom.model.presets import encoder_decoder_from_scratch, encoder_from_scratch, from_scratch
from wenloom.tasks.classification import read_labelled
from wenloom.tasks.messages import read_conversations, read_preferences
from wenloom.tasks.pairs import TRANSLATION, read_pairs
from wenloom.tasks.rescoring import read_utterances
from wenloom.tasks.rows import RowReader
from wenloom.text.clean import normalize
from wenloom.text.documents import ReadOptions, find_files, read_documents
from wenloom.tokens.prepare import PrepareOptions, prepare
from wenloom.tokens.shards import Dataset
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.checkpoints import latest_checkpoint
from wenloom.training.comparison import compare
from wenloom.training.pretrain import pretrain
from wenloom.training.run_file import read_run
from wenloom.training.settings import ModelSettings, TrainSettings
from wenloom.training.state import load_checkpoint

from ..small_gguf import write_small


class Target(NamedTuple):
    """A kind of file."""

    name: str
    seeds: str
    """Folder below the seeds, copied for each input."""
    files: tuple[str, ...]
    """Which of its files is spoiled, one at a time."""
    read: Callable[[Path, Path], object]
    """Reads (the folder, the spoiled file)."""
    weight: int = 1


def make_seeds(folder: Path) -> None:
    """Small valid files of every kind."""
    texts = folder / "texts"
    texts.mkdir(parents=True)
    story = "The lamp was lit at dusk.\nZwölf Boxkämpfer jagen. 春眠不觉晓，处处闻啼鸟。\n\nI'm 👩‍👧 e\u0301.\n" * 3
    rows = [{"text": story, "id": number, "meta": {"a": [1, None]}} for number in range(3)]
    page = f"<!doctype html><head><title>T</title><style>p{{}}</style></head><body><p class='a'>{story}<pre> x </pre>&amp;</body>"
    _write(texts / "a.txt", story + "<|endoftext|>" + story)
    _write(texts / "a.md", "# " + story)
    _write(texts / "a.html", page)
    _write(texts / "a.jsonl", _jsonl(rows))
    _write(texts / "a.csv", 'id,text\n1,"one, ""two""\nthree"\n2,four\n')
    _write(texts / "a.tsv", "id\ttext\n1\tone\n2\ttwo\n")
    for name in ("a.jsonl", "a.txt", "a.csv"):
        data = (texts / name).read_bytes()
        (texts / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))
        (texts / f"{name}.zst").write_bytes(zstandard.compress(data))
    _task_rows(folder / "rows")
    _results(folder / "results")
    _evaluated(folder / "evaluation")
    corpus = prepare(
        [str(texts / "a.jsonl"), str(texts / "a.md")], folder / "corpus", PrepareOptions("bpe", 300, 0.5)
    ).dataset
    config = from_scratch(
        "llama", vocab_size=300, n_layers=1, d_model=16, n_heads=2, n_kv_heads=1, context_length=32, bos_token_id=0,
        eos_token_id=0, pad_token_id=1,
    )  # fmt: skip
    decoder = Decoder(config)
    decoder.initialise(generator(0, "fuzz"))
    model = folder / "model"
    save_model(decoder, model)
    corpus.tokenizer().save_pretrained(model)
    _write(model / "generation_config.json", json.dumps({"temperature": 0.7, "top_p": 0.9, "top_k": 5, "do_sample": True,
           "eos_token_id": [0], "max_new_tokens": 5, "repetition_penalty": 1.1, "stop_strings": ["x"]}))  # fmt: skip
    _write(
        model / "special_tokens_map.json",
        json.dumps({"bos_token": "<|endoftext|>", "pad_token": {"content": "<|pad|>"}}),
    )
    settings = TrainSettings(steps=2, batch=2, device="cpu", learning_rate=1e-3)
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        pretrain(corpus.folder, folder / "run", ModelSettings(layers=1, width=16, heads=1, context=16), settings)
    for kind in ("gpt2", "llama", "bert", "t5"):
        write_small(folder / "gguf" / f"{kind}.gguf", kind, "F16" if kind == "t5" else "Q8_0")
    _write_more_gguf(folder / "gguf", config)
    adapter = folder / "adapter"
    shutil.copytree(model, adapter / "base")
    (adapter / "tuned").mkdir()
    write_adapter(
        adapt(load_model(model), AdapterConfig(2, 4.0), generator(0, "adapter")),
        adapter / "tuned",
        str(adapter / "base"),
    )


def _write_more_gguf(folder: Path, config: ModelConfig) -> None:
    """A mixture of experts, an encoder, and an encoder with a decoder, with tokenizers of the files that are there."""
    sizes: dict[str, Any] = dict(
        vocab_size=300, n_layers=1, d_model=16, n_heads=2, context_length=32, dropout=0.0, pad_token_id=0
    )
    models = {
        "experts": ("llama", reshaped(config, family="mixtral", mlp={"experts": Experts(3, 2, config.d_mlp)})),
        "encoder": ("bert", encoder_from_scratch("bert", **sizes)),
        "pair": ("t5", encoder_decoder_from_scratch("t5", eos_token_id=2, **sizes)),
    }
    for name, (kind, shape) in models.items():
        model = build(shape)
        model.initialise(generator(0, "fuzz"))
        export_gguf(model, read_gguf(folder / f"{kind}.gguf").tokenizer, folder / f"{name}.gguf", "F16")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _task_rows(folder: Path) -> None:
    pairs = [{"source": f"text {n}", "target": [f"Text {n}", "x"]} for n in range(3)]
    talk = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "你好"}]},
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
            {"instruction": "Hi", "input": "", "output": "Hello"}, {"prompt": "Hi", "response": "Hello"}]  # fmt: skip
    human = "\n\nHuman: Hi\n\nAssistant: "
    _write(folder / "pairs.jsonl", _jsonl(pairs))
    _write(folder / "pairs.json", json.dumps(pairs))
    _write(folder / "pairs.tsv", "a\tb\nc\td\n")
    _write(folder / "chat.jsonl", _jsonl(talk))
    _write(folder / "preference.jsonl", _jsonl([{"prompt": "Hi", "chosen": "a", "rejected": "b"},
           {"chosen": human + "a", "rejected": human + "b"}, {"prompt": [{"role": "user", "content": "x"}], "chosen": "a", "rejected": "b"}]))  # fmt: skip
    _write(folder / "labels.jsonl", _jsonl([{"text": "a", "label": 1}, {"sentence": "b", "label": "x"}]))
    _write(folder / "nbest.jsonl", _jsonl([{"utt_id": "1", "ref": "a b", "nbest": [{"text": "a b", "score": -1.5}]}]))
    _write(folder / "own.jsonl", _jsonl([{"prompt": "a", "reference": "b"}, {"prompt": "c", "references": ["d"]}]))
    _write(folder / "choice.jsonl", _jsonl([{"query": "Question: x", "choices": ["a", "b"], "gold": 1},
                                            {"context_options": ["a", "b"], "continuation": "c", "gold": 0}]))  # fmt: skip
    _write(folder / "lambada.jsonl", _jsonl([{"text": "one two three"}]))
    _write(folder / "hellaswag.jsonl", _jsonl([{"ctx": "a", "endings": ["b", "c"], "label": "1"}]))
    _write(folder / "hellaswag.txt", "context\n1\na\nb\nc\nd\n")
    _write(folder / "blimp.jsonl", _jsonl([{"sentence_good": "a", "sentence_bad": "b", "UID": "x"}]))
    _write(folder / "gsm8k.jsonl", _jsonl([{"question": "a", "answer": "b #### 3"}]))
    _write(
        folder / "humaneval.jsonl", _jsonl([{"task_id": "a", "prompt": "def f():\n", "test": "x", "entry_point": "f"}])
    )
    _write(
        folder / "mbpp.jsonl", _jsonl([{"task_id": 1, "text": "a", "test_list": ["assert 1"], "test_setup_code": ""}])
    )
    _write(folder / "prompts.jsonl", _jsonl([{"prompt": "Once", "max_new_tokens": 2, "temperature": 0.5, "stop_strings": ["x"]},
                                             {"prompt": "x", "num_beams": 2, "grammar": None}]))  # fmt: skip


def _results(folder: Path) -> None:
    folder.mkdir(parents=True)
    figure = Result(
        "language modelling", "WikiText-2", "bits_per_byte", 1.5, "mine", "bits_per_byte|version:1", low=1.0, high=2.0
    )
    ResultsStore(folder / "results.db").add([figure, dataclasses.replace(figure, model="other", value=2.0)])
    for form in ("sota", "eval-results", "model-index", "eee"):
        interchange.write([figure], form, folder / form)
    names = {"sota/sota.json": "sota.json", "eval-results/.eval_results/mine.yaml": "eval.yaml",
             "model-index/model-index.md": "card.md", "eee/every-eval-ever/mine.json": "eee.json"}  # fmt: skip
    for written, name in names.items():
        shutil.copy(folder / written, folder / name)
    for form in ("sota", "eval-results", "model-index", "eee"):
        shutil.rmtree(folder / form)


def _evaluated(folder: Path) -> None:
    folder.mkdir(parents=True)
    accuracy = MetricResult("grammar", "BLiMP", "acc", 50.0, 40.0, 60.0, 2, Signature.parse("acc|norm:raw"), is_headline=True,
                            details={"groups": {"a": 100.0, "b": 0.0}, "group_sizes": {"a": 1, "b": 1}})  # fmt: skip
    keep_figures(folder / "m/blimp.jsonl", "m", "blimp", [accuracy])
    keep_comparisons(folder, [{"on": "blimp", "by": "acc", "first": "m", "second": "n", "difference": 1.0, "low": 0.0,
                               "high": 2.0, "p": 0.5, "test": "McNemar, exact"}])  # fmt: skip
    _write(folder / "m/blimp.jsonl", _jsonl([{"evaluation": "blimp"}, *(
        {"number": n, "context": [""], "choices": ["a", "b"], "gold": 0, "log_likelihoods": [-1.0, -2.0], "chosen": {"raw": 0}}
        for n in range(2))]))  # fmt: skip


# --- readers ---


def _documents(folder: Path, file: Path) -> None:
    lenient = ReadOptions(skip_bad=True, separator="<|endoftext|>", repair=True, encoding="auto")
    for options in (ReadOptions(), lenient):
        with contextlib.nullcontext() if options is lenient else contextlib.suppress(WenloomError):
            for document in read_documents(find_files([str(file)]), options):
                normalize(document.text).encode()


def _model(folder: Path, file: Path) -> None:
    read_config(folder)
    load_model(folder)


def _defaults(folder: Path, file: Path) -> None:
    AutoModelForCausalLM.from_pretrained(folder)
    load(str(folder), "cpu")


def _tokenizer(folder: Path, file: Path) -> None:
    tokenizer = TextTokenizer.from_pretrained(folder)
    ids = tokenizer.encode("The lamp 春 <|endoftext|>")
    tokenizer.decode(ids)
    tokenizer.decode(tokenizer.encode_documents(["a", ""])[0], skip_special_tokens=True)


def _adapter(folder: Path, file: Path) -> None:
    load_model(folder / "tuned")


def _corpus(folder: Path, file: Path) -> None:
    dataset = Dataset.open(folder)
    for name in ("train", "validation"):
        stream = dataset.stream(name)
        if len(stream):
            stream.window(0, len(stream))
    dataset.tokenizer()


def _run(folder: Path, file: Path) -> None:
    read_run(folder)
    compare([folder])


def _evaluation(folder: Path, file: Path) -> None:
    write_page(folder)


def _checkpoint(folder: Path, file: Path) -> None:
    found = latest_checkpoint(folder)
    if found is not None:
        model = load_model(folder)
        load_checkpoint(found, model, [torch.optim.AdamW(model.parameters())])


def _config_file(folder: Path, file: Path) -> None:
    """As `wenloom plan --config FILE` does, up to where the command would run."""
    arguments = ["plan"]
    made = app.build_app(arguments)
    made.config = [ConfigFile(file)]
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            made.parse_args(arguments, exit_on_error=True)
    except SystemExit:
        raise InputError("refused by the command line") from None


def _store(folder: Path, file: Path) -> None:
    for each in ResultsStore(file).all():
        _ = each.key, each.id


def _imports(folder: Path, file: Path) -> None:
    for each in interchange.read(file):
        _ = each.key, each.id


def _rows(read: Callable[[str, RowReader], object]) -> Callable[[Path, Path], object]:
    return lambda folder, file: read(str(file), RowReader())


def _suite(name: str) -> Callable[[Path, Path], object]:
    return lambda folder, file: SUITES[name].read(file)


def _prompts(folder: Path, file: Path) -> None:
    prompts.rows_of(file, {})


def _lines(folder: Path, file: Path) -> None:
    read_lines(file)
    read_text(file)


def _gguf(folder: Path, file: Path) -> None:
    read_gguf(file).tokenizer.encode("The lamp\n\n 你好 <s>")


def _llama2c(folder: Path, file: Path) -> None:
    (read_decoder if file.name == "model.bin" else read_tokenizer)(file)


TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
TARGETS = [
    Target("documents", "texts", ("a.txt", "a.md", "a.html", "a.jsonl", "a.csv", "a.tsv", "a.jsonl.gz", "a.txt.gz",
                                  "a.csv.gz", "a.jsonl.zst", "a.txt.zst", "a.csv.zst"), _documents, 16),
    Target("lines", "texts", ("a.txt", "a.txt.gz", "a.txt.zst"), _lines, 2),
    Target("config", "model", ("config.json",), _model, 12),
    Target("safetensors", "model", ("model.safetensors",), _model, 8),
    Target("generation config", "model", ("generation_config.json",), _defaults, 6),
    Target("tokenizer", "model", TOKENIZER_FILES, _tokenizer, 12),
    Target("adapter", "adapter", ("tuned/adapter_config.json", "tuned/adapter_model.safetensors"), _adapter, 8),
    Target("gguf", "gguf", ("gpt2.gguf", "llama.gguf", "bert.gguf", "t5.gguf", "experts.gguf", "encoder.gguf", "pair.gguf"), _gguf, 10),
    Target("corpus", "corpus", ("dataset.json", "train-00000.npy", "validation-00000.npy"), _corpus, 6),
    Target("run", "run", ("run.toml", "metrics.jsonl"), _run, 5),
    Target("checkpoint", "run", ("@checkpoint/state.json", "@checkpoint/optimizer.safetensors",
                                 "@checkpoint/model.safetensors"), _checkpoint, 4),
    Target("config file", "run", ("run.toml",), _config_file, 2),
    Target("evaluation", "evaluation", ("m/blimp.figures.json", "m/blimp.jsonl", "comparisons.json"), _evaluation, 4),
    Target("store", "results", ("results.db",), _store, 5),
    Target("imports", "results", ("sota.json", "eee.json", "eval.yaml", "card.md"), _imports, 8),
    Target("pairs", "rows", ("pairs.jsonl", "pairs.json", "pairs.tsv"), _rows(lambda f, i: read_pairs(f, TRANSLATION, i)), 5),
    Target("chat", "rows", ("chat.jsonl",), _rows(read_conversations), 4),
    Target("preference", "rows", ("preference.jsonl",), _rows(read_preferences), 4),
    Target("labels", "rows", ("labels.jsonl", "pairs.tsv"), _rows(read_labelled), 2),
    Target("n-best", "rows", ("nbest.jsonl",), lambda folder, file: read_utterances(file, RowReader()), 2),
    Target("own rows", "rows", ("own.jsonl", "choice.jsonl"), lambda folder, file: own_rows(file), 5),
    Target("prompts", "rows", ("prompts.jsonl",), _prompts, 5),
    *(Target(f"suite {name}", "rows", (f"{name}.jsonl",), _suite(name), 1)
      for name in ("lambada", "hellaswag", "blimp", "gsm8k", "humaneval", "mbpp")),
    Target("suite hellaswag txt", "rows", ("hellaswag.txt",), _suite("hellaswag"), 1),
]  # fmt: skip
