"""The crop against OSTrack's sampling written out with OpenCV, and its way back."""

import math

import numpy as np
import pytest
import torch

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.frames.crop import IMAGENET_MEAN, IMAGENET_STD, crop_pair
from rgbt_fusion.frames.thermal import scale_thermal, thermal_range

BOXES = {
    "inside": (200.0, 150.0, 40.0, 90.0),
    "fractional": (200.3, 150.8, 41.7, 33.1),
    "over the corner": (-10.0, -20.0, 80.0, 90.0),
    "over the far corner": (560.0, 400.0, 120.0, 100.0),
    "larger than the image": (10.0, 10.0, 600.0, 460.0),
    "tiny": (300.0, 200.0, 3.0, 3.0),
}


def frame(channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    """A smooth texture, different in each channel."""
    y, x = np.mgrid[:480, :640]
    waves = [np.sin(x / (9 + 4 * c) + c) + np.cos(y / (13 - 2 * c)) + 2 for c in range(channels)]
    top = 250 if dtype is np.uint8 else 60_000
    return (np.stack(waves, axis=-1) / 4 * top).astype(dtype)


def ostrack_crop(image: np.ndarray, box: tuple[float, ...], factor: float, size: int) -> np.ndarray:
    """What OSTrack's sample_target does, in 0 to 255."""
    cv2 = pytest.importorskip("cv2")
    x, y, w, h = box
    side = math.ceil(math.sqrt(w * h) * factor)
    left, top = round(x + 0.5 * w - side * 0.5), round(y + 0.5 * h - side * 0.5)
    padded = np.zeros((side, side, *image.shape[2:]), dtype=image.dtype)
    x0, x1 = max(left, 0), min(left + side, image.shape[1])
    y0, y1 = max(top, 0), min(top + side, image.shape[0])
    padded[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return cv2.resize(padded, (size, size))


def grey_levels(crop: torch.Tensor) -> np.ndarray:
    """Undo the normalisation."""
    return (
        crop[0].permute(1, 2, 0).numpy() * np.array(IMAGENET_STD) * 255
        + np.array(IMAGENET_MEAN) * 255
    )


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize(("factor", "size"), [(2.0, 128), (4.0, 256), (5.0, 384)])
def test_both_modalities_are_cropped_as_ostrack_does(box, factor, size):
    rgb, tir = frame(), frame()[:, :, ::-1].copy()
    crop = crop_pair(rgb, tir, box, factor=factor, size=size)
    for image, found in ((rgb, crop.images.rgb), (tir, crop.images.tir)):
        expected = ostrack_crop(image, box, factor, size).astype(float)
        # OpenCV and torch round the last bit of an 8-bit weight differently
        assert np.abs(grey_levels(found) - expected).max() <= 1.3
    assert crop.images.rgb.shape == (1, 3, size, size)
    assert crop.images.rgb.dtype == torch.float32


def test_pixels_are_normalised_as_the_networks_of_imagenet_were_trained():
    # the numbers themselves, as torchvision's documentation has them
    white = np.full((32, 32, 3), 255, np.uint8)
    crop = crop_pair(white, white, (8.0, 8.0, 8.0, 8.0), factor=2.0, size=16)
    expected = torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    for image in (crop.images.rgb, crop.images.tir):
        torch.testing.assert_close(image, expected.view(1, 3, 1, 1).expand_as(image))


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
def test_one_thermal_channel_equals_three(box):
    rgb, grey = frame(), frame(1)
    plane = crop_pair(rgb, grey[:, :, 0], box)
    column = crop_pair(rgb, grey, box)
    three = crop_pair(rgb, np.repeat(grey, 3, axis=2), box)
    assert torch.equal(plane.images.tir, column.images.tir)
    assert np.abs(grey_levels(plane.images.tir) - grey_levels(three.images.tir)).max() <= 1.3


def test_sixteen_bits_are_scaled_by_the_range_given():
    rgb, deep = frame(), frame(1, np.uint16)[:, :, 0]
    low, high = thermal_range(deep)
    crop = crop_pair(rgb, deep, BOXES["inside"], tir_range=(low, high))
    shallow = scale_thermal(deep, (low, high)).round().astype(np.uint8)
    assert (
        np.abs(
            grey_levels(crop.images.tir)
            - grey_levels(crop_pair(rgb, shallow, BOXES["inside"]).images.tir)
        ).max()
        <= 1.0
    )
    assert torch.equal(
        crop.images.tir, crop_pair(rgb, deep, BOXES["inside"]).images.tir
    )  # the frame's own percentiles by default
    darker = crop_pair(rgb, deep, BOXES["inside"], tir_range=(low, 2 * high))
    assert darker.images.tir.mean() < crop.images.tir.mean()


def test_a_constant_thermal_frame_is_black_and_finite():
    crop = crop_pair(None, np.full((50, 60), 7000, dtype=np.uint16), (10, 10, 20, 20))
    assert np.abs(grey_levels(crop.images.tir)).max() < 1e-3


@pytest.mark.parametrize("missing", ["rgb", "tir"])
def test_a_missing_modality_gives_the_mean_image(missing):
    frames = {"rgb": frame(), "tir": frame()} | {missing: None}
    crop = crop_pair(frames["rgb"], frames["tir"], BOXES["inside"])
    assert not getattr(crop.images, missing).any()
    assert crop.image_size == (480, 640)


def test_an_offset_moves_the_thermal_crop_alone():
    rgb = frame()
    moved = np.roll(rgb, (7, -12), axis=(0, 1))
    crop = crop_pair(rgb, moved, BOXES["inside"], tir_from_rgb=(-12, 7))
    assert torch.equal(crop.images.tir, crop.images.rgb)


def test_a_homography_samples_the_thermal_frame_where_it_says():
    cv2 = pytest.importorskip("cv2")
    rgb = frame()
    matrix = np.array([[0.5, 0.02, 11.0], [-0.03, 0.52, 9.0], [1e-5, -2e-5, 1.0]])
    tir = cv2.warpPerspective(rgb.astype(np.float32), matrix, (340, 280)).round().astype(np.uint8)
    crop = crop_pair(rgb, tir, (200, 150, 90, 90), size=128, tir_from_rgb=matrix)
    # the thermal frame is half as fine, so it is a blurred version that comes back
    assert np.abs(grey_levels(crop.images.tir) - grey_levels(crop.images.rgb)).max() < 12


def test_the_identity_homography_changes_nothing():
    crop = crop_pair(frame(), frame(), (-10.0, 380.0, 80.0, 90.0), tir_from_rgb=np.eye(3))
    inner = (
        slice(None),
        slice(None),
        slice(1, -1),
        slice(1, -1),
    )  # resizing repeats the crop's own border
    assert (
        np.abs(grey_levels(crop.images.tir[inner]) - grey_levels(crop.images.rgb[inner])).max()
        <= 1.0
    )


def test_a_square_far_larger_than_the_frame_needs_no_memory_for_it():
    crop = crop_pair(frame(), frame(), (-1e5, -1e5, 2e5, 2e5), size=64)
    assert crop.side_px == 800_000
    assert torch.isfinite(crop.images.rgb).all()


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
def test_the_way_back_returns_the_box(box):
    crop = crop_pair(frame(), frame(), box)
    there = crop.to_crop(torch.tensor(box, dtype=torch.float64))
    assert there[:2].tolist() == pytest.approx([0.5, 0.5])
    x, y, w, h = box
    if x >= 0 and y >= 0 and x + w <= 640 and y + h <= 480 and min(w, h) >= 10:
        assert crop.to_image(there).tolist() == pytest.approx(box)


def test_the_way_back_follows_the_equation_and_clips():
    crop = crop_pair(frame(), None, (100, 100, 50, 50), size=256)
    out, rf = 256, 256 / crop.side_px
    predicted = torch.tensor([0.6, 0.45, 0.3, 0.2], dtype=torch.float64)
    cx = 125 - out / (2 * rf) + 0.6 * out / rf
    cy = 125 - out / (2 * rf) + 0.45 * out / rf
    w, h = 0.3 * out / rf, 0.2 * out / rf
    assert crop.to_image(predicted).tolist() == pytest.approx([cx - w / 2, cy - h / 2, w, h])
    gone = torch.tensor([[-9.0, 0.5, 0.1, 0.1], [9.0, 9.0, 0.1, 0.1]], dtype=torch.float64)
    boxes = crop.to_image(gone)
    assert (boxes[:, 2:] >= 10).all()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= torch.tensor([640, 480])).all()


def test_frames_are_left_as_they_are():
    rgb, tir = frame(), frame(1, np.uint16)[:, :, 0]
    before = rgb.copy(), tir.copy()
    crop_pair(rgb, tir, BOXES["inside"])
    assert (rgb == before[0]).all()
    assert (tir == before[1]).all()


def test_a_view_of_a_frame_is_cropped_like_its_copy():
    wide = np.concatenate((frame(), frame()), axis=1)
    view, flipped = wide[:, :640], frame()[:, ::-1]
    view.flags.writeable = False
    crop = crop_pair(view, flipped, BOXES["inside"])
    assert torch.equal(crop.images.rgb, crop_pair(frame(), None, BOXES["inside"]).images.rgb)
    assert torch.equal(crop.images.tir, crop_pair(None, flipped.copy(), BOXES["inside"]).images.tir)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"rgb": None, "tir": None}, ValueError, "rgb and tir must not both be missing"),
        (
            {"rgb": np.zeros((4, 4), np.uint8)},
            ShapeError,
            r"rgb must have shape \(H, W, 3\), got \(4, 4\)",
        ),
        (
            {"rgb": np.zeros((4, 4, 3), np.float32)},
            TypeError,
            "rgb must be a numpy array of uint8, got float32",
        ),
        ({"rgb": [[0]]}, TypeError, "rgb must be a numpy array of uint8, got list"),
        (
            {"tir": np.zeros((480, 640, 2), np.uint8)},
            ShapeError,
            r"tir must have shape .*, got \(480, 640, 2\)",
        ),
        (
            {"tir": np.zeros((480, 640), np.int16)},
            TypeError,
            "tir must be a numpy array of uint8 or uint16 or float32, got int16",
        ),
        (
            {"tir": np.zeros((240, 320), np.uint8)},
            ShapeError,
            r"tir must have the height and width of rgb \(480, 640\)",
        ),
        (
            {"box_xywh_px": (1, 2, 3)},
            ShapeError,
            r"box_xywh_px must be left, top, width, height, got shape \(3,\)",
        ),
        ({"box_xywh_px": (1, 2, 0, 5)}, ValueError, "width and height above 0"),
        ({"box_xywh_px": (1, float("nan"), 5, 5)}, ValueError, "must be finite"),
        ({"factor": 0.0}, ValueError, "factor must be"),
        ({"size": 0}, ValueError, "size must be at least 1, got 0"),
        (
            {"tir_from_rgb": np.eye(2)},
            ShapeError,
            r"tir_from_rgb must have shape \(2,\) or \(3, 3\), got \(2, 2\)",
        ),
        ({"tir_from_rgb": np.full((3, 3), np.inf)}, ValueError, "tir_from_rgb must be finite"),
    ],
)
def test_bad_input_is_named(change, error, message):
    given = {"rgb": frame(), "tir": frame(), "box_xywh_px": BOXES["inside"]} | change
    with pytest.raises(error, match=message):
        crop_pair(given.pop("rgb"), given.pop("tir"), given.pop("box_xywh_px"), **given)


def test_limits_out_of_order_are_refused():
    with pytest.raises(ValueError, match="limits must be two finite numbers in order"):
        crop_pair(None, frame(1, np.uint16), BOXES["inside"], tir_range=(9.0, 1.0))
