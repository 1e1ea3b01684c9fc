from pathlib import Path

import pytest
import torch

from model_material import tiny
from rgbt_fusion.cli import main
from rgbt_fusion.export import int8, onnx_file
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.weights.checkpoints import save_checkpoint


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["export", *map(str, arguments)])
    written = capsys.readouterr()
    return left.value.code, written.out, written.err


def test_a_file_of_ours_is_exported_with_its_weights(tmp_path, capsys):
    save_checkpoint(tiny("ostrack_tiny_128", depth=1), tmp_path / "own")
    status, out, err = run(capsys, tmp_path / "own", tmp_path / "step.pt2", "--batch", "2")
    assert (status, err) == (0, "")
    assert "largest differences from PyTorch on 3 synthetic steps" in out
    assert "score_map        0.0e+00" in out
    assert torch.export.load(tmp_path / "step.pt2")


def recorded(calls: list[tuple[str, TrackingNetwork, list[Path], int]], kind: str):
    def write(model: TrackingNetwork, *paths: Path, batch: int) -> str:
        calls.append((kind, model, list(paths), batch))
        return f"{kind} written"

    return write


def test_int8_is_a_second_file(tmp_path, capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(onnx_file, "export_onnx", recorded(calls, "float32"))
    monkeypatch.setattr(int8, "export_int8", recorded(calls, "int8"))
    path = tmp_path / "step.onnx"
    status, out, err = run(capsys, "two_stream_tiny_128", path, "--int8", "--batch", "3")
    assert (status, out) == (0, "float32 written\nint8 written\n")
    assert (
        err
        == "note: two_stream_tiny_128 has random weights; give --checkpoint FILE for trained ones\n"
    )
    assert [(kind, paths, batch) for kind, _, paths, batch in calls] == [
        ("float32", [path], 3),
        ("int8", [path, tmp_path / "step.int8.onnx"], 3),
    ]


def test_a_preset_is_exported_with_the_weights_of_a_file(tmp_path, capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(onnx_file, "export_onnx", recorded(calls, "float32"))
    model = tiny("ostrack_tiny_128")
    save_checkpoint(model, tmp_path / "own")
    arguments = ("two_stream_tiny_128", tmp_path / "step.onnx", "--checkpoint", tmp_path / "own")
    assert run(capsys, *arguments) == (0, "float32 written\n", "")
    assert torch.equal(calls[0][1].backbone.pos_embed_x, model.backbone.pos_embed_x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("ostrack_tiny_128", "out.tflite"),
            "the ending of DST must be one of '.onnx', '.pt2', got '.tflite'",
        ),
        (
            ("ostrack_tiny_128", "out.pt2", "--int8"),
            "--int8 must come with a DST that ends in .onnx",
        ),
        (
            ("ostrack_tiny_128", "out.pt2", "--float16"),
            "--float16 must come with a DST that ends in .onnx",
        ),
        (("ostrack_tiny", "out.pt2"), "did you mean 'ostrack_tiny_128'"),
        (("ostrack_tiny_128", "there.pt2"), "there.pt2 exists: give --force"),
        (("ostrack_tiny_128", "there.onnx", "--int8"), "there.int8.onnx exists: give --force"),
        (("ostrack_tiny_128", "half.onnx", "--float16"), "half.float16.onnx exists: give --force"),
        (("ostrack_tiny_128", "pair.onnx"), "pair.template.onnx exists: give --force"),
        (("ostrack_tiny_128", "out.pt2", "--batch", "0"), "batch must be"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("there.pt2").touch()
    for name in ("there.int8.onnx", "half.float16.onnx", "pair.template.onnx"):
        Path(name).touch()
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert not Path("out.pt2").exists()
