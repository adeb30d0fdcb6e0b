"""N-best rescoring: rates by an independent count, weights that find the better hypothesis, and bad rows."""

import gzip
import json
import random
from pathlib import Path

import jiwer
import pytest

from wenloom.core.errors import InputError
from wenloom.core.randomness import generator
from wenloom.evaluation.scorers import DecoderScorer
from wenloom.model.decoder import Decoder
from wenloom.model.presets import from_scratch
from wenloom.tasks.rescoring import Hypothesis, Utterance, choose, log_probabilities, read_utterances, rescore
from wenloom.tasks.rows import RowReader
from wenloom.tokens.train import train_tokenizer


def made(count: int) -> tuple[list[Utterance], list[list[float]]]:
    """Recogniser scores with noise, and a language model that knows better."""
    drawn = random.Random(0)
    utterances, scores = [], []
    for number in range(count):
        words = [drawn.choice("abcdefgh") for _ in range(drawn.randint(3, 9))]
        hypotheses, row = [], []
        for _ in range(5):
            heard = [word if drawn.random() < 0.8 else drawn.choice("abcdefgh") for word in words]
            wrong = sum(a != b for a, b in zip(heard, words, strict=True))
            hypotheses.append(Hypothesis(" ".join(heard), -wrong + drawn.gauss(0, 2)))
            row.append(-10.0 * wrong + drawn.gauss(0, 5))
        utterances.append(Utterance(str(number), " ".join(words), tuple(hypotheses)))
        scores.append(row)
    return utterances, scores


def test_the_rates_are_those_of_an_independent_count():
    utterances, scores = made(120)
    found = rescore(utterances, [scores])
    references = [each.reference for each in utterances]
    first = [max(each.hypotheses, key=lambda one: one.score).text for each in utterances]
    now = [each.hypotheses[index].text for each, index in zip(utterances, found.chosen, strict=True)]
    assert found.before == pytest.approx(100 * jiwer.wer(references, first))
    assert found.after.value == pytest.approx(100 * jiwer.wer(references, now))
    assert found.oracle <= found.after.value < found.before
    assert found.after.low <= found.after.value <= found.after.high and found.gain.low > 0
    assert found.fusion.weight > 0
    assert found.fusion.mix == 0
    worthless = rescore(utterances, [[[0.0] * 5 for _ in utterances]])
    assert worthless.after.value == pytest.approx(found.before, abs=1.0)


def test_two_models_are_mixed_where_that_helps_and_the_weights_serve_other_speech():
    utterances, good = made(200)
    drawn = random.Random(1)
    # each knows half of what there is to know
    first = [[score + drawn.gauss(0, 20) for score in row] for row in good]
    second = [[score + drawn.gauss(0, 20) for score in row] for row in good]
    one, both = rescore(utterances, [first]), rescore(utterances, [first, second])
    assert 0 < both.fusion.mix < 1 and both.after.value < one.after.value
    assert rescore(utterances, [first, [[0.0] * 5] * 200]).fusion.mix < 1
    applied = rescore(utterances, [first, second], both.fusion)
    assert applied.fusion == both.fusion
    assert applied.chosen == choose([each._replace(reference="") for each in utterances], [first, second], both.fusion)


def test_bad_rows_are_named_and_counted(tmp_path: Path):
    good = {"utt_id": "1", "ref": "A B", "nbest": [{"text": "A B", "score": -1}]}
    bad = [{"ref": "a"}, {"nbest": []}, {"nbest": [{"text": "x"}]}, {"nbest": [{"text": "x", "score": "1"}]},
           {"ref": "", "nbest": [{"text": "x", "score": 1}]}]  # fmt: skip
    path = tmp_path / "nbest.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write("\n".join(map(json.dumps, [good, *bad])) + '\n{"nbest": [{"text": "x", "score": NaN}]}')
    reader = RowReader()
    assert read_utterances(path, reader) == [Utterance("1", "A B", (Hypothesis("A B", -1.0),))]
    assert [each.line for each in reader.refused] == [2, 3, 4, 5, 6, 7]
    with pytest.raises(InputError, match="at least two"):
        rescore(read_utterances(path, RowReader()), [[[0.0]]])


def test_a_decoder_scores_the_whole_text():
    tokenizer = train_tokenizer(["it is late"], "byte")
    config = from_scratch("llama", vocab_size=tokenizer.vocab_size, n_layers=1, d_model=16, n_heads=2, n_kv_heads=2,
                          context_length=32, bos_token_id=0, eos_token_id=0)  # fmt: skip
    decoder = Decoder(config)
    decoder.initialise(generator(0, "x"))
    utterance = Utterance(
        "1", "IT IS LATE", (Hypothesis("IT IS LATE", -1.0), Hypothesis("IT", -2.0), Hypothesis("", -3.0))
    )
    import torch

    (found,) = log_probabilities(DecoderScorer(decoder.eval(), tokenizer), [utterance])
    for text, value in zip(("it is late", "it", ""), found, strict=True):
        ids = torch.tensor([[0, *tokenizer.encode(text), 0]])
        log_p = decoder(ids)[0, :-1].double().log_softmax(-1)
        expected = float(log_p.gather(1, ids[0, 1:, None]).sum().detach())
        assert value == pytest.approx(expected, abs=1e-3)
