"""The tracker against OSTrack's loop written out, against one target at a time, and against a spot
that can be seen."""

import copy
import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rgbt_fusion import ShapeError, Tracker
from rgbt_fusion.frames.crop import IMAGENET_MEAN, IMAGENET_STD
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.presets import list_models
from rgbt_fusion.tracking import tracker as tracker_module
from rgbt_fusion.tracking.ncc import NCCTracker
from rgbt_fusion.tracking.tracker import hann_window
from rgbt_fusion.weights.pretrained import create_model
from tracking_material import BOX, BrightSpot, scene

TINY = [name for name in list_models() if name.endswith("tiny_128")]


def tiny(name: str = "ainet_tiny_128", **overrides) -> torch.nn.Module:
    torch.manual_seed(0)
    return create_model(name, depth=2, **overrides)


def boxes(results) -> np.ndarray:
    return np.stack([result.box_xywh_px for result in results])


def ostrack_crop(image: np.ndarray, box, factor: float, size: int) -> torch.Tensor:
    """OSTrack's sample_target and preprocessing."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    image = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
    x, y, w, h = box
    side = math.ceil(math.sqrt(w * h) * factor)
    left, top = round(x + 0.5 * w - side * 0.5), round(y + 0.5 * h - side * 0.5)
    x0, x1 = max(0, -left), max(left + side - image.shape[1] + 1, 0)
    y0, y1 = max(0, -top), max(top + side - image.shape[0] + 1, 0)
    cut = image[top + y0 : top + side - y1, left + x0 : left + side - x1]
    cut = cv2.copyMakeBorder(cut, y0, y1, x0, x1, cv2.BORDER_CONSTANT)
    crop = cv2.resize(cut, (size, size)).astype(np.float32) / 255
    return torch.from_numpy((crop - IMAGENET_MEAN) / IMAGENET_STD).permute(2, 0, 1)[None].float()


def ostrack_step(model, template: ImagePair, rgb: np.ndarray, tir: np.ndarray, box) -> list[float]:
    """OSTrack's track(), map_box_back() and clip_box(), as they are written there, for two
    modalities."""
    x, y, w, h = box
    side = math.ceil(math.sqrt(w * h) * 4.0)
    with torch.no_grad():
        out = model(
            template, ImagePair(*(ostrack_crop(image, box, 4.0, 128) for image in (rgb, tir)))
        )
    hann = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, 9) / 9))
    response = out.score_map[0, 0].double().numpy() * np.outer(hann, hann)
    row, column = np.unravel_index(response.argmax(), response.shape)
    cx = (column + out.offset_map[0, 0, row, column].item()) / 8 * side
    cy = (row + out.offset_map[0, 1, row, column].item()) / 8 * side
    bw, bh = (out.size_map[0, :, row, column] * side).tolist()
    cx, cy = cx + x + 0.5 * w - 0.5 * side, cy + y + 0.5 * h - 0.5 * side
    x1, y1, x2, y2 = cx - 0.5 * bw, cy - 0.5 * bh, cx + 0.5 * bw, cy + 0.5 * bh
    height, width = rgb.shape[:2]
    x1, x2 = min(max(0, x1), width - 10), min(max(10, x2), width)
    y1, y2 = min(max(0, y1), height - 10), min(max(10, y2), height)
    return [x1, y1, max(10, x2 - x1), max(10, y2 - y1)]


def test_boxes_are_those_of_ostracks_loop():
    model = tiny().eval()
    with torch.no_grad():
        # an untrained head finds boxes as large as the crop: make them the target's size
        model.box_head.conv5_size.bias.copy_(torch.tensor([-1.1, -1.5]))
    y, x = np.mgrid[:120, :160]
    waves = [
        np.sin(x / 9 + number / 3) * np.cos(y / 13 - number / 5) * 120 + 125 for number in range(8)
    ]
    frames = [
        (np.stack([w, w / 2, 255 - w], axis=-1).astype(np.uint8), w.astype(np.uint8)) for w in waves
    ]
    template = ImagePair(*(ostrack_crop(image, BOX, 2.0, 64) for image in frames[0]))
    tracker = Tracker(model)
    tracker.init(*frames[0], BOX)
    for frame in frames[1:]:
        expected = ostrack_step(model, template, *frame, tracker.state.boxes[0])
        # the two ways of resizing differ by a grey level, to which the random network answers
        np.testing.assert_allclose(tracker.update(*frame).box_xywh_px, expected, atol=0.25)


def test_a_spot_is_followed_to_the_pixel():
    results = list(Tracker(BrightSpot()).track(scene(12), BOX))
    expected = [(BOX[0] + 3 * k, BOX[1] - 2 * k, BOX[2], BOX[3]) for k in range(12)]
    np.testing.assert_allclose(boxes(results), expected, atol=1.0)
    assert [result.frame for result in results] == list(range(12))
    assert results[0].confidence == 1.0
    assert results[3].confidence == pytest.approx(0.8)


@pytest.mark.parametrize("name", ["ainet_tiny_128", "tpmri_tiny_128", "ostrack_tiny_128"])
def test_a_batch_is_as_many_single_trackers(name):
    model, frames = tiny(name), scene(4)
    starts = [BOX, (20.0, 30.0, 30.0, 12.0), (100.0, 70.0, 20.0, 40.0)]
    together = list(Tracker(model, lost_threshold=0.1).track(frames, starts))
    assert together[1].box_xywh_px.shape == (3, 4)
    for number, start in enumerate(starts):
        alone = list(Tracker(model, lost_threshold=0.1).track(frames, start))
        np.testing.assert_allclose(boxes(alone), boxes(together)[:, number], atol=1e-3)
        for one, many in zip(alone, together, strict=True):
            assert one.confidence == pytest.approx(many.confidence[number], abs=1e-5)
            assert one.lost == many.lost[number]


@pytest.mark.parametrize("name", TINY)
def test_every_model_tracks_and_the_same_way_twice(name):
    model, frames = tiny(name), scene(4)
    first, second = (list(Tracker(model).track(frames, BOX)) for _ in range(2))
    assert np.array_equal(boxes(first), boxes(second))
    assert [one.confidence for one in first] == [other.confidence for other in second]
    assert np.isfinite(boxes(first)).all()


@pytest.mark.parametrize("missing", ["zeros", "last"])
@pytest.mark.parametrize("name", ["ainet_tiny_128", "tpmri_tiny_128"])
def test_a_state_that_is_put_back_goes_on_as_before(name, missing, tmp_path):
    model, frames = tiny(name), scene(6, dtype=np.uint16)
    tracker = Tracker(model, missing=missing)
    tracker.init(*frames[0], BOX)
    tracker.update(*frames[1])
    torch.save(tracker.state, tmp_path / "state.pt")
    rest = [(frames[2][0], None), *frames[3:]]
    expected = boxes(tracker.update(*frame) for frame in rest)
    for state in (tracker.state, torch.load(tmp_path / "state.pt", weights_only=False)):
        assert state.frame in (1, 5)
    another = Tracker(model, missing=missing)
    another.state = torch.load(tmp_path / "state.pt", weights_only=False)
    assert np.array_equal(boxes(another.update(*frame) for frame in rest), expected)


def test_the_memory_is_the_trackers():
    model = BrightSpot()
    tracker = Tracker(model)
    list(tracker.track(scene(4), BOX))
    assert tracker.state.memory == 3
    tracker.init(*scene(1)[0], BOX)
    assert tracker.state.memory is None
    assert tracker.last_look is None


def test_a_missing_modality_is_zeros_the_other_or_the_last():
    (rgb, tir), (rgb_next, tir_next) = scene(2)
    searched = {}
    for missing in ("zeros", "other", "last"):
        model = BrightSpot()
        tracker = Tracker(model, missing=missing)
        tracker.init(rgb, tir, BOX)
        tracker.update(rgb_next, None)
        tracker.state = tracker.state.__class__(**{**vars(tracker.state), "boxes": np.array([BOX])})
        tracker.update(None, tir_next)
        searched[missing] = model.searched
    whole = BrightSpot()
    tracker = Tracker(whole)
    tracker.init(rgb, tir, BOX)
    tracker.update(rgb, tir)
    stale = whole.searched[0]
    for missing, (without_tir, without_rgb) in searched.items():
        expected = {
            "zeros": (torch.zeros_like(stale.tir), torch.zeros_like(stale.rgb)),
            "other": (without_tir.rgb, without_rgb.tir),
            "last": (stale.tir, None),
        }[missing]
        assert torch.equal(without_tir.tir, expected[0])
        assert expected[1] is None or torch.equal(without_rgb.rgb, expected[1])
    # the last colour frame is the second one by then
    assert not torch.equal(searched["last"][1].rgb, stale.rgb)
    assert searched["last"][1].rgb.abs().sum() > 0


def test_the_last_frame_is_kept_as_it_was():
    frames, model = scene(2), BrightSpot()
    tracker = Tracker(model, missing="last")
    buffer = frames[0][1].copy()
    tracker.init(frames[0][0], buffer, BOX)
    buffer[:] = 0
    tracker.update(frames[1][0], None)
    assert model.searched[0].tir.max() > 1


def test_a_frame_without_anything_keeps_the_box():
    frames = scene(3)
    tracker = Tracker(BrightSpot())
    tracker.init(*frames[0], BOX)
    before = tracker.update(*frames[1])
    result = tracker.update(None, None)
    assert np.array_equal(result.box_xywh_px, before.box_xywh_px)
    assert (result.confidence, result.lost, result.frame) == (0.0, True, 2)
    assert not tracker.update(*frames[2]).lost


def test_an_offset_between_the_cameras_changes_nothing():
    frames = scene(5)
    wide = [(rgb, np.pad(tir, ((7, 20), (11, 30)))) for rgb, tir in frames]
    aligned = boxes(Tracker(tiny()).track(frames, (60, 45, 10, 8)))
    shifted = boxes(Tracker(tiny(), tir_from_rgb=(11, 7)).track(wide, (60, 45, 10, 8)))
    np.testing.assert_allclose(shifted[:2], aligned[:2], atol=1e-6)


def test_boxes_stay_in_the_colour_image_when_only_the_other_camera_sees():
    frames = scene(3, step=(-20, 0))
    small = [(rgb[:, :100], tir) for rgb, tir in frames]
    tracker = Tracker(BrightSpot(), tir_from_rgb=(0, 0))
    tracker.init(*small[0], BOX)
    tracker.state = tracker.state.__class__(
        **{**vars(tracker.state), "boxes": np.array([(95.0, 50.0, 24.0, 16.0)])}
    )
    x, _, width, _ = tracker.update(None, np.roll(small[0][1], 30, axis=1)).box_xywh_px
    assert x + width <= 100


def test_the_scale_of_16_bits_follows_the_frames_unless_it_is_given():
    frames = scene(3, dtype=np.uint16)
    tracker = Tracker(BrightSpot())
    tracker.init(frames[0][0], None, BOX)
    assert tracker.state.tir_range is None
    tracker.update(*frames[1])
    scale = tracker.state.tir_range
    assert scale is not None
    tracker.update(frames[2][0], frames[2][1] + np.uint16(20_000))
    moved = tracker.state.tir_range
    assert moved is not None
    assert moved[0] == scale[0] + 20_000

    fixed = Tracker(BrightSpot(), tir_range=(1000, 9000))
    fixed.init(*frames[0], BOX)
    fixed.update(*frames[1])
    assert fixed.state.tir_range == (1000, 9000)
    with pytest.raises(ValueError, match="tir_range must come with frames of more than 8 bits"):
        fixed.init(*scene(1)[0], BOX)
    for wrong in ((2, 1), (0, np.inf)):
        with pytest.raises(ValueError, match="tir_range must be"):
            Tracker(BrightSpot(), tir_range=wrong)


def test_temperatures_are_tracked_as_16_bits_are():
    counts = scene(3, dtype=np.uint16)
    kelvin = [(rgb, tir.astype(np.float32) / 100) for rgb, tir in counts]
    found = [
        [result.box_xywh_px for result in Tracker(BrightSpot()).track(frames, BOX)]
        for frames in (counts, kelvin)
    ]
    np.testing.assert_allclose(found[1], found[0], atol=1e-2)


def test_a_template_whose_thermal_frame_was_flat_gets_the_next_one():
    frames = scene(3, dtype=np.uint16)
    tracker = Tracker(BrightSpot())
    tracker.init(frames[0][0], np.full_like(frames[0][1], 29_500), BOX)
    assert not tracker.state.template.tir.any()
    assert tracker.state.tir_range is None
    first = tracker.state.template
    tracker.update(*frames[1])
    assert torch.equal(tracker.state.template.rgb, first.rgb)
    assert tracker.state.template.tir.any()
    assert tracker.state.unfinished is None
    scale = tracker.state.tir_range
    tracker.update(frames[2][0], np.full_like(frames[2][1], 29_500))
    assert tracker.state.tir_range == scale, "a closed shutter taught the scale"


def test_a_thermal_camera_that_shows_nothing_is_told_once():
    rgb, tir = scene(1)[0]
    tracker = Tracker(BrightSpot())
    tracker.init(rgb, tir, BOX)
    tracker.update(rgb, tir)
    assert tracker.notices == []
    for _ in range(2):
        tracker.update(rgb, np.full_like(tir, 7))
    assert len(tracker.notices) == 1
    assert "at frame 3 the thermal image shows nothing" in tracker.notices[0]
    beside = Tracker(BrightSpot(), tir_from_rgb=(5000, 0))
    beside.init(rgb, tir, BOX)
    assert "lies outside of it" in beside.notices[0]


def test_an_answer_that_is_no_number_is_said_once():
    class NoNumber(BrightSpot):
        def __call__(self, template, search, state=None):
            out = super().__call__(template, search, state)
            return out._replace(size_map=out.size_map * float("nan"))

    rgb, tir = scene(1)[0]
    tracker = Tracker(NoNumber())
    tracker.init(rgb, tir, BOX)
    for _ in range(2):
        assert tracker.update(rgb, tir).confidence == 0
    assert tracker.notices == [
        "at frame 2 the box or the score of NoNumber is not a finite number: the last box stands"
    ]


def test_the_window_holds_back_what_is_far_away():
    class TwoSpots(BrightSpot):
        def __call__(self, template, search, state=None):
            out = super().__call__(template, search, state)
            score = torch.full_like(out.score_map, 0.01)
            score[:, 0, 8, 8], score[:, 0, 1, 1] = 0.5, 0.6
            return out._replace(score_map=score)

    found = {}
    for weight in (0.0, 1.0):
        tracker = Tracker(TwoSpots(), window_weight=weight)
        tracker.init(*scene(1)[0], BOX)
        found[weight] = tracker.update(*scene(1)[0]).confidence
    # as it comes: the window decides where to look, not how sure that is
    assert found == {0.0: pytest.approx(0.6), 1.0: pytest.approx(0.5)}


def test_the_window_is_ostracks():
    k = np.arange(1, 17)
    hann = 0.5 * (1 - np.cos(2 * np.pi * k / 17))
    np.testing.assert_allclose(hann_window(16), np.outer(hann, hann), atol=1e-7)


def test_low_confidence_is_lost_and_tracking_goes_on():
    tracker = Tracker(BrightSpot(score=0.3), lost_threshold=0.4)
    results = list(tracker.track(scene(4), BOX))
    assert [result.lost for result in results] == [False, True, True, True]
    assert abs(results[-1].box_xywh_px[0] - (BOX[0] + 9)) < 1


def test_a_box_that_is_no_number_is_not_believed():
    class Broken(BrightSpot):
        def __call__(self, template, search, state=None):
            out = super().__call__(template, search, state)
            return out._replace(size_map=out.size_map * float("nan"))

    tracker = Tracker(Broken())
    tracker.init(*scene(1)[0], BOX)
    result = tracker.update(*scene(1)[0])
    assert tuple(result.box_xywh_px) == BOX
    assert (result.confidence, result.lost) == (0.0, True)


@pytest.mark.filterwarnings("ignore:bfloat16 is slower")
def test_a_model_is_converted_and_evaluated():
    model = tiny().train()
    tracker = Tracker(model, dtype=torch.bfloat16, device="cpu")
    assert not model.training
    assert next(model.parameters()).dtype is torch.bfloat16
    assert np.isfinite(boxes(tracker.track(scene(3), BOX))).all()


def pretend_processor(monkeypatch: pytest.MonkeyPatch, *instructions: str) -> None:
    """Be an x86 processor with these sets of instructions alone."""
    tracker_module._warn_of_slow_dtype.cache_clear()
    all_names = ("amx_bf16", "avx512_bf16", "amx_fp16", "avx512_fp16")
    capabilities = {name: name in instructions for name in all_names}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(tracker_module.platform, "machine", lambda: "x86_64")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_dtype_that_makes_the_processor_slower_is_said_once(monkeypatch, dtype):
    pretend_processor(monkeypatch)
    name = str(dtype).removeprefix("torch.")
    with pytest.warns(RuntimeWarning, match=f"{name} is slower than float32") as said:
        Tracker(tiny(), dtype=dtype)
        Tracker(tiny().to(dtype))
    assert len(said) == 1
    assert said[0].filename == __file__


@pytest.mark.parametrize("instructions", ["amx_bf16", "avx512_bf16"])
def test_nothing_is_said_of_a_dtype_that_the_processor_knows(monkeypatch, instructions):
    pretend_processor(monkeypatch, instructions)
    Tracker(tiny(), dtype=torch.bfloat16)
    Tracker(tiny(), dtype=torch.float64)


def test_nothing_is_said_where_torch_does_not_know_the_processor(monkeypatch):
    pretend_processor(monkeypatch)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    Tracker(tiny(), dtype=torch.bfloat16)


def test_the_form_for_inference_finds_the_same_boxes():
    tracker, plain = Tracker(tiny()), Tracker(tiny())
    plain._form = None
    ours, theirs = boxes(tracker.track(scene(4), BOX)), boxes(plain.track(scene(4), BOX))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_weights_are_those_of_the_present_frame():
    tracker, plain = Tracker(tiny()), Tracker(tiny())
    plain._form = None
    for each in (tracker, plain):
        each.init(*scene(1)[0], BOX)
        each.update(*scene(2)[1])
    before = tracker.state
    unchanged = tracker.update(*scene(3)[2])
    tracker.state = before
    for each in (tracker, plain):
        with torch.no_grad():
            for parameter in each.model.box_head.parameters():
                parameter.mul_(-0.5)
    ours, theirs = (each.update(*scene(3)[2]).box_xywh_px for each in (tracker, plain))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert not np.allclose(ours, unchanged.box_xywh_px, atol=1e-3)


def test_a_compiled_network_finds_the_same_boxes_and_follows_its_weights(monkeypatch):
    graphs = []

    def keep(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=keep, fullgraph=True))
    tracker, plain = Tracker(tiny(), compile=True), Tracker(tiny())
    for each in (tracker, plain):
        each.init(*scene(1)[0], BOX)
    for frame in scene(4)[1:3]:
        ours, theirs = (each.update(*frame).box_xywh_px for each in (tracker, plain))
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
    with torch.no_grad():
        for each in (tracker, plain):
            for parameter in each.model.box_head.parameters():
                parameter.mul_(-0.5)
    ours, theirs = (each.update(*scene(4)[3]).box_xywh_px for each in (tracker, plain))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    # one graph: other values are no reason to compile again
    assert len(graphs) == 1
    twin = copy.deepcopy(tracker)
    assert twin.state.frame == tracker.state.frame


def test_results_do_not_change_when_the_caller_changes_them():
    tracker = Tracker(BrightSpot())
    tracker.init(*scene(1)[0], BOX).box_xywh_px[:] = 0
    assert tuple(tracker.state.boxes[0]) == BOX


def test_a_source_with_annotations_needs_no_box():
    frames = scene(3)

    class Annotated(list):
        truth = SimpleNamespace(rgb=np.array([BOX]))

    np.testing.assert_array_equal(
        boxes(Tracker(tiny()).track(Annotated(frames))), boxes(Tracker(tiny()).track(frames, BOX))
    )
    with pytest.raises(
        ValueError, match="box_xywh_px must be given for a source without annotations"
    ):
        Tracker(tiny()).track(frames)


def test_errors_say_what_was_wrong():
    rgb, tir = scene(1)[0]
    tracker = Tracker(BrightSpot())
    with pytest.raises(RuntimeError, match="call init with the first frame"):
        tracker.update(rgb, tir)
    for box in ((1, 2, 3), [[BOX]], np.zeros((0, 4))):
        with pytest.raises(
            ShapeError, match=r"box_xywh_px must have shape \(4,\) or \(N, 4\), got"
        ):
            tracker.init(rgb, tir, box)
    for box in ((1, 2, 0, 4), [BOX, (1, 2, math.nan, 4)]):
        with pytest.raises(ValueError, match="finite with width and height above 0"):
            tracker.init(rgb, tir, box)
    with pytest.raises(ValueError, match="must not both be missing"):
        tracker.init(None, None, BOX)
    with pytest.raises(ShapeError, match="tir must have the height and width of rgb"):
        tracker.init(rgb, tir[:-1], BOX)
    with pytest.raises(TypeError, match="rgb must be a numpy array of uint8"):
        tracker.init(rgb.astype(np.float32), tir, BOX)
    for setting, value in (
        ("window_weight", 1.5),
        ("search_factor", 0.5),
        ("lost_threshold", -1),
        ("missing", "skip"),
    ):
        with pytest.raises(ValueError, match=f"{setting} must be"):
            Tracker(BrightSpot(), **{setting: value})
    assert Tracker(BrightSpot(), search_factor=1.0).search_factor == 1


def test_what_is_no_model_is_refused_with_the_way_to_one():
    with pytest.raises(TypeError) as raised:
        Tracker("ainet_tiny_128")
    assert str(raised.value) == (
        "model must be a tracking model, such as create_model('ainet_tiny_128'), "
        "got 'ainet_tiny_128'"
    )
    with pytest.raises(TypeError, match="got Linear without template_size, search_size"):
        Tracker(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("make", [lambda: Tracker(BrightSpot()), NCCTracker])
def test_every_tracker_refuses_a_first_box_outside_the_frame(make):
    rgb, tir = scene(1)[0]
    for box in ((500, 2, 9, 9), (0.4, 0.3, 0.1, 0.2), [BOX, (1e308, 2, 9, 9)]):
        with pytest.raises(ValueError, match="box_xywh_px must"):
            make().init(rgb, tir, box)
        # without a matrix the boxes are those of the only camera
        with pytest.raises(ValueError, match="box_xywh_px must"):
            make().init(None, tir, box)


def test_a_crop_is_constant_where_every_pixel_is_the_same():
    grey = torch.full((1, 3, 4, 5), 0.25)
    assert tracker_module._is_constant(grey)
    for place in ((0, 0, 0, 0), (0, 1, 0, 4), (0, 2, 3, 0), (0, 0, 3, 4)):
        spotted = grey.clone()
        spotted[place] = 0.5
        assert not tracker_module._is_constant(spotted)
    # colours may differ: it is the same colour everywhere
    assert tracker_module._is_constant(torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1) + 0 * grey)
