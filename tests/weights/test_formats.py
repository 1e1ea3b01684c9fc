from pathlib import Path

import pytest
import torch
from torch import Tensor

from rgbt_fusion.weights.formats import CONFIGURATION_KEY, Layout, recognise
from rgbt_fusion.weights.stored_tensors import CheckpointError, WeightFile, open_weight_file

OSTRACK = {
    "backbone.pos_embed_x": torch.randn(1, 16, 8),
    "backbone.pos_embed_z": torch.randn(1, 4, 8),
    "backbone.blocks.0.attn.qkv.weight": torch.randn(24, 8),
    "box_head.conv1_ctr.0.weight": torch.randn(16, 8, 3, 3),
}


def layout_of(state: dict[str, Tensor], folder: Path) -> Layout:
    torch.save({"net": state}, folder / "file.pth")
    return recognise(open_weight_file(folder / "file.pth"))


def test_ostrack_is_told_with_its_sizes(tmp_path: Path) -> None:
    layout = layout_of({f"module.{name}": value for name, value in OSTRACK.items()}, tmp_path)
    assert layout.kind == "ostrack"
    assert layout.configuration is not None
    settings = {"depth": 1, "dim": 8, "search_size": 64, "template_size": 32, "head_channels": 16}
    assert layout.configuration["settings"] == settings
    assert layout.sources.keys() == OSTRACK.keys()


def test_droptrack_folds_its_temporal_embeddings(tmp_path: Path) -> None:
    temporal = {f"backbone.temporal_pos_embed_{letter}": torch.randn(1, 1, 8) for letter in "xz"}
    layout = layout_of(OSTRACK | temporal, tmp_path)
    assert layout.kind == "droptrack"
    assert layout.sources.keys() == OSTRACK.keys()
    for letter in "xz":
        name = f"backbone.pos_embed_{letter}"
        expected = OSTRACK[name] + temporal[f"backbone.temporal_pos_embed_{letter}"]
        assert torch.equal(layout.sources[name].read(), expected)


def test_a_vit_starts_both_tables_without_its_class_token(tmp_path: Path) -> None:
    table = torch.randn(1, 197, 8)
    state = {
        "pos_embed": table,
        "blocks.0.attn.qkv.weight": torch.randn(24, 8),
        "decoder_embed.weight": torch.ones(2),
    }
    layout = layout_of(state, tmp_path)
    assert layout.kind == "vit"
    for letter in "xz":
        assert torch.equal(layout.sources[f"backbone.pos_embed_{letter}"].read(), table[:, 1:])
    # a table that never had a class token
    layout = layout_of(state | {"pos_embed": table[:, 1:]}, tmp_path)
    assert torch.equal(layout.sources["backbone.pos_embed_x"].read(), table[:, 1:])


def test_ainet_stacks_its_three_scans_in_their_order(tmp_path: Path) -> None:
    scans = "mamba_fusion.fusion.0.mamba."
    state = dict(OSTRACK)
    for i, direction in enumerate(("", "_b", "_s")):
        state[f"{scans}conv1d{direction}.weight"] = torch.full((6, 1, 4), float(i))
        state[f"{scans}A{direction}_log"] = torch.full((6, 2), float(i))
    state["backbone.cross_mamba.0.mamba.A_log"] = torch.randn(8, 2)
    state["mamba_fusion.norm.weight"] = torch.ones(8)
    state["mamba_fusion.fusion.0.norm1.weight"] = torch.zeros(8)
    layout = layout_of(state, tmp_path)
    assert layout.kind == "ainet"
    assert layout.configuration is not None and layout.configuration["model"] == "AINet"
    assert layout.configuration["options"]["order_predictor"] == "released"
    weight = layout.sources["ofm.scans.conv_weight"]
    assert weight.shape == weight.read().shape == (3, 6, 4)
    assert weight.read()[:, 0, 0].tolist() == [0, 1, 2]
    assert layout.sources["ofm.scans.A_log"].read()[:, 0, 0].tolist() == [0, 1, 2]
    assert {"dfm.0.mamba.A_log", "ofm.norm.weight", "ofm.norm1.weight"} <= layout.sources.keys()


def test_an_unknown_state_dict_is_taken_as_it_is(tmp_path: Path) -> None:
    layout = layout_of({"some.weight": torch.ones(2)}, tmp_path)
    assert (layout.kind, layout.configuration, list(layout.sources)) == (
        "state_dict",
        None,
        ["some.weight"],
    )


@pytest.mark.parametrize("configuration", ["{", "[]", '{"model": "AINet"}'])
def test_a_broken_configuration_is_refused(configuration: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="carries a configuration"):
        recognise(WeightFile(tmp_path / "file", {}, {CONFIGURATION_KEY: configuration}))
