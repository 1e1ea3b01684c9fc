from pathlib import Path

import pytest
import torch
from torch import Tensor

from rgbt_fusion.weights.formats import CONFIGURATION_KEY, RecognisedFile, recognise
from rgbt_fusion.weights.stored_tensors import CheckpointError, WeightFile, open_weight_file

OSTRACK = {
    "backbone.pos_embed_x": torch.randn(1, 16, 8),
    "backbone.pos_embed_z": torch.randn(1, 4, 8),
    "backbone.blocks.0.attn.qkv.weight": torch.randn(24, 8),
    "box_head.conv1_ctr.0.weight": torch.randn(16, 8, 3, 3),
}


def recognised(state: dict[str, Tensor], folder: Path) -> RecognisedFile:
    torch.save({"net": state}, folder / "file.pth")
    return recognise(open_weight_file(folder / "file.pth"))


def test_ostrack_is_told_with_its_sizes(tmp_path: Path) -> None:
    file = recognised({f"module.{name}": value for name, value in OSTRACK.items()}, tmp_path)
    assert file.kind == "ostrack"
    assert file.configuration is not None
    settings = {"depth": 1, "dim": 8, "search_size": 64, "template_size": 32, "head_channels": 16}
    assert file.configuration["settings"] == settings
    assert file.entries.keys() == OSTRACK.keys()


def test_droptrack_folds_its_temporal_embeddings(tmp_path: Path) -> None:
    temporal = {f"backbone.temporal_pos_embed_{letter}": torch.randn(1, 1, 8) for letter in "xz"}
    file = recognised(OSTRACK | temporal, tmp_path)
    assert file.kind == "droptrack"
    assert file.entries.keys() == OSTRACK.keys()
    for letter in "xz":
        name = f"backbone.pos_embed_{letter}"
        expected = OSTRACK[name] + temporal[f"backbone.temporal_pos_embed_{letter}"]
        assert torch.equal(file.entries[name].read(), expected)


def test_a_vit_starts_both_tables_without_its_class_token(tmp_path: Path) -> None:
    table = torch.randn(1, 197, 8)
    state = {
        "pos_embed": table,
        "blocks.0.attn.qkv.weight": torch.randn(24, 8),
        "decoder_embed.weight": torch.ones(2),
    }
    file = recognised(state, tmp_path)
    assert file.kind == "vit"
    for letter in "xz":
        assert torch.equal(file.entries[f"backbone.pos_embed_{letter}"].read(), table[:, 1:])
    # a table that never had a class token
    file = recognised(state | {"pos_embed": table[:, 1:]}, tmp_path)
    assert torch.equal(file.entries["backbone.pos_embed_x"].read(), table[:, 1:])


def test_ainet_stacks_its_three_scans_in_their_order(tmp_path: Path) -> None:
    scans = "mamba_fusion.fusion.0.mamba."
    state = dict(OSTRACK)
    for i, direction in enumerate(("", "_b", "_s")):
        state[f"{scans}conv1d{direction}.weight"] = torch.full((6, 1, 4), float(i))
        state[f"{scans}A{direction}_log"] = torch.full((6, 2), float(i))
    state["backbone.cross_mamba.0.mamba.A_log"] = torch.randn(8, 2)
    state["mamba_fusion.norm.weight"] = torch.ones(8)
    state["mamba_fusion.fusion.0.norm1.weight"] = torch.zeros(8)
    file = recognised(state, tmp_path)
    assert file.kind == "ainet"
    assert file.configuration is not None and file.configuration["model"] == "AINet"
    assert file.configuration["options"]["order_predictor"] == "released"
    weight = file.entries["ofm.scans.conv_weight"]
    assert weight.shape == weight.read().shape == (3, 6, 4)
    assert weight.read()[:, 0, 0].tolist() == [0, 1, 2]
    assert file.entries["ofm.scans.A_log"].read()[:, 0, 0].tolist() == [0, 1, 2]
    assert {"dfm.0.mamba.A_log", "ofm.norm.weight", "ofm.norm1.weight"} <= file.entries.keys()


def test_an_unknown_state_dict_is_taken_as_it_is(tmp_path: Path) -> None:
    file = recognised({"some.weight": torch.ones(2)}, tmp_path)
    assert (file.kind, file.configuration, list(file.entries)) == (
        "state_dict",
        None,
        ["some.weight"],
    )


@pytest.mark.parametrize("configuration", ["{", "[]", '{"model": "AINet"}'])
def test_a_broken_configuration_is_refused(configuration: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="carries a configuration"):
        recognise(WeightFile(tmp_path / "file", {}, {CONFIGURATION_KEY: configuration}))


AINET_SCAN = "mamba_fusion.fusion.0.mamba."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"backbone.pos_embed_x": torch.ones(())},
            r"backbone.pos_embed_x with 3 axes, got shape \(\)",
        ),
        ({"backbone.pos_embed_z": torch.ones(4, 8)}, "backbone.pos_embed_z with 3 axes"),
        (
            {"box_head.conv1_ctr.0.weight": torch.ones(16)},
            "box_head.conv1_ctr.0.weight with 4 axes",
        ),
        (
            {"backbone.temporal_pos_embed_x": torch.ones(1, 3, 8)},
            r"backbone.temporal_pos_embed_x of shape \(1, 1, 8\), got \(1, 3, 8\)",
        ),
        (
            {"backbone.cross_mamba.0.x": torch.ones(1)}
            | {f"{AINET_SCAN}conv1d{way}.weight": torch.ones(()) for way in ("", "_b", "_s")},
            r"mamba.conv1d.weight with 3 axes, got shape \(\)",
        ),
        (
            {"backbone.cross_mamba.0.x": torch.ones(1)}
            | {f"{AINET_SCAN}D{way}": torch.ones(len(way)) for way in ("", "_b", "_s")},
            r"mamba.D of one shape in all scans, got \(0,\), \(2,\), \(2,\)",
        ),
    ],
)
def test_shapes_that_the_names_do_not_promise(
    tmp_path: Path, changes: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        recognised(OSTRACK | changes, tmp_path)


def test_a_vit_whose_table_is_none(tmp_path: Path) -> None:
    state = {"pos_embed": torch.ones(8), "blocks.0.attn.qkv.weight": torch.ones(24, 8)}
    with pytest.raises(CheckpointError, match=r"pos_embed with 3 axes, got shape \(8,\)"):
        recognised(state, tmp_path)
