"""Mixtures: every source its share, a sample a function of its number, resumed bitwise, each source validated by itself."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wenloom.core.errors import InputError
from wenloom.tokens.mixture import shares_of
from wenloom.tokens.prepare import PrepareOptions, prepare
from wenloom.tokens.shards import Dataset
from wenloom.training.history import read_metrics
from wenloom.training.pretrain import mixture_of, pretrain, resume
from wenloom.training.run_file import read_run
from wenloom.training.scratch import CorpusStatistics
from wenloom.training.source import CorpusSource, MixtureSource, Source

from ..cli.calling import refused
from .runs import MODEL, TRAINING, same_weights
from .test_resume import Interrupted, stop_at


@pytest.fixture(scope="module")
def corpora(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three of one vocabulary and different sizes."""
    folder = tmp_path_factory.mktemp("corpora")
    made = [str(dataset.folder)]
    for name, count in (("lamps", 200), ("boats", 60)):
        (folder / f"{name}.txt").write_text("".join(f"The {name} number {n} went out.\n" for n in range(count)))
        prepare([str(folder / f"{name}.txt")], folder / name, PrepareOptions(), tokenizer=dataset.tokenizer())
        made.append(str(folder / name))
    return made


class _Counting(Source):
    batch, per_epoch, row_tokens, longest = 1, 10.0, 1, 1


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=5), st.integers(0, 10**9))
def test_of_any_stretch_of_samples_every_source_has_its_share_and_reads_its_own_in_order(
    weights: list[float], begin: int
):
    shares = [weight / sum(weights) for weight in weights]
    mixture = MixtureSource([_Counting()] * len(shares), shares)  # pyright: ignore[reportAbstractUsage]
    places = [mixture.place(sample) for sample in range(begin, begin + 300)]
    for which, share in enumerate(shares):
        own = [number for source, number in places if source == which]
        assert abs(len(own) - 300 * share) <= len(shares) + 1
        assert all(after == before + 1 for before, after in pairwise(own))


_Counting.__abstractmethods__ = frozenset()


def test_rows_are_those_of_the_sources(corpora: list[str], tmp_path: Path):
    folder = mixture_of([f"{name}:{weight}" for name, weight in zip(corpora, (5, 3, 2), strict=True)], tmp_path / "run")
    mixed = CorpusStatistics.of(Dataset.open(folder)).source(16, 4, seed=1)
    assert isinstance(mixed, MixtureSource)
    rows = mixed.rows(10, 30)
    for row, sample in enumerate(range(10, 30)):
        which, number = mixed.place(sample)
        alone = CorpusSource(Dataset.open(Path(corpora[which])).stream("train"), 16, 4, seed=1).rows(number, number + 1)
        assert rows["inputs_BT"][row].equal(alone["inputs_BT"][0])


def test_it_is_resumed_bitwise_and_every_source_is_validated(corpora: list[str], tmp_path: Path):
    weighted = [f"{name}:{weight}" for name, weight in zip(corpora, (0.5, 0.3, 0.2), strict=True)]
    mixed = mixture_of(weighted, tmp_path / "run")
    training = replace(TRAINING, steps=8)
    whole = pretrain(mixed, tmp_path / "whole", MODEL, training)
    with pytest.raises(Interrupted):
        pretrain(mixed, tmp_path / "part", MODEL, training, stop_at(1))
    resume(tmp_path / "part")
    assert same_weights(tmp_path / "whole", tmp_path / "part")
    figures = [line["validation"] for line in read_metrics(tmp_path / "whole") if "validation" in line][-1]
    names = [Path(name).name for name in corpora]
    assert {f"{name}_bits_per_byte" for name in names} <= figures.keys()
    each = [figures[f"{name}_bits_per_byte"] for name in names]
    assert min(each) <= whole.loss.bits_per_byte <= max(each)
    alone = pretrain(Path(corpora[1]), tmp_path / "alone", MODEL, training)
    assert figures["lamps_bits_per_byte"] != alone.loss.bits_per_byte
    assert read_run(tmp_path / "whole")["data"]["mixture"] == [
        f"{name}:{share}" for name, share in zip(names, (0.5, 0.3, 0.2), strict=True)
    ]


def test_shares_follow_from_weights_or_sizes(corpora: list[str]):
    datasets = [Dataset.open(Path(name)) for name in corpora]
    tokens = [dataset.splits["train"].tokens for dataset in datasets]
    assert shares_of(datasets, [3, 1, 1]) == [0.6, 0.2, 0.2]
    assert shares_of(datasets, [None] * 3) == pytest.approx([each / sum(tokens) for each in tokens])
    even = shares_of(datasets, [None] * 3, 100.0)
    assert max(even) - min(even) < 0.05


def test_what_does_not_go_together_is_refused(corpora: list[str], tmp_path: Path):
    (tmp_path / "a.txt").write_text("The lamp was lit. " * 90)
    prepare([str(tmp_path / "a.txt")], tmp_path / "bytes", PrepareOptions("byte"))
    with pytest.raises(InputError, match=r"another vocabulary.*--tokenizer"):
        mixture_of([corpora[0], str(tmp_path / "bytes")], tmp_path / "run")
    with pytest.raises(InputError, match="has no weight and others have one"):
        mixture_of([f"{corpora[0]}:2", corpora[1]], tmp_path / "run")
    with pytest.raises(InputError, match="two sources of the mixture have this name"):
        mixture_of([corpora[0], corpora[0]], tmp_path / "run")
    with pytest.raises(InputError, match="must be above 0"):
        mixture_of([f"{corpora[0]}:0", corpora[1]], tmp_path / "run")
    said = refused("pretrain", corpora[0], "--mix-temperature", 2, "--out", "run", cwd=tmp_path)
    assert "goes with several sources" in said
    said = refused("pretrain", *(f"{name}:1" for name in corpora), "--mix-temperature", 2, "--out", "run", cwd=tmp_path)
    assert "without weights" in said


def test_a_source_that_was_prepared_again_is_noticed(corpora: list[str], dataset: Dataset, tmp_path: Path):
    (tmp_path / "a.txt").write_text("The lamp was lit. " * 90)
    prepare([str(tmp_path / "a.txt")], tmp_path / "own", tokenizer=dataset.tokenizer())
    folder = mixture_of([corpora[0], str(tmp_path / "own")], tmp_path / "run")
    (tmp_path / "a.txt").write_text("The boat went out. " * 90)
    prepare([str(tmp_path / "a.txt")], tmp_path / "own", tokenizer=dataset.tokenizer())
    with pytest.raises(InputError, match="prepared again since"):
        Dataset.open(folder)
