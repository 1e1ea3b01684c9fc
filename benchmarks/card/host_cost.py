"""What the Python in front of a launch costs, in calls of ``torch.add`` on this machine."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.card.fake import fake_card
from rgbt_fusion.ops.inputs import (
    CHECKPOINT_STEPS,
    ConvGradients,
    ConvInputs,
    ScanGradients,
    ScanInputs,
    ScanResults,
)
from rgbt_fusion.ops.triton import backend

__all__ = ["HostCost", "host_costs"]

CALLS = 50
ROUNDS = 15


class HostCost(NamedTuple):
    """What one call of the backend costs the host."""

    name: str
    adds: float
    """Its time over that of ``torch.add`` of two small tensors, interleaved medians."""
    launches: int
    """Of Triton's kernels; each sum that PyTorch adds up behind them counts, too."""


def host_costs() -> Iterator[HostCost]:
    """Measure a scan in chunks and a convolution at the sizes of a DFM, forward and backward."""
    u, A, results, gradients = _scan_tensors()
    inputs = ScanInputs(
        u=u,
        delta=u,
        A=A,
        B=u[..., None, :16],
        C=u[..., None, 16:32],
        readout=None,
        D=A[..., 0].contiguous(),
        z=u,
        delta_bias=A[..., 0].contiguous(),
        order=None,
        initial_state=None,
        delta_softplus=True,
        merge=False,
    )
    conv = ConvInputs(u, A[..., :4].contiguous(), A[..., 0].contiguous(), None, silu=True)
    conv_gradients = ConvGradients(*(torch.empty_like(x) for x in conv[:3] if x is not None))
    calls: dict[str, Callable[[], Any]] = {
        "scan in chunks": lambda: backend.scan_forward(inputs, results),
        "its backward pass": lambda: backend.scan_backward(
            inputs, results.checkpoints, u, None, gradients(inputs)
        ),
        "convolution": lambda: backend.conv_forward(conv, results.out),
        "its backward pass ": lambda: backend.conv_backward(conv, u, conv_gradients),
    }
    with fake_card() as launched:
        for name, call in calls.items():
            call()
            launched.clear()
            with _Sums() as sums:
                call()
            launches = len(launched) + sums.count
            yield HostCost(name.strip(), _adds(call), launches)


def _scan_tensors() -> tuple[Any, Any, ScanResults, Callable[[ScanInputs], ScanGradients]]:
    length, channels, states = 320, 768, 16
    u = torch.randn(1, 1, length, channels)
    A = -torch.rand(1, channels, states)
    blocks = -(-length // CHECKPOINT_STEPS)
    results = ScanResults(
        torch.empty_like(u),
        torch.empty(1, 1, channels, states),
        torch.empty(1, 1, blocks, states, channels),
    )
    kept: list[ScanGradients] = []

    def gradients(inputs: ScanInputs) -> ScanGradients:
        if not kept:
            given = inputs._asdict()
            kept.append(
                ScanGradients._make(
                    None if given[name] is None else torch.empty_like(given[name])
                    for name in ScanGradients._fields
                )
            )
        return kept[0]

    return u, A, results, gradients


class _Sums(TorchDispatchMode):
    """Counts the operations of PyTorch that would launch a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func._schema.name.removeprefix("aten::")
        self.count += name in ("sum", "copy_", "add", "add_", "clone", "_to_copy")
        return func(*args, **(kwargs or {}))


def _adds(call: Callable[[], Any]) -> float:
    """Return how many additions a call lasts, both measured in turn."""
    one = torch.ones(4)
    ours = []
    additions = []
    for _ in range(ROUNDS):
        ours.append(_seconds(call))
        additions.append(_seconds(lambda: torch.add(one, one)))
    return statistics.median(ours) / statistics.median(additions)


def _seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - start) / CALLS
