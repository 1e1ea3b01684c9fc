import pytest
import torch

from rgbt_fusion.benchmarking.contest import Contest
from rgbt_fusion.benchmarking.measure import measure
from rgbt_fusion.benchmarking.memory import MemoryMeter
from rgbt_fusion.benchmarking.timing import Effort
from rgbt_fusion.benchmarking.workloads import Workload

SIZES = {"B": 1, "D": 6, "L": 12, "N": 3}
ENTRIES = {
    name: Workload("scan", name, SIZES, backward=True) for name in ("vectorised", "reference loop")
}
SCAN = Contest(
    "scan",
    "scan",
    "a title",
    ENTRIES,
    "reference loop",
    errors=True,
    skipped={"nobody": "not here"},
)
EFFORT = Effort(rounds=2, budget_s=0.1)


def test_every_contender_gets_a_row():
    ours, loop, skipped = measure(SCAN, EFFORT, MemoryMeter())
    assert ours.label == ours.contender == "vectorised"
    assert ours.wall_ms.samples == 2
    assert ours.ratio == pytest.approx(loop.cpu_ms.median / ours.cpu_ms.median)
    assert loop.ratio == 1.0
    assert 0 < ours.error["out"] < 1e-6
    assert 0 < ours.error["gradients"] < 5e-6
    assert (ours.extra_bytes, ours.macs) == (None, None)
    assert skipped.label == "nobody"
    assert skipped.skipped == "not here"
    assert skipped.time is None


def test_memory_is_measured_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(MemoryMeter, "peak_extra_bytes", lambda self, workload: 77)
    entries = {"vectorised": Workload("scan", "vectorised", SIZES)}
    (row,) = measure(
        Contest("scan", "scan", "a title", entries, memory=True), EFFORT, MemoryMeter()
    )
    assert row.extra_bytes == 77
    assert row.resident_bytes is None
    assert row.ratio is None


def test_a_layer_is_counted():
    entries = {"forward": Workload("layer", "CMI: 8 x 16 x 16")}
    (row,) = measure(Contest("layers", "layers", "CMI", entries), EFFORT, MemoryMeter())
    assert row.parameters == 144
    assert row.macs == 256 * 8 * 16 + 256 * 256 * 12


def test_progress_is_told_and_the_threads_are_as_before():
    told, before = [], torch.get_num_threads()
    entries = {"2 threads": Workload("scan", "vectorised", SIZES, threads=before + 1)}
    measure(
        Contest("scan", "scan-threads", "", entries),
        EFFORT,
        MemoryMeter(),
        on_progress=lambda *x: told.append(x),
    )
    assert torch.get_num_threads() == before
    assert sum(share for _, share in told) == pytest.approx(1.0)
