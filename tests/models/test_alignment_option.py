"""The alignment layer as an option of the plain sum and of AINet."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model_material import assert_changes_nothing_while_new, images, tiny
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.encoder import EncoderSettings
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.models.walk import Call, Walk
from rgbt_fusion.weights.checkpoints import (
    CheckpointError,
    load_checkpoint,
    load_model,
    save_checkpoint,
)
from rgbt_fusion.weights.pretrained import create_model

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("two_stream_tiny_128", {}),
    ("two_stream_tiny_128", {"keep_ratio": 0.7, "reliability": [3]}),
    ("ainet_tiny_128", {}),
    ("ainet_tiny_128", {"dfm": None, "ofm": None}),
]


def pair_of(name: str, **options: Any) -> tuple[TrackingNetwork, TrackingNetwork]:
    """The same network without and with an alignment layer that moves nothing yet."""
    plain = tiny(name, **options)
    aligning = create_model(name, alignment=2, **options).eval()
    missing = aligning.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing
    assert all(key.startswith("alignment.") for key in missing)
    return plain, aligning


def sure(model: TrackingNetwork) -> TrackingNetwork:
    """The network with a layer that moves what it is shown."""
    assert model.alignment is not None
    torch.nn.init.constant_(model.alignment.trust.bias, 1.0)
    return model


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_a_new_layer_changes_no_bit_and_a_sure_one_does(name, options) -> None:
    plain, aligning = pair_of(name, **options)
    assert_changes_nothing_while_new(plain, aligning, sure)


@pytest.mark.parametrize("name", ["two_stream_tiny_128", "ainet_tiny_128"])
def test_thermal_patches_are_moved_before_they_are_told_their_positions(name: str) -> None:
    _, aligning = pair_of(name)
    layer = sure(aligning).alignment
    assert layer is not None
    template, search = images(aligning)
    backbone = aligning.backbone

    def on_grid(image: Tensor) -> Tensor:
        return backbone.patch_embed(image).transpose(1, 2).reshape(2, -1, 8, 8)

    moved = layer(on_grid(search.rgb), on_grid(search.tir))
    tokens, estimate = aligning.embed_aligned(aligning.embed_template(template), search)
    rgb, tir = tokens[:, 16:].chunk(2)
    torch.testing.assert_close(rgb, backbone.embed_search(search.rgb))
    torch.testing.assert_close(tir, moved.tir.flatten(2).mT + backbone.pos_embed_x)
    assert estimate is not None
    torch.testing.assert_close(estimate.offset, moved.offset)
    # the template stays
    given = aligning.embed_template(template)
    assert given.tir is not None
    assert torch.equal(tokens[:2, :16], given.rgb)
    assert torch.equal(tokens[2:, :16], given.tir)
    encoding = aligning.encode(template, search)
    assert encoding.alignment is not None
    torch.testing.assert_close(encoding.alignment.offset, moved.offset)
    torch.testing.assert_close(encoding.alignment.confidence, moved.confidence)


def test_a_thermal_crop_that_is_one_cell_off_comes_back() -> None:
    _, aligning = pair_of("two_stream_tiny_128")
    sure(aligning)
    template, _ = images(aligning)
    shown = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(5))
    rgb, tir = (image[:1] for image in template)
    off = ImagePair(shown, shown.roll(16, dims=3))
    with torch.no_grad():
        encoding = aligning.encode(ImagePair(rgb, tir), off)
    assert encoding.alignment is not None
    offset = encoding.alignment.offset
    torch.testing.assert_close(offset, torch.tensor([[1.0, 0.0]]), atol=0.1, rtol=0)


def test_a_blank_thermal_image_of_patches_stays() -> None:
    # patches of a blank image are alike; the convolutions of the other stem see its border
    plain = create_model("two_stream_tiny_128", stem="patch").eval()
    aligning = create_model("two_stream_tiny_128", stem="patch", alignment=2).eval()
    aligning.load_state_dict(plain.state_dict(), strict=False)
    sure(aligning)
    template, search = images(plain)
    blank = search._replace(tir=torch.zeros_like(search.tir))
    with torch.no_grad():
        expected = plain(template, blank).score_map
        assert torch.equal(aligning(template, blank).score_map, expected)


def test_without_it_nothing_is_estimated() -> None:
    model = tiny("ainet_tiny_128")
    assert model.encode(*images(model)).alignment is None
    assert model.alignment is None


def test_other_parameters_start_as_without_it() -> None:
    torch.manual_seed(3)
    plain = create_model("ainet_tiny_128")
    torch.manual_seed(3)
    aligning = create_model("ainet_tiny_128", alignment=2)
    for key, value in plain.state_dict().items():
        assert torch.equal(aligning.state_dict()[key], value), key


def test_the_weights_in_the_box_load_whole_with_their_settings() -> None:
    plain = create_model("ainet_tiny_128", pretrained=True).eval()
    aligning = create_model("ainet_tiny_128", pretrained=True, alignment=3).eval()
    assert aligning.tracking_settings == plain.tracking_settings
    template, search = images(plain)
    with torch.no_grad():
        expected = plain(template, search).score_map
        assert torch.equal(aligning(template, search).score_map, expected)


def test_a_file_keeps_it_and_does_not_fit_a_network_without(tmp_path: Path) -> None:
    aligning = sure(create_model("two_stream_tiny_128", alignment=2)).eval()
    path = tmp_path / "aligning.safetensors"
    save_checkpoint(aligning, path)
    again = load_model(path).eval()
    template, search = images(aligning)
    assert torch.equal(again(template, search).score_map, aligning(template, search).score_map)
    with pytest.raises(CheckpointError, match="alignment is 2 in the file and None"):
        load_checkpoint(create_model("two_stream_tiny_128"), path)
    assert "alignment" not in create_model("two_stream_tiny_128").configuration["options"]


@pytest.mark.parametrize(
    ("reach", "error", "message"),
    [
        (0, ValueError, "alignment must be"),
        (8, ValueError, "alignment must be below the 8 cells of the search grid, got 8"),
        (1.5, TypeError, "alignment must be"),
        (True, TypeError, "alignment must be"),
    ],
)
def test_a_reach_that_cannot_be_is_refused(reach, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        create_model("two_stream_tiny_128", alignment=reach)


def test_a_walk_that_is_not_aligned_is_told_so() -> None:
    class Summed(TrackingNetwork):
        def begin(self, call: Call) -> Walk:
            return Walk(
                self.backbone, self.embed_two_streams(call.template, call.search), streams=2
            )

    small = EncoderSettings(
        dim=16, depth=2, num_heads=2, template_size=32, search_size=64, head_channels=8
    )
    model = Summed(small, {}, alignment=1)
    with pytest.raises(ValueError, match="alignment must be None in a network whose walk"):
        model(*images(model))


@pytest.mark.parametrize("name", ["two_stream_tiny_128", "ainet_tiny_128"])
def test_it_compiles_and_exports(name: str) -> None:
    model = sure(create_model(name, alignment=2, depth=2)).eval()
    template, search = images(model)
    with torch.no_grad():
        expected = model(template, search)
        program = torch.export.export(model, (template, search)).module()
        torch.testing.assert_close(program(template, search).score_map, expected.score_map)
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(template, search).score_map, expected.score_map)
