"""Sixteen pairs learnt by heart, by every preset: a layer that is dead, or in the way, shows
here."""

import json

import pytest
import torch

from rgbt_fusion.models.presets import list_models
from rgbt_fusion.training import DataConfig, OptimiserConfig, TrainConfig
from rgbt_fusion.training.distributed import Processes
from rgbt_fusion.training.loop import starting_model
from rgbt_fusion.training.objective import LocalizationObjective
from rgbt_fusion.training.optimisation import (
    learning_rate_factor,
    make_optimiser,
    set_learning_rate,
)
from rgbt_fusion.training.samples import Sampler, open_clips
from rgbt_fusion.weights.pretrained import create_model

STEPS = 200
NARROW = {
    "dim": 64,
    "depth": 3,
    "num_heads": 2,
    "template_size": 64,
    "search_size": 128,
    "head_channels": 256,
    "drop_path": 0.0,
    "search_factor": 4.0,
}


def distinct_presets() -> dict[str, str]:
    """The presets that still differ at one size, and for every other one the preset that it is
    equal to."""
    first: dict[str, str] = {}
    equal = {}
    with torch.device("meta"):
        for name in list_models():
            configuration = json.dumps(create_model(name, **NARROW).configuration, sort_keys=True)
            equal[name] = first.setdefault(configuration, name)
    return equal


EQUAL = distinct_presets()
PRESETS = sorted(set(EQUAL.values()))


def test_no_family_is_left_out():
    assert set(EQUAL) == set(list_models())
    assert {name.split("_vit")[0].split("_tiny")[0] for name in PRESETS} == {
        name.split("_vit")[0].split("_tiny")[0] for name in list_models()
    }


# on one thread: networks this small gain nothing from a second, and lose much where another process
# has the core
@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", PRESETS)
def test_sixteen_pairs_are_learnt_by_heart(name):
    optimiser = OptimiserConfig(
        learning_rate=2e-3,
        backbone_factor=1.0,
        weight_decay=0.0,
        schedule="cosine",
        warmup_steps=10,
    )
    data = DataConfig(sequences=20, challenges=("none",))
    config = TrainConfig(model=name, overrides=NARROW, data=data, optimiser=optimiser, steps=STEPS)
    model = starting_model(config).train()
    objective = LocalizationObjective(model, config.loss, Processes(0, 1))
    batch = Sampler.of(config, open_clips(config, "synthetic"), model).batch(0, 0, 16)
    adamw = make_optimiser(model, optimiser)
    best = 0.0
    for step in range(STEPS):
        set_learning_rate(adamw, learning_rate_factor(step, STEPS, optimiser))
        terms = objective(batch)
        best = max(best, terms["iou"].item())
        if best > 0.9:
            break
        adamw.zero_grad()
        terms["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adamw.step()
    assert best > 0.9
