"""What all trackers share: the boxes they start on, and the loop over a source."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from rgbt_fusion import ShapeError
from rgbt_fusion.frames.types import GroundTruth
from rgbt_fusion.tracking.interface import TrackResult, check_boxes, first_box, follow
from tracking_material import BOX, scene


class Recorder:
    """A tracker that answers with what it is given."""

    def init(self, rgb, tir, box_xywh_px):
        return "init", rgb, tir, tuple(box_xywh_px)

    def update(self, rgb, tir):
        return "update", rgb, tir


def test_a_source_is_followed_frame_by_frame():
    frames = iter([("a", None), (None, "b"), ("c", "d")])
    results = follow(Recorder(), frames, BOX)
    assert next(results) == ("init", "a", None, BOX)
    assert next(frames) == (None, "b"), "no frame is read before it is asked for"
    assert list(results) == [("update", "c", "d")]


@pytest.mark.parametrize("read_ahead", [False, True])
def test_the_next_frame_is_read_meanwhile_only_where_that_is_asked_for(read_ahead):
    second_was_read = threading.Event()

    def camera():
        yield "a", None
        second_was_read.set()
        yield "b", None

    results = follow(Recorder(), camera(), BOX, read_ahead=read_ahead)
    assert next(results) == ("init", "a", None, BOX)
    assert second_was_read.wait(30 if read_ahead else 0.2) is read_ahead
    assert list(results) == [("update", "b", None)]


def test_the_annotation_is_the_first_box():
    class Annotated(list):
        truth = SimpleNamespace(rgb=np.array([BOX, (1, 2, 3, 4)]))

    assert tuple(first_box(Annotated())) == BOX
    assert next(follow(Recorder(), Annotated(scene(1))))[3] == BOX
    for source in (
        scene(1),
        SimpleNamespace(truth=None),
        SimpleNamespace(truth=SimpleNamespace(rgb=np.zeros((0, 4)))),
    ):
        with pytest.raises(
            ValueError, match="box_xywh_px must be given for a source without annotations"
        ):
            follow(Recorder(), source)


def test_boxes_are_one_or_a_batch():
    for given, batched in ((BOX, False), ([BOX], True), (np.array([BOX, BOX]), True)):
        boxes, found = check_boxes(given)
        assert (boxes.dtype, boxes.shape[1], found) == (np.float64, 4, batched)
    with pytest.raises(ShapeError, match=r"\(4,\) or \(N, 4\), got \(2, 3\)"):
        check_boxes(np.ones((2, 3)))


def test_results_are_as_many_as_boxes_were_given():
    boxes, confidences = np.array([BOX, (1.0, 2, 3, 4)]), np.array([0.2, 0.7])
    state = SimpleNamespace(boxes=boxes, batched=True, frame=3)
    many = TrackResult.of(state, confidences, confidences < 0.5)
    assert many.box_xywh_px.shape == (2, 4)
    assert many.lost.tolist() == [True, False]
    one = TrackResult.of(
        SimpleNamespace(boxes=boxes[:1], batched=False, frame=3),
        confidences[:1],
        np.array([True]),
        np.array([0.6]),
    )
    assert (many.score, one.score) == (None, 0.6)
    assert (tuple(one.box_xywh_px), one.confidence, one.lost, one.frame) == (BOX, 0.2, True, 3)
    assert type(one.lost) is bool


def test_a_refused_annotation_is_named_by_file_and_line(tmp_path):
    class Refusing(Recorder):
        def init(self, rgb, tir, box_xywh_px):
            check_boxes(box_xywh_px, (120, 160))
            return super().init(rgb, tir, box_xywh_px)

    class Annotated(list):
        truth: GroundTruth

    file = tmp_path / "boxes.txt"
    file.write_text("1,2,30,40\n500,2,30,40\n")
    boxes = np.array([[500.0, 2, 30, 40]])
    source = Annotated(scene(1))
    rule = "box_xywh_px must "
    for files, told in (((file,), f"{file}, line 2: the box to start on must "), ((), rule)):
        source.truth = GroundTruth(boxes, boxes, np.arange(1), files=files, row=1)
        with pytest.raises(ValueError) as refused:
            next(follow(Refusing(), source))
        assert str(refused.value).startswith(told)
    # a box that is given has no file
    with pytest.raises(ValueError) as refused:
        next(follow(Refusing(), source, boxes[0]))
    assert str(refused.value).startswith(rule)
