"""Many processes as one: the same model, batch and result, wrapped rather than rewritten.

`torchrun` starts the processes; each takes its share of every batch. Either all of them hold the whole model
(DDP), or each holds a part of every weight (FSDP2), perhaps within groups that repeat each other (HSDP).
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate
from torch.nn.parallel import DistributedDataParallel

from wenloom.core.console import silence
from wenloom.core.errors import InputError

Strategy = Literal["ddp", "fsdp", "hsdp"]


@dataclass(frozen=True)
class World:
    """The processes of a run, and which of them this one is."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def share(self, count: int) -> tuple[int, int]:
        """First and end of this process's part of `count` things.

        >>> [World(rank, 4).share(10) for rank in range(4)]
        [(0, 2), (2, 5), (5, 7), (7, 10)]
        """
        return self.rank * count // self.size, (self.rank + 1) * count // self.size

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def agreed(self, value: Any) -> Any:
        """What the first process says, for decisions that must not differ (times measured, signals seen)."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def signals(self, stop: bool, save: bool, device: str) -> tuple[bool, bool]:
        """Whether any process was told to stop, and whether the main one finds it time to save."""
        if self.size == 1:
            return stop, save
        flags = self.total(torch.tensor([float(stop), float(save and self.is_main)], device=device)).tolist()
        return flags[0] > 0, flags[1] > 0

    def gathered(self, value: Any) -> list[Any]:
        """The value of every process."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def divided(self, stack_NRC: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """`function` of a stack of matrices that every process holds, each process computing a part of them."""
        if self.size == 1:
            return function(stack_NRC)
        each = -(-len(stack_NRC) // self.size)
        mine = stack_NRC[self.rank * each : (self.rank + 1) * each]
        part = torch.zeros(each, *stack_NRC.shape[1:], dtype=stack_NRC.dtype, device=stack_NRC.device)
        if len(mine):
            part[: len(mine)] = function(mine)
        parts = [torch.empty_like(part) for _ in range(self.size)]
        dist.all_gather(parts, part)
        return torch.cat(parts)[: len(stack_NRC)]


@contextmanager
def joined_processes(device: str) -> Iterator[World]:
    """Meet the other processes that `torchrun` started; alone, do nothing.

    Raises:
        InputError: there are fewer GPUs than processes on this machine.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    if device == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise InputError(f"process {local} has no GPU: start at most {torch.cuda.device_count()} on this machine.")
        torch.cuda.set_device(local)
    if os.environ.get("RANK", "0") != "0":
        silence()
    if dist.is_initialized():  # by a program that calls this library
        yield World(dist.get_rank(), dist.get_world_size())
        return
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=timedelta(minutes=30))
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def refuse_alone(parallel: str) -> None:
    """A way to share a model needs others to share it with.

    Raises:
        InputError: there is one process only.
    """
    if parallel != "auto" and os.environ.get("WORLD_SIZE", "1") == "1":
        raise InputError(
            f"--parallel {parallel} has no effect here: one process has nothing to share; begin with torchrun."
        )


def shards(strategy: Strategy, world: World) -> int:
    """How many processes hold the weights together: one, all, or those of one machine."""
    return {"ddp": 1, "fsdp": world.size, "hsdp": int(os.environ.get("LOCAL_WORLD_SIZE", world.size))}[strategy]


class Replica:
    """A module as this process computes it: alone, as one of many copies, or as one of many parts.

    Args:
        module: what to train; wrapped in place.
        blocks: its parts of equal shape, the units in which FSDP gathers weights.
        strategy: ddp, fsdp, or hsdp, where the processes of one machine hold the model once.
        compute: dtype of the weights that FSDP gathers.
    """

    def __init__(
        self,
        module: nn.Module,
        blocks: nn.ModuleList,
        world: World,
        device: str,
        strategy: Strategy,
        compute: torch.dtype = torch.float32,
    ):
        self.world, self.module = world, module
        self.shards = shards(strategy, world)
        if world.size == 1:
            return
        if strategy == "ddp":
            wrapped = DistributedDataParallel(module, gradient_as_bucket_view=True)
            wrapped.register_comm_hook(world, _sum_in_rank_order if device == "cpu" else _sum)
            self.module = wrapped
            return
        if strategy == "hsdp":
            if world.size % self.shards:
                raise InputError(f"--parallel hsdp: {world.size} processes do not divide into groups of {self.shards}.")
            mesh = init_device_mesh(
                device, (world.size // self.shards, self.shards), mesh_dim_names=("replicate", "shard")
            )
        else:
            mesh = init_device_mesh(device, (world.size,))
        policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32)
        for block in blocks:
            fully_shard(block, mesh=mesh, mp_policy=policy)
        sharded = fully_shard(module, mesh=mesh, mp_policy=policy)
        assert isinstance(sharded, FSDPModule)
        for part in module.modules():
            if isinstance(part, FSDPModule):
                part.set_gradient_divide_factor(1.0)  # the loss is divided by the tokens of all processes already
                part.set_force_sum_reduction_for_comms(True)

    def part(self, is_last: bool) -> AbstractContextManager[None]:
        """Around forward and backward of one part of a batch: gradients are exchanged once, after the last."""
        if isinstance(self.module, DistributedDataParallel):
            return nullcontext() if is_last else self.module.no_sync()
        if isinstance(self.module, FSDPModule):
            self.module.set_requires_gradient_sync(is_last)
        return nullcontext()


def _sum(world: World, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # pyright: ignore[reportPrivateImportUsage]
    """Sum gradients (DDP would average them, but the loss is divided by the tokens of all processes already)."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None
    return work.get_future().then(lambda done: done.value()[0])


def _sum_in_rank_order(world: World, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # pyright: ignore[reportPrivateImportUsage]
    """Sum gradients in one fixed order: a ring adds in an order that depends on how DDP cuts its buckets,
    which changes after the first step, and a resumed run would differ in the last bit."""
    parts = [torch.empty_like(bucket.buffer()) for _ in range(world.size)]
    work = dist.all_gather(parts, bucket.buffer(), async_op=True)
    assert work is not None

    def added(_: Any) -> Tensor:
        total = bucket.buffer().zero_()
        for part in parts:
            total += part
        return total

    return work.get_future().then(added)


def full_tensor(tensor: Tensor) -> Tensor:
    """A tensor with all its parts; every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(full: Tensor, other: Tensor) -> Tensor:
    """The part of `full` (the same in every process) that this process holds of `other`."""
    if not isinstance(other, DTensor):
        return full
    mesh = other.device_mesh
    replicated = DTensor.from_local(full, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return replicated.redistribute(mesh, other.placements)
