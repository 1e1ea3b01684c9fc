"""The reliability of the modalities as an option of the trackers of two modalities."""

from pathlib import Path
from typing import Any

import pytest
import torch

from model_material import assert_changes_nothing_while_new, images, tiny
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

OF_TWO = ("two_stream", "ainet", "mutual_prompt_teacher", "one_stream_student")
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("two_stream_tiny_128", {}),
    ("two_stream_tiny_128", {"keep_ratio": 0.7}),
    ("ainet_tiny_128", {}),
    ("ainet_tiny_128", {"keep_ratio": 0.7, "ofm_tokens": "all"}),
    ("ainet_tiny_128", {"ofm_tokens": "released", "fusion_layers": (1, 3)}),
    ("ainet_tiny_128", {"dfm": "attention", "ofm": "attention"}),
    ("ainet_tiny_128", {"dfm": None}),
    ("ainet_tiny_128", {"ofm": None}),
    ("ainet_tiny_128", {"dfm": None, "ofm": None}),
    ("mutual_prompt_teacher_tiny_128", {}),
    ("mutual_prompt_teacher_tiny_128", {"keep_ratio": 0.7, "spatial_attention": "length_free"}),
    ("one_stream_student_tiny_128", {"modality_embedding": True}),
    ("one_stream_student_tiny_128", {"keep_ratio": 0.7}),
]


def pair_of(name: str, **options: Any) -> tuple[TrackingNetwork, TrackingNetwork]:
    """The same network without and with a reliability that changes nothing yet."""
    plain = tiny(name, **options)
    judging = create_model(name, reliability=(1, 3), **options).eval()
    missing = judging.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing
    assert all(key.startswith("reliability.") for key in missing)
    return plain, judging


def learned(model: TrackingNetwork) -> TrackingNetwork:
    """The network with a reliability that counts."""
    assert model.reliability is not None
    torch.nn.init.constant_(model.reliability.strength, 0.5)
    return model


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_a_new_reliability_changes_no_bit_and_a_learned_one_does(name, options) -> None:
    plain, judging = pair_of(name, **options)
    assert_changes_nothing_while_new(plain, judging, learned)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_encode_shows_it_at_every_place(name, options) -> None:
    _, judging = pair_of(name, **options)
    encoding = learned(judging).encode(*images(judging), layers=(3,))
    assert encoding.reliability is not None
    assert encoding.modality_weights is not None
    kept = torch.zeros(2, 64, dtype=torch.bool).scatter(1, encoding.indices, True)
    assert torch.equal((encoding.reliability > 0).all(-1), kept)
    assert torch.equal((encoding.reliability == 0).all(-1), ~kept)
    torch.testing.assert_close(encoding.modality_weights.sum(-1), torch.ones(2))


def test_the_sum_of_two_streams_is_a_weighed_one() -> None:
    _, judging = pair_of("two_stream_tiny_128")
    judging = learned(judging)
    encoding = judging.encode(*images(judging), layers=(1, 3))
    estimator = judging.reliability
    assert estimator is not None
    seen = [layer for layer in encoding.layers if layer.tir is not None]
    rgb = torch.stack([layer.rgb[:, 16:] for layer in seen], dim=1)
    tir = torch.stack([layer.tir[:, 16:] for layer in seen if layer.tir is not None], dim=1)
    reliability, weights = estimator.estimate(rgb, tir)
    torch.testing.assert_close(encoding.reliability, reliability)
    norm = judging.backbone.norm
    expected = weights[..., :1] * norm(rgb[:, 1]) + weights[..., 1:] * norm(tir[:, 1])
    torch.testing.assert_close(encoding.features, expected)


def test_the_streams_of_ainet_are_weighed_where_they_are_joined() -> None:
    _, judging = pair_of("ainet_tiny_128", ofm=None)
    judging = learned(judging)
    estimator = judging.reliability
    assert estimator is not None
    encoding = judging.encode(*images(judging), layers=(1, 3))
    first, last = encoding.layers
    assert first.tir is not None
    assert last.tir is not None
    rgb = torch.stack((first.rgb, last.rgb), dim=1)[:, :, 16:]
    tir = torch.stack((first.tir, last.tir), dim=1)[:, :, 16:]
    weights = estimator.estimate(rgb, tir).weights
    pairs = torch.cat((weights[..., :1] * rgb[:, 1], weights[..., 1:] * tir[:, 1]), dim=-1)
    dfm = judging.get_submodule("dfm.3")
    torch.testing.assert_close(encoding.features, dfm.join_pairs(pairs))


def test_without_it_nothing_is_estimated() -> None:
    encoding = tiny("ainet_tiny_128").encode(*images(tiny("ainet_tiny_128")))
    assert encoding.reliability is None
    assert encoding.modality_weights is None


def test_other_parameters_start_as_without_it() -> None:
    torch.manual_seed(3)
    plain = create_model("ainet_tiny_128")
    torch.manual_seed(3)
    judging = create_model("ainet_tiny_128", reliability=[3])
    for key, value in plain.state_dict().items():
        assert torch.equal(judging.state_dict()[key], value), key


def test_the_weights_in_the_box_load_whole_with_their_settings() -> None:
    plain = create_model("ainet_tiny_128", pretrained=True).eval()
    judging = create_model("ainet_tiny_128", pretrained=True, reliability=[0, 3]).eval()
    assert judging.tracking_settings == plain.tracking_settings
    assert judging.tracking_settings is not None
    template, search = images(plain)
    with torch.no_grad():
        expected = plain(template, search).score_map
        assert torch.equal(judging(template, search).score_map, expected)


def test_a_file_keeps_it_and_does_not_fit_a_network_without(tmp_path: Path) -> None:
    judging = learned(create_model("two_stream_tiny_128", reliability=[3])).eval()
    path = tmp_path / "judging.safetensors"
    save_checkpoint(judging, path)
    again = load_model(path).eval()
    template, search = images(judging)
    assert torch.equal(again(template, search).score_map, judging(template, search).score_map)
    with pytest.raises(CheckpointError, match=r"reliability is \[3\] in the file and None"):
        load_checkpoint(create_model("two_stream_tiny_128"), path)
    with pytest.raises(CheckpointError, match=r"reliability is \[3\] in the file and \[1, 3\]"):
        load_checkpoint(create_model("two_stream_tiny_128", reliability=[1, 3]), path)


def test_files_of_networks_without_it_say_nothing_of_it() -> None:
    for name in OF_TWO:
        assert "reliability" not in create_model(f"{name}_tiny_128").configuration["options"]


@pytest.mark.parametrize("blocks", [[], [3, 1], [1, 1], [4], [-1]])
def test_blocks_that_do_not_exist_are_refused(blocks) -> None:
    with pytest.raises(ValueError, match="reliability must be ascending block numbers in"):
        create_model("ainet_tiny_128", reliability=blocks)


def test_a_walk_of_one_modality_is_told_so() -> None:
    class OneStream(TrackingNetwork):
        def begin(self, call: Call) -> Walk:
            tokens = self.embed_two_streams(call.template, call.search)
            return Walk(self.backbone, tokens[: len(call.search.rgb)])

    small = EncoderSettings(
        dim=16, depth=2, num_heads=2, template_size=32, search_size=64, head_channels=8
    )
    model = OneStream(small, {}, reliability=[1])
    with pytest.raises(ValueError, match="reliability must be None in a network whose walk"):
        model(*images(model))


@pytest.mark.parametrize("name", [f"{one}_tiny_128" for one in OF_TWO])
def test_it_compiles_and_exports(name: str) -> None:
    model = learned(create_model(name, reliability=[0, 1], depth=2)).eval()
    template, search = images(model)
    with torch.no_grad():
        expected = model(template, search)
        program = torch.export.export(model, (template, search)).module()
        torch.testing.assert_close(program(template, search).score_map, expected.score_map)
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(template, search).score_map, expected.score_map)
