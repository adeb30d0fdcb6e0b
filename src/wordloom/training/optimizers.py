"""What turns gradients into steps: Muon for the matrices of the blocks, AdamW for everything else."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from wordloom.training.parallel import World, like, whole
from wordloom.training.settings import OptimizerName

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalised(matrices_NRC: Tensor, steps: int = 5) -> Tensor:
    """U Vᵀ of each matrix U S Vᵀ, roughly: singular values end between about 0.7 and 1.2.

    Newton-Schulz iteration X ← aX + (bA + cA²)X with A = XXᵀ (Jordan et al. 2024, "Muon: an optimizer for hidden
    layers in neural networks"): matrix products only, and it bears bfloat16.

    Args:
        matrices_NRC: a stack of matrices of one shape, in the dtype to compute in.
    """
    a, b, c = _NEWTON_SCHULZ
    x = matrices_NRC.mT if matrices_NRC.shape[-2] > matrices_NRC.shape[-1] else matrices_NRC
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if matrices_NRC.shape[-2] > matrices_NRC.shape[-1] else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Jordan et al. 2024), with decoupled weight decay.

    The step of an R x C matrix is scaled by 0.2 sqrt(max(R, C)), which gives it the size of AdamW's steps, so
    that both share one learning rate (Liu et al. 2025, "Muon is scalable for LLM training", section 2.2).
    Matrices of one shape are orthogonalised together: for small models this is most of the speed.

    Args:
        params: matrices only.
        dtype: what the orthogonalisation computes in.
        world: the processes that share its work; each keeps only its part of the momenta of sharded matrices.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.bfloat16,
        world: World = World(),  # noqa: B008 - frozen
    ):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self._dtype, self._world = dtype, world

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for parameters in by_shape.values():
                self._step_one_shape(parameters, group)

    def _step_one_shape(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        updates = []
        for parameter in parameters:
            assert parameter.grad is not None
            momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
            momentum.lerp_(parameter.grad, 1 - group["momentum"])
            updates.append(whole(parameter.grad.lerp(momentum, group["momentum"])).to(self._dtype))  # Nesterov
        stack = self._world.divided(torch.stack(updates), orthogonalised).to(parameters[0].dtype)
        scale = 0.2 * max(parameters[0].shape) ** 0.5
        for parameter, update in zip(parameters, stack, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(like(update, parameter), alpha=-group["lr"] * scale)


def make_optimizers(
    model: nn.Module,
    name: OptimizerName,
    weight_decay: float,
    betas: tuple[float, float],
    momentum: float,
    dtype: torch.dtype,
    world: World,
) -> list[torch.optim.Optimizer]:
    """`muon`: Muon for the matrices inside blocks, AdamW (Loshchilov & Hutter 2019) for embeddings, norms and biases.

    `adamw`: AdamW for all. Vectors are not decayed towards zero. Learning rates are set at every step.
    """
    by_muon, matrices, vectors = [], [], []
    for full_name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.dim() < 2:
            vectors.append(parameter)
        elif name == "muon" and ".blocks." in f".{full_name}" and parameter.dim() == 2:
            by_muon.append(parameter)
        else:
            matrices.append(parameter)
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizers: list[torch.optim.Optimizer] = []
    if groups := [group for group in groups if group["params"]]:
        optimizers.append(torch.optim.AdamW(groups, lr=0.0, betas=betas, fused=True))
    if by_muon:
        optimizers.append(Muon(by_muon, 0.0, weight_decay, momentum, dtype, world))
    return optimizers
