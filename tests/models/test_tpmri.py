from typing import Any

import pytest
import torch
from torch import nn

from model_material import images, tiny
from rgbt_fusion.layers.cross_modality_interaction import CMI
from rgbt_fusion.layers.modality_aware_fusion import MAF
from rgbt_fusion.layers.temporal_modality_reweighting import TMR
from rgbt_fusion.models.tpmri import TPMRI, TPMRIState
from rgbt_fusion.weights.pretrained import create_model


def test_interaction_has_the_published_parameters() -> None:
    with torch.device("meta"):
        model = create_model("tpmri_vitb_256")
    sizes = {
        kind: [
            sum(p.numel() for p in m.parameters()) for m in model.modules() if isinstance(m, kind)
        ]
        for kind in (TMR, CMI, MAF)
    }
    assert sizes[CMI] == [144] * 12
    assert sizes[MAF] == [40] * 12
    assert len(sizes[TMR]) == 1
    rest = sum(p.numel() for p in model.parameters()) - sum(map(sum, sizes.values()))
    # the published baseline is ViPT's 93.3619 M
    assert abs(rest - 93_361_900) < 4_000


def test_the_past_changes_the_result_and_a_reset_row_forgets_it() -> None:
    model = tiny("tpmri_tiny_128")
    template, search = images(model)
    other = images(model, seed=1)[1]
    first = model(template, search)
    assert isinstance(first.state, TPMRIState)
    later = model(template, other, first.state)
    fresh = model(template, other)
    assert not torch.equal(later.score_map, fresh.score_map)
    half = model(template, other, first.state.reset(torch.tensor([False, True])))
    torch.testing.assert_close(half.score_map[0], later.score_map[0])
    torch.testing.assert_close(half.score_map[1], fresh.score_map[1])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tmr": "per_layer"},
        {"tmr": None},
        {"history": False},
        {"cmi": None},
        {"cmi": "bidirectional"},
        {"maf": None},
        {"maf": "spatial"},
        {"keep_ratio": 1.0},
    ],
)
def test_every_ablation_trains_every_parameter(options: dict[str, Any]) -> None:
    model = tiny("tpmri_tiny_128", **options).train()
    template, search = images(model)
    state = model(template, search).state
    out = model(template, images(model, seed=1)[1], state)
    (out.score_map.sum() + out.size_map.sum() + out.offset_map.sum()).backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_weights_hold_no_table_that_follows_from_the_sizes() -> None:
    """Files of other crop sizes would be refused for it, and those of before would lack it."""
    model = tiny("tpmri_tiny_128")
    parameters = {name for name, _ in model.named_parameters()}
    norms = {name for name in model.state_dict() if name.startswith("box_head.")}
    assert set(model.state_dict()) == parameters | norms


def test_the_norms_of_the_prompts_have_the_epsilon_of_timm() -> None:
    model = tiny("tpmri_tiny_128")
    assert isinstance(model, TPMRI)
    for layer in model.prompt_layers:
        assert isinstance(layer.norm, nn.LayerNorm) and layer.norm.eps == 1e-6


def test_prompts_are_made_of_square_maps() -> None:
    model = tiny("tpmri_tiny_128")
    assert isinstance(model, TPMRI)
    sides = []
    for layer in model.prompt_layers:
        layer.interaction.register_forward_pre_hook(
            lambda _, inputs: sides.append(inputs[0].shape[-2:])
        )
    model(*images(model))
    assert set(sides) == {(4, 4), (8, 8)}


def test_weights_of_the_modalities_are_told() -> None:
    model = tiny("tpmri_tiny_128")
    weights = model.encode(*images(model)).modality_weights
    assert weights is not None
    torch.testing.assert_close(weights.sum(1), torch.ones(2))
    assert tiny("tpmri_tiny_128", tmr=None).encode(*images(model)).modality_weights is None


def test_a_prompt_stays_where_tokens_are_left() -> None:
    model = tiny("tpmri_tiny_128", keep_ratio=0.5)
    encoding = model.encode(*images(model), layers=range(4))
    assert [layer.rgb.shape[1] for layer in encoding.layers] == [80, 48, 32, 24]
    assert all(layer.tir is None for layer in encoding.layers)


def test_a_state_of_another_model_is_refused() -> None:
    model, layered = tiny("tpmri_tiny_128"), tiny("tpmri_tiny_128", tmr="per_layer")
    assert isinstance(model, TPMRI)
    template, search = images(model)
    with pytest.raises(ValueError, match="state must hold 4 TMR states, got 1"):
        layered(template, search, model(template, search).state)
    with pytest.raises(TypeError, match="state must be a TPMRIState or None, got float"):
        model(template, search, 0.5)
