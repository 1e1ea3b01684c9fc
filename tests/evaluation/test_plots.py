"""The plots hold the curves, and say what is missing."""

import sys

import numpy as np
import pytest

from rgbt_fusion.evaluation.plots import plot_attributes, plot_curves
from rgbt_fusion.evaluation.scores import Scores
from rgbt_fusion.evaluation.scoring import BenchmarkTruth, score
from rgbt_fusion.frames.types import GroundTruth

BOXES = np.tile([100.0, 100, 20, 20], (10, 1))


def scored(tracker: str, shift: float, attributes: tuple[str, ...] = ("TC", "LI", "FM")) -> Scores:
    truth = BenchmarkTruth(
        "rgbt234",
        {"a": GroundTruth(BOXES, BOXES, np.arange(10))},
        dict.fromkeys(attributes, ("a",)),
    )
    return score({"a": BOXES + np.array([shift, 0, 0, 0])}, truth, tracker=tracker)


@pytest.mark.parametrize("curve", ["precision", "normalised precision", "success"])
def test_curves_are_drawn_and_ranked_in_the_legend(curve):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    trackers = [scored("far", 25), scored("near", 1)]
    axes = plot_curves(trackers, curve).axes[0]
    _, labels = axes.get_legend_handles_labels()
    assert [label.split(" [")[0] for label in labels] == ["near", "far"]
    drawn = {str(line.get_label()).split(" [")[0]: line for line in axes.get_lines()}
    for one in trackers:
        assert np.array_equal(drawn[one.tracker].get_ydata(), one.curves[curve].values)
    # each curve has a band around it
    assert len(axes.collections) == 2
    assert len(plot_curves(trackers, curve, bands=False).axes[0].collections) == 0
    assert axes.figure.get_size_inches()[1] == 4.5
    # a tracker keeps its colour, whatever its rank
    assert drawn["far"].get_color() == "C0"


def test_the_radar_has_a_spoke_an_attribute():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    axes = plot_attributes([scored("near", 1)]).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["TC (1)", "LI (1)", "FM (1)"]


@pytest.mark.parametrize(("shift", "outermost"), [(1, 1.0), (13.5, 0.2), (900, 1.0)])
def test_the_radar_ends_at_the_next_tenth(shift, outermost):
    """Overlaps of 19 / 21, 13 / 67 and 0; what is nowhere above 0 is drawn up to 1."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    axes = plot_attributes([scored("one", shift)], "AO").axes[0]
    assert axes.get_ylim() == pytest.approx((0.0, outermost))


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(ValueError, match=r"curve must be one of .*, got 'roc'"):
        plot_curves([scored("near", 1)], "roc")
    with pytest.raises(ValueError, match="scores must hold a recall curve, got none"):
        plot_curves([scored("near", 1)], "recall")
    with pytest.raises(ValueError, match="at least 3 attributes for a radar, got 2"):
        plot_attributes([scored("near", 1, ("TC", "LI"))])


def test_without_matplotlib_one_sentence_tells_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"drawn with matplotlib.*pip install 'rgbt-fusion\[tracking\]'"
    ):
        plot_curves([scored("near", 1)])
