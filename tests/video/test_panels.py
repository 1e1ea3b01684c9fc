"""What is drawn is what the network computed."""

import numpy as np
import pytest
import torch

from rgbt_fusion import Tracker
from rgbt_fusion.models.presets import list_models
from rgbt_fusion.video.panels import CAPTION, draw_panels, look_inside, template_attention
from rgbt_fusion.weights.pretrained import create_model
from tracking_material import BOX, BrightSpot, scene
from video_material import cv2

TINY = [name for name in list_models() if name.endswith("tiny_128")]


def looking(name: str, boxes=BOX, **options) -> Tracker:
    torch.manual_seed(0)
    tracker = Tracker(create_model(name, **options))
    frames = scene(3)
    tracker.init(*frames[0], boxes)
    for frame in frames[1:]:
        tracker.update(*frame)
    return tracker


@pytest.mark.parametrize("name", TINY)
def test_every_model_can_be_looked_into_and_drawn(name):
    cv2()
    tracker = looking(name)
    state = tracker.state
    inside = look_inside(tracker)
    assert tracker.state is state
    two = tracker.last_look.template.tir is not None and name.split("_")[0] in (
        "ainet",
        "two",
        "mutual",
        "one",
    )
    assert len(inside.attention) == (2 if two else 1)
    for plane in (inside.score, inside.window, inside.features, inside.kept, *inside.attention):
        assert plane.shape == (8, 8)
        assert np.isfinite(plane).all()
    assert all(plane.min() >= 0 and plane.max() <= 1 for plane in inside.attention)
    assert (inside.modality_weights is not None) == name.startswith("tpmri")
    assert (inside.layer_order is not None) == name.startswith("ainet")
    pictures = (
        7
        + (len(inside.attention) == 2)
        + (inside.modality_weights is not None or inside.layer_order is not None)
    )
    assert draw_panels(tracker, size=64).shape == (64 + CAPTION, 64 * pictures, 3)


@pytest.mark.parametrize(
    "name", ["ainet_tiny_128", "one_stream_student_tiny_128", "ostrack_tiny_128"]
)
@pytest.mark.parametrize("layer", [0, 2])
def test_attention_is_that_of_the_block(name, layer):
    """The matrix that the block itself forms, written out by hand from what goes into it."""
    tracker = looking(name)
    model, look = tracker.model, tracker.last_look
    block, seen = model.backbone.blocks[layer], []
    handle = block.norm1.register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0])
    )
    maps, _ = template_attention(model, look, layer)
    handle.remove()
    tokens = block.norm1(seen[0])
    query, key, _ = block.attn.qkv(tokens).chunk(3, dim=-1)
    width, heads = query.shape[-1] // 2, range(2)
    length = model.backbone.template_length
    side_by_side = name.startswith("one")
    for number, found in enumerate(maps):
        row = number if not side_by_side and len(maps) == 2 else 0
        part = number * tokens.shape[1] // 2 if side_by_side else 0
        end = part + tokens.shape[1] // (2 if side_by_side else 1)
        expected = torch.zeros(end - part - length)
        for head in heads:
            channels = slice(head * width, (head + 1) * width)
            weights = (query[row, :, channels] @ key[row, :, channels].T / width**0.5).softmax(-1)
            expected += weights[part + length : end, part : part + length].sum(-1) / 2
        kept = found[0][found[0] > 0]
        torch.testing.assert_close(kept, expected, atol=1e-5, rtol=1e-4)


def test_tokens_that_were_eliminated_are_not_kept():
    inside = look_inside(looking("ostrack_tiny_128", keep_ratio=0.5))
    assert inside.kept.sum() == 8
    assert (inside.features[~inside.kept] == 0).all()


def test_one_of_a_batch():
    tracker = looking("ainet_tiny_128", [BOX, (20.0, 30.0, 40.0, 40.0)])
    first, second = (look_inside(tracker, target=number) for number in (0, 1))
    assert not np.array_equal(first.score, second.score)
    np.testing.assert_array_equal(second.score, tracker.last_look.output.score_map[1, 0].numpy())
    with pytest.raises(ValueError, match="target must be below the number of targets, 2, got 2"):
        look_inside(tracker, target=2)


def test_errors_say_what_was_wrong():
    tracker = looking("ainet_tiny_128")
    with pytest.raises(ValueError, match=r"layer must be a block's number in \[0, 3\], got 4"):
        look_inside(tracker, layer=4)
    tracker.init(*scene(1)[0], BOX)
    with pytest.raises(RuntimeError, match="call update first"):
        look_inside(tracker)
    spot = Tracker(BrightSpot())
    spot.init(*scene(1)[0], BOX)
    spot.update(*scene(1)[0])
    with pytest.raises(TypeError, match="must be a TrackingNetwork to look inside, got BrightSpot"):
        look_inside(spot)


@pytest.mark.parametrize("keep_ratio", [1.0, 0.7])
def test_the_reliability_of_both_modalities_is_drawn(keep_ratio):
    cv2()
    tracker = looking("two_stream_tiny_128", reliability=[1, 3], keep_ratio=keep_ratio)
    inside = look_inside(tracker)
    assert inside.reliability is not None
    for plane in inside.reliability:
        assert plane.shape == (8, 8)
        assert np.array_equal(plane > 0, inside.kept)
    assert inside.modality_weights == pytest.approx((0.5, 0.5))
    plain = draw_panels(looking("two_stream_tiny_128", keep_ratio=keep_ratio), size=64)
    drawn = draw_panels(tracker, size=64)
    # both reliabilities, and the weights that they make
    assert drawn.shape[1] == plain.shape[1] + 3 * 64
