"""Files that 0.1.0 wrote load, and the models answer as they did there."""

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from rgbt_fusion.weights.checkpoints import load_checkpoint, load_model

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "0.1.0" / "models"
CONFIGURATIONS = json.loads((FOLDER / "configurations.json").read_text())


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    """How the files were made: the images are those of the recording."""
    spec = importlib.util.spec_from_file_location("make", FOLDER / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_file_of_0_1_0_gives_the_model_that_wrote_it(name: str, recipe: ModuleType) -> None:
    model = load_model(FOLDER / f"{name}.safetensors").eval()
    assert model.configuration == CONFIGURATIONS[name]
    assert list(model.configuration["options"]) == list(CONFIGURATIONS[name]["options"])
    report = load_checkpoint(model, FOLDER / f"{name}.safetensors")
    assert report.share == 1 and not (report.missing or report.unexpected or report.resized)

    recorded = load_file(FOLDER / "answers.safetensors")
    template = recipe.images(model.template_size, math.pi / 3)
    state = None
    for frame in range(2):
        search = recipe.images(model.search_size, float(frame))
        with torch.inference_mode():
            out = model(template, search, state)
            encoding = model.encode(template, search, state)
        state = out.state
        found = {
            "features": encoding.features,
            "score_map": out.score_map,
            "box_cxcywh_unit": out.box_cxcywh_unit,
        }
        # sums of many terms, in another order on another processor
        for key, value in found.items():
            atol = 1e-5 if key == "features" else 5e-6
            expected = recorded[f"{name}.{frame}.{key}"]
            torch.testing.assert_close(value, expected, atol=atol, rtol=0)
