import pytest
import torch
from torch import Tensor

from model_material import images, tiny
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.encoder import EncoderSettings
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.models.walk import Call, Walk

SMALL = EncoderSettings(
    dim=16,
    depth=2,
    num_heads=2,
    template_size=32,
    search_size=64,
    head_channels=8,
    keep_ratio=0.5,
)


class Diary(Walk):
    """A walk that writes down when it is asked, and how many tokens there are."""

    def __init__(self, network: "Watched", tokens: Tensor) -> None:
        super().__init__(network.backbone, tokens, streams=2)
        self.lines = network.lines

    def before_block(self, number: int) -> None:
        self.lines.append(("before", number, self.tokens.shape[1]))

    def after_block(self, number: int) -> None:
        self.lines.append(("after", number, self.tokens.shape[1]))

    def features(self) -> Tensor:
        self.lines.append("features")
        return super().features()

    def layer_order(self) -> Tensor | None:
        self.lines.append("layer order")
        return super().layer_order()


class Watched(TrackingNetwork):
    def __init__(self) -> None:
        super().__init__(SMALL, {})
        self.lines: list[object] = []

    def begin(self, call: Call) -> Walk:
        return Diary(self, self.embed_two_streams(call.template, call.search))


def test_hooks_are_called_around_every_block_and_drawing_only_when_drawn() -> None:
    model = Watched().eval()
    model(*images(model))
    # block 0 keeps 8 of the 16 candidates, block 1 keeps 4
    walked = [("before", 0, 20), ("after", 0, 12), ("before", 1, 12), ("after", 1, 8), "features"]
    assert model.lines == walked
    model.lines.clear()
    model.encode(*images(model))
    assert model.lines == [*walked, "layer order"]


def test_a_walk_that_does_nothing_lets_the_head_read_the_sum_of_the_normed_streams() -> None:
    model = tiny("two_stream_tiny_128")
    encoder = model.backbone
    tokens = torch.randn(4, 80, 128)
    walk = Walk(encoder, tokens, streams=2)
    assert torch.equal(walk.indices, torch.arange(64).expand(2, -1))
    rgb, tir = walk.two_streams()
    expected = encoder.norm(rgb[:, 16:]) + encoder.norm(tir[:, 16:])
    torch.testing.assert_close(walk.features(), expected)
    assert walk.layer_tokens().tir is not None
    assert Walk(encoder, tokens).layer_tokens().tir is None
    assert (walk.next_state(None), walk.modality_weights(), walk.layer_order()) == (None,) * 3


def test_the_answer_to_an_encoding_is_that_of_the_call() -> None:
    model = tiny("tpmri_tiny_128")
    template, search = images(model)
    called = model(template, search)
    answered = model.answer(model.encode(template, search))
    for name, value in called._asdict().items():
        if name != "state":
            assert torch.equal(getattr(answered, name), value), name


def test_a_network_that_does_not_say_how_a_call_begins_is_told_so() -> None:
    model = TrackingNetwork(SMALL, {})
    with pytest.raises(NotImplementedError, match="TrackingNetwork must say how a call begins"):
        model(*images(model))


def test_tokens_of_one_stream_are_refused_where_two_are_needed() -> None:
    model, single = tiny("compensation_tiny_128"), tiny("ostrack_tiny_128")
    template, search = images(model)
    tokens = single.embed_template(template)
    with pytest.raises(ValueError, match="template must hold tokens of both modalities"):
        model(tokens, ImagePair(*search))
