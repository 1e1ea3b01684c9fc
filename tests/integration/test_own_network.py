"""A network that shares no class with the package goes through every door of it."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from rgbt_fusion import Tracker, export_onnx, load_checkpoint, save_checkpoint
from rgbt_fusion.cli import app
from rgbt_fusion.cli.model_argument import open_model
from rgbt_fusion.cli.trackers import make_tracker
from rgbt_fusion.models.summary import summarise
from rgbt_fusion.synthetic.world import SyntheticSequence
from rgbt_fusion.training import DataConfig, TrainConfig, train

NAME = "examples.05_your_own_network:build"
ROOT = Path(__file__).resolve().parents[2]
DATA = DataConfig(workers=0, sequences=2, frames=10, challenges=("none",))
SMALL = TrainConfig(model="given", steps=2, batch_size=2, log_every=1, data=DATA)


def own(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return importlib.import_module("examples.05_your_own_network").build(8)


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def boxes(tracker: Any, frames: int = 6) -> np.ndarray:
    sequence = SyntheticSequence(3, frames=frames)
    return np.array([result.box_xywh_px for result in tracker.track(sequence)])


def test_it_trains_resumes_and_is_loaded(tmp_path: Path) -> None:
    whole = train(SMALL, model=own(), out=tmp_path / "whole", device="cpu")
    again = train(SMALL, model=own(), out=tmp_path / "whole", device="cpu")
    assert again.steps == whole.steps
    model = own(1)
    assert load_checkpoint(model, whole.model).share == 1
    assert not torch.equal(model.maps.weight, own().maps.weight)


def test_it_trains_on_a_loss_of_its_own(tmp_path: Path) -> None:
    def distance(out: Any, boxes: torch.Tensor) -> torch.Tensor:
        return (out.box_cxcywh_unit - boxes).abs().mean()

    result = train(SMALL, model=own(), out=tmp_path, device="cpu", loss=distance)
    assert 0 < result.values["loss"] < 1
    with pytest.raises(TypeError, match="loss must return a tensor without axes"):
        train(SMALL, model=own(), out=tmp_path / "b", device="cpu", loss=lambda out, boxes: boxes)


def test_it_is_trained_by_its_name(tmp_path: Path) -> None:
    config = TrainConfig(model=NAME, overrides={"dim": 8}, steps=1, batch_size=2, data=DATA)
    result = train(config, out=tmp_path, device="cpu")
    assert load_checkpoint(own(), result.model).share == 1


@pytest.mark.parametrize(
    ("config", "model", "error", "message"),
    [
        (SMALL, None, ValueError, "model must be given where config.model is 'given'"),
        (TrainConfig(model="ostrack_tiny_128"), own, ValueError, "got Correlation with config"),
        (SMALL, lambda: torch.nn.Linear(1, 1), TypeError, "Linear without template_size"),
    ],
)
def test_what_contradicts_itself_is_refused(
    tmp_path: Path, config: TrainConfig, model: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(config, model=model and model(), out=tmp_path / "x", device="cpu")
    assert not (tmp_path / "x").exists()


def test_a_network_in_place_of_a_name_says_where_it_goes() -> None:
    with pytest.raises(TypeError, match=r"hand your own network to train\(config, model=network\)"):
        TrainConfig(model=own())


def test_it_is_described() -> None:
    summary = summarise(own())
    assert summary.model == "Correlation"
    assert summary.parameters == sum(part.parameters for part in summary.components)
    assert summary.macs > 0


def test_its_onnx_file_finds_the_same_boxes(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = own().eval()
    export_onnx(model, tmp_path / "own.onnx")
    expected = boxes(Tracker(model))
    found = boxes(make_tracker(str(tmp_path / "own.onnx"), None, "cpu"))
    assert np.abs(found - expected).max() < 1e-3


def test_its_file_is_tracked_without_torch(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    cv2 = pytest.importorskip("cv2")
    model = own().eval()
    export_onnx(model, tmp_path / "own.onnx")
    sequence = SyntheticSequence(3, frames=4)
    for number, (rgb, tir) in enumerate(sequence):
        cv2.imwrite(str(tmp_path / f"rgb{number}.png"), rgb[..., ::-1])
        cv2.imwrite(str(tmp_path / f"tir{number}.png"), tir)
    # a finder that refuses torch stands in front of all others
    script = (
        "import sys, runpy; sys.modules['torch'] = None; sys.modules['rgbt_fusion'] = None; "
        "runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    )
    example = str(ROOT / "examples" / "07_track_without_torch.py")
    places = [str(tmp_path / name) for name in ("own.onnx", "rgb%d.png", "tir%d.png")]
    numbers = [str(number) for number in sequence.truth.rgb[0]]
    done = subprocess.run(
        [sys.executable, "-c", script, example, *places, *numbers],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = np.array([line.split() for line in done.stdout.splitlines()], dtype=float)
    # OpenCV resizes bytes, the package floating-point numbers
    assert np.abs(found - boxes(Tracker(model), 4)).max() < 0.1


def test_the_command_line_names_it(tmp_path: Path) -> None:
    save_checkpoint(own(), tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"provides .* of the model"):
        open_model(NAME, tmp_path / "own.safetensors")
    model = importlib.import_module("examples.05_your_own_network").build()
    save_checkpoint(model, tmp_path / "whole.safetensors")
    tracker = make_tracker(NAME, tmp_path / "whole.safetensors", "cpu")
    assert np.array_equal(boxes(tracker, 3), boxes(Tracker(model), 3))
    shown = CliRunner().invoke(app, ["info", NAME, "--json", "--static"])
    assert json.loads(shown.output)["model"] == "Correlation"


def test_compiled_it_finds_the_same_boxes(tmp_path: Path) -> None:
    model = own().eval()
    compiled = torch.compile(model, backend="eager")
    assert np.abs(boxes(Tracker(compiled), 3) - boxes(Tracker(model), 3)).max() < 1e-3
    result = train(SMALL, model=torch.compile(own(), backend="eager"), out=tmp_path, device="cpu")
    assert load_checkpoint(own(1), result.model).share == 1
