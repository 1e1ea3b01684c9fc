"""Polygons, masks and JSON labels, and the traps of the layouts that hold them."""

import json
import struct

import numpy as np
import pytest

from rgbt_fusion.data import regions
from rgbt_fusion.data.annotations import read_attributes, read_ground_truth
from rgbt_fusion.data.regions import (
    parse_region,
    read_json_boxes,
    read_region_shapes,
    read_regions,
)
from rgbt_fusion.evaluation.scoring import load_benchmark, score
from rgbt_fusion.files.text_tables import DataError


def test_a_turned_polygon_becomes_the_box_around_it(tmp_path):
    file = tmp_path / "groundtruth.txt"
    file.write_text("10,0,20,10,10,20,0,10\n1.5,2.5,10,20\nm4,5,6,7,0,42\nnan\n\n")
    found = read_regions(file)
    assert found[:3].tolist() == [[0, 0, 20, 20], [1.5, 2.5, 10, 20], [4, 5, 6, 7]]
    assert np.isnan(found[3]).all()


@pytest.mark.parametrize("line", ["1,2", "1,2,3", "1,2,3,4,5", "m1,2", "a,b,c,d", "m"])
def test_a_line_that_is_no_region_is_named(tmp_path, line):
    file = tmp_path / "groundtruth.txt"
    file.write_text(f"1,2,3,4\n{line}\n")
    with pytest.raises(DataError, match="line 2: must be a box, a polygon or a mask"):
        read_regions(file)


def test_vot_is_scored_on_boxes_and_its_tags_are_attributes(tmp_path):
    for name in ("car", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "groundtruth.txt").write_text(
            "0,0,20,0,20,20,0,20\nm0,0,20,20,0,400\n0\n"
        )
        (tmp_path / name / "camera_motion.tag").write_text("0\n1\n0\n")
        (tmp_path / name / "occlusion.label").write_text(f"0\n{int(name == 'dog')}\n0\n")
    attributes = read_attributes(tmp_path, "vot_rgbt", ["car", "dog"])
    assert attributes == {"camera_motion": ("car", "dog"), "occlusion": ("dog",)}
    boxes = np.array([[0.0, 0, 20, 20], [0, 0, 20, 10], [500, 0, 20, 20]])
    scores = score(dict.fromkeys(("car", "dog"), boxes), load_benchmark("vot_rgbt", tmp_path))
    # the absent frame does not count
    assert scores.frames == 4
    assert scores.metrics["AO"] == pytest.approx(0.75)


def test_absent_targets_of_anti_uav_have_no_size(tmp_path):
    file = tmp_path / "fly" / "IR_label.json"
    file.parent.mkdir()
    rectangles = [[1, 2, 30, 40], [], [5, 6, 30, 40], [9, 9, 9, 9]]
    file.write_text(json.dumps({"exist": [1, 0, 1, 0], "gt_rect": rectangles}))
    truth = read_ground_truth(tmp_path, "antiuav410")["fly"]
    assert truth.rgb.tolist() == [[1, 2, 30, 40], [0] * 4, [5, 6, 30, 40], [0] * 4]
    scores = score({"fly": truth.rgb}, load_benchmark("antiuav410", tmp_path))
    assert (scores.frames, scores.metrics["AO"]) == (2, 1.0)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"gt_rect": []}', '{"gt_rect": [[1, 2]]}', '{"gt_rect": 5}'),
        *('{"gt_rect": [1], "exist": [1]}', '{"gt_rect": [[1, 2, 3, 4]], "exist": [1, 1]}'),
        "[" * 100_000,
    ],
)
def test_other_json_is_refused(tmp_path, text):
    file = tmp_path / "IR_label.json"
    file.write_text(text)
    with pytest.raises(DataError, match="must hold gt_rect, a list of"):
        read_json_boxes(file)


def test_trackingnets_boxes_lie_beside_its_frames(tmp_path):
    (tmp_path / "frames" / "clip").mkdir(parents=True)
    (tmp_path / "anno").mkdir()
    (tmp_path / "anno" / "clip.txt").write_text("1,2,3,4\n")
    assert list(read_ground_truth(tmp_path, "trackingnet")) == ["clip"]


def test_modalities_of_their_own_keep_their_boxes(tmp_path):
    (tmp_path / "car").mkdir()
    (tmp_path / "car" / "visible.txt").write_text("1,2,30,40\n")
    (tmp_path / "car" / "infrared.txt").write_text("5,6,15,20\n")
    truth = read_ground_truth(tmp_path, "lasher_unaligned")["car"]
    assert (truth.rgb.tolist(), truth.tir.tolist()) == ([[1, 2, 30, 40]], [[5, 6, 15, 20]])
    # a result is a box in the colour images
    assert score({"car": truth.rgb}, load_benchmark("lasher_unaligned", tmp_path)).metrics["PR"]


def test_masks_are_read_run_by_run():
    mask = parse_region("m5,6,3,2,1,4,1")
    assert (mask.kind, mask.offset) == ("mask", (5, 6))
    assert mask.values.tolist() == [[0, 1, 1], [1, 1, 0]]
    # runs that end early leave zeros
    assert parse_region("m0,0,3,1,1,2").values.tolist() == [[0, 1, 1]]
    assert parse_region("m0,0,3,2,0,2").values.tolist() == [[1, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    "line",
    [
        *("m1,2", "m1,2,3", "m0,0,2,2,5", "m0,0,-2,2,1", "m0,0,2,2,-1,2", "m0,0,2,2,x"),
        *("m0,0,99999999,99999999,1", "m0,0,2,2,1.5", "1,2,inf,4", "1,2,3,4,5", "", "a"),
    ],
)
def test_what_is_no_region_is_refused(line):
    with pytest.raises(DataError, match="must be a box, a polygon or a mask"):
        parse_region(line)


def test_a_file_of_shapes_says_which_line_is_none(tmp_path):
    path = tmp_path / "run.txt"
    path.write_text("1\n1,2,3,4\n1,2,3\n")
    with pytest.raises(DataError, match=r"run\.txt, line 3: must be a box"):
        read_region_shapes(path)
    path.write_text("")
    with pytest.raises(DataError, match="must hold regions, but it is empty"):
        read_region_shapes(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_region_shapes(tmp_path / "none.txt")


@pytest.mark.parametrize(
    "data",
    [
        b"\x01\x00",
        b"\x01\x00\x00\x00\x00\x00",
        b"\x01\x00\x02\x00\x00\x00\x01" + bytes(16),
        b"\x01\x00\x01\x00\x00\x00\x09",
        b"\x01\x00\xff\xff\xff\xff\x03\x00\x00\x00\x00\xff\xff\xff\xff\x00\x00",
    ],
)
def test_a_binary_file_that_is_none_is_refused(tmp_path, data):
    (tmp_path / "run.bin").write_bytes(data)
    with pytest.raises(DataError, match=r"run\.bin must"):
        read_region_shapes(tmp_path / "run.bin")


def binary_mask(width: int, height: int) -> bytes:
    """A mask of these sides, all of it set, as the toolkit writes it."""
    return struct.pack("<BhhHHHHH", 3, 5, 6, width, height, 2, 0, width * height)


@pytest.mark.parametrize(("widths", "fits"), [([10], True), ([10] * 3, True), ([1, 10, 23], False)])
def test_all_masks_of_a_binary_file_count_towards_the_limit(tmp_path, monkeypatch, widths, fits):
    monkeypatch.setattr(regions, "MOST_MASK_PIXELS", 200)
    box = struct.pack("<B4f", 1, 1, 2, 3, 4)
    parts = [*(binary_mask(width, 6) for width in widths), box]
    path = tmp_path / "run.bin"
    path.write_bytes(struct.pack("<hI", 1, len(parts)) + b"".join(parts))
    if not fits:
        told = r"run\.bin, region 3: all masks together must have at most 200 pixels"
        with pytest.raises(DataError, match=told):
            read_region_shapes(path)
        return
    *found, last = read_region_shapes(path)
    assert [mask.values.shape for mask in found] == [(6, width) for width in widths]
    assert all(mask.values.all() and mask.offset == (5, 6) for mask in found)
    assert last.values.tolist() == [1, 2, 3, 4]
