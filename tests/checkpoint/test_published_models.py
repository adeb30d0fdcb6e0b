"""Published models write, cut and weigh text as transformers and llama.cpp do, from the folder and from GGUF files.

Run with the weights (`WENLOOM_REAL_MODELS`), the datasets (`WENLOOM_SHARED_DATA`) and the package llama_cpp; what is not there is
skipped.
"""

import gzip
import math
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional as F

from wenloom.auto import AutoModelForCausalLM, CausalLM
from wenloom.checkpoint.folder import load_decoder, load_tokenizer, read_config, stored_dtype
from wenloom.checkpoint.gguf.export import export_gguf
from wenloom.checkpoint.gguf.folder import read_gguf
from wenloom.model.decoder import Decoder

from ..mixed_lines import mixed_lines

NAMES = ["gemma3", "smollm2"]
N_TOKENS = 200
NEAR = 1e-3
"""Logits nearer than this may change places between two computations in float32."""
PROMPTS = [
    "The capital of France is", "Once upon a time, there was a small", "The theory of evolution explains",
    "To bake a loaf of bread, you first", "In 1969, the first people", "Dear Sir or Madam,\n\nI am writing",
    "Q: What is the difference between a virus and a bacterium?\nA:", "The opposite of \"generous\" is",
    "从前有一座山，山上有一座庙，", "人工智能的发展", "北京是中国的首都，", "春天来了，", "问：水在多少度沸腾？\n答：", "我最喜欢的书是",
    "def quicksort(items):\n    ", "#include <stdio.h>\n\nint main(", "SELECT name, COUNT(*) FROM", "<!DOCTYPE html>\n<html>\n<head>",
    "import torch\n\nclass Attention(nn.Module):\n", "fn main() {\n    let mut total = 0;\n",
]  # fmt: skip
CLASSES = {"gemma3": transformers.AutoTokenizer, "smollm2": transformers.PreTrainedTokenizerFast}
"""SmolLM2 names GPT-2's class, by which transformers 5 leaves out the digits' rule of its tokenizer.json."""
Tokens = list[int]
Write = Callable[[list[Tokens], list[Tokens]], list[Tokens]]
"""Texts, and how transformers goes on with them, to how something else does, at least up to the first difference."""


class Text(NamedTuple):
    """A prompt and what transformers wrote behind it."""

    tokens: Tokens
    begin: int


class Other(NamedTuple):
    """Where a computation wrote another token than transformers."""

    prompt: int
    place: int
    margin: float
    """How far its token's logit is below the best, by transformers."""


def _others(texts: list[Text], write: Write, logits: Callable[[Tokens], torch.Tensor]) -> list[Other]:
    """Behind a difference it goes on from the expected token, so that all of every text is compared."""
    found, places = [], {number: text.begin for number, text in enumerate(texts)}
    while places:
        rows = [(texts[number].tokens[:place], texts[number].tokens[place:]) for number, place in places.items()]
        written, before, places = write([row for row, _ in rows], [row for _, row in rows]), places, {}
        for (number, place), (_, expected), got in zip(before.items(), rows, written, strict=True):
            same = next((n for n, pair in enumerate(zip(expected, got, strict=False)) if pair[0] != pair[1]), None)
            if same is None:
                assert len(got) == len(expected), "the text ends elsewhere"
                continue
            last = logits(texts[number].tokens[: place + same])
            found.append(Other(number, place + same, float(last[expected[same]] - last[got[same]])))
            if same + 1 < len(expected):
                places[number] = place + same + 1
    return found


def _generated(model: Any, prompts: list[Tokens], most: int, ends: tuple[int, ...]) -> list[Tokens]:
    """What a model writes greedily, by transformers' `generate` or ours of the same form: rows side by side, filled on the left."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in prompts])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts])
    how = {"max_new_tokens": most, "do_sample": False, "repetition_penalty": 1.0}
    made = model.generate(ids, attention_mask=mask, **how)[:, longest:].tolist()
    return [row[: next((n for n, token in enumerate(row, 1) if token in ends), len(row))] for row in made]


def _theirs(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@cache
def _texts(folder: Path, ends: tuple[int, ...]) -> list[Text]:
    text = CLASSES[folder.name].from_pretrained(folder)
    rows: list[Tokens] = [text(prompt)["input_ids"] for prompt in PROMPTS]
    made = _generated(_theirs(folder), rows, N_TOKENS, ends)
    return [Text(row + more, len(row)) for row, more in zip(rows, made, strict=True)]


@torch.inference_mode()
def _logits(folder: Path, tokens: Tokens) -> torch.Tensor:
    return _theirs(folder)(torch.tensor([tokens])).logits[0, -1]


def _llama(file: Path) -> Any:
    """llama.cpp with logits of every token, and with keys and values in 32 bits, as all others here keep them."""
    library, threads = pytest.importorskip("llama_cpp"), torch.get_num_threads()
    kept = {"type_k": library.GGML_TYPE_F32, "type_v": library.GGML_TYPE_F32, "swa_full": True}
    return library.Llama(
        str(file), n_ctx=512, n_threads=threads, n_threads_batch=threads, verbose=False, logits_all=True, **kept
    )


@torch.no_grad()
def _from_file(file: Path, kept: torch.dtype) -> Decoder:
    """In float32, matrices rounded as the folder that was made of the file keeps them."""
    model = read_gguf(file, torch.float32).model
    assert isinstance(model, Decoder)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.copy_(parameter.to(kept))
    return model


def _by_llama_cpp(file: Path) -> Write:
    """The best token at every place of the expected text: as long as they are those, it is what llama.cpp writes."""
    model = _llama(file)

    def best(prompt: Tokens, expected: Tokens) -> Tokens:
        model.reset()
        model.eval(prompt + expected[:-1])
        return model.scores[len(prompt) - 1 : model.n_tokens].argmax(-1).tolist()

    return lambda prompts, expected: list(map(best, prompts, expected))


@pytest.mark.slow
@pytest.mark.real_models
@pytest.mark.parametrize("where", ["folder", "file", "llama.cpp"])
@pytest.mark.parametrize("name", NAMES)
def test_greedy_text_is_that_of_transformers(name: str, where: str, real_models: Path, tmp_path: Path):
    """200 tokens after each of 20 prompts: from the folder, from the GGUF file, and in llama.cpp after export."""
    folder = real_models / name
    ends = read_config(folder).eos_token_ids
    if where == "llama.cpp":
        export_gguf(load_decoder(folder), load_tokenizer(folder), tmp_path / "model.gguf", "F32")
        write = _by_llama_cpp(tmp_path / "model.gguf")
    else:
        model = (AutoModelForCausalLM.from_pretrained(folder, dtype="float32") if where == "folder"
                 else CausalLM(_from_file(folder / "model.gguf", stored_dtype(folder))))  # fmt: skip

        def write(prompts: list[Tokens], expected: list[Tokens]) -> list[Tokens]:
            written = _generated(model, prompts, max(map(len, expected)), ends)
            return [row[: len(more)] for row, more in zip(written, expected, strict=True)]

    others = _others(_texts(folder, ends), write, partial(_logits, folder))
    near, far = ([other for other in others if (other.margin < NEAR) is wanted] for wanted in (True, False))
    print(f"{name}, {where}: near ties in {len({other.prompt for other in near})} of 20 texts: {near}; others: {far}")
    assert far == []


@pytest.mark.slow
@pytest.mark.real_models
@pytest.mark.shared_data
@pytest.mark.parametrize("where", ["folder", "file"])
@pytest.mark.parametrize("name", NAMES)
def test_ten_thousand_lines_are_cut_as_by_the_reference(name: str, where: str, real_models: Path, shared_data: Path):
    folder = real_models / name
    theirs = CLASSES[name].from_pretrained(folder)
    ours = load_tokenizer(folder) if where == "folder" else read_gguf(folder / "model.gguf").tokenizer
    lines = mixed_lines(shared_data, 10_000, [*theirs.all_special_tokens, "<|im_start|>", "<start_of_turn>"])
    wrong = [line for line in lines if ours.encode(line) != theirs(line)["input_ids"]]
    assert wrong == []
    ids = [theirs(line)["input_ids"] for line in lines]
    assert [line for line, row in zip(lines, ids, strict=True) if ours.decode(row) != theirs.decode(row)] == []


def _rounds_what_it_multiplies(model: nn.Module) -> None:
    """Let products take activations in 8 bits, as llama.cpp's do with weights in Q8_0: 32 numbers share a scale in 16 bits."""

    def rounded(x: torch.Tensor) -> torch.Tensor:
        blocks = x.reshape(*x.shape[:-1], -1, 32)
        scale = blocks.abs().amax(-1, keepdim=True) / 127
        return ((blocks / scale.clamp_min(1e-30)).round() * scale.half().float()).reshape(x.shape)

    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(lambda _, given: (rounded(given[0]), *given[1:]))
        elif name == "final_norm":  # before the output matrix, which is the embedding
            module.register_forward_hook(lambda _, given, found: rounded(found))


@pytest.mark.slow
@pytest.mark.real_models
@pytest.mark.shared_data
@pytest.mark.parametrize("kind, most", [("F32", 1e-4), ("Q8_0", 2e-3)])
@pytest.mark.parametrize("name", NAMES)
def test_perplexity_is_that_of_llama_cpp(
    name: str, kind: str, most: float, real_models: Path, shared_data: Path, tmp_path: Path
):
    """An exported file in llama.cpp, and read back here with its rounding, on the same text in pieces of 512 tokens."""
    text = load_tokenizer(real_models / name)
    export_gguf(load_decoder(real_models / name, dtype=torch.float32), text, tmp_path / "model.gguf", kind)
    theirs, ours = _llama(tmp_path / "model.gguf"), read_gguf(tmp_path / "model.gguf", torch.float32).model
    if kind == "Q8_0":
        _rounds_what_it_multiplies(ours)
    said = gzip.decompress((shared_data / "wikitext2/test.txt.gz").read_bytes()).decode()[:50_000]
    ids = text.encode(said)
    nats = np.zeros(2)
    pieces = [ids[begin : begin + 512] for begin in range(0, len(ids) - 511, 512)][:8]
    for piece in pieces:
        theirs.reset()
        theirs.eval(piece)
        with torch.inference_mode():
            both = torch.from_numpy(theirs.scores[:511]), ours(torch.tensor([piece[:-1]]))[0]
            nats += [F.cross_entropy(logits, torch.tensor(piece[1:]), reduction="sum").item() for logits in both]
    there, here = (math.exp(each / (len(pieces) * 511)) for each in nats)
    print(f"{name} {kind}: perplexity {there:.4f} in llama.cpp, {here:.4f} here, {there / here - 1:+.5%}")
    assert there == pytest.approx(here, rel=most)
