"""Learning from rewards goes through the one loop: sampled by the model itself, divided by texts, best by reward."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wenloom.checkpoint.folder import load_decoder
from wenloom.core.randomness import generator
from wenloom.model.decoder import Decoder
from wenloom.model.taps import Taps
from wenloom.tokens.shards import Dataset
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.history import BestBy, read_metrics
from wenloom.training.loop import Run
from wenloom.training.objectives import Loss, LossSum, Objective
from wenloom.training.parallel import World
from wenloom.training.prefetcher import Prefetcher
from wenloom.training.run_file import read_run
from wenloom.training.settings import TrainSettings
from wenloom.training.setup import RunSpec
from wenloom.training.source import CorpusSource, Rows, Source

from ..conftest import random_decoder, tiny_config

LENGTH = 8
"""Tokens of a continuation; the prompt is the end token."""


@torch.no_grad()
def continued(decoder: Decoder, n: int, drawn: torch.Generator) -> Tensor:
    """Continuations sampled from the model, behind the prompt, shape (n, 1 + LENGTH)."""
    was_training, tokens = decoder.training, torch.zeros(n, 1, dtype=torch.long)
    decoder.eval()
    for _ in range(LENGTH):
        logits = decoder(tokens)[:, -1].float()
        tokens = torch.cat((tokens, torch.multinomial(logits.softmax(-1), 1, generator=drawn)), 1)
    decoder.train(was_training)
    return tokens


class Reinforced(Objective):
    """REINFORCE (Williams 1992): -Σ advantage log P(continuation), divided by continuations."""

    def forward(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        reward_B: Tensor,
        advantage_B: Tensor,
        dropout_keys_B: Tensor | None = None,
        taps: Taps | None = None,
    ) -> LossSum:
        log_p = self.model(inputs_BT, taps=taps).float().log_softmax(-1).gather(2, targets_BT[..., None])[..., 0]
        total = -(advantage_B * log_p.sum(1)).sum()
        return LossSum(total, torch.tensor(len(reward_B)), {"reward": reward_B.sum()})


class OwnTexts(Source):
    """What the model writes now, with the mean reward of its neighbours as baseline."""

    read_ahead = False

    def __init__(self, decoder: Decoder, reward: Callable[[Tensor], Tensor], batch: int):
        self.decoder, self.reward, self.batch, self.per_epoch = decoder, reward, batch, batch
        self.row_tokens = self.longest = LENGTH
        self.seen: list[float] = []
        """The weights that each read was made with."""

    def rows(self, begin: int, end: int) -> Rows:
        self.seen.append(float(self.decoder.embed.weight.detach().double().sum()))
        tokens = torch.cat([continued(self.decoder, 1, generator(0, "texts", i)) for i in range(begin, end)])
        reward_B = self.reward(tokens[:, 1:])
        return {"inputs_BT": tokens[:, :-1], "targets_BT": tokens[:, 1:], "reward_B": reward_B,
                "advantage_B": reward_B - reward_B.mean()}  # fmt: skip

    def weight(self, rows: Rows) -> Tensor:
        return torch.tensor(len(rows["reward_B"]))


class Rewarded:
    """Validation: the mean reward of other continuations."""

    command, best, bytes_per_token, validation_size = "reinforce", BestBy("reward", "max"), None, Loss(0.0, 64, 0, 0)

    def __init__(self, tokenizer: TextTokenizer, reward: Callable[[Tensor], Tensor]):
        self.tokenizer, self.reward, self.value = tokenizer, reward, 0.0

    def limit(self, part: float) -> None:
        """All of it is scored."""

    def evaluate(self, objective: nn.Module, device: str, world: World, on_tokens: Callable[[int], None]) -> "Rewarded":
        tokens = continued(objective.model, 64, torch.Generator().manual_seed(1))  # pyright: ignore
        self.value = float(self.reward(tokens[:, 1:]).mean())
        return self

    pieces = ()

    def figures(self) -> dict[str, float]:
        return {"reward": self.value}

    def table(self) -> dict[str, Any]:
        return {"key": "none"}

    def overlap(self, texts: list[str]) -> None:
        return None

    def write_card(self, folder: Path, tables: dict[str, dict[str, Any]], samples: list[str]) -> None:
        return None


def test_a_reward_is_learned_through_the_one_loop_and_tells_the_best(
    tokenizer: TextTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The share of tokens with an "e", in rows that the model makes: read once a step, after the step before it."""
    monkeypatch.setattr("wenloom.training.setup.time_steps", lambda *_, **__: 0.01)
    has_letter = torch.tensor(["e" in tokenizer.decode([token]) for token in range(400)]).float()
    decoder = random_decoder(tiny_config())
    source = OwnTexts(decoder, lambda tokens_BT: has_letter[tokens_BT].mean(1), batch=16)
    training = TrainSettings(steps=40, batch=16, micro_batch=5, optimizer="adamw", learning_rate=0.02, evaluations=5,
                             precision="fp32", device="cpu", schedule="cosine")  # fmt: skip
    spec = RunSpec(Reinforced(decoder), source, training, asdict(training), [], "a tiny llama", 64)
    run = Run(spec, Rewarded(tokenizer, source.reward), tmp_path / "run", None, World())
    source.seen.clear()
    result = run.go()
    assert len(source.seen) == len(set(source.seen)) == 40  # as many reads as steps, all with other weights
    lines = read_metrics(result.folder)
    rewards = {line["step"]: line["validation"]["reward"] for line in lines if "validation" in line}
    assert result.figures["reward"] == max(rewards.values()) == rewards[result.best_step] > 0.5
    assert rewards[8] < result.figures["reward"]
    assert all("reward" in line for line in lines if "loss" in line)
    told = read_run(result.folder)["result"]
    assert (told["best_figure"], told["best_direction"]) == ("reward", "max")
    best = continued(load_decoder(result.folder), 64, torch.Generator().manual_seed(1))
    assert float(source.reward(best[:, 1:]).mean()) == pytest.approx(result.figures["reward"])
    assert "reward" in (result.folder / "report.html").read_text()


@pytest.mark.parametrize("read_ahead", [False, True])
def test_the_prefetcher_reads_ahead_only_where_the_source_allows_it(read_ahead: bool, dataset: Dataset):
    class Counted(CorpusSource):
        reads: list[int] = []

        def rows(self, begin: int, end: int) -> Rows:
            self.reads.append(begin)
            return super().rows(begin, end)

    source = Counted(dataset.stream("train"), 32, batch=4, seed=0)
    source.read_ahead, source.reads = read_ahead, []
    prefetcher = Prefetcher(source, 0, "cpu", World())
    for position in (0, 4, 8):
        prefetcher.batch(position)
        assert source.reads[-1] == position or read_ahead
    prefetcher._reader.shutdown(wait=True)
    assert source.reads == [0, 4, 8, *([12] if read_ahead else [])]
