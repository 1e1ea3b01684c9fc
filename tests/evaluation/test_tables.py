"""Tables of scores."""

import numpy as np
import pytest

from rgbt_fusion.evaluation.scores import Scores
from rgbt_fusion.evaluation.scoring import BenchmarkTruth, score
from rgbt_fusion.evaluation.tables import attribute_table, score_table, sequence_table
from rgbt_fusion.files.table import to_cells
from rgbt_fusion.frames.types import GroundTruth

BOXES = np.tile([100.0, 100, 20, 20], (10, 1))


def scored(tracker: str, shift: float, **options: str) -> Scores:
    truth = BenchmarkTruth(
        "lasher",
        {name: GroundTruth(BOXES, BOXES, np.arange(10)) for name in ("a", "b")},
        {"TC": ("a",), "LI": ("a", "b")},
    )
    results = {"a": BOXES + np.array([shift, 0, 0, 0])}
    if not options:
        results["b"] = BOXES
    return score(results, truth, tracker=tracker, **options)


def test_trackers_are_ranked():
    table = score_table([scored("far", 19), scored("near", 1)])
    assert table.header == ("tracker", "PR", "NPR", "SR")
    assert [row[0] for row in table.rows] == ["near", "far"]
    # by the benchmark's own number, whichever are shown: a large APE is no merit
    table = score_table([scored("far", 19), scored("near", 1)], metrics=["AO", "APE"])
    assert [row[0] for row in table.rows] == ["near", "far"]


def test_counts_are_whole_numbers():
    far = scored("far", 50)
    assert to_cells(score_table([far], metrics=["miss_count", "AO"])) == [
        ["tracker", "miss_count", "AO"],
        ["far", "1", "0.550"],
    ]
    assert to_cells(sequence_table(far, metrics=["miss_count"]))[1:] == [["a", "1"], ["b", "0"]]
    assert [row[2] for row in attribute_table([far], metric="miss_count").rows] == [1, 1, 1]


def test_what_is_left_out_is_counted():
    table = score_table([scored("half", 0, incomplete="skip")])
    assert table.header[-1] == "left out"
    assert table.rows[0][-1] == 1


def test_attributes_end_with_all():
    table = attribute_table([scored("near", 1), scored("half", 0, incomplete="skip")], metric="PR")
    assert table.header == ("PR", "sequences", "near", "half")
    assert [row[:2] for row in table.rows] == [("TC", 1), ("LI", 2), ("all", 2)]


def test_sequences_are_ranked_worst_first_and_reasons_last():
    table = sequence_table(scored("near", 5), metrics=["APE"])
    assert table.header == ("sequence", "APE")
    assert [row[0] for row in table.rows] == ["a", "b"]
    assert sequence_table(scored("half", 0, incomplete="skip")).rows[-1] == (
        "b",
        None,
        None,
        None,
        "missing",
    )


def test_no_scores():
    with pytest.raises(ValueError, match="scores must hold at least one tracker, got none"):
        score_table([])
