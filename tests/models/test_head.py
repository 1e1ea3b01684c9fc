import pytest
import torch

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.models.head import CenterHead, clamped_sigmoid, decode_box


def test_tokens_fill_the_maps_in_raster_order() -> None:
    torch.manual_seed(0)
    head = CenterHead(16, channels=8, grid=8).eval()
    tokens = torch.zeros(1, 64, 16)
    quiet = head(tokens).offset
    tokens[0, 8 * 2 + 6] = 5.0
    moved = (head(tokens).offset != quiet).any(1)[0].nonzero()
    # four 3x3 convolutions see four cells around row 2, column 6
    assert moved.amin(0).tolist() == [0, 2]
    assert moved.amax(0).tolist() == [6, 7]


def test_maps_equal_the_branches_on_a_plain_map() -> None:
    torch.manual_seed(0)
    head = CenterHead(16, channels=16, grid=4).double().eval()
    features = torch.randn(2, 16, 4, 4, dtype=torch.float64)
    x = features
    for i in range(1, 6):
        x = head.get_submodule(f"conv{i}_size")(x)
    maps = head(features.flatten(2).transpose(1, 2))
    torch.testing.assert_close(maps.size, x.sigmoid().clamp(1e-4, 1 - 1e-4))


def test_score_starts_low_everywhere() -> None:
    torch.manual_seed(0)
    logits = CenterHead(16, channels=32, grid=8).eval()(torch.randn(1, 64, 16)).score_logits
    assert logits.sigmoid().mean() < 0.2


def test_a_score_starts_at_a_tenth() -> None:
    """The focal loss's prior, as OSTrack starts from: log(0.1 / 0.9)."""
    bias = CenterHead(16, channels=8, grid=8).get_parameter("conv5_ctr.bias")
    torch.testing.assert_close(bias.sigmoid(), torch.tensor([0.1]))


def test_sigmoid_is_clamped() -> None:
    assert clamped_sigmoid(torch.tensor([-50.0, 50.0])).tolist() == pytest.approx([1e-4, 1 - 1e-4])


def test_box_is_read_at_the_maximum_of_each_sample() -> None:
    score = torch.zeros(2, 1, 4, 4)
    score[0, 0, 3, 1] = score[1, 0, 0, 2] = 0.7
    size = torch.arange(64.0).view(2, 2, 4, 4) / 64
    offset = torch.arange(64.0).view(2, 2, 4, 4) / 128
    boxes = decode_box(score, size, offset)
    for row, (i, j) in enumerate(((3, 1), (0, 2))):
        (x, y), (w, h) = offset[row, :, i, j], size[row, :, i, j]
        torch.testing.assert_close(boxes[row], torch.stack(((j + x) / 4, (i + y) / 4, w, h)))


def test_other_tokens_are_refused() -> None:
    with pytest.raises(
        ShapeError,
        match=r"tokens must have shape \(B, L, C\) with L = 64, C = 16, got \(1, 80, 16\)",
    ):
        CenterHead(16, channels=8, grid=8)(torch.zeros(1, 80, 16))
    with pytest.raises(ValueError, match="channels must be at least 8, got 4"):
        CenterHead(16, channels=4)
