"""Frames as graphs, as far as a machine without a card can tell: the same crops, the same boxes on
memory that stays, and nothing that the host would have to wait for."""

import threading
from itertools import product
from unittest import mock

import numpy as np
import pytest
import torch

from rgbt_fusion import Tracker, create_model
from rgbt_fusion.frames.crop import crop_pair
from rgbt_fusion.frames.square import search_square
from rgbt_fusion.tracking import graph as graphs
from rgbt_fusion.tracking import tracker as tracker_module
from rgbt_fusion.tracking.device_crop import (
    CropNumbers,
    cut_crops,
    indexable,
    number_count,
    pack_numbers,
)

HEIGHT, WIDTH = 120, 160
THERMAL = {
    "8 bits": lambda random: random.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8),
    "8 bits, three channels": lambda random: random.integers(
        0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8
    ),
    "16 bits": lambda random: random.integers(0, 65536, (HEIGHT, WIDTH, 1)).astype(np.uint16),
    "temperatures": lambda random: random.normal(290, 10, (HEIGHT, WIDTH)).astype(np.float32),
}
BOXES = [
    (40, 30, 20, 25),
    (-30, -20, 50, 50),  # half outside
    (150, 110, 40, 30),  # over the corner
    (70, 60, 3, 4),  # enlarged
    (0, 0, 160, 120),
    (10, 10, 900, 800),  # most of it outside
    (-300, 20, 30, 30),  # all of it outside
    (40, 40, 16, 16),  # as large as the crop
]


def ranges(kind):
    return {"16 bits": (1000.0, 60000.0), "temperatures": (270.0, 310.0)}.get(kind)


def frames_of(kind, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8), THERMAL[kind](random)


def cut(frames, box, factor, size, **options):
    numbers = CropNumbers.of(torch.full((number_count(1, size),), torch.nan), 1, size)
    numbers.samples.zero_()
    numbers.units.zero_()
    squares = [search_square(box, factor)]
    pack_numbers(numbers, frames, squares, other_for_missing=False, **options)
    uploaded = tuple(
        torch.zeros(1, 1, dtype=torch.uint8)
        if frame is None
        else torch.from_numpy(indexable(frame))
        for frame in frames
    )
    deep = (False, options["tir_range"] is not None)
    return cut_crops(uploaded, numbers, deep=deep)


@pytest.mark.parametrize("kind", THERMAL)
def test_crops_are_those_of_the_cpu(kind):
    rgb, tir = frames_of(kind)
    for box, (size, factor) in product(BOXES, ((64, 4.0), (128, 5.0), (16, 2.0))):
        want = crop_pair(
            rgb, tir, box, factor=factor, size=size, tir_range=ranges(kind), tir_from_rgb=(3, -2)
        )
        got = cut((rgb, tir), box, factor, size, tir_range=ranges(kind), tir_offset=(3, -2))
        for ours, theirs in zip(got, want.images, strict=True):
            assert (ours - theirs).abs().max() <= 1e-3, (box, size, factor)


@pytest.mark.parametrize("missing", ["rgb", "tir"])
def test_a_missing_modality_is_the_mean_image(missing):
    rgb, tir = frames_of("8 bits")
    frames = (None, tir) if missing == "rgb" else (rgb, None)
    want = crop_pair(*frames, BOXES[0], size=64)
    got = cut(frames, BOXES[0], 4.0, 64, tir_range=None, tir_offset=None)
    for ours, theirs in zip(got, want.images, strict=True):
        assert (ours - theirs).abs().max() <= 1e-3


@pytest.fixture
def without_a_card():
    """Let graphs be made on the CPU, where a replay runs the frame again on the same memory."""
    with (
        mock.patch.object(tracker_module, "why_no_graph", lambda device: ""),
        mock.patch.object(graphs, "capture", lambda body: body),
    ):
        yield


def video(kind, count, seed=0):
    return [frames_of(kind, seed + number) for number in range(count)]


@pytest.mark.parametrize(
    "preset",
    [
        "ostrack_tiny_128",
        "ainet_tiny_128",
        "tpmri_tiny_128",
        "mutual_prompt_teacher_tiny_128",
        "one_stream_student_tiny_128",
        "compensation_tiny_128",
    ],
)
def test_boxes_are_those_of_the_plain_tracker(preset, without_a_card):
    torch.manual_seed(0)
    model = create_model(preset)
    plain = Tracker(model)
    graphed = Tracker(model, graph=True)
    frames = video("16 bits", 5)
    for tracker in (plain, graphed):
        tracker.init(*frames[0], (40, 30, 20, 25))
    for rgb, tir in frames[1:]:
        want = plain.update(rgb, tir)
        got = graphed.update(rgb, tir)
        np.testing.assert_allclose(got.box_xywh_px, want.box_xywh_px, atol=1e-2)
        assert got.confidence == pytest.approx(want.confidence, abs=1e-4)


def test_a_batch_with_missing_frames_and_a_state_from_before(without_a_card):
    torch.manual_seed(0)
    model = create_model("tpmri_tiny_128")
    frames = video("8 bits", 6)
    boxes = [(40, 30, 20, 25), (90, 60, 18, 12)]
    shown = [(rgb, None if number == 2 else tir) for number, (rgb, tir) in enumerate(frames)]
    results = []
    for options in ({}, {"graph": True}):
        tracker = Tracker(model, missing="other", **options)
        tracker.init(*shown[0], boxes)
        found = [tracker.update(*frame) for frame in shown[1:3]]
        kept = tracker.state
        found += [tracker.update(*frame) for frame in shown[3:]]
        tracker.state = kept
        again = [tracker.update(*frame) for frame in shown[3:]]
        for first, second in zip(found[2:], again, strict=True):
            np.testing.assert_array_equal(first.box_xywh_px, second.box_xywh_px)
        results.append(np.stack([result.box_xywh_px for result in found]))
    np.testing.assert_allclose(*results, atol=1e-2)


def test_the_memory_of_a_graph_stays_where_it_is(without_a_card):
    seen = []

    def capturing(body):
        def replay():
            body()
            found = graph_of(tracker)
            seen.append([place.pixels.data_ptr() for place in found._frames])

        return replay

    def graph_of(tracker):
        return next(reversed(tracker._graphs._graphs.values()))

    tracker = Tracker(create_model("ostrack_tiny_128"), graph=True)
    frames = video("8 bits", 4)
    with mock.patch.object(graphs, "capture", capturing):
        tracker.init(*frames[0], (40, 30, 20, 25))
        for frame in frames[1:]:
            tracker.update(*frame)
    assert len(seen) == 3
    assert seen[0] == seen[1] == seen[2]


def test_a_copy_captures_anew(without_a_card):
    import copy

    tracker = Tracker(create_model("ostrack_tiny_128"), graph=True)
    frames = video("8 bits", 2)
    tracker.init(*frames[0], (40, 30, 20, 25))
    tracker.update(*frames[1])
    twin = copy.deepcopy(tracker)
    np.testing.assert_array_equal(
        twin.update(*frames[0]).box_xywh_px, tracker.update(*frames[0]).box_xywh_px
    )


def test_graphs_are_forgotten_with_the_weights_they_were_captured_on(without_a_card):
    model = create_model("ostrack_tiny_128")
    tracker = Tracker(model, graph=True)
    frames = video("8 bits", 2)
    tracker.init(*frames[0], (40, 30, 20, 25))
    tracker.update(*frames[1])
    assert len(tracker._graphs._graphs) == 1
    model.box_head.to(torch.float64).to(torch.float32)
    tracker.init(*frames[0], (40, 30, 20, 25))
    assert len(tracker._graphs._graphs) == 0


def test_refusals():
    model = create_model("ostrack_tiny_128")
    with pytest.raises(ValueError, match=r"graph=True replays CUDA graphs and needs .* got cpu"):
        Tracker(model, graph=True)
    with pytest.raises(ValueError, match="graph must be off where compile is on"):
        Tracker(model, graph=True, compile=True)


def test_a_homography_is_refused(without_a_card):
    with pytest.raises(ValueError, match="offset"):
        Tracker(create_model("ostrack_tiny_128"), graph=True, tir_from_rgb=np.eye(3))


def test_track_reads_one_frame_ahead_and_keeps_their_order(without_a_card):
    tracker = Tracker(create_model("ostrack_tiny_128"), graph=True)
    frames = video("8 bits", 5)
    buffer = tuple(np.empty_like(array) for array in frames[0])

    def reusing():
        for frame in frames:
            for place, array in zip(buffer, frame, strict=True):
                place[...] = array
            yield buffer

    got = list(tracker.track(reusing(), (40, 30, 20, 25)))
    want = list(Tracker(tracker.model).track(frames, (40, 30, 20, 25)))
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours.box_xywh_px, theirs.box_xywh_px, atol=1e-2)


@pytest.mark.parametrize(("options", "ahead"), [({}, False), ({"graph": True}, True)])
def test_only_a_tracker_of_graphs_reads_ahead(options, ahead, without_a_card):
    """Another one asks a camera for a frame when it looks at it, not before."""
    second_was_read = threading.Event()

    def camera():
        first, second = video("8 bits", 2)
        yield first
        second_was_read.set()
        yield second

    results = Tracker(create_model("ostrack_tiny_128"), **options).track(camera(), (40, 30, 20, 25))
    next(results)
    assert second_was_read.wait(30 if ahead else 0.2) is ahead
    next(results)
    assert second_was_read.is_set()


def test_an_error_of_the_source_reaches_the_caller(without_a_card):
    def broken():
        yield frames_of("8 bits")
        raise OSError("the camera is gone")

    tracker = Tracker(create_model("ostrack_tiny_128"), graph=True)
    with pytest.raises(OSError, match="the camera is gone"):
        list(tracker.track(broken(), (40, 30, 20, 25)))


def test_weights_that_change_between_frames_are_followed(without_a_card):
    torch.manual_seed(0)
    model = create_model("ainet_tiny_128")
    plain = Tracker(model)
    graphed = Tracker(model, graph=True)
    first, *rest = video("8 bits", 4)
    for tracker in (plain, graphed):
        tracker.init(*first, (40, 30, 20, 25))
    boxes = []
    for frames in rest:
        want = plain.update(*frames)
        got = graphed.update(*frames)
        np.testing.assert_allclose(got.box_xywh_px, want.box_xywh_px, atol=1e-2)
        boxes.append(want.box_xywh_px)
        with torch.no_grad():
            model.get_parameter("dfm.0.mamba.A_log").add_(1.0)
            model.get_parameter("box_head.conv5_size.bias").add_(1.0)
            model.get_parameter("box_head.conv3_offset.0.weight").mul_(-1.0)


def test_a_missing_camera_keeps_its_place_and_another_size_gets_a_graph_of_its_own():
    rgb, tir = frames_of("16 bits")
    rest = {"targets": 1, "has_memory": False}
    known = tracker_module._Graphs()
    both = known.kind((rgb, tir), scaled=True, **rest)
    assert both == graphs.FrameKind.of((rgb, tir), scaled=True, **rest)
    known.of(both, lambda: mock.Mock())
    assert known.kind((None, tir), scaled=True, **rest) == both
    # what was scaled stays so while nothing is there to be scaled
    assert known.kind((rgb, None), scaled=False, **rest) == both
    for frames in ((rgb[:100], tir), (rgb, tir[:100]), (rgb[:100], tir[:100])):
        kind = known.kind(frames, scaled=True, **rest)
        assert kind == graphs.FrameKind.of(frames, scaled=True, **rest)
        assert kind != both


def test_the_oldest_graph_goes_where_there_are_too_many():
    known = tracker_module._Graphs()
    kinds = [graphs.FrameKind(None, None, targets, False, False) for targets in range(6)]
    for kind in kinds[:4]:
        known.of(kind, lambda: mock.Mock())
    first = known.of(kinds[0], lambda: mock.Mock())
    known.of(kinds[4], lambda: mock.Mock())
    assert list(known._graphs) == [kinds[2], kinds[3], kinds[0], kinds[4]]
    assert known.of(kinds[0], lambda: mock.Mock()) is first
