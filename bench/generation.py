"""Generation speed, side by side with transformers, llama.cpp and CTranslate2 on the same weights.

Every contestant runs in a process of its own with two threads, rounds alternate, so that a slow hour of the machine
hits all. A random Llama-shaped model is written as a Wenloom folder, which transformers reads, and exported from it
to GGUF for llama.cpp; CTranslate2 gets a GPT-2 shape. Measured apart: decoding one text, reading a prompt of 384
tokens, 16 texts of mixed length at once, and the first token after a prefix of 1,000 tokens that is known.

    python bench/generation.py [--sizes 15m 124m 350m] [--rounds 3] [--contestants ...] [--out generation.json]

llama.cpp and CTranslate2 need `pip install llama-cpp-python gguf ctranslate2`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Size(NamedTuple):
    layers: int
    width: int
    heads: int


SIZES = {"15m": Size(6, 288, 6), "124m": Size(12, 768, 12), "350m": Size(24, 1024, 16)}
VOCABULARY = 50304
OURS = ["wenloom-fp32", "wenloom-bf16", "wenloom-int8", "wenloom-int4"]
PEERS = ["hf-fp32", "hf-bf16", "llamacpp-f32", "llamacpp-f16", "llamacpp-q8_0", "llamacpp-q4_0"]
CT2 = ["ct2-fp32", "ct2-int8", "wenloom_gpt2-fp32", "wenloom_gpt2-int8"]
NEW, PROMPT, PREFILL, STREAMS, PREFIX = 96, 64, 384, 16, 1000
RATIOS = [
    ("decode", "wenloom-fp32", "llamacpp-f32", 1.0), ("decode", "wenloom-bf16", "llamacpp-f16", 1.0),
    ("decode", "wenloom-int8", "llamacpp-q8_0", 1.15), ("decode", "wenloom-int4", "llamacpp-q4_0", 0.9),
    ("decode", "wenloom-fp32", "hf-fp32", 2.0), ("decode", "wenloom-bf16", "hf-bf16", 2.0),
    ("decode", "wenloom-int8", "hf-bf16", 3.0), ("decode", "wenloom_gpt2-int8", "ct2-int8", None),
    ("decode", "wenloom_gpt2-fp32", "ct2-fp32", None),
]  # fmt: skip


def prompt(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(10, VOCABULARY, length).tolist()


def streams() -> list[list[int]]:
    return [prompt(length, seed) for seed, length in enumerate(np.linspace(16, 200, STREAMS).astype(int))]


# --- the weights ---


def write_model(folder: Path, size: Size, arch: str) -> None:
    from tokenizers import Tokenizer, models

    from wenloom.checkpoint.folder import write_model_files
    from wenloom.core.randomness import generator
    from wenloom.model.decoder import Decoder
    from wenloom.model.presets import from_scratch
    from wenloom.tokens.tokenizer import TextTokenizer

    config = from_scratch(arch, vocab_size=VOCABULARY, n_layers=size.layers, d_model=size.width, n_heads=size.heads,  # pyright: ignore
                          n_kv_heads=size.heads, context_length=2048, bos_token_id=0, eos_token_id=0, pad_token_id=1)  # fmt: skip
    decoder = Decoder(config)
    decoder.initialise(generator(0, "bench"))
    write_model_files(decoder, folder)
    words = Tokenizer(models.WordLevel({f"t{number}": number for number in range(VOCABULARY)}, unk_token="t0"))
    TextTokenizer(words, dict.fromkeys(("bos_token", "eos_token", "unk_token"), "t0")).save_pretrained(folder)


def write_gguf(source: Path, path: Path, kind: str) -> None:
    """llama.cpp's file; queries and keys in its order of rotated pairs."""
    import gguf  # pyright: ignore[reportMissingImports]
    from safetensors.numpy import load_file

    config, weights = json.loads((source / "config.json").read_text()), load_file(source / "model.safetensors")
    quant = {"f32": gguf.GGMLQuantizationType.F32, "f16": gguf.GGMLQuantizationType.F16,
             "q8_0": gguf.GGMLQuantizationType.Q8_0, "q4_0": gguf.GGMLQuantizationType.Q4_0}[kind]  # fmt: skip
    heads, width = config["num_attention_heads"], config["hidden_size"]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(2048)
    writer.add_embedding_length(width)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base((config.get("rope_parameters") or config).get("rope_theta", 10000.0))
    writer.add_rope_dimension_count(width // heads)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("llama")
    tokens = [b"<unk>", b"<s>", b"</s>"] + [f"t{i}".encode() for i in range(VOCABULARY - 3)]
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * VOCABULARY)
    writer.add_token_types([2, 3, 3] + [1] * (VOCABULARY - 3))
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
             "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
             "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}  # fmt: skip
    for name, tensor in weights.items():
        if name.startswith("model.layers."):
            _, _, layer, *rest = name.split(".")
            ours = ".".join(rest).removesuffix(".weight")
            theirs = f"blk.{layer}.{names[ours]}.weight"
            if ours in ("self_attn.q_proj", "self_attn.k_proj"):
                tensor = tensor.reshape(heads, 2, -1, width).swapaxes(1, 2).reshape(tensor.shape)
        else:
            theirs = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
                      "lm_head.weight": "output.weight"}[name]  # fmt: skip
        tensor = np.ascontiguousarray(tensor, dtype=np.float32)
        if tensor.ndim == 1:
            writer.add_tensor(theirs, tensor)
        else:
            writer.add_tensor(theirs, gguf.quants.quantize(tensor, quant), raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# --- contestants: seconds of each task, and the first tokens written, to compare ---


def best_of(count: int, task: Callable[[], object]) -> float:
    times = []
    for _ in range(count):
        started = time.perf_counter()
        task()
        times.append(time.perf_counter() - started)
    return min(times)


def run_wenloom(folder: Path, kind: str) -> dict[str, Any]:
    import torch

    from wenloom.checkpoint.folder import load_decoder
    from wenloom.generation.engine import Engine
    from wenloom.generation.request import GenerationRequest
    from wenloom.model.quantize import quantize
    from wenloom.runtime.native import compiler

    started = time.perf_counter()
    decoder = load_decoder(folder, dtype=torch.bfloat16 if kind == "bf16" else torch.float32)
    if kind in ("int8", "int4"):
        decoder = quantize(decoder, 8 if kind == "int8" else 4)

    def engine(**options: Any) -> Engine:
        return Engine(decoder, **options)

    def write(made: Engine, prompts: list[list[int]], n: int) -> list[list[int]]:
        request = GenerationRequest(do_sample=False, max_new_tokens=n, eos_token_id=())
        jobs = [made.submit(ids, request) for ids in prompts]
        made.run(jobs)
        return [job.result()[0].tokens for job in jobs]

    first = write(engine(prefix_bytes=0), [prompt(16)], 1)
    ready = time.perf_counter() - started
    compiler.library(None)
    made = engine(prefix_bytes=0)
    tokens = write(made, [prompt(PROMPT)], NEW)[0]
    one = best_of(2, lambda: write(made, [prompt(PROMPT)], 1))
    decode = (NEW - 1) / (best_of(3, lambda: write(made, [prompt(PROMPT)], NEW)) - one)
    prefill = PREFILL / best_of(3, lambda: write(made, [prompt(PREFILL)], 1))
    many = streams()
    write(made, many, 2)
    reading = best_of(2, lambda: write(made, many, 1))
    together = STREAMS * (NEW - 1) / (best_of(2, lambda: write(made, many, NEW)) - reading)

    def rate(made: Engine, prompts: list[list[int]]) -> float:
        """Tokens a second, once all have begun."""
        request = GenerationRequest(do_sample=False, max_new_tokens=NEW, eos_token_id=())
        jobs = [made.submit(ids, request) for ids in prompts]
        while any(not job.result()[0].tokens for job in jobs):
            made.step()
        before, started = sum(len(job.result()[0].tokens) for job in jobs), time.perf_counter()
        made.run(jobs)
        return (len(jobs) * NEW - before) / (time.perf_counter() - started)

    def many_to_one(made: Engine) -> float:
        """16 texts' speed to one's, measured in turn, as memory's speed changes by the minute."""
        pairs = [(rate(made, [prompt(PROMPT)]), rate(made, many)) for _ in range(8)][1:]
        return statistics.median(b for _, b in pairs) / statistics.median(a for a, _ in pairs)

    smaller = engine(prefix_bytes=0, cache_dtype=torch.bfloat16 if kind == "fp32" else torch.int8)
    cached = engine(chunk=PREFIX)
    cold = best_of(1, lambda: write(cached, [prompt(PREFIX)], 1))
    hit = best_of(3, lambda: write(cached, [[*prompt(PREFIX), 7]], 1))
    return {"decode": decode, "prefill": prefill, "streams": together, "ratio": many_to_one(made),
            "ratio_small_cache": many_to_one(smaller), "prefix": cold / hit, "ready": ready, "tokens": tokens[:8], "first": first[0]}  # fmt: skip


def run_hf(folder: Path, kind: str) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16 if kind == "bf16" else torch.float32)
    model.generation_config.eos_token_id = None

    def write(ids: list[int], n: int) -> list[int]:
        tensor = torch.tensor([ids])
        with torch.inference_mode():
            out = model.generate(
                tensor, attention_mask=torch.ones_like(tensor), max_new_tokens=n, do_sample=False, pad_token_id=1
            )
        return out[0, len(ids) :].tolist()

    tokens = write(prompt(PROMPT), NEW)
    one = best_of(2, lambda: write(prompt(PROMPT), 1))
    decode = (NEW - 1) / (best_of(2, lambda: write(prompt(PROMPT), NEW)) - one)
    return {"decode": decode, "prefill": PREFILL / best_of(3, lambda: write(prompt(PREFILL), 1)), "tokens": tokens[:8]}


def run_llamacpp(folder: Path, kind: str) -> dict[str, Any]:
    from llama_cpp import Llama  # pyright: ignore[reportMissingImports]

    path = folder / f"model-{kind}.gguf"
    if not path.exists():
        write_gguf(folder, path, kind)
    model = Llama(str(path), n_ctx=2048, n_threads=2, n_threads_batch=2, n_batch=512, verbose=False)

    def write(ids: list[int], n: int) -> list[int]:
        model.reset()
        model.eval(ids)
        found: list[int] = []
        while True:
            found.append(int(last_logits().argmax()))
            if len(found) == n:
                return found
            model.eval(found[-1:])

    def last_logits() -> np.ndarray:
        return np.ctypeslib.as_array(model._ctx.get_logits(), shape=(model.n_vocab(),))

    tokens = write(prompt(PROMPT), NEW)
    one = best_of(2, lambda: write(prompt(PROMPT), 1))
    decode = (NEW - 1) / (best_of(3, lambda: write(prompt(PROMPT), NEW)) - one)
    many = streams()
    reading = sum(best_of(1, lambda ids=ids: write(ids, 1)) for ids in many[::4]) * 4
    together = (
        STREAMS * (NEW - 1) / (4 * sum(best_of(1, lambda ids=ids: write(ids, NEW)) for ids in many[::4]) - reading)
    )
    prefill = PREFILL / best_of(3, lambda: write(prompt(PREFILL), 1))
    return {"decode": decode, "prefill": prefill, "streams": together, "tokens": tokens[:8]}


def run_ct2(folder: Path, kind: str) -> dict[str, Any]:
    import ctranslate2  # pyright: ignore[reportMissingImports]

    made = folder / f"ct2-{kind}"
    if not made.exists():
        from ctranslate2.converters import TransformersConverter  # pyright: ignore[reportMissingImports]

        TransformersConverter(str(folder)).convert(str(made), quantization="int8" if kind == "int8" else "float32")
    model = ctranslate2.Generator(str(made), device="cpu", intra_threads=2)

    def write(ids: list[int], n: int) -> object:
        return model.generate_batch(
            [[f"t{i}" for i in ids]], max_length=n, min_length=n, sampling_topk=1, include_prompt_in_result=False
        )

    write(prompt(PROMPT), NEW)
    one = best_of(2, lambda: write(prompt(PROMPT), 1))
    return {"decode": (NEW - 1) / (best_of(3, lambda: write(prompt(PROMPT), NEW)) - one),
            "prefill": PREFILL / best_of(3, lambda: write(prompt(PREFILL), 1))}  # fmt: skip


RUN = {"wenloom": run_wenloom, "wenloom_gpt2": run_wenloom, "hf": run_hf, "llamacpp": run_llamacpp, "ct2": run_ct2}


def memory_bandwidth() -> float:
    """Bytes a second of reading 1 GB with all threads."""
    import torch

    data = torch.ones(2**28)
    data.sum()
    return data.nbytes / best_of(5, data.sum)


def in_own_process(contestant: str, folder: Path) -> dict[str, Any] | None:
    command = [sys.executable, __file__, "--one", contestant, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "2"})
    if done.returncode:
        print(f"  {contestant}: does not run here ({(done.stderr.strip().splitlines() or ['?'])[-1][:150]})")
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def weight_bytes(size: Size, contestant: str) -> float:
    """What one token of decoding reads of the weights, about."""
    hidden = 12 * size.layers * size.width**2
    head = VOCABULARY * size.width
    kind = contestant.split("-")[1]
    bits = {"fp32": 32, "f32": 32, "bf16": 16, "f16": 16, "int8": 8, "q8_0": 8.5, "int4": 5, "q4_0": 4.5}[kind]
    return (hidden * bits + head * (8 if kind == "int4" else bits)) / 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--contestants", nargs="+", default=[*OURS, *PEERS, *CT2], choices=[*OURS, *PEERS, *CT2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    arguments = parser.parse_args()
    if arguments.one:
        contestant, folder = arguments.one
        family, kind = contestant.split("-")
        print(json.dumps({**RUN[family](Path(folder), kind), "bandwidth": memory_bandwidth()}))
        return
    report: dict[str, Any] = {}
    for name in arguments.sizes:
        with tempfile.TemporaryDirectory() as temporary:
            folders = {}
            for arch in ("llama", "gpt2"):
                folders[arch] = Path(temporary) / arch
                folders[arch].mkdir()
                write_model(folders[arch], SIZES[name], arch)
            rounds: dict[str, list[dict[str, Any]]] = {each: [] for each in arguments.contestants}
            for number in range(arguments.rounds):
                for each in arguments.contestants[:: 1 if number % 2 == 0 else -1]:
                    if len(rounds[each]) == number:
                        arch = "gpt2" if each.startswith(("ct2", "wenloom_gpt2")) else "llama"
                        if (result := in_own_process(each, folders[arch])) is not None:
                            rounds[each].append(result)
        figures = {
            each: {key: statistics.median(r[key] for r in done) for key in done[0] if isinstance(done[0][key], float)}
            for each, done in rounds.items() if done
        }  # fmt: skip
        report[name] = {"figures": figures, "rounds": rounds, "ratios": {}}
        print(f"\n{name}: {SIZES[name].layers} layers, width {SIZES[name].width}; tokens/s (share of memory bandwidth)")
        for each, found in figures.items():
            share = found["decode"] * weight_bytes(SIZES[name], each) / found["bandwidth"]
            more = "".join(
                f"  {key} {found[key]:,.1f}"
                for key in ("streams", "ratio", "ratio_small_cache", "prefix", "ready")
                if key in found
            )
            print(f"  {each:20} decode {found['decode']:7,.1f} ({share:.0%})  prefill {found['prefill']:8,.0f}{more}")
        for task, ours, peer, target in RATIOS:
            if ours in figures and peer in figures:
                ratio = figures[ours][task] / figures[peer][task]
                report[name]["ratios"][f"{ours} / {peer}"] = ratio
                print(f"  {ours + ' / ' + peer:44} {ratio:.2f}x" + (f"  (wanted {target}x)" if target else ""))
        ours, theirs = ([v for k, v in figures.items() if k.startswith(who)] for who in ("wenloom-", "llamacpp-"))
        if ours and theirs:
            for task, target in (("prefill", 1.2), ("streams", 3.0)):
                ratio = max(each[task] for each in ours) / max(each[task] for each in theirs)
                print(f"  {f'{task}: our best / the best of llama.cpp':44} {ratio:.2f}x  (wanted {target}x)")
        print(
            "  ratio: 16 texts to one, in turn (wanted 8x), then with keys and values in bf16 (float32) or int8 (others)"
        )
        print("  prefix: time to the first token without what is known of a prompt to that with it (wanted 10x)")
        same = [
            done[0]["tokens"]
            for each, done in rounds.items()
            if each in ("wenloom-fp32", "hf-fp32", "llamacpp-f32") and done
        ]
        print(f"  float32 engines write the same tokens: {all(tokens == same[0] for tokens in same)}")
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
