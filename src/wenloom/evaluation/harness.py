"""Wenloom's models for lm-evaluation-harness (`pip install 'wenloom[harness]'`).

```python
import lm_eval
from wenloom.evaluation.harness import HarnessModel

model = wenloom.load("runs/mine")
found = lm_eval.simple_evaluate(HarnessModel(model.decoder, model.tokenizer, model.engine), tasks=["arc_easy"])
```

Tasks that need no network are described by local YAML files: `lm_eval.tasks.TaskManager(include_path=...)`, with
`dataset_path: json` and `dataset_kwargs: {data_files: ...}`.
"""

from typing import Any

from lm_eval.api.model import TemplateLM  # pyright: ignore[reportMissingImports]

from wenloom.evaluation.likelihood import ScoredRow, continuation_row, tokens_before
from wenloom.evaluation.scorer import Windows
from wenloom.evaluation.scorers import DecoderScorer
from wenloom.generation.engine import Engine
from wenloom.generation.request import GenerationRequest
from wenloom.model.decoder import Decoder
from wenloom.model.packed import packed
from wenloom.tokens.tokenizer import TextTokenizer


class HarnessModel(TemplateLM):
    """A model as lm-evaluation-harness wants it.

    Its own way of cutting context and continuation takes as many tokens off the whole as the context has by itself,
    which is wrong where a token reaches across the cut (Chinese BPE, SentencePiece); here the letters decide, see
    `likelihood.continuation_row`.
    """

    def __init__(self, decoder: Decoder, tokenizer: TextTokenizer, engine: Engine):
        super().__init__()
        self._scorer, self._text, self._engine = DecoderScorer(packed(decoder), tokenizer), tokenizer, engine
        self.tokenizer = None  # keeps the harness's chat templates away

    @property
    def eot_token_id(self) -> int:
        """What opens a text without context."""
        return tokens_before(self._text, True)[0]

    @property
    def tokenizer_name(self) -> str:
        """For the harness's cache."""
        return self._text.fingerprint()

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids; with the template's own special tokens unless told not to."""
        return self._text.encode(string, add_special_tokens is not False)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        row = continuation_row(self._text, context, continuation, tokens_before(self._text, False))
        return row.tokens[: row.start], row.tokens[row.start :]

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        # neighbours with the same context are the choices of one question
        questions: list[list[ScoredRow]] = []
        last: list[int] | None = None
        for _texts, context, continuation in requests:
            if context != last:
                questions.append([])
                last = context
            questions[-1].append(ScoredRow([*context, *continuation], len(context)))
        found = self._scorer.rows(questions)
        return [(each.total, each.is_greedy) for rows in found for each in rows]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """log P of whole texts, in windows of the whole context that follow each other."""
        windows = Windows(stride=self._scorer.decoder.config.context_length)
        return [
            self._scorer.text(request.args[0], windows).log_probability if request.args[0] else 0.0
            for request in requests
        ]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """What the model writes after each context."""
        jobs = []
        for request in requests:
            context, options = request.args
            until = options.get("until") or []
            sampling: dict[str, Any] = {"do_sample": False}
            if options.get("do_sample") and options.get("temperature", 0):
                sampling = {"do_sample": True, "temperature": options["temperature"], "seed": 0}
            stops = tuple(each for each in ([until] if isinstance(until, str) else until) if each)
            wanted = GenerationRequest(max_new_tokens=options.get("max_gen_toks", 256), stop_strings=stops, **sampling)
            jobs.append(self._engine.submit(context, wanted, len(jobs)))
        self._engine.run(jobs)
        return [job.result()[0].text for job in jobs]
