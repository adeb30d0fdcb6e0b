"""Training a sparse autoencoder or a transcoder on activations as they come (Gao et al. 2024, "Scaling and evaluating sparse
autoencoders").

An autoencoder's encoder and decoder begin as each other's transpose, the decoder's rows keep length 1, and features that have been
silent for long are given what the others leave: the auxiliary loss lets the best of them explain the error.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from wenloom.core.errors import InputError
from wenloom.core.randomness import generator
from wenloom.explanation.sparse_coder import Active, SparseCoder, active_above, decoded, top_active

BATCH = 1024
"""Tokens of a step."""
_ROOM = 2**18
"""Tokens whose activations are held, in bf16, for steps to draw from."""
_FIRST = 8 * BATCH
"""Tokens by which mean and scale are set."""
_SILENT = 100_000
"""Tokens after which a feature that was not active counts as silent (while training)."""
_TOLD = 4
"""A transcoder's threshold is told from every so many tokens of a step."""
_AUXILIARY = 1 / 32
_MOST_AUXILIARY = 128
"""Silent features that explain an error together."""


@dataclass(frozen=True)
class CoderSettings:
    """How features are trained."""

    n_features: int
    active: int
    n_tokens: int
    """Activations to be read."""
    passes: float = 2.0
    """Times that each is learned from, on average."""
    learning_rate: float = 1e-3
    is_transcoder: bool = False
    """Activations are what a layer reads, then what it writes, side by side; the one is to tell the other."""
    seed: int = 0

    @property
    def n_steps(self) -> int:
        """Steps altogether."""
        return max(1, round(self.n_tokens * self.passes / BATCH))


class _Pool:
    """Activations to draw from: the newest, up to its room."""

    def __init__(self, width: int, room: int, draw: torch.Generator):
        self._kept_ND = torch.empty(room, width, dtype=torch.bfloat16)
        self._draw, self._filled, self._next = draw, 0, 0

    def add(self, x_ND: Tensor) -> None:
        """Take new ones in, in place of the oldest."""
        for part_ND in x_ND.cpu().split(len(self._kept_ND)):
            places = (self._next + torch.arange(len(part_ND))) % len(self._kept_ND)
            self._kept_ND[places] = part_ND.to(torch.bfloat16)
            self._next = (self._next + len(part_ND)) % len(self._kept_ND)
            self._filled = min(len(self._kept_ND), self._filled + len(part_ND))

    def sample(self, n: int) -> Tensor:
        """Some of them, drawn with replacement."""
        return self._kept_ND[torch.randint(self._filled, (n,), generator=self._draw)].float()


class CoderTraining:
    """Features in the making.

    Args:
        first: activations by which the features begin: their mean is the decoder's bias, their length the scale; shape (N, D), of a
            transcoder (N, 2D).
    """

    def __init__(self, settings: CoderSettings, first: Tensor):
        self.settings, draw = settings, generator(settings.seed, "features")
        read_ND, written_ND = first.chunk(2, dim=1) if settings.is_transcoder else (first, first)
        d, m = written_ND.shape[1], settings.n_features
        mean_D = written_ND.mean(0)
        self._read_scale, self._scale = _scale(read_ND), _scale(written_ND)
        self._read_mean_D = read_ND.mean(0) / self._read_scale if settings.is_transcoder else None
        self._device = first.device
        rows_MD = torch.nn.functional.normalize(torch.randn(m, d, generator=draw), dim=1).to(self._device)
        self._encoder_MD = rows_MD.clone().requires_grad_()
        self._encoder_bias_M = torch.zeros(m, device=self._device).requires_grad_()
        if settings.is_transcoder:  # what a layer writes lies in other directions than what it reads
            rows_MD = torch.nn.functional.normalize(torch.randn(m, d, generator=draw), dim=1).to(self._device)
        self._decoder_MD = rows_MD.clone().requires_grad_()
        self._bias_D = (mean_D / self._scale).clone().requires_grad_()
        self._weights = [self._encoder_MD, self._encoder_bias_M, self._decoder_MD, self._bias_D]
        self._optimizer = torch.optim.Adam(
            self._weights, lr=settings.learning_rate, betas=(0.9, 0.999), eps=1e-8, fused=True
        )
        self.silent_M = torch.zeros(m, dtype=torch.long, device=self._device)
        """Tokens since each feature was last active."""
        self.steps = 0

    def _pre_activations(self, read_ND: Tensor) -> Tensor:
        centre_D = self._bias_D if self._read_mean_D is None else self._read_mean_D
        return torch.nn.functional.linear(read_ND / self._read_scale - centre_D, self._encoder_MD, self._encoder_bias_M)

    def _active(self, pre_NM: Tensor) -> Active:
        """An autoencoder's k strongest of each token; of a transcoder k times as many as there are tokens, wherever they are."""
        if self._read_mean_D is None:
            return top_active(pre_NM, self.settings.active)
        return active_above(pre_NM, self._threshold(pre_NM.detach()))

    def _threshold(self, pre_NM: Tensor) -> Tensor:
        """That k features exceed on average; told from every `_TOLD`th token."""
        some = pre_NM[::_TOLD].relu().flatten()
        return some.topk(min(len(some), max(1, len(pre_NM[::_TOLD]) * self.settings.active))).values[-1]

    def step(self, x: Tensor) -> float:
        """One step of Adam; returns the part of the variance that is not explained."""
        x = x.to(self._device)
        x_ND, written_ND = x.chunk(2, dim=1) if self.settings.is_transcoder else (x, x)
        pre_NM, written_ND = self._pre_activations(x_ND), written_ND / self._scale
        active = self._active(pre_NM)
        error_ND = written_ND - decoded(active, self._decoder_MD) - self._bias_D
        variance = (written_ND - written_ND.mean(0)).square().sum()
        unexplained = error_ND.square().sum() / variance
        loss = unexplained + self._auxiliary(pre_NM, error_ND.detach())
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._apply()
        with torch.no_grad():
            self.silent_M += len(x_ND)
            self.silent_M[active.numbers_NK[active.values_NK > 0]] = 0
        return float(unexplained.detach())

    def _auxiliary(self, pre_NM: Tensor, error_ND: Tensor) -> Tensor | float:
        """How badly the best of the silent features explain the error, as a part of it; 0 where none is silent."""
        silent = (self.silent_M > _SILENT).nonzero()[:, 0]
        if not len(silent):
            return 0.0
        among = top_active(pre_NM[:, silent], min(_MOST_AUXILIARY, len(silent)))
        left_ND = error_ND - decoded(Active(among.values_NK, silent[among.numbers_NK]), self._decoder_MD)
        return _AUXILIARY * left_ND.square().sum() / error_ND.square().sum()

    @torch.no_grad()
    def _apply(self) -> None:
        """Adam, with the decoder's rows kept at length 1: what would lengthen them is taken out of the gradient."""
        gradient_MD, rows_MD = self._decoder_MD.grad, self._decoder_MD
        assert gradient_MD is not None
        gradient_MD -= (gradient_MD * rows_MD).sum(1, keepdim=True) * rows_MD
        torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        self.steps += 1
        part = self.steps / self.settings.n_steps
        for group in self._optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * min(1.0, self.steps / 50, max(0.02, (1 - part) / 0.4))
        self._optimizer.step()
        rows_MD /= rows_MD.norm(dim=1, keepdim=True)

    @torch.no_grad()
    def coder(self, layer: int, last: Tensor) -> SparseCoder:
        """The features as they are, for activations as they come: z and biases are multiplied by the scale.

        Args:
            last: activations on which a transcoder's threshold lets `active` features through on average.
        """
        encoder_MD, encoder_bias_M, decoder_MD, bias_D = (each.detach().clone() for each in self._weights)
        threshold_M = None
        if self._read_mean_D is not None:
            pre_NM = self._pre_activations(last.to(self._device).chunk(2, dim=1)[0])
            threshold = float(self._threshold(pre_NM))
            encoder_bias_M -= encoder_MD @ self._read_mean_D
            encoder_MD *= self._scale / self._read_scale
            threshold_M = torch.full_like(encoder_bias_M, threshold * self._scale)
        return SparseCoder(
            layer, self.settings.active, encoder_MD, encoder_bias_M * self._scale, decoder_MD, bias_D * self._scale,
            threshold_M,
        )  # fmt: skip


def _scale(x_ND: Tensor) -> float:
    """By which activations are divided, so that their entries are about 1 away from their mean."""
    return float((x_ND - x_ND.mean(0)).norm(dim=1).mean()) / math.sqrt(x_ND.shape[1])


def train_coder(
    activations: Iterable[Tensor],
    layer: int,
    settings: CoderSettings,
    on_tokens: Callable[[int, float], None] = lambda n, unexplained: None,
) -> tuple[SparseCoder, Tensor]:
    """Features of a stream of activations, and the tokens since each was last active, shape (M,).

    Args:
        activations: parts of shape (N, D), of a transcoder (N, 2D); reading ends after `n_tokens`. Where there are fewer, they are
            drawn more often.
        layer: of the block that they come from.
        on_tokens: told how many were read and the part of the variance that is not explained.

    Raises:
        InputError: there are fewer than two.
    """
    parts = iter(activations)
    first = list[Tensor]()
    while sum(map(len, first)) < min(_FIRST, settings.n_tokens) and (part_ND := next(parts, None)) is not None:
        first.append(part_ND)
    if sum(map(len, first)) < 2:
        raise InputError("the text is too short to learn features from.")
    training = CoderTraining(settings, torch.cat(first))
    pool = _Pool(first[0].shape[1], min(_ROOM, settings.n_tokens), generator(settings.seed, "batches"))
    read = 0
    for part_ND in chain(first, parts):
        pool.add(part_ND)
        read += len(part_ND)
        unexplained = math.nan
        while training.steps < settings.n_steps * min(1.0, read / settings.n_tokens):
            unexplained = training.step(pool.sample(BATCH))
        on_tokens(len(part_ND), unexplained)
        if read >= settings.n_tokens:
            break
    while training.steps < settings.n_steps:  # the text ended before
        unexplained = training.step(pool.sample(BATCH))
        on_tokens(round(BATCH / settings.passes), unexplained)
    return training.coder(layer, pool.sample(2 * BATCH)), training.silent_M
