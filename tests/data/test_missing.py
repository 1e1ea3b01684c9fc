"""Lists of missing modalities: what is hidden, and what is refused."""

import numpy as np
import pytest

from evaluation_material import Drift, write_dataset
from rgbt_fusion.data.missing import hide_missing, read_missing_list
from rgbt_fusion.data.sequences import Dataset, open_dataset
from rgbt_fusion.evaluation.run import run_tracker
from rgbt_fusion.files.text_tables import DataError


class Counting(Drift):
    """A tracker that counts the images it is shown."""

    seen: tuple[list[bool], list[bool]] = ([], [])

    def init(self, rgb, tir, box_xywh_px):
        return super().init(rgb, tir, box_xywh_px)

    def update(self, rgb, tir):
        self.seen[0].append(rgb is not None)
        self.seen[1].append(tir is not None)
        blank = np.zeros((4, 4, 3), np.uint8)
        return super().update(blank if rgb is None else rgb, blank if tir is None else tir)


def test_a_tracker_sees_what_the_list_shows(tmp_path):
    root = write_dataset(tmp_path / "data", {"a": 4, "b": 4})
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "a.txt").write_text("1,1\n0,1\n1,0\n1,1\n1,1\n")
    np.save(tmp_path / "lists" / "b.npy", np.ones((4, 2), dtype=np.int64))
    sequences = hide_missing(open_dataset(root, "rgbt234").sequences, tmp_path / "lists")
    assert [(frame.rgb is None, frame.tir is None) for frame in sequences[0]] == [
        (False, False),
        (True, False),
        (False, True),
        (False, False),
    ]
    assert all(frame.rgb is not None and frame.tir is not None for frame in sequences[1])
    report = run_tracker(Counting, Dataset(sequences[:1], {}), tmp_path / "out")
    assert not report.failed
    assert Counting.seen == ([False, True, True], [True, False, True])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,1\n0,0\n", "row 2: a modality must be present in every frame, got 0 0"),
        ("1,2\n", "must hold 0 and 1 only"),
        ("1\n", "must have 2 numbers, got 1"),
        ("1,1\n", "must have a row for each of 4 frames, got 1"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(tmp_path, text, message):
    sequences = open_dataset(write_dataset(tmp_path, {"a": 4}), "rgbt234").sequences
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        hide_missing(sequences, tmp_path)


def test_arrays_and_absent_lists_are_refused(tmp_path):
    sequences = open_dataset(write_dataset(tmp_path, {"a": 4}), "rgbt234").sequences
    with pytest.raises(DataError, match=r"must hold a.txt or a.npy, but holds neither"):
        hide_missing(sequences, tmp_path)
    np.save(tmp_path / "a.npy", np.ones(4))
    with pytest.raises(DataError, match=r"must have shape \(T, 2\), got \(4,\)"):
        hide_missing(sequences, tmp_path)
    np.save(tmp_path / "a.npy", np.array([object()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="must be an array of numbers"):
        read_missing_list(tmp_path / "a.npy")
