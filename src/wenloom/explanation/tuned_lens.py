"""The tuned lens: what each block would answer, read through a map that has learned how the block writes (Belrose et al. 2023).

    lens_l(h) = unembed(norm(h + A_l h + b_l))

A_l and b_l are trained so that this is as near as can be to the model's own answer: the least KL(model || lens_l) on your text. They
begin as zeros, which is the logit lens; the last block needs none, and has none.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import torch
from torch import Tensor

from wenloom.checkpoint.weights import stored_tensors, write_tensors
from wenloom.core.errors import CheckpointError, InputError
from wenloom.core.files import file_aside
from wenloom.core.foreign import regular_file
from wenloom.core.randomness import generator
from wenloom.explanation.activations import row_length, token_rows
from wenloom.explanation.subject import Subject
from wenloom.model.config import ModelConfig
from wenloom.model.decoder import Decoder
from wenloom.model.taps import Tap, Taps

_ROW = 65
_HELD_OUT, _MOST_HELD_OUT = 10, 16
_MOST_LEARNED = 2048
"""Rows of text that are kept to learn from."""
_RATE = 1e-3
_STEP_TOKENS = 128


@dataclass(frozen=True, eq=False)
class TunedLens:
    """A map for each block but the last."""

    weight_LDD: Tensor
    """A, shape (L - 1, D, D)."""
    bias_LD: Tensor

    def translated(self, layer: int, stream: Tensor) -> Tensor:
        """The stream after a block as the last one would have written it, shape (..., D); of the last block itself."""
        if layer == len(self.bias_LD):
            return stream
        return stream + (stream.float() @ self.weight_LDD[layer].T + self.bias_LD[layer]).to(stream.dtype)

    def check(self, config: ModelConfig, name: str) -> None:
        """
        Raises:
            CheckpointError: it is another model's.
        """
        n, d = self.bias_LD.shape
        if (n, d) != (config.n_layers - 1, config.d_model):
            raise CheckpointError(
                f"{name}: a lens for {n + 1} blocks with {d} numbers; this model has {config.n_layers} with {config.d_model}. "
                "A lens is of the model that it was trained for."
            )


@dataclass(frozen=True)
class LensTraining:
    """A lens and how near it comes, on text that it has not seen. Nats per token, by block."""

    lens: TunedLens
    kl_tuned: list[float]
    kl_logit: list[float]
    """Of the logit lens."""
    n_tokens: int
    """Held out."""


def train_lens(
    subject: Subject,
    texts: Sequence[str],
    n_steps: int = 250,
    seed: int = 0,
    on_steps: Callable[[int], None] = lambda n: None,
) -> LensTraining:
    """Train a lens on a text.

    Args:
        texts: files and folders; every tenth passage is held out.
        n_steps: of Adam, 128 tokens each.
        on_steps: told how many steps were done.

    Raises:
        InputError: a model that does not write on or has one block only, or too little text.
    """
    decoder = subject.writer(
        "a tuned lens is for models that continue their prompt: decoders without an encoder or classes."
    )
    config, device = decoder.config, decoder.embed.weight.device
    if config.n_layers < 2:
        raise InputError("this model has one block only: its logit lens is the model itself.")
    length = row_length(subject, _ROW)
    rows = list(islice(token_rows(subject, texts, length), _MOST_LEARNED))
    held_out, learned = rows[::_HELD_OUT][:_MOST_HELD_OUT], [row for n, row in enumerate(rows) if n % _HELD_OUT]
    if not learned:
        raise InputError(f"the text is too short to train a lens: it needs two passages of {length} tokens at least.")
    weight_LDD = torch.zeros(config.n_layers - 1, config.d_model, config.d_model, device=device).requires_grad_()
    bias_LD = torch.zeros(config.n_layers - 1, config.d_model, device=device).requires_grad_()
    gradient_LDD, gradient_LD = weight_LDD.grad, bias_LD.grad = torch.zeros_like(weight_LDD), torch.zeros_like(bias_LD)
    optimizer = torch.optim.Adam([weight_LDD, bias_LD], lr=_RATE)
    order, draw = _shuffled(learned, seed), generator(seed, "places")
    for step in range(n_steps):
        size = max(1, 2 * _STEP_TOKENS // length)
        streams_LND, final_ND = _streams(decoder, list(islice(order, size)))
        some = torch.randperm(len(final_ND), generator=draw)[:_STEP_TOKENS].to(device)
        with torch.no_grad():
            target_NV = decoder.unembed(final_ND[some]).float().log_softmax(-1)
        for layer in range(
            config.n_layers - 1
        ):  # one block's logits are held at a time, and no gradient of the model's weights
            own = [each[layer : layer + 1].detach().requires_grad_() for each in (weight_LDD, bias_LD)]
            kl = divergence(decoder, TunedLens(*own), 0, streams_LND[layer, some], target_NV).mean()
            (gradient_LDD[layer],), (gradient_LD[layer],) = torch.autograd.grad(kl, own)
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1.0, (step + 1) / 10, max(0.05, (n_steps - step) / (0.5 * n_steps)))
        torch.nn.utils.clip_grad_norm_([weight_LDD, bias_LD], 1.0)
        optimizer.step()
        on_steps(1)
    lens = TunedLens(weight_LDD.detach(), bias_LD.detach())
    plain = TunedLens(torch.zeros_like(lens.weight_LDD), torch.zeros_like(lens.bias_LD))
    tuned, logit = (lens_divergence(decoder, each, held_out) for each in (lens, plain))
    return LensTraining(lens, tuned, logit, len(held_out) * (length - 1))


def divergence(decoder: Decoder, lens: TunedLens, layer: int, stream_ND: Tensor, target_NV: Tensor) -> Tensor:
    """KL(model || lens) at each token, nats, shape (N,).

    Args:
        target_NV: log-probabilities of the model.
    """
    read_NV = decoder.unembed(decoder.final_norm(lens.translated(layer, stream_ND))).float().log_softmax(-1)
    return (target_NV.exp() * (target_NV - read_NV)).sum(-1)


@torch.no_grad()
def lens_divergence(decoder: Decoder, lens: TunedLens, rows: Sequence[list[int]]) -> list[float]:
    """Mean KL(model || lens) over the tokens of rows, nats, by block; of each row's first token nothing."""
    total = [0.0] * decoder.config.n_layers
    for row in rows:
        streams_LND, final_ND = _streams(decoder, [row])
        target_NV = decoder.unembed(final_ND).float().log_softmax(-1)
        for layer in range(len(total)):
            total[layer] += float(divergence(decoder, lens, layer, streams_LND[layer], target_NV).mean())
    return [each / len(rows) for each in total]


@torch.no_grad()
def _streams(decoder: Decoder, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """The stream after every block (L, N, D), and what the last norm gives (N, D); without each row's first token."""
    kept = dict[str, Tensor]()

    def keep(name: str) -> Tap:
        def tap(x_BTD: Tensor) -> None:
            kept[name] = x_BTD[:, 1:].flatten(0, 1)

        return tap

    names = [f"blocks.{layer}.resid_post" for layer in range(decoder.config.n_layers)]
    taps = Taps({name: keep(name) for name in (*names, "final_norm")}, decoder.places)
    decoder.hidden(torch.tensor(list(rows), device=decoder.embed.weight.device), taps=taps)
    return torch.stack([kept[name] for name in names]), kept["final_norm"]


def _shuffled(rows: Sequence[list[int]], seed: int) -> Iterator[list[int]]:
    order = torch.randperm(len(rows), generator=generator(seed, "rows")).tolist()
    return cycle([rows[number] for number in order])


def save_lens(lens: TunedLens, path: Path) -> None:
    """Write a lens; a file of that name is replaced.

    Raises:
        WenloomError: the disk refused.
    """
    with file_aside(path) as aside:
        write_tensors({"weight": lens.weight_LDD.float().cpu(), "bias": lens.bias_LD.float().cpu()}, aside)


def load_lens(path: Path) -> TunedLens:
    """Read a lens.

    Raises:
        InputError: there is no such file.
        CheckpointError: it holds no lens, or a damaged one.
    """
    regular_file(path)
    with ExitStack() as stack:
        stored = stored_tensors([path], stack)
        weight, bias = stored.get("weight"), stored.get("bias")
        if weight is None or bias is None or len(bias.shape) != 2 or weight.shape != (*bias.shape, bias.shape[1]):
            raise CheckpointError(f"{path}: holds no tuned lens; wenloom train-lens makes one.")
        return TunedLens(weight.read_weights().float(), bias.read_weights().float())
