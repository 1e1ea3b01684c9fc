"""The plots hold what was tried."""

import pytest

from benchmarks.study.plots import plot_challenges, plot_learning, plot_success
from study_material import IMPERFECT, trial

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def test_every_variant_has_a_line(tmp_path):
    trials = [trial("sum", 1, 0.4), trial("sum", 2, 0.6), trial("ainet_1", 1, 0.3)]
    figure = plot_success(trials)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["plain sum", "AINet-1"]
    assert list(axes.lines[0].get_xdata()) == [0.4, 0.6]
    figure.savefig(tmp_path / "success.png")
    with pytest.raises(ValueError, match="at least one, got none"):
        plot_success([])


def test_aligned_frames_are_drawn_beside_the_others():
    trials = [trial("rgb", seed, 0.4, IMPERFECT) for seed in (1, 2)]
    for seed, value in ((1, 0.5), (2, 0.7)):
        aligned = trial("sum", seed, value, IMPERFECT, night=0.9)
        trials.append(trial("sum", seed, 0.3, IMPERFECT, aligned=aligned))
    titles = ["RGB only", "plain sum", "plain sum, aligned"]
    (axes,) = plot_success(trials).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == titles
    assert axes.get_xlabel() == "success, mean of 9 challenges; lines span the seeds"

    figure = plot_challenges(trials)
    (axes,) = figure.axes
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows[0] == "night"
    assert rows[-3:] == ["misalignment x5", "empty rgb", "empty tir"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == titles
    figure.draw_without_rendering()
    assert not legend.get_window_extent().overlaps(axes.get_tightbbox()), "it hides what is drawn"
    unaligned, aligned = axes.lines[1:]
    assert list(aligned.get_xdata()) == pytest.approx([0.9] + [0.6] * 8)
    assert unaligned.get_color() == aligned.get_color() != axes.lines[0].get_color()
    assert unaligned.get_markerfacecolor() == "white" != aligned.get_markerfacecolor()
    with pytest.raises(ValueError, match="at least one, got none"):
        plot_challenges([])


def test_both_students_are_drawn():
    trials = [trial(name, seed, 0.5) for name in ("student", "distilled") for seed in (1, 2)]
    (axes,) = plot_learning(trials).axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "alone (2 seeds)",
        "with its teacher (2 seeds)",
    ]
    # 1 + 2 * 0.4 + 5 * 0.2 falls to 0.5 + 2 * 0.2 + 5 * 0.1, smoothed over both lines of the log
    assert axes.lines[-1].get_ydata()[0] == pytest.approx((2.8 + 2.8) / 2)
    with pytest.raises(ValueError, match="must hold the variant 'distilled'"):
        plot_learning(trials[:2])
