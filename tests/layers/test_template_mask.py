import pytest
import torch
import torch.nn.functional as F

from rgbt_fusion.layers.template_mask import template_mask


@pytest.mark.parametrize(
    ("grid", "point", "rectangle"), [(8, 27, [27, 28, 35, 36]), (12, 65, [65, 66, 77, 78])]
)
def test_template_masks_of_ostrack(grid: int, point: int, rectangle: list[int]) -> None:
    assert template_mask("centre_point", grid).nonzero().flatten().tolist() == [point]
    assert template_mask("centre_rectangle", grid).nonzero().flatten().tolist() == rectangle
    assert template_mask("all", grid).all()
    assert template_mask("centre_rectangle", 7).nonzero().flatten().tolist() == [24]


def test_box_mask_is_the_box_drawn_in_pixels_and_shrunk() -> None:
    grid, patch = 8, 16
    side = grid * patch
    generator = torch.Generator().manual_seed(0)
    size = 0.2 + 0.6 * torch.rand(40, 2, generator=generator)
    box = torch.cat(((1 - size) * torch.rand(40, 2, generator=generator), size), dim=1)
    mask = template_mask("box", grid, box_xywh_unit=box)
    for sample, (x, y, w, h) in enumerate((box * side).tolist()):
        drawn = torch.zeros(1, 1, side, side)
        drawn[:, :, int(y) : int(y + h - 1), int(x) : int(x + w - 1)] = 1
        shrunk = F.interpolate(drawn, scale_factor=1 / patch, mode="bilinear", align_corners=False)
        assert mask[sample].equal(shrunk.flatten().bool())


def test_a_box_too_small_for_a_mask_counts_the_token_at_its_centre() -> None:
    box = torch.tensor([[0.51, 0.26, 0.01, 0.02], [-0.5, -0.5, 0.1, 0.1], [1.2, 1.2, 0.1, 0.1]])
    mask = template_mask("box", 8, box_xywh_unit=box)
    assert mask.nonzero().tolist() == [[0, 20], [1, 0], [2, 63]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: template_mask("center", 8), ValueError, "kind must be one of 'centre_point'"),
        (
            lambda: template_mask("box", 8),
            ValueError,
            "box_xywh_unit must be a tensor .* for kind 'box', got None",
        ),
        (
            lambda: template_mask("all", 8, box_xywh_unit=torch.zeros(1, 4)),
            ValueError,
            "must be None for kind 'all'",
        ),
    ],
)
def test_bad_input_is_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
