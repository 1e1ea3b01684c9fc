"""Result folders in every format of the field, and broken ones."""

from pathlib import Path

import numpy as np
import pytest

from rgbt_fusion.evaluation.results import read_results
from rgbt_fusion.files.text_tables import DataError

BOXES = np.array([[1.5, 2, 30, 40], [2, 3, 31, 41], [3, 4, 32, 42]])


def write(path: Path, rows: np.ndarray, separator: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(separator.join(map(str, row)) + "\n" for row in rows.tolist()))


@pytest.mark.parametrize("separator", [",", "\t", " ", ", ", "  ", ";"])
def test_separators(tmp_path, separator):
    write(tmp_path / "car.txt", BOXES, separator)
    assert (read_results(tmp_path, ["car"]).results["car"].boxes == BOXES).all()


def test_eight_columns_are_corners(tmp_path):
    x, y, w, h = BOXES.T
    write(tmp_path / "car.txt", np.stack((x, y, x + w, y, x + w, y + h, x, y + h), axis=1), "\t")
    found = read_results(tmp_path, ["car"]).results["car"]
    assert found.corners
    assert (found.boxes == BOXES).all()


def test_two_corners_when_told(tmp_path):
    write(tmp_path / "car.txt", np.concatenate((BOXES[:, :2], BOXES[:, :2] + BOXES[:, 2:]), axis=1))
    assert (read_results(tmp_path, ["car"], box_format="xyxy").results["car"].boxes == BOXES).all()


@pytest.mark.parametrize("prefix", ["", "MDNet_", "rtmdnet_rgbt234_run1_"])
@pytest.mark.parametrize("known", [True, False])
def test_prefixes_are_given_or_found(tmp_path, prefix, known):
    # "man" ends "woman": the prefix of most files wins
    names = ["man", "woman", "car"]
    for k, name in enumerate(names):
        write(tmp_path / f"{prefix}{name}.txt", BOXES + k)
        (tmp_path / f"{prefix}{name}_time.txt").write_text("0.1\n0.1\n0.2\n")
    found = read_results(tmp_path, names, prefix=prefix if known else None)
    assert [found.results[name].boxes[0, 0] for name in names] == [1.5, 2.5, 3.5]
    assert found.results["car"].seconds == pytest.approx(0.4)


@pytest.mark.parametrize("spelling", ["car/car_001.txt", "car/car.txt", "car_001.txt"])
def test_the_toolkits_folders(tmp_path, spelling):
    write(tmp_path / spelling, BOXES)
    assert (read_results(tmp_path, ["car"], prefix="").results["car"].boxes == BOXES).all()


@pytest.mark.parametrize("ending", ["_confidence.txt", "_001_confidence.value", "_all_scores.txt"])
def test_confidences(tmp_path, ending):
    write(tmp_path / "car.txt", BOXES)
    (tmp_path / f"car{ending}").write_text("1\n0.5\n0.25\n")
    confidences = read_results(tmp_path, ["car"]).results["car"].confidences
    assert confidences is not None
    assert confidences.tolist() == [1, 0.5, 0.25]


def test_names_with_quotes_spaces_and_brackets(tmp_path):
    names = ["boy`shead", "leftgirl'swhitebag", "a [1] b", "10run-one"]
    for name in names:
        write(tmp_path / f"{name}.txt", BOXES)
    assert list(read_results(tmp_path, names).results) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold numbers, but it is empty"),
        ("\n \n", "must hold numbers, but it is empty"),
        ("1,2,3\n", "line 1: must have 4 or 8 numbers, got 3: '1 2 3'"),
        ("1,2,3,4,5\n", "line 1: must have 4 or 8 numbers, got 5"),
        ("1,2,3,4\n1,2,3,4\n1,2,3\n", "line 3: must have 4 or 8 numbers, got 3"),
        ("1,2,3,4\n1,2,3,4,5,6,7,8\n", "line 2: must have 4 numbers, as in line 1, got 8"),
        ("1,2,3,4\n1,two,3,4\n", "line 2: must hold numbers only, got '1 two 3 4'"),
        ("__import__('os')\n", "line 1: must have 4 or 8 numbers, got 1"),
        ("1,2,3,\x004\n", "must be a text file, but it holds binary data"),
    ],
)
def test_malformed_files_are_reported_and_the_rest_is_read(tmp_path, text, message):
    (tmp_path / "bad.txt").write_text(text)
    write(tmp_path / "car.txt", BOXES)
    found = read_results(tmp_path, ["bad", "car", "gone"])
    assert message in found.unreadable["bad"]
    assert str(tmp_path / "bad.txt") in found.unreadable["bad"]
    assert list(found.results) == ["car"]
    assert found.missing == ("gone",)


def test_a_broken_time_file_costs_the_speed_alone(tmp_path):
    write(tmp_path / "car.txt", BOXES)
    (tmp_path / "car_time.txt").write_text("fast\n")
    assert read_results(tmp_path, ["car"]).results["car"].seconds is None


def test_too_few_confidences_are_reported(tmp_path):
    write(tmp_path / "car.txt", BOXES)
    (tmp_path / "car_confidence.txt").write_text("1\n")
    assert (
        "must have a confidence for each of 3 boxes, got 1"
        in read_results(tmp_path, ["car"]).unreadable["car"]
    )


def test_a_format_that_does_not_fit_is_reported(tmp_path):
    write(tmp_path / "car.txt", BOXES)
    found = read_results(tmp_path, ["car"], box_format="corners")
    assert "box_format 'corners' must have 8 columns, got 4" in found.unreadable["car"]


def test_no_folder(tmp_path):
    with pytest.raises(DataError, match="results must be a folder of text files"):
        read_results(tmp_path / "gone", ["car"])


def test_nan_and_a_byte_order_mark_are_read(tmp_path):
    (tmp_path / "car.txt").write_bytes(b"\xef\xbb\xbf1,2,3,4\r\nNaN,NaN,NaN,NaN\r\n")
    boxes = read_results(tmp_path, ["car"]).results["car"].boxes
    assert np.isnan(boxes[1]).all()


def test_a_file_of_matlab_is_refused_with_what_it_is(tmp_path):
    for name in ("car", "man"):
        (tmp_path / f"ACT_{name}.mat").write_bytes(b"MATLAB 5.0 MAT-file\0")
    found = read_results(tmp_path, ["car", "man", "dog"])
    assert found.missing == ("dog",)
    assert set(found.unreadable) == {"car", "man"}
    assert "ACT_car.mat is a file of MATLAB" in found.unreadable["car"]
    assert "writematrix(boxes, 'ACT_car.txt')" in found.unreadable["car"]
