"""Variation: both modalities alike, boxes that follow their pixels."""

import numpy as np
import pytest
import torch

from rgbt_fusion.frames.crop import IMAGENET_MEAN, IMAGENET_STD
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.training.augmentation import (
    FAILURES,
    Appearance,
    Misalignment,
    draw_appearance,
    draw_misalignment,
    fail,
    flip_pair,
    jitter_box,
    rotate_pair,
    vary_pair,
)
from rgbt_fusion.training.config import AugmentationConfig

MEAN, STD = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))


def normalised(image: torch.Tensor) -> torch.Tensor:
    return (image - MEAN) / STD


def marked(
    box_cxcywh_unit: tuple[float, float, float, float], size: int = 100
) -> tuple[ImagePair, torch.Tensor]:
    """A black pair with a white rectangle, and the rectangle's box."""
    cx, cy, w, h = box_cxcywh_unit
    image = torch.zeros(1, 3, size, size)
    rows, columns = (
        slice(round((c - s / 2) * size), round((c + s / 2) * size)) for c, s in ((cy, h), (cx, w))
    )
    image[:, :, rows, columns] = 1
    return ImagePair(normalised(image), normalised(image)), torch.tensor([box_cxcywh_unit])


def box_of_white(image: torch.Tensor) -> torch.Tensor:
    seen = (image * STD + MEAN)[0, 0] > 0.5
    rows, columns = seen.any(1).nonzero()[:, 0], seen.any(0).nonzero()[:, 0]
    left, right, top, bottom = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    box = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])
    return box[None] / image.shape[-1]


def test_a_flip_takes_the_box_along():
    images, box = marked((0.3, 0.4, 0.2, 0.1))
    images, box = flip_pair(images, box)
    for image in images:
        assert torch.allclose(box_of_white(image), box, atol=1e-6)
    assert box[0, 0] == pytest.approx(0.7)


@pytest.mark.parametrize("degrees", [-30.0, 10.0, 90.0])
def test_a_rotation_takes_the_box_along(degrees):
    images, box = marked((0.35, 0.6, 0.2, 0.1))
    turned, around = rotate_pair(images, box, degrees)
    for image in turned:
        assert torch.allclose(box_of_white(image), around, atol=0.03)
    # what comes in from outside is black, as outside the image
    assert turned.rgb[0, 0, 0, 0] == pytest.approx(
        float(normalised(torch.zeros(1, 3, 1, 1))[0, 0, 0, 0]), abs=1e-4
    )


def test_brightness_and_contrast_act_on_both_modalities_alike():
    images = ImagePair(*(normalised(torch.rand(1, 3, 8, 8)) for _ in range(2)))
    brighter = vary_pair(images, Appearance(1.1, 1.0, False), grey=False)
    for before, after in zip(images, brighter, strict=True):
        expected = ((before * STD + MEAN) * 1.1).clamp(0, 1)
        assert torch.allclose(after * STD + MEAN, expected, atol=1e-6)
    flat = vary_pair(images, Appearance(1.0, 0.5, False), grey=False)
    for before, after in zip(images, flat, strict=True):
        spread = [float((image * STD + MEAN).std()) for image in (before, after)]
        assert spread[1] == pytest.approx(0.5 * spread[0], rel=1e-4)


def test_grey_has_no_colour_and_its_brightness():
    images = ImagePair(
        normalised(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)),
        torch.ones(1, 3, 4, 4),
    )
    grey = vary_pair(images, Appearance(1.0, 1.0, False), grey=True).rgb * STD + MEAN
    assert torch.allclose(grey, torch.full_like(grey, 0.299), atol=1e-6)


def test_a_blur_takes_edges_away():
    images, _ = marked((0.5, 0.5, 0.2, 0.2), 20)
    blurred = vary_pair(images, Appearance(1.0, 1.0, True), grey=False)
    edges = [image.diff(dim=-1).abs().max() for image in (images.rgb, blurred.rgb)]
    assert edges[1] < 0.5 * edges[0]


def test_a_missing_modality_stays_missing():
    images = ImagePair(torch.zeros(1, 3, 4, 4), normalised(torch.rand(1, 3, 4, 4)))
    varied = vary_pair(images, Appearance(1.2, 0.8, True), grey=True)
    assert not varied.rgb.any()
    box = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    assert not rotate_pair(images, box, 20.0)[0].rgb.any()


def test_nothing_to_vary_leaves_the_very_image():
    images = ImagePair(*torch.rand(2, 1, 3, 4, 4))
    assert vary_pair(images, Appearance(1.0, 1.0, False), grey=False) == images


def test_appearances_are_in_their_ranges():
    config = AugmentationConfig(brightness=0.2, contrast=0.3, blur=0.5)
    drawn = [draw_appearance(config, np.random.default_rng(seed)) for seed in range(200)]
    brightness, contrast, blurred = map(np.array, zip(*drawn, strict=True))
    assert 0.8 <= brightness.min() < 0.83 < 1.17 < brightness.max() <= 1.2
    assert 0.7 <= contrast.min() < 0.75 < 1.25 < contrast.max() <= 1.3
    assert 70 < blurred.sum() < 130


def test_the_target_stays_inside_the_jittered_crop():
    box, factor = np.array([50.0, 40, 20, 30]), 4.0
    config = AugmentationConfig()
    boxes = np.array(
        [jitter_box(box, config, np.random.default_rng(seed), factor=factor) for seed in range(400)]
    )
    root = np.sqrt(boxes[:, 2] * boxes[:, 3])
    offset = boxes[:, :2] + boxes[:, 2:] / 2 - (60, 55)
    share = np.abs(offset) / (factor * root)[:, None]
    assert share.max() < 0.5
    # 3 / 2 of the target's size, of a crop four times as large
    assert 0.33 < share.max() < 0.376
    assert np.log(boxes[:, 2] / 20).std() == pytest.approx(0.25, abs=0.04)


def test_no_jitter_leaves_the_box():
    config = AugmentationConfig(centre_jitter=0.0, scale_jitter=0.0)
    box = np.array([5.0, 6, 7, 8])
    assert jitter_box(box, config, np.random.default_rng(0), factor=4.0).tolist() == box.tolist()


def test_a_jitter_that_always_loses_the_target_gives_up():
    box = np.array([5.0, 6, 7, 8])
    config = AugmentationConfig(centre_jitter=1e6)
    assert jitter_box(box, config, np.random.default_rng(0), factor=4.0).tolist() == box.tolist()


def test_aligned_cameras_draw_no_misalignment():
    generator = np.random.default_rng(0)
    assert draw_misalignment(AugmentationConfig(), generator) is None
    assert generator.random() == np.random.default_rng(0).random(), (
        "older samples stay as they were"
    )


def test_misalignments_are_in_their_ranges():
    config = AugmentationConfig(misalignment=0.4)
    drawn = [draw_misalignment(config, np.random.default_rng(seed)) for seed in range(300)]
    shifts = np.array([one.shift for one in drawn])
    zooms = np.array([one.zoom for one in drawn])
    assert (np.abs(shifts) <= 0.4).all()
    assert (shifts.min(0) < -0.38).all() and (shifts.max(0) > 0.38).all()
    assert 0.95 <= zooms.min() < 0.953 < 1.047 < zooms.max() <= 1.05


def test_the_view_of_a_misaligned_camera_is_moved_and_scaled():
    there = Misalignment((0.5, -0.25), 1.1).view(np.array([10.0, 20, 40, 60]), 8.0)
    # the centre (30, 50) moves by half and a quarter of the target's height
    np.testing.assert_allclose(there, [34 - 22, 48 - 33, 44, 66])


def test_a_failing_camera_shows_no_scene():
    image = normalised(torch.rand(1, 3, 32, 32))
    flat, saturated, noise = (fail(image, one, np.random.default_rng(0)) for one in FAILURES)
    spread = [(one * STD).flatten(2).std(-1).mean() for one in (flat, saturated, noise)]
    assert spread[0] < 1e-6
    white = ((saturated * STD + MEAN) > 0.999).float().mean()
    assert 0.75 < white < 0.85, "four of five levels are above the fifth"
    assert 0.08 < spread[2] < 0.12
    together = torch.stack((image.flatten(), noise.flatten()))
    assert abs(torch.corrcoef(together)[0, 1]) < 0.1
    assert (noise * STD + MEAN).mean() == pytest.approx(
        float((image * STD + MEAN).mean()), abs=0.01
    )
