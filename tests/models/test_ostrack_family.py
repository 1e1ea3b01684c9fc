"""Networks with the interface of OSTrack's code."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.interface import decode
from rgbt_fusion.models.ostrack_family import OSTrackFamily


class Theirs(nn.Module):
    """What a network of the family looks like from outside."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer
        self.given: Any = None

    def forward(self, template: Any, search: Any) -> Any:
        self.given = template, search
        return self.answer


def pair(size: int) -> ImagePair:
    return ImagePair(torch.zeros(1, 3, size, size), torch.ones(1, 3, size, size))


BOX = torch.tensor([[[0.4, 0.6, 0.2, 0.1]]])
SCORE = torch.full((1, 1, 4, 4), 0.3)


@pytest.mark.parametrize("images", ["six_channels", "list", "rgb", "tir"])
def test_the_images_arrive_as_the_network_takes_them(images: Any) -> None:
    theirs = Theirs({"pred_boxes": BOX, "score_map": SCORE})
    OSTrackFamily(theirs, template_size=8, search_size=16, images=images)(pair(8), pair(16))
    template, search = theirs.given
    if images == "six_channels":
        assert template.shape == (1, 6, 8, 8) and search[:, 3:].min() == 1
    elif images == "list":
        assert [one.shape[-1] for one in search] == [16, 16]
    else:
        assert search.max() == (images == "tir")


def test_the_box_without_maps_is_the_same_in_every_cell() -> None:
    model = OSTrackFamily(Theirs({"pred_boxes": BOX, "score_map": SCORE}), search_size=16)
    output = model(pair(8), pair(16))
    for cell in range(16):
        window = torch.zeros(4, 4)
        window.view(-1)[cell] = 1
        assert torch.allclose(decode(model, output, window), BOX[0])
    assert torch.allclose(output.score_logits.sigmoid(), SCORE)


def test_the_box_with_maps_is_read_under_the_window() -> None:
    size: Tensor = torch.rand(1, 2, 4, 4)
    offset = torch.rand(1, 2, 4, 4)
    answer = {"pred_boxes": BOX, "score_map": SCORE, "size_map": size, "offset_map": offset}
    model = OSTrackFamily(Theirs(answer), search_size=16)
    window = torch.zeros(4, 4)
    window[1, 2] = 1
    box = decode(model, model(pair(8), pair(16)), window)
    assert torch.allclose(box[0, 2:], size[0, :, 1, 2])
    assert torch.allclose(box[0, :2], (torch.tensor([2.0, 1.0]) + offset[0, :, 1, 2]) / 4)


def test_what_the_answer_lacks_is_said() -> None:
    with pytest.raises(ValueError, match="got score_map without pred_boxes"):
        OSTrackFamily(Theirs({"score_map": SCORE}))(pair(8), pair(16))
    with pytest.raises(TypeError, match="Theirs must return a dictionary, got Tensor"):
        OSTrackFamily(Theirs(SCORE))(pair(8), pair(16))
    with pytest.raises(ValueError, match="images must be one of"):
        OSTrackFamily(Theirs(None), images="both")


def test_the_sizes_are_ostracks_where_none_are_given() -> None:
    model = OSTrackFamily(Theirs(None))
    assert (model.template_size, model.search_size, model.search_factor) == (128, 256, 4.0)
    assert model.images == "six_channels"
    with pytest.raises(ValueError, match="search_factor must be a finite number in"):
        OSTrackFamily(Theirs(None), search_factor=0.99)
