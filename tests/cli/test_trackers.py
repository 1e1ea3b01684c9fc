"""What --model, --checkpoint and --device mean."""

import pytest
import torch

from rgbt_fusion.cli.trackers import check_tracker, make_tracker, tracker_settings
from rgbt_fusion.tracking.ncc import NCCTracker
from rgbt_fusion.tracking.tracker import Tracker
from rgbt_fusion.weights.checkpoints import save_checkpoint
from rgbt_fusion.weights.pretrained import create_model


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    save_checkpoint(create_model("ostrack_tiny_128", depth=1), tmp_path / "mine.safetensors")
    return tmp_path / "mine.safetensors"


def test_a_file_of_ours_says_what_it_is(checkpoint):
    tracker = make_tracker(str(checkpoint), None, "cpu")
    assert isinstance(tracker, Tracker)
    assert len(tracker.model.backbone.blocks) == 1


def test_a_preset_takes_the_weights_of_a_file(tmp_path):
    model = create_model("ostrack_tiny_128")
    save_checkpoint(model, tmp_path / "whole.safetensors")
    tracker = make_tracker("ostrack_tiny_128", tmp_path / "whole.safetensors", "cpu")
    assert isinstance(tracker, Tracker)
    loaded = tracker.model.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())


def test_options_stand_above_the_settings_of_the_network(checkpoint):
    tracker = make_tracker(str(checkpoint), None, "cpu", {"size_inertia": 0.5})
    assert isinstance(tracker, Tracker)
    assert tracker.settings.plain() == {"size_inertia": 0.5}


def test_the_baseline():
    assert isinstance(make_tracker("ncc", None, "cpu"), NCCTracker)


def test_the_baseline_is_not_moved_to_a_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="--device must be cpu for template matching, got 'cuda'"):
        make_tracker("ncc", None, "cuda")


def test_settings_tell_weights_apart_by_their_content(checkpoint, tmp_path):
    settings = tracker_settings(str(checkpoint), None)
    assert settings["model"] == "mine"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1] + b"x")
    assert tracker_settings(str(checkpoint), None)["weights"] != settings["weights"]
    preset = tracker_settings("ostrack_tiny_128", checkpoint)
    assert (preset["model"], "weights" in preset) == ("ostrack_tiny_128", True)
    assert "weights" not in tracker_settings("ncc", None)


@pytest.mark.parametrize(
    ("model", "file", "device", "message"),
    [
        (
            "yolo",
            None,
            "cpu",
            "--model must be ncc, a preset, .* or package.module:function, got 'yolo'",
        ),
        ("gone.onnx", None, "cpu", "got 'gone.onnx', which is no file here"),
        ("ostrack_tiny_128", "gone.pth", "cpu", "--checkpoint must be a file, got .*gone.pth"),
        (
            "ostrack_vitb_256",
            None,
            "cpu",
            "--checkpoint must be given for ostrack_vitb_256: weights come with",
        ),
        (
            "ncc",
            "mine.pth",
            "cpu",
            "--checkpoint must come with the name of a preset or .* got --model ncc",
        ),
        ("ncc", None, "tpu", "--device must be cpu, cuda or cuda:NUMBER, got 'tpu'"),
        ("ncc", None, "cuda:99", "--device must be one of [0-9]+ CUDA devices, got 'cuda:99'"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, model, file, device, message):
    with pytest.raises(ValueError, match=message):
        check_tracker(model, tmp_path / file if file else None, device)
