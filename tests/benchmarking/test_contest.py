import pytest

from rgbt_fusion.benchmarking.contest import Contest, Options, base_workload, clock_of


def test_the_first_choices_make_the_workload():
    options = Options(dtypes=("bfloat16", "float32"), threads=(2, 1))
    workload = base_workload(options, "scan", {"B": 1}, backward=True)
    assert (workload.dtype, workload.threads, workload.backward) == ("bfloat16", 2, True)


@pytest.mark.parametrize(
    ("options", "clock"), [({}, "cpu"), ({"threads": (2,)}, "wall"), ({"device": "cuda"}, "wall")]
)
def test_the_clock_is_the_process_own_on_one_cpu_thread(options, clock):
    assert clock_of(Options(**options)) == clock


def test_its_length_counts_who_is_left_out():
    contest = Contest(
        "scan", "scan", "a", {"x": base_workload(Options(), "scan", {})}, skipped={"y": "why"}
    )
    assert len(contest) == 2
    assert contest.full_title == "scan: a"
