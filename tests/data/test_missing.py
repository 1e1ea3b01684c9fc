"""Lists of missing modalities: what is hidden, and what is refused."""

import json

import numpy as np
import pytest

from evaluation_material import Drift, write_dataset
from rgbt_fusion.data.missing import hide_missing, missing_modalities, read_missing_list
from rgbt_fusion.data.sequences import Dataset, open_dataset
from rgbt_fusion.evaluation.run import run_tracker
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.types import GroundTruth


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


def test_the_benchmarks_keep_all_lists_in_one_file(tmp_path):
    root = write_dataset(tmp_path / "data", {"a": 4, "b": 4})
    path = tmp_path / "missing_results_rgbt234.json"
    # as they are published: numbers of floating point, and the count of frames beside them
    rows = [[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    path.write_text(json.dumps({"a": {"frames": 4, "data": rows}, "b": rows[:1] * 4, "c": []}))
    first, second = hide_missing(open_dataset(root, "rgbt234").sequences, path)
    assert [frame.rgb is None for frame in first] == [False, True, False, False]
    assert [frame.tir is None for frame in first] == [False, False, True, False]
    assert all(frame.rgb is not None and frame.tir is not None for frame in second)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "must be JSON"),
        ("[1]", "must hold lists by sequence, got list"),
        ("{}", "lacks a"),
        ("\0", r"^\S*lists\.json must be a text file, but it holds binary data"),
        ('{"a": {"frames": 4}}', "a must hold rows of two numbers, got None"),
        ('{"a": [[1, 1], [1]]}', "a must hold rows of two numbers"),
        ('{"a": [[1, 1], [1, 0.5]]}', "a must hold 0 and 1 only"),
        ('{"a": [[1, 1], [0, 0]]}', "a, row 2: a modality must be present"),
        ('{"a": [[1, 1]]}', "a must have a row for each of 4 frames, got 1"),
    ],
)
def test_a_file_of_lists_that_does_not_fit_is_refused(tmp_path, content, message):
    sequences = open_dataset(write_dataset(tmp_path / "data", {"a": 4}), "rgbt234").sequences
    (tmp_path / "lists.json").write_text(content)
    with pytest.raises(DataError, match=message):
        hide_missing(sequences, tmp_path / "lists.json")
    with pytest.raises(DataError, match="must be a folder of lists or a JSON file"):
        hide_missing(sequences, tmp_path / "nowhere")


def test_which_annotated_frames_lack_a_modality(tmp_path):
    boxes = np.ones((3, 4))
    # every second frame is annotated
    truth = {"a": GroundTruth(boxes, boxes, np.array([0, 2, 4]))}
    (tmp_path / "a.txt").write_text("1 1\n0 1\n1 0\n0 1\n1 1\n")
    assert missing_modalities(truth, tmp_path)["a"].tolist() == [False, True, False]
    (tmp_path / "a.txt").write_text("1 1\n0 1\n1 0\n0 1\n")
    with pytest.raises(DataError, match="a must have a row for each of 5 frames, got 4"):
        missing_modalities(truth, tmp_path)
