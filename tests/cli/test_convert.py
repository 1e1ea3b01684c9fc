from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from model_material import save_as_official, tiny
from rgbt_fusion.cli import main
from rgbt_fusion.weights.checkpoints import load_model, save_checkpoint


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["convert", *map(str, arguments)])
    written = capsys.readouterr()
    return left.value.code, written.out, written.err


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A file of the official trainers, of a tiny network with the ViT's own stem."""
    model = tiny("ostrack_vits_256", dim=32, depth=2, num_heads=2, head_channels=64)
    return save_as_official(model.state_dict(), tmp_path / "OSTrack_ep0300.pth.tar")


def test_an_own_file_is_converted_to_the_preset_it_fits(tmp_path, capsys):
    save_checkpoint(tiny("ainet_tiny_128_compact"), tmp_path / "own")
    status, out, err = run(
        capsys, tmp_path / "own", tmp_path / "half.safetensors", "--dtype", "float16"
    )
    assert (status, err) == (0, f"wrote {tmp_path / 'half.safetensors'}\n")
    assert "(rgbt_fusion): 100.0% of the model loaded" in out
    assert "missing    0" in out
    with safe_open(tmp_path / "half.safetensors", framework="pt") as file:
        assert file.get_tensor("box_head.conv5_ctr.bias").dtype == torch.float16
    assert load_model(tmp_path / "half.safetensors").options["inner_width"] == 8


def test_a_file_of_another_tracker_needs_the_name_of_a_preset(tmp_path, capsys, official):
    out = tmp_path / "out.safetensors"
    status, _, err = run(capsys, official, out)
    assert status == 2
    assert "(ostrack) fits no preset by itself: say for which model it is meant" in err
    status, _, err = run(capsys, official, out, "--model", "two_stream_tiny_128")
    assert status == 2
    assert "no preset fits the file" in err
    assert not out.exists()


def test_too_little_is_refused_unless_it_is_asked_for(tmp_path, capsys):
    model = tiny("ostrack_tiny_128")
    head = tmp_path / "head"
    save_file(dict(model.box_head.state_dict(prefix="box_head.")), head)
    arguments = (head, tmp_path / "out", "--model", "ostrack_tiny_128")
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert "at least 100% must be there" in err
    status, out, _ = run(capsys, *arguments, "--minimum-share", "0.1")
    assert status == 0
    assert "missing" in out
    loaded = load_model(tmp_path / "out")
    assert torch.equal(
        loaded.get_parameter("box_head.conv1_ctr.0.weight"), model.box_head.conv1_ctr[0].weight
    )


def test_nothing_is_overwritten_unless_told(tmp_path, capsys):
    save_checkpoint(tiny("ostrack_tiny_128"), tmp_path / "own")
    (tmp_path / "there").write_text("precious")
    status, _, err = run(capsys, tmp_path / "own", tmp_path / "there")
    assert (status, err) == (2, f"error: {tmp_path / 'there'} exists: give --force to replace it\n")
    assert (tmp_path / "there").read_text() == "precious"
    assert run(capsys, tmp_path / "own", tmp_path / "there", "--force")[0] == 0
    assert load_model(tmp_path / "there")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent", "out"), "absent, which does not exist"),
        (("absent", "no/folder/out"), "must be a folder to write out into"),
        (("absent", "out", "--model", "vit"), "--model must be one of"),
        (("absent", "out", "--dtype", "int8"), "--dtype must be one of"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert message in err
