"""What is run here besides ops, blocks and layers: whole trackers, and all that AINet adds."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import cast

from torch import Tensor, nn

from benchmarks.suites.trackers import build, frame_step, network_step, parse
from rgbt_fusion.benchmarking.workloads import (
    ATTENTION,
    Call,
    Draw,
    Prepared,
    Task,
    Workload,
    prepare_module,
)
from rgbt_fusion.benchmarking.workloads import TASKS as LAYER_TASKS
from rgbt_fusion.cli.step_cost import measure_step
from rgbt_fusion.layers.all_layer_self_attention import AllLayerSelfAttention
from rgbt_fusion.layers.cross_attention_fusion import CrossAttentionFusion
from rgbt_fusion.layers.difference_fusion_mamba import DFM
from rgbt_fusion.layers.order_dynamic_fusion_mamba import OFM
from rgbt_fusion.models.summary import summarise
from rgbt_fusion.ops.backends import BackendName

__all__ = ["TASKS", "score_differences"]


class _FusionOfAllLayers(nn.Module):
    """One fusion of two streams, called in every layer, and one fusion over all layers."""

    def __init__(self, fusion: nn.Module, summary: nn.Module, num_layers: int) -> None:
        super().__init__()
        self.fusion = fusion
        self.summary = summary
        self.num_layers = num_layers

    def forward(self, rgb: Tensor, tir: Tensor) -> Tensor:
        all_fused = []
        for _ in range(self.num_layers):
            rgb, tir, fused = self.fusion(rgb, tir)
            all_fused.append(fused)
        return self.summary(all_fused)


def _fusion(workload: Workload, draw: Draw) -> Prepared:
    """All that AINet adds to a two-stream encoder of K layers, or attention in its place."""
    B, L, C, K = (workload.sizes[axis] for axis in "BLCK")
    if workload.contender in ATTENTION:
        attention = ATTENTION[workload.contender]
        fusion = CrossAttentionFusion(C, C // 64 or 1, attention=attention)
        summary = AllLayerSelfAttention(C, C // 64 or 1, attention=attention)
    else:
        backend = cast(BackendName, workload.contender)
        fusion = DFM(C, backend=backend)
        summary = OFM(C, num_layers=K, backend=backend)
    rgb = draw.sequence(B, L, C)
    tir = draw.sequence(B, L, C)
    return prepare_module(workload, draw, _FusionOfAllLayers(fusion, summary, K), rgb, tir)


def _model(workload: Workload, draw: Draw) -> Prepared:
    """One step of a tracker of :data:`benchmarks.suites.trackers.TRACKERS`."""
    step = network_step(
        workload.contender,
        batch=workload.sizes["B"],
        dtype=draw.dtype,
        threads=workload.threads,
        device=workload.device,
    )
    return Prepared(step, ())


def _track(workload: Workload, draw: Draw) -> Prepared:
    """One frame of a tracker, from the pixels to the box."""
    step = frame_step(
        workload.contender,
        height=workload.sizes["H"],
        width=workload.sizes["W"],
        dtype=draw.dtype,
        device=workload.device,
    )
    return Prepared(step, ())


def _shrink_tracker(workload: Workload) -> Workload:
    tracker, _, form = parse(workload.contender)
    return replace(workload, contender=f"{tracker}: tiny_128, {form}")


def _count_tracker(workload: Workload) -> dict[str, int]:
    tracker, size, _ = parse(workload.contender)
    return _counts(tracker, size)


@cache
def _counts(tracker: str, size: str) -> dict[str, int]:
    summary = summarise(build(f"{tracker}: {size}"))
    return {"parameters": summary.parameters, "macs": summary.macs}


def _resident_bytes(workload: Workload) -> int | None:
    """Return the peak memory of a process that builds a tracker and runs it four times."""
    if workload.device != "cpu":
        return None
    return measure_step(build(workload.contender), rounds=3).peak_resident_bytes


def score_differences(
    entries: Mapping[str, Workload], calls: Mapping[str, Call]
) -> dict[str, dict[str, float]]:
    """Return how far the score map of each contender is from that of the first, at most.

    Args:
        entries: the contenders by label; not used here.
        calls: what runs each of them.
    """
    first = next(iter(calls.values()))
    (expected,) = first()
    differences = {}
    for label, call in calls.items():
        (found,) = call()
        differences[label] = {"score": (found - expected).abs().max().item()}
    return differences


TASKS: dict[str, Task] = LAYER_TASKS | {
    "fusion": Task(_fusion, memory_of="all"),
    "model": Task(
        _model,
        shrink=_shrink_tracker,
        count=_count_tracker,
        errors=score_differences,
        resident_bytes=_resident_bytes,
        memory_of="first",
    ),
    "track": Task(_track, shrink=_shrink_tracker, memory_of="first"),
}
"""What can be run from a checkout. Each tracker is the first in a contest of its own."""
