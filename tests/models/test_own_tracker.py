"""A tracker that is not one of the package's: written as a user would, in at most 40 lines."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from model_material import images
from rgbt_fusion import CMI, EncoderSettings, Tracker, export_onnx, export_program
from rgbt_fusion.models import MODELS, TINY_128, Call, Preset, TrackingNetwork, Walk
from rgbt_fusion.training.config import DataConfig, TrainConfig
from rgbt_fusion.training.distributed import Processes
from rgbt_fusion.training.loop import run_training
from rgbt_fusion.training.objective import LocalizationObjective
from rgbt_fusion.training.samples import Sampler, open_clips
from rgbt_fusion.weights import CheckpointError, load_checkpoint, load_model, save_checkpoint


class CMITracker(TrackingNetwork):
    """Two streams that read from each other's search maps after every block."""

    summed_streams = 2

    def __init__(self, settings: EncoderSettings | None = None, *, scale: float = 1.0) -> None:
        super().__init__(settings or TINY_128, {"scale": scale})
        layers = [CMI(self.settings.dim, scale=scale) for _ in range(self.settings.depth)]
        self.interactions = nn.ModuleList(layers)

    def begin(self, call: Call) -> Walk:
        return CMIWalk(self, self.embed_two_streams(call.template, call.search))


class CMIWalk(Walk):
    """What happens between the blocks of one call."""

    def __init__(self, model: CMITracker, tokens: Tensor) -> None:
        super().__init__(model.backbone, tokens, streams=2)
        self.interactions = model.interactions

    def after_block(self, number: int) -> None:
        cmi = self.interactions[number]
        template = self.tokens[:, : self.encoder.template_length]
        search = self.tokens[:, self.encoder.template_length :]
        grid = self.encoder.settings.search_grid
        rgb, tir = rearrange(search, "(s b) (h w) c -> s b c h w", s=2, h=grid)
        enhanced = torch.cat((cmi(rgb, tir), cmi(tir, rgb)))
        self.tokens = torch.cat((template, rearrange(enhanced, "b c h w -> b (h w) c")), dim=1)


SMALL = EncoderSettings(
    dim=16, depth=2, num_heads=2, template_size=32, search_size=64, head_channels=8
)


def small_tracker() -> CMITracker:
    torch.manual_seed(0)
    return CMITracker(SMALL, scale=0.5)


def test_it_takes_at_most_forty_lines() -> None:
    source = inspect.getsource(CMITracker) + inspect.getsource(CMIWalk)
    assert len(source.splitlines()) <= 40


def test_the_modalities_meet_between_the_blocks() -> None:
    model = small_tracker().eval()
    template, search = images(model)
    first = model.encode(template, search, layers=(0,)).layers[0]
    darkened = search._replace(tir=torch.zeros_like(search.tir))
    other = model.encode(template, darkened, layers=(0,)).layers[0]
    length = model.backbone.template_length
    assert torch.equal(first.rgb[:, :length], other.rgb[:, :length])
    assert not torch.equal(first.rgb[:, length:], other.rgb[:, length:])


def test_it_trains(tmp_path: Path) -> None:
    model = small_tracker()
    before = model.interactions[0].get_parameter("tir_to_rgb.q.weight").detach().clone()
    data = DataConfig(sequences=2, frames=10, workers=0, challenges=("none",))
    config = TrainConfig(model="two_stream_tiny_128", steps=3, batch_size=2, log_every=1, data=data)
    alone = Processes(0, 1)
    result = run_training(
        config,
        LocalizationObjective(model, config.loss, alone),
        Sampler.of(config, open_clips(config, "synthetic"), model),
        out=tmp_path,
        device=torch.device("cpu"),
        processes=alone,
    )
    assert np.isfinite(result.values["loss"])
    assert not torch.equal(model.interactions[0].get_parameter("tir_to_rgb.q.weight"), before)
    load_checkpoint(small_tracker(), result.model)


def test_it_tracks() -> None:
    tracker = Tracker(small_tracker())
    frame = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    tracker.init(frame, frame[..., 0], (60, 40, 30, 20))
    result = tracker.update(frame, frame[..., 0])
    assert np.isfinite(result.box_xywh_px).all() and 0 < float(result.confidence) < 1


def test_it_is_exported_as_a_program(tmp_path: Path) -> None:
    report = export_program(small_tracker().eval(), tmp_path / "cmi.pt2")
    assert report.path.is_file()


def test_it_is_exported_as_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    report = export_onnx(small_tracker().eval(), tmp_path / "cmi.onnx")
    assert report.path.is_file()


def test_it_is_saved_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_tracker().eval()
    path = tmp_path / "cmi.safetensors"
    save_checkpoint(model, path)
    again = CMITracker(SMALL, scale=0.5).eval()
    assert load_checkpoint(again, path).share == 1
    assert torch.equal(again(*images(model)).score_map, model(*images(model)).score_map)
    with pytest.raises(CheckpointError, match=r"scale is 0\.5 in the file and 1\.0 in"):
        load_checkpoint(CMITracker(SMALL), path)
    with pytest.raises(
        CheckpointError,
        match=r"CMITracker is your own class, build one and call load_checkpoint\(model, path\)",
    ):
        load_model(path)
    # with a preset of its own it is built by name, as ours are
    monkeypatch.setitem(MODELS, "cmi_small", Preset(CMITracker, SMALL))
    assert load_model(path).configuration == model.configuration
