from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from model_material import images, tiny
from rgbt_fusion import Tracker, save_checkpoint
from rgbt_fusion.checks import NetworkError, ShapeError
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.interface import ModelOutput, TrackerModel, check_model
from rgbt_fusion.models.presets import list_models
from rgbt_fusion.synthetic.world import SyntheticSequence

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


class Own(nn.Module):
    """A network of a user, whose maps are ``maps``."""

    template_size: Any = 64
    search_size: Any = 128
    search_factor: Any = 4.0

    def forward(self, template: Any, search: ImagePair, state: Any = None) -> Any:
        maps = self.maps(search.rgb)
        return ModelOutput.from_maps(maps[:, :1], maps[:, 1:3].sigmoid(), maps[:, 3:])

    def maps(self, image: Tensor) -> Tensor:
        return image.new_zeros(len(image), 5, 8, 8)


class WithoutState(Own):
    def forward(self, template: Any, search: ImagePair) -> Any:  # pyright: ignore
        raise NotImplementedError


class HalfAPixel(Own):
    search_size = 128.5


class Unwritable(Own):
    configuration: ClassVar = {"model": "Own", "settings": {"norm": nn.LayerNorm}, "options": {}}


class Undescribed(Own):
    configuration: ClassVar = {"width": 3}


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (
            WithoutState(),
            NetworkError,
            r"model must be called as WithoutState\(template, search, state\), but its arguments",
        ),
        (HalfAPixel(), ValueError, r"model\.search_size must be a whole number of pixels above 0"),
        (Unwritable(), NetworkError, "must hold plain values under model, settings and options"),
        (Undescribed(), NetworkError, "settings and options: it lacks model, settings, options"),
    ],
)
def test_what_a_network_must_offer_is_said_in_one_sentence(
    network: Own, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        check_model(network)
    assert "\n" not in str(raised.value)


def test_what_cannot_be_written_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="of Unwritable must hold plain values under model"):
        save_checkpoint(Unwritable(), tmp_path / "own.safetensors")
    assert list(tmp_path.iterdir()) == []


class Flat(Own):
    def maps(self, image: Tensor) -> Tensor:
        return super().maps(image).flatten(2)


class OneRow(Own):
    def maps(self, image: Tensor) -> Tensor:
        return super().maps(image[:1])


class TwoNumbers(Own):
    def forward(self, template: Any, search: ImagePair, state: Any = None) -> Any:
        output = super().forward(template, search, state)
        return output._replace(box_cxcywh_unit=output.box_cxcywh_unit[:, :2])


class NoLogits(Own):
    def forward(self, template: Any, search: ImagePair, state: Any = None) -> Any:
        return super().forward(template, search, state)._replace(score_logits=None)


class FlatBox(Own):
    def decode(self, output: ModelOutput, window: Tensor) -> Tensor:
        return output.box_cxcywh_unit[0]


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (Flat(), ShapeError, r"score_logits must have shape \(B, 1, S, S\), got \(2, 1, 64\)"),
        (OneRow(), ShapeError, "score_map of OneRow's output must have shape .* with B = 2"),
        (TwoNumbers(), ShapeError, r"box_cxcywh_unit of TwoNumbers's output .* got \(2, 2\)"),
        (NoLogits(), NetworkError, "score_logits of NoLogits's output must be a tensor"),
        (FlatBox(), ShapeError, r"what FlatBox\.decode returns must have shape \(B, 4\)"),
    ],
)
def test_an_answer_of_another_form_is_refused(
    network: Own, error: type[Exception], message: str
) -> None:
    (rgb, tir), *_ = SyntheticSequence(0, frames=2)
    tracker = Tracker(network)
    tracker.init(rgb, tir, [(20, 20, 30, 30), (60, 20, 30, 30)])
    with pytest.raises(error, match=message):
        tracker.update(rgb, tir)
