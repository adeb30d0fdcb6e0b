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
from torch.nn import functional as F

from wenloom.auto import AutoModelForCausalLM, CausalLM
from wenloom.checkpoint.folder import load_decoder, load_tokenizer
from wenloom.checkpoint.gguf.export import export_gguf
from wenloom.checkpoint.gguf.folder import read_gguf

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
Write = Callable[[list[int], int], list[int]]


class Other(NamedTuple):
    """Where a computation wrote another token than transformers."""

    place: int
    margin: float
    """How far its token's logit is below the best, by transformers."""


def _others(begin: int, expected: list[int], write: Write, logits: Callable[[list[int]], torch.Tensor]) -> list[Other]:
    """Each time, it goes on behind the expected token, so that all of the text is compared."""
    found = []
    while begin < len(expected):
        written = write(expected[:begin], len(expected) - begin)
        assert written, "nothing was written"
        place = next((n for n, pair in enumerate(zip(written, expected[begin:], strict=False)) if pair[0] != pair[1]), None)  # fmt: skip
        if place is None:
            assert len(written) == len(expected) - begin, "the text ends early"
            break
        begin += place
        last = logits(expected[:begin])
        found.append(Other(begin, float(last[expected[begin]] - last[written[place]])))
        begin += 1
    return found


def _theirs(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@cache
def _expected(folder: Path) -> list[tuple[int, list[int]]]:
    """Where the text of transformers begins after each prompt, and the tokens of both; all prompts are read together."""
    theirs, text = _theirs(folder), CLASSES[folder.name].from_pretrained(folder, padding_side="left")
    given = text(PROMPTS, return_tensors="pt", padding=True)
    inputs = {"input_ids": given.input_ids, "attention_mask": given.attention_mask}
    made = theirs.generate(**inputs, max_new_tokens=N_TOKENS, do_sample=False, repetition_penalty=1.0).tolist()
    found, ends = [], load_decoder(folder).config.eos_token_ids
    for row, mask in zip(made, given.attention_mask.tolist(), strict=True):
        begin, padding = sum(mask), len(mask) - sum(mask)
        tokens = row[padding:]
        end = next((place for place in range(begin, len(tokens)) if tokens[place] in ends), len(tokens))
        found.append((begin, tokens[: end + 1]))
    return found


@torch.inference_mode()
def _logits(folder: Path, tokens: list[int]) -> torch.Tensor:
    return _theirs(folder)(torch.tensor([tokens])).logits[0, -1]


def _llama(file: Path, **options: Any) -> Any:
    """llama.cpp with keys and values in 32 bits, as all others here keep them."""
    library = pytest.importorskip("llama_cpp")
    kept = {"type_k": library.GGML_TYPE_F32, "type_v": library.GGML_TYPE_F32, "swa_full": True}
    threads = torch.get_num_threads()
    return library.Llama(str(file), n_threads=threads, n_threads_batch=threads, verbose=False, **kept, **options)


def _by_llama_cpp(file: Path, ends: tuple[int, ...]) -> Write:
    model = _llama(file, n_ctx=512)

    def write(tokens: list[int], most: int) -> list[int]:
        model.reset()
        found: list[int] = []
        for token in model.generate(tokens, temp=0.0, reset=False):
            found.append(token)
            if len(found) == most or token in ends:
                break
        return found

    return write


@pytest.mark.slow
@pytest.mark.real_models
@pytest.mark.parametrize("where", ["folder", "file", "llama.cpp"])
@pytest.mark.parametrize("name", NAMES)
def test_greedy_text_is_that_of_transformers(name: str, where: str, real_models: Path, tmp_path: Path):
    """200 tokens after each of 20 prompts: from the folder, from the GGUF file, and in llama.cpp after export."""
    folder = real_models / name
    if where == "llama.cpp":
        decoder = load_decoder(folder, dtype=torch.float32)
        export_gguf(decoder, load_tokenizer(folder), tmp_path / "model.gguf", "F32")
        write = _by_llama_cpp(tmp_path / "model.gguf", decoder.config.eos_token_ids)
        del decoder
    else:
        # the folder was made of the file with the weights rounded to bfloat16
        model = (AutoModelForCausalLM.from_pretrained(folder, dtype="float32") if where == "folder"
                 else CausalLM(read_gguf(folder / "model.gguf", torch.bfloat16).model.float()))  # fmt: skip

        def write(tokens: list[int], most: int) -> list[int]:
            made = model.generate(torch.tensor([tokens]), max_new_tokens=most, do_sample=False)
            return made[0].tolist()[len(tokens) :]

    far, near = [], []
    for prompt, (begin, expected) in zip(PROMPTS, _expected(folder), strict=True):
        for other in _others(begin, expected, write, partial(_logits, folder)):
            (near if other.margin < NEAR else far).append((prompt, other))
    print(
        f"{name}, {where}: near ties in {len({prompt for prompt, _ in near})} of {len(PROMPTS)} prompts: {near}; others: {far}"
    )
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


@pytest.mark.slow
@pytest.mark.real_models
@pytest.mark.shared_data
@pytest.mark.parametrize("kind, most", [("F32", 1e-4), ("Q8_0", 1e-3)])
@pytest.mark.parametrize("name", NAMES)
def test_perplexity_is_that_of_llama_cpp(
    name: str, kind: str, most: float, real_models: Path, shared_data: Path, tmp_path: Path
):
    """An exported file in llama.cpp, and read back here, on the same text in pieces of 512 tokens."""
    text = load_tokenizer(real_models / name)
    export_gguf(load_decoder(real_models / name, dtype=torch.float32), text, tmp_path / "model.gguf", kind)
    theirs, ours = _llama(tmp_path / "model.gguf", n_ctx=512, n_batch=512, logits_all=True), read_gguf(tmp_path / "model.gguf", torch.float32).model  # fmt: skip
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
