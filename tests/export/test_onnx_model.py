"""A tracker that is a pair of ONNX files: the template is embedded once."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_material import tiny
from rgbt_fusion import Tracker
from rgbt_fusion.export.agreement import ExportError
from rgbt_fusion.export.onnx_file import TRACKING_KEY, export_onnx, need_onnx
from rgbt_fusion.export.onnx_model import OnnxModel
from rgbt_fusion.models.tracking_settings import TrackingSettings
from rgbt_fusion.synthetic.world import SyntheticSequence
from rgbt_fusion.weights.formats import TRACKING_SETTINGS_KEY

try:
    need_onnx()
except (ModuleNotFoundError, ExportError) as error:
    pytest.skip(f"no ONNX here: {error}", allow_module_level=True)

import onnx

SETTINGS = TrackingSettings(size_inertia=0.6, size_correction=0.5, lost_threshold=0.0)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    model = tiny("tpmri_tiny_128", depth=1)
    model.tracking_settings = SETTINGS
    path = tmp_path_factory.mktemp("pair") / "step.onnx"
    export_onnx(model, path)
    return model, path


def boxes(model: Any) -> np.ndarray:
    sequence = SyntheticSequence(3, frames=4)
    return np.array([result.box_xywh_px for result in Tracker(model).track(sequence)])


def test_the_pair_tracks_as_the_network_does_and_embeds_once(
    exported: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, path = exported
    pair = OnnxModel(path)
    calls: list[Any] = []
    embed = pair.embed_template
    monkeypatch.setattr(pair, "embed_template", lambda images: calls.append(1) or embed(images))
    assert np.abs(boxes(pair) - boxes(model)).max() < 1e-3
    assert len(calls) == 1
    assert Tracker(pair).settings == SETTINGS


def test_two_targets_go_through_a_file_for_one(exported: tuple[Any, Path]) -> None:
    model, path = exported
    sequence = SyntheticSequence(3, frames=3)
    first = np.stack([sequence.truth.rgb[0], sequence.truth.rgb[0] + [3, 2, 0, 0]])
    found = [
        np.array([result.box_xywh_px for result in Tracker(one).track(sequence, first)])
        for one in (OnnxModel(path), model)
    ]
    assert np.abs(found[0] - found[1]).max() < 1e-3


def test_a_step_without_its_template_says_what_is_missing(
    exported: tuple[Any, Path], tmp_path: Path
) -> None:
    _, path = exported
    shutil.copy(path, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"needs step\.template\.onnx beside it"):
        OnnxModel(tmp_path / "step.onnx")
    (tmp_path / "step.template.onnx").write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="must be the file that was written with"):
        OnnxModel(tmp_path / "step.onnx")


def test_an_error_without_words_is_named_by_its_type(
    exported: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("rgbt_fusion.export.onnx_model.open_session", fail)
    with pytest.raises(ValueError, match="cannot be read as ONNX: MemoryError"):
        OnnxModel(exported[1])


def test_a_file_that_names_another_folder_is_refused(
    exported: tuple[Any, Path], tmp_path: Path
) -> None:
    content = onnx.load(exported[1])
    for entry in content.metadata_props:
        if entry.key == TRACKING_KEY:
            values = json.loads(entry.value)
            values["template"]["file"] = "../step.template.onnx"
            entry.value = json.dumps(values)
    onnx.save(content, tmp_path / "step.onnx")
    with pytest.raises(ValueError, match="must name a file beside it for its template"):
        OnnxModel(tmp_path / "step.onnx")


def test_settings_that_cannot_be_used_are_refused(
    exported: tuple[Any, Path], tmp_path: Path
) -> None:
    content = onnx.load(exported[1])
    for entry in content.metadata_props:
        if entry.key == TRACKING_SETTINGS_KEY:
            entry.value = '{"size_inertia": 7}'
    onnx.save(content, tmp_path / "step.onnx")
    with pytest.raises(ValueError, match="how it tracks, but: size_inertia must be a finite"):
        OnnxModel(tmp_path / "step.onnx")


def test_a_network_that_judges_its_modalities_tracks_the_same(tmp_path: Path) -> None:
    model = tiny("two_stream_tiny_128", depth=1, reliability=[0])
    export_onnx(model, tmp_path / "step.onnx")
    np.testing.assert_allclose(boxes(OnnxModel(tmp_path / "step.onnx")), boxes(model), atol=1e-2)


def test_a_network_that_aligns_its_modalities_tracks_the_same(tmp_path: Path) -> None:
    model = tiny("two_stream_tiny_128", depth=1, alignment=2)
    torch.nn.init.constant_(model.get_parameter("alignment.trust.bias"), 1.0)
    export_onnx(model, tmp_path / "step.onnx")
    np.testing.assert_allclose(boxes(OnnxModel(tmp_path / "step.onnx")), boxes(model), atol=1e-2)
