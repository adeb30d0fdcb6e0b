"""Integrated gradients beside captum's: `python bench/attribution.py MODEL TEXTS [--count 100] [--compared 5] [--tokens 50]`.

- Completeness: of so many passages of a text (12 words each, evenly spread), the error of `attribute` at its defaults, and how many
  points it took.
- Equality: of some of them, scores at 50 points beside those of captum's `LayerIntegratedGradients` on the same folder as
  transformers reads it, from the same drawn tokens.
- Speed: a continuation of so many tokens at 5 points, both on one thread, beside its `LLMGradientAttribution`.

captum and transformers must be installed; without captum only the first is measured.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from wenloom.explanation.attribution import DRAWS, Attribution, attributed, drawn_readings
from wenloom.explanation.inquiry import ask
from wenloom.explanation.subject import Subject, subject_of
from wenloom.text.documents import find_files, read_documents

WORDS = 12
POINTS, FEW_POINTS = 50, 5


def passages(texts: str, count: int) -> list[str]:
    """So many stretches of words, evenly spread."""
    words = " ".join(document.text for document in read_documents(find_files([texts]))).split()
    return [" ".join(words[n * len(words) // count :][:WORDS]) for n in range(count)]


def completeness(subject: Subject, texts: list[str]) -> None:
    found, points = list[Attribution](), list[int]()
    started = time.perf_counter()
    for text in texts:
        told: list[int] = []
        found.append(attributed(ask(subject, text), "integrated-gradients", on_pass=told.append))
        points.append(sum(told))
    errors = sorted(each.error or 0.0 for each in found)
    from_tokens = sum(each.relative_to == "tokens" for each in found)
    print(
        f"completeness of {len(found)} texts: error {errors[len(errors) // 2]:.2%} in the median, {errors[-1]:.2%} at most, "
        f"{sum(each <= 0.01 for each in errors)} of them at most 1 %; {from_tokens} begin at drawn tokens; "
        f"{statistics.median(points):.0f} points in the median; {time.perf_counter() - started:.0f} s",
        flush=True,
    )


def equality(subject: Subject, model: Any, captum: Any, texts: list[str]) -> None:
    """The mean over the same draws, of captum's scores."""
    worst = 0.0
    for text in texts:
        inquiry = ask(subject, text)
        ours = attributed(inquiry, "integrated-gradients", POINTS, "tokens")
        row, target = inquiry.rows[0], int(inquiry.rows[0].answers[0])

        def value(ids: torch.Tensor, target: int = target) -> torch.Tensor:
            return model(ids).logits[:, -1].double().log_softmax(-1)[:, target]

        method = captum.attr.LayerIntegratedGradients(value, model.get_input_embeddings())
        theirs = torch.zeros(len(ours.scores), dtype=torch.float64)
        for number in range(DRAWS):
            (other,) = drawn_readings(inquiry, (0, number))
            found = method.attribute(
                row.reading.tokens,
                baselines=other.tokens,
                n_steps=POINTS,
                method="gausslegendre",
                internal_batch_size=POINTS,
            )
            theirs += found[0].sum(-1).double() / DRAWS
        worst = max(worst, float((ours.scores - theirs).abs().max() / theirs.abs().max()))
    print(
        f"equality with captum at {POINTS} points on {len(texts)} texts: {worst:.1e} of the largest score at most",
        flush=True,
    )


def speed(subject: Subject, model: Any, tokenizer: Any, captum: Any, text: str, n_tokens: int) -> None:
    """Of a continuation that the model writes itself."""
    ids = torch.tensor([subject.tokenizer.encode(text)])
    written = model.generate(ids, max_new_tokens=n_tokens, min_new_tokens=n_tokens, do_sample=False)
    continuation = subject.tokenizer.decode(written[0, ids.shape[1] :])
    started = time.perf_counter()
    attributed(ask(subject, text, continuation), "integrated-gradients", FEW_POINTS, "zeros")
    ours = time.perf_counter() - started
    method = captum.attr.LayerIntegratedGradients(model, model.get_input_embeddings())
    asked = captum.attr.TextTokenInput(text, tokenizer)
    started = time.perf_counter()
    captum.attr.LLMGradientAttribution(method, tokenizer).attribute(asked, target=continuation, n_steps=FEW_POINTS)
    theirs = time.perf_counter() - started
    print(
        f"a continuation of {n_tokens} tokens at {FEW_POINTS} points: {ours:.1f} s, captum {theirs:.1f} s, {theirs / ours:.1f}x"
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("model", type=Path)
    arguments.add_argument("texts")
    arguments.add_argument("--count", type=int, default=100)
    arguments.add_argument("--compared", type=int, default=5)
    arguments.add_argument("--tokens", type=int, default=50)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    subject, texts = subject_of(given.model), passages(given.texts, given.count)
    completeness(subject, texts)
    try:
        import captum.attr  # pyright: ignore[reportMissingImports]
        import transformers
    except ImportError as error:
        print(f"not compared: {error}")
        return
    model = transformers.AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(given.model)
    equality(subject, model, captum, texts[: given.compared])
    speed(subject, model, tokenizer, captum, texts[0], given.tokens)


if __name__ == "__main__":
    main()
