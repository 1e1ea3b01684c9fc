import pytest
import torch

from model_material import images, tiny
from rgbt_fusion.checks import ShapeError
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.interface import ModelOutput, TrackerModel
from rgbt_fusion.models.presets import list_models

NAMES = [name for name in list_models() if "tiny" in name]


@pytest.mark.parametrize("name", NAMES)
def test_output_is_what_the_interface_says(name: str) -> None:
    model = tiny(name)
    tracker: TrackerModel = model
    template, search = images(model)
    out = tracker(template, search)
    assert isinstance(out, ModelOutput)
    assert out.score_map.shape == out.score_logits.shape == (2, 1, 8, 8)
    assert out.size_map.shape == out.offset_map.shape == (2, 2, 8, 8)
    assert (tracker.template_size, tracker.search_size, tracker.search_factor) == (64, 128, 4.0)
    for row in range(2):
        i, j = divmod(int(out.score_map[row].argmax()), 8)
        centre = (torch.tensor([j, i]) + out.offset_map[row, :, i, j]) / 8
        torch.testing.assert_close(
            out.box_cxcywh_unit[row], torch.cat((centre, out.size_map[row, :, i, j]))
        )


@pytest.mark.parametrize("name", NAMES)
def test_images_that_do_not_fit_are_refused(name: str) -> None:
    model = tiny(name)
    template, search = images(model)
    with pytest.raises(
        ShapeError, match=r"template.rgb must have shape \(B, 3, H, W\) with H = 64, W = 64"
    ):
        model(search, search)
    with pytest.raises(ShapeError, match=r"template must have the batch of search, 2, got 1"):
        model(ImagePair(*(x[:1] for x in template)), search)
    with pytest.raises(
        TypeError, match=r"search.rgb must have the dtype of the model's parameters"
    ):
        model(template, ImagePair(*(x.double() for x in search)))
