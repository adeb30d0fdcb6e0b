"""The size dial and the plan: every number follows, and memory is what it says."""

import bz2
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wenloom.core.errors import InputError
from wenloom.model.config import reshaped
from wenloom.model.decoder import Decoder
from wenloom.model.lora import AdapterConfig, adapt
from wenloom.tokens.prepare import prepare
from wenloom.tokens.shards import Dataset
from wenloom.training.dial import resolve_settings
from wenloom.training.measure import StepMemory, flops_of, step_memory
from wenloom.training.objectives import CausalObjective
from wenloom.training.parallel import World
from wenloom.training.plan import expected_bits_per_byte, fitted_micro_batch
from wenloom.training.scratch import CorpusStatistics, model_config, parameters_of, scratch_run
from wenloom.training.settings import ModelSettings, TrainSettings
from wenloom.training.train_step import autocast

from ..conftest import tiny_config


@given(st.integers(200_000, 10**10), st.sampled_from([65, 1024, 50257]))
def test_a_model_has_about_the_size_asked_for(size: int, vocab_size: int):
    if size < 60 * vocab_size:
        return  # the vocabulary alone is larger
    resolved = resolve_settings(ModelSettings(size=str(size)), TrainSettings(), vocab_size, None, lambda: 1e11)
    parameters = parameters_of(model_config(resolved.model, vocab_size, None))
    assert abs(math.log(parameters / size)) < 0.35
    assert resolved.model.width and resolved.model.heads and resolved.model.width % resolved.model.heads == 0


@pytest.mark.parametrize(
    "model, training",
    [
        (ModelSettings(size="10m"), TrainSettings()),
        (ModelSettings(), TrainSettings(budget="10min")),
        (ModelSettings(), TrainSettings(tokens="1b")),
        (ModelSettings(), TrainSettings(steps=100)),
        (ModelSettings(), TrainSettings(epochs=2.0)),
        (ModelSettings(), TrainSettings()),
        (ModelSettings(width=64), TrainSettings()),
        (ModelSettings(layers=2), TrainSettings(steps=3)),
        (ModelSettings(experts=8), TrainSettings()),
    ],
)
def test_one_number_is_enough(model: ModelSettings, training: TrainSettings):
    resolved = resolve_settings(model, training, 4096, 10**7, lambda: 2e11)
    of_experts = {"experts", "active", "balance_loss", "router_z_loss"}
    given = {"size", "kv_heads"} | (set() if model.experts else of_experts)
    assert all(
        getattr(resolved.model, name) is not None for name in resolved.model.__dataclass_fields__ if name not in given
    )
    assert resolved.training.batch and resolved.training.learning_rate
    assert all(each.formula for each in resolved.derived)
    again = resolve_settings(resolved.model, resolved.training, 4096, 10**7, lambda: 1e9)
    assert again.derived == [] and again.model == resolved.model and again.training == resolved.training


def test_more_time_gives_a_larger_model_and_repeated_text_gives_dropout():
    sizes, dropouts = [], []
    for budget in ("20s", "10min", "1h", "10h"):
        resolved = resolve_settings(ModelSettings(), TrainSettings(budget=budget), 1024, 400_000, lambda: 2e11)
        sizes.append((resolved.model.layers or 0) * (resolved.model.width or 0) ** 2)
        dropouts.append(resolved.model.dropout or 0.0)
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1] / 10
    assert dropouts == sorted(dropouts) and dropouts[0] == 0.0 and dropouts[-1] == 0.2


def test_size_and_shape_at_once():
    with pytest.raises(InputError, match="--size sets layers and width: leave out --layers and --width"):
        ModelSettings(size="1m", layers=2, width=64)


@pytest.mark.parametrize("rows, available, expected", [(64, None, 64), (64, 1000, 16), (64, 10, 1), (6, 600, 3)])
def test_rows_are_halved_until_they_fit(rows: int, available: int | None, expected: int):
    step = StepMemory(0.0, 20.0, 20.0)
    assert fitted_micro_batch(rows, step, fixed=400.0, available=available, row_tokens=64) == expected


def test_on_a_cpu_rows_are_fewer_where_more_would_only_take_memory():
    step = StepMemory(0.0, 6e8, 5e8)
    assert fitted_micro_batch(16, step, fixed=1e9, available=100 * 10**9, row_tokens=1024) == 2
    assert fitted_micro_batch(16, step, fixed=1e9, available=100 * 10**9, row_tokens=1024, on_cpu=False) == 16


@pytest.mark.parametrize(
    "architecture, learns", [("llama", "all"), ("gpt2", "all"), ("llama", "adapter"), ("gpt2", "head")]
)
def test_flops_are_those_that_pytorch_counts(architecture: str, learns: str):
    from torch.utils.flop_counter import FlopCounterMode

    config = reshaped(tiny_config(architecture=architecture), n_kv_heads=4, logits={"tied": learns != "head"})
    model = Decoder(config)
    if learns == "adapter":
        adapt(model, AdapterConfig(rank=1), torch.Generator())
    elif learns == "head":
        model.requires_grad_(False)
        assert model.head is not None
        model.head.requires_grad_(True)
    T = config.context_length // 2  # rows may be shorter than the context
    tokens = torch.randint(400, (2, T))
    with FlopCounterMode(display=False) as counter:
        model(tokens).sum().backward()
    counted = counter.get_total_flops() / tokens.numel()
    attention = (4 if learns == "head" else 12) * config.n_layers * config.d_model * T
    # attention is counted by PyTorch for neither or both of its passes, by the kernel that is taken
    assert (
        flops_of(model, T) - attention <= counted * 1.001 <= flops_of(model, T) * (1.2 if learns == "adapter" else 1.1)
    )


def test_activations_grow_with_rows_as_measured():
    """Against the sum of what autograd keeps for a whole batch."""
    objective = CausalObjective(Decoder(tiny_config()))
    tokens = torch.randint(400, (8, 33), generator=torch.Generator().manual_seed(0))

    def kept(rows: int) -> int:
        storages: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = objective(tokens[:rows, :-1], tokens[:rows, 1:]).total
        assert loss.requires_grad
        return sum(storages.values())

    row = {"inputs_BT": tokens[:1, :-1], "targets_BT": tokens[:1, 1:]}
    measured = step_memory(objective, row, lambda: autocast("cpu", False), "cpu", whole=True)
    assert kept(8) - kept(4) == pytest.approx(4 * measured.kept, rel=0.02)
    assert measured.row >= measured.kept


def test_the_expected_loss_falls_with_size_and_text_but_not_with_repetition():
    def middle(n_parameters: float, read: float, unique: float | None) -> float:
        return sum(expected_bits_per_byte(n_parameters, read, unique, 2.3)) / 2

    assert middle(1e6, 1e7, None) > middle(1e7, 1e7, None) > middle(1e7, 1e8, None)
    assert middle(1e7, 1e8, 1e6) == pytest.approx(middle(1e7, 1e9, 1e6), rel=0.02)
    assert middle(1e7, 1e8, 1e6) > middle(1e7, 1e8, None)


def test_the_expected_loss_is_a_part_of_what_bzip2_makes_of_the_text(dataset: Dataset):
    corpus = CorpusStatistics.of(dataset)
    text = dataset.tokenizer().decode(corpus.stream.window(0, len(corpus.stream)).tolist()).encode()
    assert corpus.packed_bits() == 8 * len(bz2.compress(text)) / len(text)
    spec = scratch_run(corpus, ModelSettings(layers=1, width=32, context=64), TrainSettings(steps=1, batch=2), World())
    assert spec.expected is not None
    n_parameters, unique = spec.objective.model.n_parameters(), len(text)
    expected = expected_bits_per_byte(n_parameters, 1000 * corpus.bytes_per_token, unique, corpus.packed_bits())
    assert spec.expected(1000) == pytest.approx(expected, rel=0.01)
    assert CorpusStatistics.imagined(500).packed_bits() == 2.3


def test_a_model_that_cannot_fit_is_refused_before_it_is_made(dataset: Dataset):
    with pytest.raises(InputError, match=r"takes [\d.]+ TB before its first token.*smaller model"):
        scratch_run(CorpusStatistics.of(dataset), ModelSettings(size="900b"), TrainSettings(steps=1), World())


def test_documents_shorter_than_the_context_see_only_themselves(dataset: Dataset):
    training = TrainSettings(steps=1, batch=2, precision="fp32")
    for context, masked in ((32, False), (512, True)):
        spec = scratch_run(
            CorpusStatistics.of(dataset), ModelSettings(layers=1, width=32, context=context), training, World()
        )
        assert isinstance(spec.objective, CausalObjective)
        assert (spec.objective.document_start is not None) == masked


@pytest.mark.parametrize(
    ("longest", "context"), [(None, 128), (20, 128), (100, 128), (200, 256), (500, 512), (513, 128), (20_000, 128)]
)
def test_the_context_holds_documents_whole_where_that_is_not_too_dear(longest: int | None, context: int):
    model = ModelSettings(size="1m")
    resolved = resolve_settings(model, TrainSettings(), 1024, 10**7, lambda: 1e11, longest)
    assert resolved.model.context == context


def test_the_length_of_documents_is_that_of_most_of_them(tmp_path: Path):
    texts = [f"{number} " + "word " * (100 if number % 20 == 0 else 10) for number in range(200)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    dataset = prepare([str(tmp_path / "texts.jsonl")], tmp_path / "data").dataset
    found = CorpusStatistics.of(dataset).most_documents
    assert found is not None and 10 <= found <= 30
    (tmp_path / "one.txt").write_text("".join(texts))
    assert CorpusStatistics.of(prepare([str(tmp_path / "one.txt")], tmp_path / "one").dataset).most_documents is None
