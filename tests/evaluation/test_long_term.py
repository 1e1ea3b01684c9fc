"""Precision and recall over confidences, against the definition written out."""

import numpy as np
import pytest

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.evaluation.long_term import confidence_thresholds, f_score, precision_recall


def test_precision_and_recall_follow_the_definition():
    generator = np.random.default_rng(1)
    visible = generator.random(300) < 0.8
    overlaps = np.where(visible, generator.random(300), 0.0)
    confidences = generator.integers(0, 40, 300) / 40
    thresholds = confidence_thresholds(confidences)
    precision, recall = precision_recall(overlaps, confidences, visible, thresholds)
    for k, threshold in enumerate(thresholds):
        sure = confidences >= threshold
        assert precision[k] == pytest.approx(
            overlaps[sure].mean() if sure.any() else 1.0, abs=1e-12
        )
        assert recall[k] == pytest.approx(overlaps[sure].sum() / visible.sum(), abs=1e-12)


def test_an_overlap_while_the_target_is_absent_counts_nothing():
    precision, recall = precision_recall([0.9, 0.9], [1, 1], [True, False], [0.5])
    assert (precision[0], recall[0]) == pytest.approx((0.45, 0.9))


def test_thresholds_are_a_hundred_of_many_and_all_of_few():
    many = confidence_thresholds(np.linspace(0, 1, 5000))
    assert len(many) == 100
    assert (many[0], many[-1]) == (np.inf, -np.inf)
    assert (np.diff(many) < 0).all()
    few = confidence_thresholds([0.1, np.nan, 0.3])
    assert few.tolist() == [np.inf, 0.3, 0.1, -np.inf]


def test_nan_is_never_confident():
    precision, _ = precision_recall([0.5, 0.1], [np.nan, 0.2], [True, True], [0.2, -np.inf])
    assert precision.tolist() == pytest.approx([0.1, 0.3])


def test_f_is_zero_where_both_are():
    assert f_score([0.0, 1.0], [0.0, 1.0]).tolist() == [0.0, 1.0]


def test_unequal_lengths_are_named():
    with pytest.raises(ShapeError, match="visible must have the length of overlaps 2, got shape"):
        precision_recall([0.5, 0.5], [1, 1], [True], [0.5])
