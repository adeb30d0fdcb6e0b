"""Learning vectors of texts: losses by their definitions, whole batches in parts, folders that others read, figures by scipy."""

import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from scipy import stats
from torch import Tensor, nn

from wenloom.checkpoint.folder import load_model, save_model
from wenloom.checkpoint.sentence import SentenceConfig, read_sentence_config, write_sentence_config
from wenloom.core.errors import InputError
from wenloom.core.randomness import generator
from wenloom.evaluation.ranking import ndcg, pearson, spearman
from wenloom.model.encoder import Encoder
from wenloom.model.pooling import UnitLength
from wenloom.model.presets import encoder_from_scratch
from wenloom.runtime.embedder import load_embedder
from wenloom.tasks.embedding import TextPair, measured, read_text_pairs
from wenloom.tasks.finetune import finetune
from wenloom.tasks.rows import RowReader
from wenloom.tasks.settings import DataSettings, LearningSettings
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.contrastive import ContrastiveObjective, ScoredPairsObjective, VectorSettings
from wenloom.training.settings import TrainSettings

from ..conftest import VERSES


def encoder(vocab_size: int, **more: Any) -> Encoder:
    config = encoder_from_scratch("bert", vocab_size=vocab_size, n_layers=1, d_model=32, n_heads=2, context_length=64, dropout=0.1,
                                  pad_token_id=1)  # fmt: skip
    model = Encoder(config)
    model.initialise(generator(0, "weights"))
    return model.eval()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tokenizer: TextTokenizer) -> Path:
    folder = tmp_path_factory.mktemp("base")
    save_model(encoder(tokenizer.vocab_size), folder)
    tokenizer.save_pretrained(folder)
    return folder


SETTINGS = VectorSettings(("mean",), nn.Sequential(UnitLength()), (32,), 0.1)


def texts(seed: int, n: int = 6) -> tuple[Tensor, Tensor]:
    lengths = torch.randint(2, 9, (n,), generator=torch.Generator().manual_seed(seed))
    tokens = torch.randint(5, 400, (n, 9), generator=torch.Generator().manual_seed(seed + 100))
    return tokens, lengths


def vectors(objective: Any, tokens: Tensor, lengths: Tensor, width: int) -> np.ndarray[Any, Any]:
    found = [
        objective.vectors(row[None, :n], n[None], None)[0].detach().double().numpy()[:width]
        for row, n in zip(tokens, lengths, strict=True)
    ]
    return np.stack([each / np.linalg.norm(each) for each in found])


@pytest.mark.parametrize("with_negatives", [False, True])
def test_in_batch_negatives_are_all_other_texts_but_equal_ones(with_negatives: bool):
    objective = ContrastiveObjective(encoder(400), SETTINGS._replace(dimensions=(8, 32))).eval()
    (a, a_n), (p, p_n), (q, q_n) = texts(1), texts(2), texts(3)
    q_n[4] = 0  # no negative
    ids = torch.arange(18).view(3, 6).T.clone()
    ids[1, 1] = ids[0, 1]  # rows 0 and 1 have the same positive
    ids[3, 0] = ids[2, 0]  # rows 2 and 3 have the same anchor
    more = {"negative_BT": q, "negative_length_B": q_n} if with_negatives else {}
    found = objective(a, a_n, p, p_n, ids, torch.ones(6).long(), **more)
    total = 0.0
    for width in (8, 32):
        one, two = vectors(objective, a, a_n, width), vectors(objective, p, p_n, width)
        three = vectors(objective, q, q_n.clamp(min=1), width)
        for row in range(6):
            others = [each for each in range(6) if each != row and {row, each} not in ({0, 1}, {2, 3})]
            scores = [one[row] @ two[row], *(one[row] @ two[each] for each in others)]
            scores += [one[row] @ three[each] for each in range(6) if each != 4] if with_negatives else []
            total += np.log(np.exp(np.array(scores) / 0.1).sum()) - scores[0] / 0.1
    assert found.weight == 6 and math.isclose(found.total.item(), total / 2, rel_tol=1e-4)


def test_scored_pairs_are_learned_by_their_definitions():
    (a, a_n), (p, p_n) = texts(1), texts(2)
    scores = torch.tensor([0.1, 0.9, 0.5, 0.5, 0.0, 1.0])
    cosent = ScoredPairsObjective(encoder(400), SETTINGS).eval()
    cosine = ScoredPairsObjective(encoder(400), SETTINGS, "cosine").eval()
    cos = (vectors(cosent, a, a_n, 32) * vectors(cosent, p, p_n, 32)).sum(1)
    wrong = sum(math.exp((cos[j] - cos[i]) / 0.1) for i in range(6) for j in range(6) if scores[i] > scores[j])
    ones = torch.ones(6).long()
    assert math.isclose(cosent(a, a_n, p, p_n, scores, ones).total.item(), 6 * math.log(1 + wrong), rel_tol=1e-4)
    assert math.isclose(
        cosine(a, a_n, p, p_n, scores, ones).total.item(), ((cos - scores.numpy()) ** 2).sum(), rel_tol=1e-4
    )


def test_a_batch_read_in_parts_has_the_gradients_of_the_whole():
    found = []
    for at_once in (None, 2):
        objective = ContrastiveObjective(encoder(400), SETTINGS)
        objective.train()
        objective.rows_at_once = at_once
        (a, a_n), (p, p_n) = texts(1), texts(2)
        total = objective(
            a, a_n, p, p_n, torch.arange(18).view(6, 3), torch.ones(6).long(), dropout_keys_B=torch.arange(6)
        ).total
        total.backward()
        found.append((total.item(), objective.model.blocks[0].mlp.up.weight.grad.clone()))  # pyright: ignore
    assert math.isclose(found[0][0], found[1][0], rel_tol=1e-5) and torch.allclose(found[0][1], found[1][1], atol=1e-5)


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


PAIRS = [{"anchor": f"{VERSES[n % 8][:12]} {n}", "positive": f"{VERSES[n % 8][12:24]} {n}"} for n in range(12)]
TRIPLETS = [row | {"negative": f"no {n}"} if n % 2 else row for n, row in enumerate(PAIRS)]
SCORED = [{"sentence1": row["anchor"], "sentence2": row["positive"], "score": n % 6} for n, row in enumerate(PAIRS)]
RUN = TrainSettings(steps=2, batch=6, evaluations=1, device="cpu", precision="fp32")


@pytest.mark.parametrize(
    ("rows", "learning", "figures"),
    [(PAIRS, LearningSettings(matryoshka="8,16"), {"ndcg_at_10", "accuracy_at_1"}), (TRIPLETS, LearningSettings(), {"ndcg_at_10", "accuracy_at_1"}),
     (SCORED, LearningSettings(pair_loss="cosine"), {"spearman", "pearson"}), (SCORED, LearningSettings(method="lora"), {"spearman", "pearson"})],
    ids=["pairs", "triplets", "scored", "lora"],
)  # fmt: skip
def test_what_is_made_is_a_folder_of_sentence_transformers(
    tmp_path: Path, base: Path, rows: Any, learning: LearningSettings, figures: set[str]
):
    data = DataSettings(
        train=write(tmp_path / "train.jsonl", rows),
        validation=write(tmp_path / "val.jsonl", rows[:6]),
        max_source_tokens=20,
    )
    result = finetune("embedding", tmp_path / "out", base, data, learning=learning, training=RUN)
    assert set(result.figures) == figures
    config = read_sentence_config(tmp_path / "out")
    assert config.is_written and config.max_tokens == 20 and config.normalizes and config.pooling == ("mean",)
    found = load_embedder(tmp_path / "out").embed(VERSES[:3])
    if learning.method == "lora":
        assert found.shape == (3, 32)
        return
    model = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        theirs = [
            model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=20)).last_hidden_state[0].mean(0)
            for text in VERSES[:3]
        ]
    assert np.allclose(found, nn.functional.normalize(torch.stack(theirs), dim=-1), atol=1e-5)
    if find_spec("sentence_transformers") is not None:
        from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]

        assert np.allclose(
            found, SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(VERSES[:3]), atol=1e-5
        )


def test_prompts_and_pooling_of_the_base_are_kept(tmp_path: Path, base: Path, tokenizer: TextTokenizer):
    save_model(load_model(base), tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    write_sentence_config(
        SentenceConfig(("cls", "max"), prompts={"query": "问："}, similarity="dot"), 32, tmp_path / "base"
    )
    data = DataSettings(train=write(tmp_path / "train.jsonl", PAIRS))
    finetune("embedding", tmp_path / "out", tmp_path / "base", data, training=RUN)
    config = read_sentence_config(tmp_path / "out")
    assert (config.pooling, config.prompts, config.similarity) == (("cls", "max"), {"query": "问："}, "dot")


def test_rows_of_every_layout_are_read(tmp_path: Path):
    reader = RowReader(True)
    assert read_text_pairs(
        write(tmp_path / "a.jsonl", [{"query": "a", "passage": "b", "negatives": ["c", "d"]}]), reader
    ) == [TextPair("a", "b", ("c", "d"))]
    (tmp_path / "a.csv").write_text("sentence1,sentence2,score\na,b,3.5\n")
    assert read_text_pairs(str(tmp_path / "a.csv"), reader) == [TextPair("a", "b", (), 3.5)]
    (tmp_path / "a.tsv").write_text("a\tb\n")
    assert read_text_pairs(str(tmp_path / "a.tsv"), reader) == [TextPair("a", "b")]
    (tmp_path / "a.en").write_text("a\nc\n")
    (tmp_path / "a.de").write_text("b\nd\n")
    assert read_text_pairs(f"{tmp_path / 'a.en'},{tmp_path / 'a.de'}", reader) == [
        TextPair("a", "b"),
        TextPair("c", "d"),
    ]


@pytest.mark.parametrize(
    ("rows", "said"),
    [([{"anchor": "a"}], "line 1: no field"), ([{"anchor": "a", "positive": ""}], "line 1.*empty"),
     ([{"anchor": "a", "positive": "b", "score": "good"}], 'line 1: "score" must be a number'),
     ([{"anchor": "a", "positive": "b", "score": 1}, {"anchor": "a", "positive": "b"}], "some rows have a score"),
     ([{"anchor": "a", "positive": "b", "negative": 5}], "line 1")],
)  # fmt: skip
def test_rows_that_cannot_be_used_are_named(tmp_path: Path, rows: list[dict[str, Any]], said: str):
    with pytest.raises(InputError, match=said):
        read_text_pairs(write(tmp_path / "a.jsonl", rows), RowReader(True))


def test_settings_that_do_not_fit_are_refused(tmp_path: Path, base: Path):
    data = DataSettings(train=write(tmp_path / "train.jsonl", PAIRS))
    with pytest.raises(InputError, match="matryoshka 99"):
        finetune("embedding", tmp_path / "out", base, data, learning=LearningSettings(matryoshka="99"), training=RUN)
    for wrong in ({"matryoshka": "a,b"}, {"temperature": 0.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            LearningSettings(**wrong)  # pyright: ignore


def test_correlations_are_scipys_and_gains_those_of_their_definition():
    drawn = np.random.default_rng(0)
    one, two = drawn.integers(0, 5, 50), drawn.normal(size=50)
    assert math.isclose(spearman(one, two), stats.spearmanr(one, two).statistic, abs_tol=1e-12)
    assert math.isclose(pearson(one, two), stats.pearsonr(one, two).statistic, abs_tol=1e-12)
    assert math.isnan(spearman([1, 1], [1, 2]))
    assert ndcg([4, 2, 9], {4}) == 1 and ndcg([1, 4], {4}) == 1 / math.log2(3) and ndcg([1], {4}) == 0
    assert math.isclose(ndcg([7, 1, 8], {7, 8}), (1 + 0.5) / (1 + 1 / math.log2(3)))


def test_a_model_that_finds_everything_has_full_marks(base: Path):
    rows = [TextPair(text, text, (f"{n}",)) for n, text in enumerate(VERSES)]
    assert measured(load_embedder(base), rows) == {"ndcg_at_10": (1.0, 0.0), "accuracy_at_1": (1.0, 0.0)}
