"""The plots hold what was tried."""

import pytest

from benchmarks.study.plots import plot_learning, plot_success
from study_material import trial

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
