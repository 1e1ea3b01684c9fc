"""The picture of a training: what the log says is what is drawn."""

import numpy as np
import pytest

from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.training.plots import plot_trainings, read_columns, smoothed

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def write_run(folder, *, validated: bool):
    folder.mkdir()
    lines = [f"{step},{9 - step},{step / 10},0.001\n" for step in range(1, 9)]
    (folder / "log.csv").write_text("".join(["step,loss,iou,learning_rate\n", *lines]))
    if validated:
        (folder / "validation.csv").write_text("step,success\n2,0.3\n4,0.6\n8,0.5\n")
    return folder


def test_the_lines_are_those_of_the_log(tmp_path):
    runs = [
        write_run(tmp_path / "one", validated=True),
        write_run(tmp_path / "two", validated=False),
    ]
    figure = plot_trainings(runs)
    loss, overlap, success, rate = figure.axes
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["one", "two"]
    pale, thick = loss.lines[:2]
    assert np.asarray(pale.get_ydata()).tolist() == [8, 7, 6, 5, 4, 3, 2, 1]
    assert np.asarray(thick.get_xdata()).tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert np.asarray(overlap.lines[0].get_ydata())[-1] == pytest.approx(0.8)
    assert len(rate.lines) == 2
    figures, best = success.lines
    assert np.asarray(figures.get_ydata()).tolist() == [0.3, 0.6, 0.5]
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (4, 0.6)
    assert [text.get_text() for text in success.get_legend().get_texts()] == ["one [best 0.600]"]


def test_no_validation_is_said(tmp_path):
    figure = plot_trainings([write_run(tmp_path / "one", validated=False)])
    assert [text.get_text() for text in figure.axes[2].texts] == ["no validation"]


def test_the_ticks_are_plain_numbers(tmp_path):
    folder = write_run(tmp_path / "short", validated=False)
    rows = [f"{step},{loss},0.1,0.001\n" for step, loss in ((1, 4.1), (2, 6.5), (3, 5.2))]
    (folder / "log.csv").write_text("".join(["step,loss,iou,learning_rate\n", *rows]))
    loss = plot_trainings([folder]).axes[0]
    low, high = loss.get_ylim()
    shown = [
        float(text.get_text())
        for which in (False, True)
        for text in loss.get_yticklabels(minor=which)
        if text.get_text()
    ]
    assert [value for value in shown if low <= value <= high] == [5, 6]
    assert [step for step in loss.get_xticks() if step % 1] == []


def test_folders_of_one_name_are_told_apart(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    runs = [write_run(tmp_path / name / "run", validated=False) for name in ("a", "b")]
    legend = plot_trainings(runs).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [str(run) for run in runs]


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    (tmp_path / "log.csv").write_text("step,loss\n1,2.5\n2,")
    assert read_columns(tmp_path / "log.csv")["loss"].tolist()[:1] == [2.5]
    (tmp_path / "log.csv").write_text("step,loss,iou\n1,2.5,0.1\n2,1")
    assert read_columns(tmp_path / "log.csv")["step"].tolist() == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,loss\n1,two\n", "must be a table of numbers"),
        ("step,loss\n1\n2,3\n", "must be a table of numbers"),
        ("loss\n1\n", "must have a column step, got loss"),
        ("", "must have a column step, got none"),
        ("step,loss\n", "must hold a line of a training, but has none yet"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path, text, message):
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        plot_trainings([tmp_path])


def test_a_mean_runs_over_a_twentieth():
    values = np.random.default_rng(0).random(100)
    assert smoothed(values)[50] == pytest.approx(values[46:51].mean())
    assert smoothed(values[:3]).tolist() == pytest.approx(values[:3].tolist())
