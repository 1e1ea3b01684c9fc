"""One training in several processes: who computes what, and the sums that make them agree with a
single one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["Processes", "SynchronisedBatchNorm", "join_processes", "synchronise_batch_norms"]


@dataclass(frozen=True)
class Processes:
    """This process among those that train together."""

    rank: int
    count: int

    def share(self, batch_size: int) -> tuple[int, int]:
        """Return the places of the global batch that are this process's: from, and up to.

        Raises:
            ValueError: the batch cannot be divided evenly.
        """
        if batch_size % self.count:
            raise ValueError(
                f"batch_size must be divisible by the {self.count} processes, got {batch_size}"
            )
        size = batch_size // self.count
        return self.rank * size, (self.rank + 1) * size

    def mean(self, x: Tensor) -> Tensor:
        """Return the mean over the processes, without gradient."""
        if self.count == 1:
            return x.detach()
        total = x.detach().clone()
        dist.all_reduce(total)
        return total / self.count

    def share_of(self, divisor: Tensor) -> Tensor:
        """Return what each process divides its sum by, so that their mean is the whole sum over
        ``max(1, divisor)``."""
        return self.mean(divisor).clamp(min=1 / self.count)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def join_processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started, if it did, and leave them at the end."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if dist.is_available() and dist.is_initialized():
        yield Processes(dist.get_rank(), dist.get_world_size())
    elif count == 1:
        yield Processes(0, 1)
    else:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        try:
            yield Processes(dist.get_rank(), count)
        finally:
            dist.destroy_process_group()


class _SumOverProcesses(torch.autograd.Function):
    """A sum that every process gets; so every process's gradient comes back to each summand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


class SynchronisedBatchNorm(nn.BatchNorm2d):
    r"""BatchNorm over the batches of all processes, on any device; torch's own is for graphics
    cards alone.

    .. math::
        \mu = \frac{1}{n} \sum_r \sum_i x_{r,i}, \qquad \sigma^2 = \frac{1}{n} \sum_r \sum_i (x_{r,i} - \mu)^2

    Both sums carry their gradient across the processes. The parameters and statistics are named as
    BatchNorm's.

    Source:
        Ioffe and Szegedy, "Batch Normalization", ICML 2015, algorithm 1.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        count = dist.get_world_size() * input.shape[0] * input.shape[2] * input.shape[3]
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        mean = _sum(x.sum((0, 2, 3))) / count
        centred = x - mean.view(1, -1, 1, 1)
        variance = _sum(centred.square().sum((0, 2, 3))) / count
        self._remember(mean.detach(), variance.detach(), count)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if (
            self.running_mean is None
            or self.running_var is None
            or self.num_batches_tracked is None
        ):
            return
        momentum = 0.1 if self.momentum is None else self.momentum
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(
            (variance * count / max(1, count - 1)).to(self.running_var.dtype), momentum
        )


def synchronise_batch_norms(model: nn.Module) -> None:
    """Let every BatchNorm of a model see the whole batch, in place."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                shared = SynchronisedBatchNorm(child.num_features, child.eps, child.momentum)
                shared.weight, shared.bias = child.weight, child.bias
                for buffer, value in child.named_buffers():
                    setattr(shared, buffer, value)
                setattr(module, name, shared)


def _sum(x: Tensor) -> Tensor:
    return cast(Tensor, _SumOverProcesses.apply(x))
