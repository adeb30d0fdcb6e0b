"""What turns gradients into steps: Muon for the matrices of the blocks, AdamW for everything else."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from wenloom.training.parallel import World, full_tensor, shard_like
from wenloom.training.settings import OptimizerName

POLYNOMIALS = ((8.4703, -25.1081, 18.6293), (4.1828, -3.1087, 0.5806), (3.9619, -2.9541, 0.5630))
"""Coefficients of x, x³ and x⁵. Each polynomial is the one nearest to 1 on the interval into which those before it map
[0.001, 1] (Amsel et al. 2025, "The Polar Express", section 3); together they map it into [0.14, 1.86]."""
_SIZE = 0.15
"""Liu et al. 2025, equation 4, have 0.2 for singular values that are 0.9 in the mean; here they are 1.2."""
_SHARE = 0.2
"""Of the products of a step with the matrices, the most that orthogonalising them may take."""
_UNNOTICED = 5e8
"""Operations that it may take in any case: a few milliseconds of a core."""


def orthogonalised(matrices_NRC: Tensor) -> Tensor:
    """U Vᵀ of each matrix U S Vᵀ, roughly: singular values of a thousandth of the norm or more end between 0.14 and 1.86.

    Newton-Schulz iteration X ← aX + (bA + cA²)X with A = XXᵀ (Jordan et al. 2024, "Muon: an optimizer for hidden
    layers in neural networks"): matrix products only, and it bears bfloat16.

    Args:
        matrices_NRC: a stack of matrices of one shape, in the dtype to compute in.
    """
    is_tall = _is_tall(matrices_NRC)
    x = matrices_NRC.mT.contiguous() if is_tall else matrices_NRC
    x = x / (1.01 * x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)  # rounding must not take it beyond 1
    for a, b, c in POLYNOMIALS:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x


def _is_tall(matrix: Tensor) -> bool:
    return matrix.shape[-2] > matrix.shape[-1]


def muon_period(matrices: Iterable[nn.Parameter], n_tokens: int) -> int:
    """Every how many steps a matrix is orthogonalised, so that this takes a small part of a step.

    A matrix of R rows and C >= R columns takes 4 R²C + 2 R³ operations an iteration, and 6 RC a token for the model's own
    products: few tokens in a step make the first the larger part.

    Args:
        matrices: what Muon moves.
        n_tokens: of a step, in all processes together.

    >>> blocks = [nn.Parameter(torch.empty(128, 128)) for _ in range(40)]
    >>> muon_period(blocks, 768), muon_period(blocks, 16_384), muon_period(blocks[:4], 768)
    (3, 1, 1)
    """
    shapes = [sorted(each.shape) for each in matrices]
    orthogonalising = len(POLYNOMIALS) * sum(4 * rows**2 * columns + 2 * rows**3 for rows, columns in shapes)
    products = 6 * n_tokens * sum(rows * columns for rows, columns in shapes)
    return max(1, math.ceil(orthogonalising / max(_SHARE * products, _UNNOTICED)))


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Jordan et al. 2024), with decoupled weight decay.

    The step of an R x C matrix is scaled by sqrt(max(R, C)) and a constant, which gives it the size of AdamW's steps, so
    that both share one learning rate (Liu et al. 2025, "Muon is scalable for LLM training", section 2.2).
    Matrices of one shape are orthogonalised together: for small models this is most of the speed. With a period, each matrix
    steps once in it, as far as in all its steps together, and others at other times; momenta change in every step.

    Args:
        params: matrices only.
        period: see `muon_period`.
        dtype: what the orthogonalisation computes in.
        world: the processes that share its work; each keeps only its part of the momenta of sharded matrices.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.bfloat16,
        world: World = World(),  # noqa: B008 - frozen
        period: int = 1,
    ):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self._dtype, self._world, self._period = dtype, world, period

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[tuple(sorted(parameter.shape))].append(parameter)
            for parameters in by_shape.values():
                self._step_one_shape(parameters, group)

    def _step_one_shape(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        """Step with matrices of one shape, some of them turned."""
        updates: dict[nn.Parameter, Tensor] = {}
        done = self._steps_done(parameters)
        for number, parameter in enumerate(parameters):
            assert parameter.grad is not None
            momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
            momentum.lerp_(parameter.grad, 1 - group["momentum"])
            if (done + number) % self._period == 0:
                nesterov = full_tensor(parameter.grad.lerp(momentum, group["momentum"])).to(self._dtype)
                updates[parameter] = nesterov.mT if _is_tall(parameter) else nesterov
        if not updates:
            return
        stack = self._world.divided(torch.stack(list(updates.values())), orthogonalised).to(parameters[0].dtype)
        rate, scale = self._period * group["lr"], _SIZE * max(parameters[0].shape) ** 0.5
        for parameter, update in zip(updates, stack, strict=True):
            parameter.mul_(1 - rate * group["weight_decay"])
            parameter.add_(shard_like(update.mT if _is_tall(parameter) else update, parameter), alpha=-rate * scale)

    def _steps_done(self, parameters: list[nn.Parameter]) -> int:
        """With this one, where there is a period; kept as AdamW keeps its steps, for a run that is resumed."""
        if self._period == 1:
            return 0
        for parameter in parameters:
            self.state[parameter].setdefault("step", torch.zeros(())).add_(1)
        return int(self.state[parameters[0]]["step"])


def make_optimizers(
    model: nn.Module,
    name: OptimizerName,
    weight_decay: float,
    betas: tuple[float, float],
    momentum: float,
    dtype: torch.dtype,
    world: World,
    layer_decay: float = 1.0,
    n_tokens: int | None = None,
) -> list[torch.optim.Optimizer]:
    """`muon`: Muon for the matrices inside blocks, AdamW (Loshchilov & Hutter 2019) for embeddings, norms, biases and
    the routers of experts, whose rows are classes and no directions.

    `adamw`: AdamW for all. Vectors are not decayed towards zero. Learning rates are set at every step; a group's own
    is `scale` times that of the run.

    Args:
        layer_decay: scale of a block, as a part of that of the block above it (Howard & Ruder 2018, section 3.2).
        n_tokens: of a step; None where nobody knows, so that Muon orthogonalises in each.
    """
    by_muon: dict[float, list[nn.Parameter]] = defaultdict(list)
    matrices: dict[float, list[nn.Parameter]] = defaultdict(list)
    vectors: dict[float, list[nn.Parameter]] = defaultdict(list)
    for full_name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = 1.0 if layer_decay == 1 else layer_decay ** _blocks_above(model, full_name)
        if parameter.dim() < 2:
            vectors[scale].append(parameter)
        elif name == "muon" and ".blocks." in f".{full_name}" and parameter.dim() == 2 and ".router." not in full_name:
            by_muon[scale].append(parameter)
        else:
            matrices[scale].append(parameter)
    optimizers: list[torch.optim.Optimizer] = []
    groups = [
        {"params": parameters, "weight_decay": decay, "scale": scale}
        for kind, decay in ((matrices, weight_decay), (vectors, 0.0))
        for scale, parameters in kind.items()
    ]
    if groups:
        optimizers.append(torch.optim.AdamW(groups, lr=0.0, betas=betas, fused=True))
    if by_muon:
        stacks = [{"params": parameters, "scale": scale} for scale, parameters in by_muon.items()]
        moved = [each for parameters in by_muon.values() for each in parameters]
        period = 1 if n_tokens is None else muon_period(moved, n_tokens)
        optimizers.append(Muon(stacks, 0.0, weight_decay, momentum, dtype, world, period))
    return optimizers


def _blocks_above(model: nn.Module, name: str) -> int:
    """How many blocks stand between a weight and the output of its stack; all of them over an embedding."""
    stack, found, rest = f".{name}".rpartition(".blocks.")
    if not found:
        is_embedding = any(
            part in name for part in ("embed", "positions", "token_types", "relative", "distances", "widen")
        )
        stacks = [
            each for path, each in model.named_modules() if isinstance(each, nn.ModuleList) and path.endswith("blocks")
        ]
        return len(stacks[-1]) if is_embedding and stacks else 0
    blocks = model.get_submodule(f"{stack}.blocks".strip("."))
    assert isinstance(blocks, nn.ModuleList)
    return len(blocks) - 1 - int(rest.partition(".")[0])
