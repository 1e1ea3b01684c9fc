"""A network that shares no class with the package goes through every door of it."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from one_training import small_training, train_in_two_processes
from rgbt_fusion import Tracker, export_onnx, export_program, load_checkpoint, save_checkpoint
from rgbt_fusion.cli import app
from rgbt_fusion.cli.model_argument import open_model
from rgbt_fusion.cli.trackers import make_tracker
from rgbt_fusion.models.summary import summarise
from rgbt_fusion.synthetic.world import SyntheticSequence
from rgbt_fusion.training import DataConfig, TrainConfig, train
from rgbt_fusion.training.checkpoints import read_checkpoint

NAME = "examples.05_your_own_network:Correlation"
RECIPE = "examples/05_your_own_network.toml"
# `make soak` trains for as long as the recipe says, and has inductor compile
STEPS = int(os.environ.get("RGBT_FUSION_OWN_STEPS", "3"))
COMPILER = os.environ.get("RGBT_FUSION_COMPILER", "eager")
ROOT = Path(__file__).resolve().parents[2]
DATA = DataConfig(workers=0, sequences=2, frames=10, challenges=("none",))
SMALL = TrainConfig(model="given", steps=2, batch_size=2, log_every=1, data=DATA)


def own(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return importlib.import_module("examples.05_your_own_network").Correlation(8)


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
    assert not torch.equal(model.inside[0].weight, own().inside[0].weight)


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


@pytest.mark.parametrize(
    ("door", "what_to_do"),
    [
        (Tracker, "see TrackerModel, or wrap"),
        (summarise, "see TrackerModel, or wrap"),
        (lambda net: train(SMALL, model=net, out="nowhere"), "see TrackerModel, or wrap"),
        (lambda net: export_onnx(net, "nowhere.onnx"), "give inputs to export any other module"),
        (lambda net: export_program(net, "nowhere.pt2"), "give inputs to export any other module"),
        (lambda net: TrainConfig(model=net), "hand your own network to train"),
    ],
)
def test_what_is_no_tracking_network_is_told_in_one_sentence_what_to_do(
    door: Any, what_to_do: str
) -> None:
    with pytest.raises(TypeError, match=what_to_do) as raised:
        door(torch.nn.Linear(1, 1))
    message = str(raised.value)
    assert "Linear" in message
    assert "\n" not in message and ". " not in message


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
    # OpenCV and the package resize with other roundings
    assert np.abs(found - boxes(Tracker(model), 4)).max() < 0.1


def test_the_command_line_names_it(tmp_path: Path) -> None:
    save_checkpoint(own(), tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"provides .* of the model"):
        open_model(NAME, tmp_path / "own.safetensors")
    model = importlib.import_module("examples.05_your_own_network").Correlation()
    save_checkpoint(model, tmp_path / "whole.safetensors")
    tracker = make_tracker(NAME, tmp_path / "whole.safetensors", "cpu")
    assert np.array_equal(boxes(tracker, 3), boxes(Tracker(model), 3))
    shown = CliRunner().invoke(app, ["info", NAME, "--json", "--static"])
    assert json.loads(shown.output)["model"] == "Correlation"


# dynamo itself looks at the gradient of the embedded template
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.filterwarnings("ignore:bfloat16 is slower than float32")
def test_compiled_in_bfloat16_it_trains_resumes_and_tracks(tmp_path: Path) -> None:
    constant = replace(SMALL.optimiser, learning_rate=1e-3, schedule="constant")
    config = replace(SMALL, steps=20, precision="bfloat16", optimiser=constant)
    compiled = torch.compile(own(), backend=COMPILER)
    first = train(replace(config, steps=10), model=compiled, out=tmp_path, device="cpu")
    assert first.steps == 10
    compiled = torch.compile(own(1), backend=COMPILER)
    result = train(config, model=compiled, out=tmp_path, device="cpu")
    assert result.steps == 20
    model = own(2)
    assert load_checkpoint(model, result.model).share == 1
    expected = boxes(Tracker(model))
    compiled = torch.compile(model, backend=COMPILER)
    assert np.abs(boxes(Tracker(compiled)) - expected).max() < 1e-3
    half = boxes(Tracker(model, dtype=torch.bfloat16))
    assert np.abs(half - expected).max() < 1


def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    changes = {
        "model": NAME,
        "overrides": {"dim": 8},
        "steps": 1,
        "batch_size": 4,
        "precision": "float64",
        "optimiser": {"clip_norm": 0.0},
    }
    train_in_two_processes(tmp_path / "two", changes)
    train(small_training(**changes), out=tmp_path / "one", device="cpu")
    # after one step, AdamW's first moment is a tenth of the gradient
    two, one = (
        read_checkpoint(tmp_path / which / "checkpoint.pt")["optimiser"]["state"]
        for which in ("two", "one")
    )
    assert one.keys() == two.keys()
    largest = 0.0
    for number, state in one.items():
        ours = 10 * two[number]["exp_avg"]
        theirs = 10 * state["exp_avg"]
        assert theirs.dtype == torch.float64
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-5)
        largest = max(largest, float(theirs.abs().max()))
    assert largest > 1e-3


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_public_commands_take_it_from_training_to_an_onnx_file(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    cv2 = pytest.importorskip("cv2")
    whole = STEPS == 200
    warmup = () if whole else ("--set", "optimiser.warmup_steps=1", "--set", "batch_size=2")
    run("train", RECIPE, "--out", tmp_path, "--set", f"steps={STEPS}", *warmup, "--device", "cpu")
    weights = tmp_path / "model.safetensors"
    of_torch = ("--model", NAME, "--checkpoint", weights)
    size = (10, 60) if whole else (1, 4)
    run(
        *("compare", *of_torch, "--json", tmp_path / "scores.json"),
        *("--sequences", size[0], "--frames", size[1]),
    )
    scores = json.loads((tmp_path / "scores.json").read_text())
    matching = scores.pop("template matching")
    (ours,) = scores.values()
    # an untrained network takes every target for a square
    assert ours["groups"]["none"] > (matching["groups"]["none"] if whole else 0)
    run("export", NAME, tmp_path / "own.onnx", "--checkpoint", weights)
    sequence = SyntheticSequence(3, frames=6)
    for number, (rgb, tir) in enumerate(sequence):
        for folder, image in (("rgb", rgb[..., ::-1]), ("tir", tir)):
            (tmp_path / folder).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), image)
    places = (tmp_path / "rgb", tmp_path / "tir")
    start = ",".join(str(number) for number in sequence.truth.rgb[0])
    found = []
    for name, tracker in (("torch", of_torch), ("onnx", ("--model", tmp_path / "own.onnx"))):
        table = tmp_path / f"{name}.txt"
        run("track", *places, "--init", start, *tracker, "--txt", table)
        found.append(np.loadtxt(table, delimiter=","))
    assert found[0].shape[0] == 6
    assert np.abs(found[0] - found[1]).max() < 1e-3
