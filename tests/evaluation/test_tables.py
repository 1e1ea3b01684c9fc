"""Tables of scores."""

import numpy as np
import pytest

from rgbt_fusion.evaluation.intervals import paired_differences, score_intervals
from rgbt_fusion.evaluation.scores import Scores
from rgbt_fusion.evaluation.scoring import BenchmarkTruth, score
from rgbt_fusion.evaluation.tables import (
    attribute_table,
    interval_note,
    paired_note,
    paired_table,
    score_table,
    sequence_table,
)
from rgbt_fusion.files.table import Figure, best_cells, to_cells
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


def test_numbers_carry_their_interval_and_the_best_one_is_marked():
    scores = [scored("far", 9), scored("near", 1)]
    intervals = score_intervals(scores)
    table = score_table(scores, metrics=["PR", "SR", "APE", "miss_count"], intervals=intervals)
    near = table.rows[0]
    assert near[2] == Figure(scores[1].metrics["SR"], *intervals[1].metrics["SR"], best=True)
    # of an error less is better, and equal numbers are equally good
    assert best_cells(table) == [
        [False] * 5,
        [False, True, True, True, False],
        [False, True, False, False, False],
    ]
    assert isinstance(near[4], int)
    attributes = attribute_table(scores, intervals=intervals)
    assert [isinstance(cell, Figure) and cell.low is not None for cell in attributes.rows[0]] == [
        False
    ] * 4
    assert attributes.rows[1][3] == near[2]
    assert not any(map(any, best_cells(score_table(scores[:1], intervals=intervals[:1]))))
    with pytest.raises(ValueError, match="intervals must be those of the 2 scores, got 1"):
        score_table(scores, intervals=intervals[:1])


def test_pairs_of_trackers():
    pairs = paired_differences([scored("far", 9), scored("near", 1)])
    table = paired_table(pairs)
    assert table.header == ("trackers", "difference in SR", "decided", "decidable from")
    assert table.rows[0][0] == "near - far"
    assert to_cells(table)[1][1].startswith("+0.2")
    assert table.rows[0][2] == "no"
    note = paired_note(pairs)
    assert "0 of 1 differences are decided, on 2 sequences" in note
    assert "This pair needs a difference in SR above " in note
    assert "Half of the pairs need a difference" in paired_note([*pairs, *pairs])
    with pytest.raises(ValueError, match="differences must hold at least one pair"):
        paired_table([])


def test_the_note_says_over_how_many_sequences():
    scores = [scored("far", 9), scored("half", 0, incomplete="skip")]
    assert "95 % intervals over 1 to 2 sequences" in interval_note(scores)
    assert "95 % intervals over 2 sequences" in interval_note(scores[:1])


def test_tables_of_several_trackers_can_say_whose_they_are():
    table = sequence_table(scored("half", 0, incomplete="skip"), named=True)
    assert table.header[-2:] == ("left out", "tracker")
    assert [row[-1] for row in table.rows] == ["half", "half"]
