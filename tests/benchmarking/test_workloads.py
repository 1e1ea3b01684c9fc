import json
from dataclasses import asdict, replace

import pytest
import torch

from rgbt_fusion.benchmarking.workloads import (
    Workload,
    error_against_float64,
    exact_results,
    prepare,
    shrunk,
)

SCAN = Workload("scan", "vectorised", {"B": 1, "D": 6, "L": 24, "N": 3})
BLOCK = {"B": 1, "L": 6, "C": 64}
OVER_LAYERS = {**BLOCK, "K": 3}
DIRECTIONS = {"B": 1, "D": 6, "L": 4, "N": 3, "W": 4, "K": 3}


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(
    ("task", "contender", "sizes"),
    [
        ("conv", "vectorised", {"B": 1, "D": 6, "L": 9, "W": 4}),
        ("conv", "vectorised", {"B": 1, "D": 6, "L": 9, "W": 4, "K": 3}),
        ("scan", "vectorised", {**SCAN.sizes, "K": 4}),
        ("directions", "auto", DIRECTIONS),
        ("block", "auto", BLOCK),
        ("block", "written in PyTorch", BLOCK),
        ("block", "its scan and convolution", BLOCK),
        ("dfm", "auto", BLOCK),
        ("dfm", "fused attention", BLOCK),
        ("dfm", "written-out attention", BLOCK),
        ("ofm", "auto", OVER_LAYERS),
        ("ofm", "fused attention", OVER_LAYERS),
        ("attention", "fused, no scores", {"B": 1, "L": 12, "C": 64, "T": 2, "S": 2}),
        ("attention", "fused, scores", {"B": 1, "L": 12, "C": 64, "T": 2, "S": 2}),
    ],
)
def test_a_task_runs(task, contender, sizes, backward):
    results = prepare(Workload(task, contender, sizes, backward=backward))()
    assert all(torch.isfinite(x).all() for x in results)
    assert len(results) > 1 or not backward


def test_a_workload_is_plain_data():
    assert Workload(**json.loads(json.dumps(asdict(SCAN)))) == SCAN


def test_values_depend_on_neither_layout_nor_contender():
    token, channel = (prepare(replace(SCAN, layout=layout))()[0] for layout in ("token", "channel"))
    torch.testing.assert_close(token, channel.mT)
    torch.testing.assert_close(token, prepare(replace(SCAN, contender="reference loop"))()[0])


def test_the_truth_is_that_of_the_plain_loop():
    for backward in (False, True):
        workload = replace(SCAN, backward=backward)
        loop = prepare(replace(workload, contender="reference loop"), exact=True)()
        for x, y in zip(exact_results(workload), loop, strict=True):
            assert x.dtype == torch.float64
            torch.testing.assert_close(x, y)


def test_the_error_of_low_precision_is_against_the_same_rounded_inputs():
    rounding = torch.finfo(torch.bfloat16).eps
    error = error_against_float64(replace(SCAN, dtype="bfloat16", contender="reference"))["out"]
    assert 0 < error < rounding


def test_a_wrong_result_has_a_large_error():
    wrong = (torch.zeros(1, 24, 6, dtype=torch.float64) + 1,)
    assert error_against_float64(SCAN, wrong)["out"] > 0.1


def test_a_run_sets_the_threads_it_was_asked_for():
    before = torch.get_num_threads()
    try:
        prepare(replace(SCAN, threads=2))()
        assert torch.get_num_threads() == 2
        prepare(replace(SCAN, threads=1))()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_shrunk_workload_runs_the_same_code_on_little():
    small = shrunk(replace(SCAN, sizes={"B": 8, "D": 1536, "L": 3840, "N": 16, "K": 12}))
    assert max(small.sizes.values()) <= 16
    prepare(small)()
    assert shrunk(Workload("layer", "DFM: 320 tokens")).contender == "DFM: small"
