"""One training in several processes that together compute what a single process would."""

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
    """The processes that train together, seen from this one."""

    rank: int
    """The number of this process, from 0."""
    count: int
    """How many processes there are."""

    def share(self, batch_size: int) -> tuple[int, int]:
        """Return the part of the global batch that this process computes, ``start`` and ``stop``.

        Raises:
            ValueError: ``batch_size`` cannot be divided evenly.
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
        """Return what each process divides its own sum by.

        The mean of the results over the processes is the sum over all samples, divided by
        ``max(1, D)`` with D the sum of all ``divisor``.
        """
        return self.mean(divisor).clamp(min=1 / self.count)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def join_processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started, if any, and leave them at the end."""
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
    """A sum over the processes; the gradient of each summand is the sum of all gradients."""

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
    r"""BatchNorm over the batches of all processes, on any device.

    Both sums carry their gradient across the processes. Parameters and statistics have the names of
    BatchNorm's. torch's own SyncBatchNorm runs on graphics cards only.

    .. math::
        \mu = \frac{1}{n} \sum_r \sum_i x_{r,i}, \qquad
        \sigma^2 = \frac{1}{n} \sum_r \sum_i (x_{r,i} - \mu)^2

    Shape:
        - input: ``(B, C, H, W)``
        - returns the same shape and dtype

    Source:
        Ioffe and Szegedy, "Batch Normalization", ICML 2015, algorithm 1.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(B, C, H, W)`` by the mean and variance over all processes."""
        if not self.training:
            return super().forward(input)
        count = dist.get_world_size() * input.shape[0] * input.shape[2] * input.shape[3]
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        mean = _sum(x.sum((0, 2, 3))) / count
        centred = x - mean.view(1, -1, 1, 1)
        variance = _sum(centred.square().sum((0, 2, 3))) / count
        self._remember(mean.detach(), variance.detach(), count)
        scale = self.weight * (variance + self.eps).rsqrt()
        normalised = centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return normalised.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Update the running statistics, where the module keeps any."""
        running_mean = self.running_mean
        running_var = self.running_var
        if running_mean is None or running_var is None or self.num_batches_tracked is None:
            return
        momentum = 0.1 if self.momentum is None else self.momentum
        unbiased = variance * count / max(1, count - 1)
        self.num_batches_tracked += 1
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_(unbiased.to(running_var.dtype), momentum)


def synchronise_batch_norms(model: nn.Module) -> None:
    """Replace every BatchNorm of a model by one that sees the whole batch, in place."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, _synchronised(child))


def _synchronised(norm: nn.BatchNorm2d) -> SynchronisedBatchNorm:
    """Return a norm over all processes that shares its parameters and statistics with ``norm``."""
    shared = SynchronisedBatchNorm(norm.num_features, norm.eps, norm.momentum)
    shared.weight = norm.weight
    shared.bias = norm.bias
    for name, value in norm.named_buffers():
        setattr(shared, name, value)
    return shared


def _sum(x: Tensor) -> Tensor:
    """Return the sum over the processes, with gradient."""
    return cast(Tensor, _SumOverProcesses.apply(x))
