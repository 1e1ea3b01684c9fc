import pytest

from benchmarks.suites.models import models
from benchmarks.suites.trackers import TRACKERS, parse
from rgbt_fusion.benchmarking.contest import Options


def test_every_tracker_is_measured_beside_ostrack():
    found = [x for x in models(Options()) if x.table in ("models", "models-prompter")]
    measured = {parse(workload.contender)[0] for x in found for workload in x.entries.values()}
    assert measured == set(TRACKERS)
    for contest in found:
        assert contest.baseline in contest.entries
        assert {workload.sizes["B"] for workload in contest.entries.values()} == {1}


def test_every_form_and_setting_is_there():
    found = list(models(Options()))
    forms = {
        label for x in found if x.table == "models-forms" for label in (*x.entries, *x.skipped)
    }
    assert forms == {"eager", "compiled", "ONNX Runtime", "int8", "ONNX Runtime, int8"}
    assert [x.title for x in found if x.table == "models-settings"] == [
        "batch 1, 2 threads, float32",
        "batch 8, 1 thread, float32",
        "batch 8, 2 threads, float32",
        "batch 1, 1 thread, bfloat16",
    ]
    assert {x.clock for x in found if "2 threads" in x.title} == {"wall"}


def test_a_quick_run_takes_a_smaller_size_and_makes_no_file():
    for contest in models(Options(quick=True)):
        for workload in contest.entries.values():
            _, size, form = parse(workload.contender)
            assert size == "vits_256"
            assert form in ("eager", "template kept", "explicit attention")


def test_a_batch_may_be_asked_for():
    found = list(models(Options(shapes=((4,),))))
    assert {workload.sizes["B"] for x in found for workload in x.entries.values()} == {4}
    assert all(x.title.endswith(", batch 4") for x in found)
    with pytest.raises(ValueError, match="shape must be B for this suite, got 1,2"):
        list(models(Options(shapes=((1, 2),))))
