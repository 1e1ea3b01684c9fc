import pytest

from rgbt_fusion.benchmarking.cases import CASES
from rgbt_fusion.benchmarking.suites import SCAN_SHAPES, SUITES, Options, comparisons
from rgbt_fusion.benchmarking.tables import TABLES
from rgbt_fusion.benchmarking.workloads import TASKS, prepare, shrunk


@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_lists_comparisons_that_can_be_run_and_shown(suite, quick):
    found = comparisons([suite], Options(quick=quick))
    assert found
    for comparison in found:
        assert comparison.suite == suite
        assert comparison.table in TABLES
        assert comparison.baseline is None or comparison.baseline in comparison.entries
        assert all(workload.task in TASKS for workload in comparison.entries.values())
        assert not set(comparison.entries) & set(comparison.skipped)
    titles = [comparison.full_title for comparison in found]
    assert len(set(titles)) == len(titles)


def test_the_scan_is_compared_on_all_shapes_layouts_and_passes():
    found = [x for x in comparisons(["scan"], Options()) if x.table == "scan"]
    assert len(found) == len(SCAN_SHAPES) * 2 * 2
    for comparison in found:
        first = next(iter(comparison.entries.values()))
        backward = first.backward
        assert comparison.baseline == ("chunked PyTorch loop" if backward else "reference loop")
        assert comparison.errors
        # the memory of an op does not depend on how its arguments lie
        assert comparison.memory == (first.layout == "token")


def test_options_narrow_a_suite():
    options = Options(
        shapes=((2, 8, 24, 4),), backends=("vectorised",), dtypes=("float32",), threads=(1,), layouts=("token",),
        passes=(False,),
    )  # fmt: skip
    found = comparisons(["scan"], options)
    assert [x.full_title for x in found] == [
        "scan: (2, 8, 24, 4), token-major, forward",
        "scan-order: (2, 8, 24, 4), forward",
    ]
    first = found[0].entries["vectorised"]
    assert first.sizes == {"B": 2, "D": 8, "L": 24, "N": 4}
    assert "native" not in found[0].entries


def test_several_threads_make_the_wall_clock_count():
    for threads, clock in (((1,), "cpu"), ((2,), "wall")):
        (first, *_) = comparisons(["scan"], Options(threads=threads, shapes=((1, 8, 6, 4),)))
        assert first.clock == clock


def test_what_cannot_run_or_would_take_for_ever_is_skipped_with_a_reason():
    found = {x.full_title: x for x in comparisons(["scan"], Options())}
    assert list(found["scan: (1, 192, 320, 16), (B, D, L), forward"].entries)[1:] == [
        "reference loop"
    ]
    forward = found["scan: (1, 1536, 3840, 16), token-major, forward"]
    backward = found["scan: (1, 1536, 3840, 16), token-major, forward+backward"]
    assert "reference loop" in forward.entries
    assert backward.skipped["reference loop"] == "its backward pass is quadratic in the length"
    assert forward.skipped["mamba-ssm"] == "runs on cuda only"


def test_the_matrix_that_would_fill_the_memory_is_not_written_out():
    (huge,) = comparisons(["complexity"], Options(shapes=((2048, 12),)))
    assert "written-out attention" in huge.skipped
    (small,) = comparisons(["complexity"], Options(shapes=((64, 2),)))
    assert "written-out attention" in small.entries
    assert small.entries["Mamba"].sizes["L"] == 20


def test_every_case_with_a_full_size_is_measured_beside_its_counterpart():
    found = {x.title: x for x in comparisons(["layers"], Options()) if x.table == "layers"}
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
        comparisons(["scan"], options)


def test_what_is_run_before_memory_is_measured_runs():
    attending = [
        one for one in comparisons(["layers"], Options()) if one.table == "attention-scores"
    ]
    for workload in (workload for one in attending for workload in one.entries.values()):
        prepare(shrunk(workload))()
    assert len(attending) == 2
