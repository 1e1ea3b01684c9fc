import pytest

from rgbt_fusion.benchmarking.cases import CASES
from rgbt_fusion.benchmarking.contest import Options
from rgbt_fusion.benchmarking.suites import SCAN_SHAPES, SUITES, contests
from rgbt_fusion.benchmarking.tables import TABLES
from rgbt_fusion.benchmarking.workloads import TASKS, prepare, shrunk


@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_lists_contests_that_can_be_run_and_shown(suite, quick):
    found = contests([suite], Options(quick=quick))
    assert found
    for contest in found:
        assert contest.suite == suite
        assert contest.table in TABLES
        assert contest.baseline is None or contest.baseline in contest.entries
        assert all(workload.task in TASKS for workload in contest.entries.values())
        assert not set(contest.entries) & set(contest.skipped)
    titles = [contest.full_title for contest in found]
    assert len(set(titles)) == len(titles)


def test_the_scan_is_compared_on_all_shapes_layouts_and_passes():
    found = [x for x in contests(["scan"], Options()) if x.table == "scan"]
    assert len(found) == len(SCAN_SHAPES) * 2 * 2
    for contest in found:
        first = next(iter(contest.entries.values()))
        backward = first.backward
        assert contest.baseline == ("chunked PyTorch loop" if backward else "reference loop")
        assert contest.errors
        # the memory of an op does not depend on how its arguments lie
        assert contest.memory == (first.layout == "token")


def test_options_narrow_a_suite():
    options = Options(
        shapes=((2, 8, 24, 4),),
        backends=("vectorised",),
        dtypes=("float32",),
        threads=(1,),
        layouts=("token",),
        passes=(False,),
    )
    found = contests(["scan"], options)
    assert [x.full_title for x in found] == [
        "scan: (2, 8, 24, 4), token-major, forward",
        "scan-order: (2, 8, 24, 4), forward",
    ]
    first = found[0].entries["vectorised"]
    assert first.sizes == {"B": 2, "D": 8, "L": 24, "N": 4}
    assert "native" not in found[0].entries


def test_several_threads_make_the_wall_clock_count():
    for threads, clock in (((1,), "cpu"), ((2,), "wall")):
        (first, *_) = contests(["scan"], Options(threads=threads, shapes=((1, 8, 6, 4),)))
        assert first.clock == clock


def test_what_cannot_run_or_would_take_for_ever_is_skipped_with_a_reason():
    found = {x.full_title: x for x in contests(["scan"], Options())}
    assert list(found["scan: (1, 192, 320, 16), (B, D, L), forward"].entries)[1:] == [
        "reference loop"
    ]
    forward = found["scan: (1, 1536, 3840, 16), token-major, forward"]
    backward = found["scan: (1, 1536, 3840, 16), token-major, forward+backward"]
    assert "reference loop" in forward.entries
    assert backward.skipped["reference loop"] == "its backward pass is quadratic in the length"
    assert forward.skipped["mamba-ssm"] == "runs on cuda only"


def test_every_case_with_a_full_size_is_measured_beside_its_counterpart():
    found = {x.title: x for x in contests(["layers"], Options()) if x.table == "layers"}
    assert set(found) == {f"{case.name}: {setup.size}" for case in CASES for setup in case.full}
    assert found["DFM: 320 tokens"].baseline == "CrossAttentionFusion"
    assert (
        found["DFM: 320 tokens"].entries["CrossAttentionFusion"].contender
        == "CrossAttentionFusion: 320 tokens"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(shapes=((1, 2),)), "shape must be B,D,L,N for this suite, got 1,2"),
        (Options(backends=("nonsense",)), "backend must be one of .*, got 'nonsense'"),
        (Options(backends=("triton",)), "backend triton cannot run on cpu: "),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        contests(["scan"], options)


def test_what_is_run_before_memory_is_measured_runs():
    attending = [one for one in contests(["layers"], Options()) if one.table == "attention-scores"]
    for workload in (workload for one in attending for workload in one.entries.values()):
        prepare(shrunk(workload))()
    assert len(attending) == 2
