from pathlib import Path

import pytest

from model_material import tiny
from rgbt_fusion.cli.model_argument import open_model, refuse_overwriting
from rgbt_fusion.weights.checkpoints import save_checkpoint


def test_a_model_is_a_preset_or_a_file(tmp_path: Path) -> None:
    model = tiny("ainet_tiny_128", depth=2)
    save_checkpoint(model, tmp_path / "own.safetensors")
    assert open_model("ainet_tiny_128").settings.depth == 4
    assert open_model(str(tmp_path / "own.safetensors")).configuration == model.configuration


def test_a_preset_is_filled_from_a_file(tmp_path: Path) -> None:
    model = tiny("ostrack_tiny_128")
    save_checkpoint(model, tmp_path / "own.safetensors")
    filled = open_model("two_stream_tiny_128", tmp_path / "own.safetensors")
    assert filled.backbone.pos_embed_x.equal(model.backbone.pos_embed_x)


def test_what_is_neither_is_refused_with_the_names_that_are_near(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match="got 'ainet_tiny'; did you mean 'ainet_tiny_128' or 'ainet_tiny_128_compact'",
    ):
        open_model("ainet_tiny")
    save_checkpoint(tiny("ostrack_tiny_128", depth=1), tmp_path / "own")
    with pytest.raises(ValueError, match="must come with the name of a preset"):
        open_model(str(tmp_path / "own"), tmp_path / "own")
    with pytest.raises(ValueError, match="must come with the name of a preset"):
        open_model(str(tmp_path / "own"), pretrained=True)
    with pytest.raises(ValueError, match="--pretrained must not come with --checkpoint"):
        open_model("ostrack_tiny_128", tmp_path / "own", pretrained=True)


def test_a_file_that_exists_is_kept(tmp_path: Path) -> None:
    refuse_overwriting(tmp_path / "new", force=False)
    (tmp_path / "old").touch()
    refuse_overwriting(tmp_path / "old", force=True)
    with pytest.raises(FileExistsError, match="old exists: give --force"):
        refuse_overwriting(tmp_path / "old", force=False)
    with pytest.raises(FileNotFoundError, match="nowhere must be a folder"):
        refuse_overwriting(tmp_path / "nowhere" / "new", force=True)
