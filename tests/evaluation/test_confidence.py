"""What confidences are worth: by hand, by counting pairs, and from a result folder."""

import numpy as np
import pytest

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.evaluation.confidence import (
    ConfidenceScores,
    confidence_scores,
    confidence_table,
    score_confidence,
)
from rgbt_fusion.evaluation.plots import plot_reliability, plot_risk_coverage
from rgbt_fusion.evaluation.results import ResultFolder, StoredTrack
from rgbt_fusion.evaluation.scoring import BenchmarkTruth, score
from rgbt_fusion.files.table import Figure
from rgbt_fusion.frames.types import GroundTruth


def drawn(sequences: int = 20, *, levels: int = 0) -> ConfidenceScores:
    """Score confidences that are the probability of a hit."""
    generator = np.random.default_rng(3)
    sure = [generator.random(200) for _ in range(sequences)]
    if levels:
        sure = [np.round(one * levels) / levels for one in sure]
    hits = [generator.random(200) < one for one in sure]
    overlaps = [np.where(hit, 0.8, 0.1) for hit in hits]
    return confidence_scores(sure, overlaps, [np.ones(200, bool)] * sequences)


def test_by_hand():
    found = confidence_scores(
        [[0.9, 0.9, 0.3, 0.1]], [[0.8, 0.1, 0.7, 0.6]], [[True, True, True, False]]
    )
    # lost: the second frame by its overlap, the fourth because the target is gone
    assert found.lost == 0.5
    # found 0.9 and 0.3 against lost 0.9 and 0.1: a half, 1, 0, 1
    assert found.auroc == pytest.approx(2.5 / 4)
    assert found.ece == pytest.approx((2 * 0.4 + 0.7 + 0.1) / 4)
    risks = np.array([1.1 / 2, 1.1 / 2, 1.4 / 3, 2.4 / 4])
    assert found.aurc == pytest.approx(risks.mean())
    assert found.risk.thresholds.tolist() == [0.5, 0.75, 1.0]
    assert found.risk.values == pytest.approx(risks[1:])
    assert found.intervals == {}


def test_a_poor_overlap_is_neither_found_nor_lost():
    found = confidence_scores([[1.0, 0.0, 0.0]], [[0.9, 0.4, 0.1]], [[True] * 3])
    assert found.lost == pytest.approx(1 / 3)
    assert found.ece == 0
    assert found.auroc == pytest.approx(3 / 4)  # 1 and a half of two pairs
    lenient = confidence_scores([[1.0, 0.0, 0.0]], [[0.9, 0.4, 0.1]], [[True] * 3], found_above=0.3)
    assert lenient.ece == pytest.approx(1 / 3)


def test_an_overlap_at_a_limit_is_neither_above_nor_below_it():
    found = confidence_scores([[1.0, 0.0, 0.0]], [[0.5, 0.2, 0.3]], [[True] * 3])
    assert found.lost == 0
    assert found.reliability is not None
    assert np.nansum(found.reliability.hits) == 0
    beyond = confidence_scores([[1.0, 0.0, 0.0]], [[0.501, 0.199, 0.3]], [[True] * 3])
    assert beyond.lost == pytest.approx(1 / 3)
    assert beyond.reliability is not None
    assert beyond.reliability.hits[-1] == 1


def test_ten_bins_of_equal_width():
    sure = np.array([0.0, 0.05, 0.1, 0.55, 0.99, 1.0])
    found = confidence_scores([sure], [np.full(6, 0.9)], [[True] * 6])
    assert found.reliability is not None
    assert found.reliability.frames.tolist() == [2, 1, 0, 0, 0, 1, 0, 0, 0, 2]
    assert found.reliability.confidence[[0, -1]] == pytest.approx([0.025, 0.995])


@pytest.mark.parametrize("levels", [0, 5])
def test_the_area_counts_pairs(levels):
    generator = np.random.default_rng(0)
    sure = generator.random(60)
    if levels:
        sure = np.round(sure * levels)
    lost = generator.random(60) < 0.3
    found = confidence_scores([sure], [np.where(lost, 0.0, 0.9)], [np.ones(60, bool)])
    pairs = np.sign(sure[~lost][:, None] - sure[lost][None])
    assert found.auroc == pytest.approx((pairs + 1).mean() / 2, abs=1e-12)


def test_a_calibrated_confidence_has_hardly_an_error():
    found = drawn()
    assert found.ece is not None
    assert found.ece < 0.03
    assert found.reliability is not None
    assert found.reliability.frames.sum() == found.frames == 4000
    assert np.nanmax(abs(found.reliability.hits - found.reliability.confidence)) < 0.08
    low, high = found.intervals["AUROC"]
    assert found.auroc is not None
    assert low < found.auroc < high < low + 0.05
    low, high = found.intervals["AURC"]
    assert low < found.aurc < high
    assert drawn().intervals == found.intervals
    assert drawn(levels=4).intervals["AUROC"] != found.intervals["AUROC"]


def test_scores_that_are_no_probabilities_are_ranked_but_not_calibrated():
    found = confidence_scores([[7.0, -3.0, np.nan]], [[0.9, 0.5, 0.0]], [[True] * 3])
    assert (found.ece, found.reliability, found.auroc) == (None, None, 1.0)
    assert confidence_scores([[0.5, 0.6]], [[0.9, 0.9]], [[True] * 2]).auroc is None


@pytest.mark.parametrize(
    ("sure", "is_probable"), [(1.0, True), (1.001, False), (0.0, True), (-0.001, False)]
)
def test_probabilities_lie_between_0_and_1_both_included(sure, is_probable):
    found = confidence_scores([[0.5, sure], [0.5, 0.5]], [[0.9] * 2] * 2, [[True] * 2] * 2)
    assert (found.ece is not None) is is_probable
    assert (found.reliability is not None) is is_probable
    assert ("ECE" in found.intervals) is is_probable


def result_folder(confidences: dict[str, np.ndarray | None]) -> ResultFolder:
    boxes = np.tile([10.0, 10, 20, 20], (6, 1))
    boxes[4:] += 500
    tracks = {name: StoredTrack(boxes, confidences=own) for name, own in confidences.items()}
    return ResultFolder("mine", tracks)


def test_a_result_folder_is_scored_without_its_given_frame():
    boxes = np.tile([10.0, 10, 20, 20], (6, 1))
    truth = {name: GroundTruth(boxes, boxes, np.arange(6)) for name in "ab"}
    benchmark = BenchmarkTruth("rgbt234", truth, {})
    sure = np.array([0.0, 0.9, 0.9, 0.9, 0.2, 0.1])
    scores = score(result_folder({"a": sure, "b": None}), benchmark)
    found = score_confidence(scores)
    assert found is not None
    assert (found.frames, found.lost, found.auroc) == (5, 0.4, 1.0)
    assert score_confidence(score(result_folder({"a": None, "b": None}), benchmark)) is None


def test_rows_of_every_tenth_frame_find_their_confidence():
    boxes = np.tile([10.0, 10, 20, 20], (3, 1))
    benchmark = BenchmarkTruth("vtuav_st", {"a": GroundTruth(boxes, boxes, 10 * np.arange(3))}, {})
    rows = np.repeat(boxes[:1], 21, axis=0)
    rows[20] += 300
    sure = np.linspace(1, 0, 21)
    whole = StoredTrack(rows, confidences=sure)
    short = StoredTrack(rows[::10], confidences=sure[::10])
    for track in (whole, short):
        scores = score(ResultFolder("t", {"a": track}), benchmark)
        assert scores.confidences["a"].tolist() == [1.0, 0.5, 0.0]
        found = score_confidence(scores)
        assert found is not None
        assert (found.frames, found.auroc) == (2, 1.0)


def test_the_table_marks_the_best():
    table = confidence_table(["good", "none", "coarse"], [drawn(), None, drawn(levels=2)])
    assert [row[0] for row in table.rows] == ["good", "coarse"]
    best = [row[2].best for row in table.rows if isinstance(row[2], Figure)]
    assert best == [False, True]
    with pytest.raises(ValueError, match="found must have one entry per name 1, got 0"):
        confidence_table(["a"], [])


def test_plots_have_a_line_per_tracker():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    found = [drawn(), None]
    axes = plot_reliability(["mine", "none"], found).axes[0]
    perfect, _ = axes.get_lines()
    assert perfect.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert axes.get_xlabel() == "mean confidence"
    axes = plot_risk_coverage(["mine", "none"], found).axes[0]
    assert len(axes.get_lines()) == 1
    with pytest.raises(ValueError, match="found must hold the confidences of any tracker"):
        plot_risk_coverage(["none"], [None])
    with pytest.raises(ValueError, match=r"found must hold confidences in \[0, 1\]"):
        plot_reliability(["none"], [None])


def test_wrong_shapes():
    with pytest.raises(ShapeError, match="must have as many sequences, at least one, got 1, 2"):
        confidence_scores([[1.0]], [[1.0], [1.0]], [[True]])
    with pytest.raises(ShapeError, match="must have one length"):
        confidence_scores([[1.0]], [[1.0, 0.5]], [[True]])
    with pytest.raises(ValueError, match="found_above must be a finite number in"):
        confidence_scores([[1.0]], [[1.0]], [[True]], found_above=-1.0)
    with pytest.raises(ValueError, match="lost_below must be a finite number in"):
        confidence_scores([[1.0]], [[1.0]], [[True]], lost_below=2.0)
