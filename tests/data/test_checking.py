"""The check of a dataset finds what is wrong, sequence by sequence, and goes on."""

from pathlib import Path

import numpy as np
import pytest

from rgbt_fusion.data import checking
from rgbt_fusion.data.checking import DatasetCheck, check_dataset, guess_layout
from rgbt_fusion.data.layouts import LAYOUTS
from rgbt_fusion.files.text_tables import DataError
from shared_material import shared

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")


@pytest.fixture
def dataset(tmp_path):
    for name in ("good", "odd"):
        for folder in ("visible", "infrared"):
            (tmp_path / name / folder).mkdir(parents=True)
            for k in range(5):
                cv2.imwrite(
                    str(tmp_path / name / folder / f"{k}.png"), np.full((24, 32), k, dtype=np.uint8)
                )
        np.savetxt(tmp_path / name / "init.txt", np.tile([3.0, 4, 5, 6], (5, 1)), delimiter=",")
    return tmp_path


def problems(check: DatasetCheck) -> list[tuple[str, str]]:
    return [(problem.sequence, problem.kind) for problem in check.problems]


def test_nothing_wrong(dataset):
    check = check_dataset(dataset, "lasher")
    assert check.ok
    assert (check.sequences, check.frames, check.boxes, check.absent) == (2, 10, 10, 0)
    assert (
        check.summary() == "LasHeR: 2 sequences, 10 frames, 10 boxes, 0 without target, 0 problems"
    )


@pytest.mark.parametrize("images", ["decode", "size"])
def test_images(dataset, images):
    (dataset / "odd" / "visible" / "2.png").write_bytes(b"")
    cv2.imwrite(str(dataset / "odd" / "infrared" / "3.png"), np.zeros((30, 32), np.uint8))
    check = check_dataset(dataset, "lasher", images=images)
    assert problems(check) == [("odd", "image"), ("odd", "size")]
    assert "2.png is empty" in check.problems[0].message
    assert "3.png is 32x30, most are 32x24 (1 differ)" in check.problems[1].message
    assert not check.ok
    assert check_dataset(dataset, "lasher", images="none").ok
    assert check_dataset(dataset, "lasher", images=images, threads=3) == check


def test_a_cut_off_image_needs_decoding(dataset):
    path = dataset / "odd" / "infrared" / "1.png"
    path.write_bytes(path.read_bytes()[:-20])
    assert problems(check_dataset(dataset, "lasher")) == [("odd", "image")]


def boxes(dataset: Path, rows: dict[int, list[float]]) -> None:
    table = np.tile([3.0, 4, 5, 6], (5, 1))
    for row, box in rows.items():
        table[row] = box
    np.savetxt(dataset / "odd" / "init.txt", table, delimiter=",")


def test_boxes(dataset):
    boxes(dataset, {1: [40, 4, 5, 6], 2: [-9, 4, 5, 6], 3: [30, 20, 50, 40], 4: [1, 1, 0, 5]})
    check = check_dataset(dataset, "lasher")
    assert problems(check) == [("odd", "notice"), ("odd", "box")]
    assert (
        check.problems[0].message == "1 boxes (frames 5) without size: the target counts as absent"
    )
    assert check.problems[1].message == "2 boxes (frames 2, 3) outside the image of 32x24"
    assert check.absent == 1


def test_a_box_far_larger_than_the_image_is_a_problem(dataset):
    """Training leaves it out; one of twice the size is kept, as by every tracker."""
    boxes(dataset, {1: [-1e9, -1e9, 2e9, 2e9], 3: [-9, -9, 64, 48], 4: [0, 0, 64.5, 5]})
    (problem,) = check_dataset(dataset, "lasher").problems
    assert problem.kind == "box"
    assert problem.message == "2 boxes (frames 2, 5) far larger than the image of 32x24"


def test_a_first_box_without_size_cannot_be_tracked(dataset):
    boxes(dataset, {0: [float("nan")] * 4})
    assert ("odd", "box") in problems(check_dataset(dataset, "lasher"))


def test_counts_and_annotations(dataset):
    (dataset / "odd" / "infrared" / "4.png").unlink()
    check = check_dataset(dataset, "lasher")
    assert problems(check) == [("odd", "sequence")]
    assert "must hold an image for each of 5 annotations, got 4" in check.summary()
    assert check.sequences == 1
    (dataset / "odd" / "init.txt").write_text("1,2,3,4\nfive\n")
    assert (
        "line 2: must have 4 or 8 numbers, got 1"
        in check_dataset(dataset, "lasher").problems[0].message
    )


def test_more_images_than_boxes_are_a_notice(dataset):
    np.savetxt(dataset / "odd" / "init.txt", np.tile([3.0, 4, 5, 6], (4, 1)), delimiter=",")
    check = check_dataset(dataset, "lasher")
    assert check.ok
    assert problems(check) == [("odd", "notice")] * 2


def test_progress(dataset):
    seen = []
    check_dataset(dataset, "lasher", images="none", progress=lambda *state: seen.append(state))
    assert seen == [("good", 1, 2), ("odd", 2, 2)]


def test_real_sequences_are_in_order():
    assert check_dataset(shared("data/sequences"), "rgbt234").ok


def test_an_unknown_depth_of_checking(dataset):
    with pytest.raises(ValueError, match="images must be 'decode', 'size' or 'none', got 'all'"):
        check_dataset(dataset, "lasher", images="all")
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        check_dataset(dataset, "lasher", threads=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_is_found_out(tmp_path, layout):
    for name in ("a", "b", "c"):
        row = LAYOUTS[layout].of(name)
        folder = tmp_path / "group" / name / (row.views[0] if row.views else "")
        # a sequence of RGBDT500 holds all three, whichever two are read
        third = ("color", "depth", "infrared") if layout.startswith("rgbdt500") else ()
        for images in (*row.rgb[:1], *row.tir[:1], *third):
            (folder / images).mkdir(parents=True, exist_ok=True)
            (folder / images / "1.png").touch()
        for file in (*(row.truth[:1] if layout != "folder" else ()), *row.truth_tir[:1]):
            # one sequence lacks its boxes
            if name != "b":
                (folder / file).touch()
        if row.truth_folder and name != "b":
            (tmp_path / row.truth_folder).mkdir(exist_ok=True)
            (tmp_path / row.truth_folder / f"{name}.txt").touch()
    # laid out alike, and read alike but for what the thermal ones are called
    alike = {
        "rgbt210": "lasher",
        "vtuav_lt": "vtuav_st",
        "lasher_unaligned": "rgbt234",
        "muart244": "rgbt234",
        "mv_rgbt": "rgbt234",
        "rgbdt500_depth": "rgbdt500",
        "rgbdt500_depth_infrared": "rgbdt500",
        "felt": "coesot",
        "eventvot": "folder",
        "lsotb_tir": "otb100",
        "ptb_tir": "otb100",
    }
    assert guess_layout(tmp_path) == alike.get(layout, layout)


@pytest.mark.parametrize("depth", range(5))
def test_sequences_may_lie_three_folders_down(tmp_path, depth):
    sequence = tmp_path.joinpath(*"abcd"[:depth])
    for name in ("visible", "infrared"):
        (sequence / name).mkdir(parents=True)
    (sequence / "init.txt").write_text("1,2,3,4")
    if depth <= 3:
        assert guess_layout(tmp_path) == "lasher"
    else:
        with pytest.raises(DataError, match="holds no complete sequence"):
            guess_layout(tmp_path)


def test_no_layout_fits(tmp_path):
    with pytest.raises(
        DataError, match="holds no complete sequence of any layout; name its layout: gtot, "
    ):
        guess_layout(tmp_path)
    with pytest.raises(DataError, match="root must be a folder with sequences"):
        guess_layout(tmp_path / "gone")


@pytest.mark.parametrize("annotated", [1, 3, 5, 6, 30])
def test_folders_of_ones_own_with_vtuavs_names_are_told_apart(tmp_path, annotated):
    for folder in ("rgb", "ir"):
        (tmp_path / "mine" / folder).mkdir(parents=True)
        for k in range(30):
            (tmp_path / "mine" / folder / f"{k}.png").touch()
        (tmp_path / "mine" / f"{folder}.txt").write_text("1 2 3 4\n" * annotated)
    # VTUAV has a box in every tenth frame; two more are no reason to doubt it
    assert guess_layout(tmp_path) == ("folder" if annotated > 5 else "vtuav_st")


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (5, "5 boxes (frames 1, 2, 3, 4, 5)"),
        (6, "6 boxes (frames 1, 2, 3, 4, 5, ...)"),
    ],
)
def test_five_frames_are_listed_and_dots_where_there_are_more(count, told):
    assert checking._listed(np.ones(count, dtype=bool), np.arange(count)) == told
