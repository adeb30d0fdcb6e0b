"""What a training run shows of its model: samples and next tokens."""

from pathlib import Path

from wenloom.api import LanguageModel
from wenloom.generation.next_tokens import most_probable
from wenloom.generation.request import request_from
from wenloom.model.build import Model
from wenloom.model.decoder import Decoder
from wenloom.text.opening import opening
from wenloom.text.split import next_start
from wenloom.tokens.shards import Dataset
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.loop import Show
from wenloom.training.report import NextTokens, Sample, SamplePreview

_LOOKED_AT = 256
"""Tokens in which an opening is looked for."""


def showing(prompts: list[str], length: int = 150) -> Show:
    """A function for `training.pretrain.pretrain` that continues prompts and lists next tokens after them."""

    def show(decoder: Model, tokenizer: TextTokenizer, until: float | None) -> SamplePreview:
        assert isinstance(decoder, Decoder)
        model = LanguageModel(decoder, tokenizer)
        requests = [
            request_from({"max_new_tokens": length, "seed": seed, "eos_token_id": ()}) for seed in range(len(prompts))
        ]
        jobs = [model.engine.submit(prompt, request) for prompt, request in zip(prompts, requests, strict=True)]
        model.say_unseen(jobs)
        model.engine.run(jobs, until)
        samples = [Sample(prompt, job.result()[0].text) for prompt, job in zip(prompts, jobs, strict=True)]
        expectations = []
        for prompt in prompts:
            candidates = most_probable(decoder, model.tokenizer.prompt_ids(prompt), 8)
            shown = [(tokenizer.show(each.token), each.probability) for each in candidates]
            expectations.append(NextTokens(prompt or "(the beginning)", shown))
        return SamplePreview(samples, expectations)

    return show


def prompts_from(corpus: Path, count: int = 3) -> list[str]:
    """Openings of sentences or lines of a corpus' validation text, in whatever language, from evenly spaced places."""
    dataset = Dataset.open(corpus)
    stream, tokenizer = dataset.stream("validation"), dataset.tokenizer()
    prompts = []
    for place in range(count):
        window = stream.window(len(stream) * place // count, _LOOKED_AT).tolist()
        begins = place == 0
        if tokenizer.bos_token_id in window[:-8]:  # begin where a document begins, if one does here
            window, begins = window[window.index(tokenizer.bos_token_id) + 1 :], True
        text = tokenizer.decode(window, skip_special_tokens=True).strip("\ufffd")  # a character that is cut
        start = 0 if begins else next_start(text, 1, len(text) // 2)
        line = next((line.strip() for line in text[start:].splitlines() if len(line.strip()) > 8), text[start:].strip())
        begun = opening(line)
        if begun and begun not in prompts:
            prompts.append(begun)
    return prompts
