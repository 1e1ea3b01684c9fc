"""AINet's Fig. 5: the suite, its table and its picture."""

import sys

import pytest

from benchmark_material import row
from benchmarks.suites.complexity import complexity, complexity_table, draw_growth
from benchmarks.suites.workloads import TASKS
from rgbt_fusion.benchmarking.contest import Options
from rgbt_fusion.benchmarking.records import Row


def fusion_row(
    label: str, ms: float, tokens: int, layers: int, title: str, extra_bytes: int
) -> Row:
    return row(
        label,
        ms,
        table="complexity",
        comparison=title,
        task="fusion",
        sizes={"B": 1, "L": tokens, "C": 768, "K": layers},
        extra_bytes=extra_bytes,
    )


GROWTH = [
    fusion_row(label, 1.0 * tokens * layers, tokens, layers, f"{tokens} {layers}", 1000 * tokens)
    for label in ("Mamba", "fused attention")
    for tokens, layers in ((80, 12), (320, 12), (320, 1))
]


@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
def test_the_suite_lists_contests_that_can_be_run(quick):
    found = list(complexity(Options(quick=quick)))
    assert len({contest.full_title for contest in found}) == len(found) == (3 if quick else 7)
    for contest in found:
        assert (contest.suite, contest.table) == ("complexity", "complexity")
        assert contest.baseline in contest.entries
        assert contest.memory
        assert {workload.task for workload in contest.entries.values()} == {"fusion"} <= {*TASKS}
        assert not set(contest.entries) & set(contest.skipped)


def test_the_matrix_that_would_fill_the_memory_is_not_written_out():
    (huge,) = complexity(Options(shapes=((2048, 12),)))
    assert "written-out attention" in huge.skipped
    (small,) = complexity(Options(shapes=((64, 2),)))
    assert "written-out attention" in small.entries
    assert small.entries["Mamba"].sizes["L"] == 20


def test_a_shape_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="shape must be px,K for this suite, got 256"):
        list(complexity(Options(shapes=((256,),))))


def test_growth_is_the_exponent_between_the_two_largest_resolutions():
    rows = []
    for tokens in (80, 320, 720):
        for label, power, scale in (("Mamba", 1, 2.0), ("written-out attention", 2, 0.1)):
            rows.append(
                fusion_row(
                    label, scale * tokens**power, tokens, 12, f"{tokens} tokens", tokens**power
                )
            )
    shown = complexity_table(rows)
    assert shown.rows[-1][2:] == ("1.00", "1.00", "2.00", "2.00")
    assert shown.rows[0][:2] == ("80 tokens", "960")


def test_a_picture_is_drawn(tmp_path):
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("matplotlib")
    draw_growth(GROWTH, tmp_path / "folder" / "plot.png")
    image = cv2.imread(str(tmp_path / "folder" / "plot.png"))
    assert image.shape[1] > 1000
    assert image.std() > 10


def test_nothing_to_draw_is_said(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="a plot needs rows of the suite complexity"):
        draw_growth([], tmp_path / "plot.png")


def test_the_missing_package_is_named_with_its_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rgbt-fusion\[tracking\]'"):
        draw_growth(GROWTH, tmp_path / "plot.png")
