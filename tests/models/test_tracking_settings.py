"""Settings of tracking: what is refused, what is written, and what a score is worth."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest

from rgbt_fusion.checks import NetworkError
from rgbt_fusion.models.tracking_settings import (
    ConfidenceMap,
    TrackingSettings,
    tracking_settings_of,
)


def test_the_defaults_are_the_papers_and_are_not_written():
    paper = TrackingSettings()
    assert paper.plain() == {}
    # OSTrack's tracker: the size is what the network says, at least 10 pixels
    assert dataclasses.asdict(paper) == {
        "window_weight": 1.0,
        "size_inertia": 0.0,
        "aspect_inertia": 0.0,
        "size_correction": 0.0,
        "size_growth": math.inf,
        "smallest_px": 10.0,
        "hold_below": 0.0,
        "look_ahead": 0.0,
        "match_weight": 0.0,
        "lost_threshold": 0.25,
        "found_threshold": 0.0,
        "confidence": None,
    }


def test_what_is_given_stands_above_what_is_stored():
    stored = TrackingSettings(size_inertia=0.9, hold_below=0.3)
    chosen = stored.chosen(size_inertia=None, hold_below=0.0, size_growth=1)
    assert chosen == TrackingSettings(size_inertia=0.9, size_growth=1)


@pytest.mark.parametrize(
    ("setting", "value", "error", "rule"),
    [
        ("window_weight", 1.5, ValueError, r"must be a finite number in \[0, 1\], got 1.5"),
        ("size_inertia", 1.0, ValueError, r"must be a finite number in \[0, 0.999\], got 1.0"),
        ("aspect_inertia", -1, ValueError, r"must be a finite number in \[0, 0.999\], got -1"),
        ("size_correction", 2, ValueError, r"must be a finite number in \[0, 1\], got 2"),
        ("size_inertia", "half", TypeError, "must be a number, got 'half'"),
        ("size_growth", 0.5, ValueError, "must be a number of at least 1, got 0.5"),
        ("size_growth", True, TypeError, "must be a number, got True"),
        ("size_growth", math.nan, ValueError, "must be a number of at least 1, got nan"),
        ("smallest_px", 0, ValueError, r"must be a finite number in \[1, inf\], got 0"),
        ("lost_threshold", 2, ValueError, r"must be a finite number in \[0, 1\], got 2"),
        ("look_ahead", 1.1, ValueError, r"must be a finite number in \[0, 1\], got 1.1"),
        ("match_weight", -0.1, ValueError, r"must be a finite number in \[0, 1\], got -0.1"),
        ("hold_below", 1.5, ValueError, r"must be a finite number in \[0, 1\], got 1.5"),
    ],
)
def test_what_is_out_of_range_is_refused(setting, value, error, rule):
    with pytest.raises(error, match=f"{setting} {rule}"):
        TrackingSettings(**{setting: value})


def test_a_confidence_is_the_logistic_of_the_logits():
    same = ConfidenceMap(offset=0.0, slope=1.0)
    scores = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(same(scores, scores), scores, atol=1e-12)
    # 1 + 2 log 4 is the logarithm of the odds 16 e; a rival of 0.9 takes off log 9
    steep = ConfidenceMap(offset=1.0, slope=2.0, rival_slope=1.0)
    found = steep(np.array([0.8, 0.8]), np.array([0.5, 0.9]))
    odds = np.array([16 * math.e, 16 * math.e / 9])
    np.testing.assert_allclose(found, odds / (1 + odds))


def test_scores_at_the_ends_stay_finite_and_keep_their_order():
    scores = np.array([0.0, 1e-3, 0.5, 1.0])
    rising = ConfidenceMap(offset=-3.0, slope=5.0, rival_slope=2.0)
    assert (np.diff(rising(scores, np.zeros(4))) > 0).all()
    assert np.isfinite(rising(scores, scores[::-1])).all()


def test_a_map_that_falls_is_refused():
    with pytest.raises(ValueError, match=r"slope must be a finite number in \[0.01, 100\], got -1"):
        ConfidenceMap(offset=0.0, slope=-1.0)


def test_a_network_without_settings_is_tracked_as_in_the_paper():
    assert tracking_settings_of(object()) == TrackingSettings()
    assert tracking_settings_of(SimpleNamespace(tracking_settings=None)) == TrackingSettings()
    with pytest.raises(NetworkError, match="must be TrackingSettings or None, got dict"):
        tracking_settings_of(SimpleNamespace(tracking_settings={"size_inertia": 0.9}))
