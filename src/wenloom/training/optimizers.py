"""What turns gradients into steps: Muon for the matrices of the blocks, AdamW for everything else."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from wenloom.training.parallel import World, full_tensor, shard_like
from wenloom.training.settings import OptimizerName

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
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
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
            updates.append(full_tensor(parameter.grad.lerp(momentum, group["momentum"])).to(self._dtype))  # Nesterov
        stack = self._world.divided(torch.stack(updates), orthogonalised).to(parameters[0].dtype)
        scale = 0.2 * max(parameters[0].shape) ** 0.5
        for parameter, update in zip(parameters, stack, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(shard_like(update, parameter), alpha=-group["lr"] * scale)


def make_optimizers(
    model: nn.Module,
    name: OptimizerName,
    weight_decay: float,
    betas: tuple[float, float],
    momentum: float,
    dtype: torch.dtype,
    world: World,
    layer_decay: float = 1.0,
) -> list[torch.optim.Optimizer]:
    """`muon`: Muon for the matrices inside blocks, AdamW (Loshchilov & Hutter 2019) for embeddings, norms, biases and
    the routers of experts, whose rows are classes and no directions.

    `adamw`: AdamW for all. Vectors are not decayed towards zero. Learning rates are set at every step; a group's own
    is `scale` times that of the run.

    Args:
        layer_decay: scale of a block, as a part of that of the block above it (Howard & Ruder 2018, section 3.2).
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
        optimizers.append(Muon(stacks, 0.0, weight_decay, momentum, dtype, world))
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
