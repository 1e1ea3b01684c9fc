"""Trackers are run, counted and judged like layers."""

from dataclasses import replace

import pytest
import torch

from benchmarks.suites.memory import new_meter
from benchmarks.suites.workloads import TASKS
from rgbt_fusion.benchmarking.contest import Contest
from rgbt_fusion.benchmarking.measure import measure
from rgbt_fusion.benchmarking.memory import MemoryMeter
from rgbt_fusion.benchmarking.timing import Effort
from rgbt_fusion.benchmarking.workloads import Workload, prepare, shrunk

EFFORT = Effort(rounds=2, budget_s=0.1)
OVER_LAYERS = {"B": 1, "L": 6, "C": 64, "K": 3}


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("contender", ["auto", "written-out attention"])
def test_the_fusion_of_all_layers_runs(contender, backward):
    workload = Workload("fusion", contender, OVER_LAYERS, backward=backward)
    results = prepare(workload, tasks=TASKS)()
    assert all(torch.isfinite(x).all() for x in results)
    assert len(results) > 1 or not backward


def test_a_shrunk_tracker_is_tiny_and_has_its_form():
    workload = Workload("model", "OSTrack: vitb_256, explicit attention", {"B": 1})
    small = shrunk(workload, tasks=TASKS)
    assert small == replace(workload, contender="OSTrack: tiny_128, explicit attention")
    prepare(small, tasks=TASKS)()


def test_the_memory_of_a_tracker_is_measured_in_a_fresh_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with new_meter() as meter:
        assert meter.peak_extra_bytes(Workload("model", "OSTrack: tiny_128", {"B": 1})) > 10**5


def test_a_tracker_is_counted_and_its_forms_are_compared_with_the_first(monkeypatch):
    monkeypatch.setattr(MemoryMeter, "peak_extra_bytes", lambda self, workload: 77)
    forms = {"eager": "", "int8": ", int8"}
    entries = {
        form: Workload("model", f"OSTrack: tiny_128{end}", {"B": 1}) for form, end in forms.items()
    }
    contest = Contest(
        "models", "models-forms", "OSTrack", entries, "eager", memory=True, errors=True
    )
    eager, int8 = measure(contest, EFFORT, MemoryMeter(), tasks=TASKS)
    assert eager.error == {"score": 0.0}
    assert 0 < int8.error["score"] < 0.01
    assert eager.parameters == int8.parameters > 10**6
    assert eager.macs > 10**7
    assert eager.extra_bytes == 77
    assert eager.resident_bytes > 4 * eager.parameters
    assert int8.resident_bytes is None
