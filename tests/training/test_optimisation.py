"""Groups, schedules and the average of the weights, checked by hand."""

import pytest
import torch
from torch import nn

from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.training.config import OptimiserConfig
from rgbt_fusion.training.optimisation import (
    NORMS,
    WeightAverage,
    freeze,
    learning_rate_factor,
    make_optimiser,
    set_learning_rate,
    undecayed,
)
from rgbt_fusion.weights.pretrained import create_model


def tiny(name: str = "tpmri_tiny_128"):
    return create_model(name, dim=32, depth=1, head_channels=8)


def test_the_encoder_learns_at_a_rate_of_its_own():
    model = tiny()
    optimiser = make_optimiser(
        model, OptimiserConfig(learning_rate=1e-3, backbone_factor=0.1, weight_decay=0.01)
    )
    encoder, rest = optimiser.param_groups
    assert (encoder["lr"], rest["lr"]) == pytest.approx((1e-4, 1e-3))
    assert encoder["weight_decay"] == rest["weight_decay"] == 0.01
    inside = {id(parameter) for parameter in encoder["params"]}
    expected = {*model.backbone.parameters(), *model.patch_embed_tir.parameters()}
    assert inside == {id(parameter) for parameter in expected if parameter.requires_grad}
    assert len(inside) + len(rest["params"]) == sum(
        parameter.requires_grad for parameter in model.parameters()
    )
    assert set_learning_rate(optimiser, 0.5) == pytest.approx(5e-4)
    assert encoder["lr"] == pytest.approx(5e-5)


def test_norms_and_marked_parameters_can_be_spared_the_decay():
    model = create_model("ainet_tiny_128", dim=32, depth=1, head_channels=8)
    config = OptimiserConfig(learning_rate=1e-3, backbone_factor=0.1, decay_everything=False)
    optimiser = make_optimiser(model, config)
    names = {
        id(parameter): name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    rates = {}
    decays = {}
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            rates[names[id(parameter)]] = group["lr"]
            decays[names[id(parameter)]] = group["weight_decay"]
    assert set(decays) == set(names.values())
    spared = {name for name, decay in decays.items() if decay == 0.0}
    assert spared == {names[id(one)] for one in undecayed(model) if one.requires_grad}
    assert {name.rpartition(".")[2] for name in spared} == {"A_log", "D", "weight", "bias"}
    for name in spared:
        owner, _, own_name = name.rpartition(".")
        assert own_name in ("A_log", "D") or isinstance(model.get_submodule(owner), NORMS)
    assert {name for name in decays if name.endswith(("A_log", ".D"))} <= spared
    for name, rate in rates.items():
        assert rate == pytest.approx(1e-4 if "backbone." in name else 1e-3)
    assert set_learning_rate(optimiser, 0.5) == pytest.approx(5e-4)


def test_what_is_frozen_is_not_optimised():
    model = tiny()
    freeze(model, ["backbone.", "patch_embed_tir."])
    assert len(make_optimiser(model, OptimiserConfig()).param_groups) == 1
    with pytest.raises(
        ValueError, match="frozen must hold beginnings of parameter names, got 'nonsense'"
    ):
        freeze(model, ["nonsense"])
    freeze(model, [""])
    with pytest.raises(ValueError, match="network must have a parameter to train, but frozen"):
        make_optimiser(model, OptimiserConfig())


def test_a_warm_up_rises_evenly_from_above_0():
    config = OptimiserConfig(schedule="constant", warmup_steps=5)
    assert [learning_rate_factor(step, 50, config) for step in range(7)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 1, 1, 1]
    )


def test_a_step_falls_to_a_tenth():
    config = OptimiserConfig(schedule="step", drop_at=0.6667)
    factors = [learning_rate_factor(step, 37500, config) for step in (0, 24999, 25002)]
    assert factors == [1.0, 1.0, 0.1]


def test_a_cosine_ends_at_a_hundredth():
    config = OptimiserConfig(schedule="cosine", warmup_steps=10)
    factors = [learning_rate_factor(step, 110, config) for step in (10, 60, 109)]
    assert factors[0] == 1
    assert factors[1] == pytest.approx(0.505)
    assert factors[2] == pytest.approx(0.01, abs=1e-3)


def test_the_average_follows_weights_and_statistics():
    model = nn.BatchNorm2d(1)
    average = WeightAverage(model, 0.9)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.running_mean.fill_(1.0)
        model.num_batches_tracked.fill_(7)
    average.update(model, 1000)
    assert average.values["weight"].item() == pytest.approx(1 * 0.9 + 3 * 0.1)
    assert average.values["running_mean"].item() == pytest.approx(0.1)
    assert average.values["num_batches_tracked"] == 7


def test_the_average_starts_quickly():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = WeightAverage(model, 0.999)
    nn.init.ones_(model.weight)
    average.update(model, 0)
    assert average.values["weight"].item() == pytest.approx(0.9)


def test_an_average_goes_on_from_what_was_saved():
    model = nn.Linear(2, 2)
    average = WeightAverage(model, 0.9)
    saved = {name: value + 1 for name, value in average.values.items()}
    average.load(saved)
    assert all(torch.equal(average.values[name], value) for name, value in saved.items())


def test_a_frozen_norm_keeps_its_statistics():
    model = tiny().train()
    freeze(model, ["box_head.conv1_ctr"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    template, search = (ImagePair(*torch.rand(2, 2, 3, side, side)) for side in (64, 128))
    model(template, search)
    moved = {name for name, value in model.state_dict().items() if (value != before[name]).any()}
    means = {name for name in before if name.endswith("running_mean")}
    assert "box_head.conv1_ctr.1.running_mean" not in moved
    assert means - moved == {"box_head.conv1_ctr.1.running_mean"}
