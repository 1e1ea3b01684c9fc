"""TPI: its three stages in a row, and every ablation."""

import pytest
import torch

from map_material import CHANNELS, built, count, pair
from rgbt_fusion.layers.progressive_interaction import TPI
from rgbt_fusion.layers.temporal_modality_reweighting import TMRState


def test_tpi_is_its_three_stages():
    tpi = built(TPI, CHANNELS)
    rgb, tir = pair(2, CHANNELS, 4, 4)
    earlier = TMRState(torch.tensor([0.1, 0.9]), torch.tensor([2.0, -2.0]))
    rgb_weighted, tir_weighted, state = tpi.tmr(rgb, tir, earlier)
    fused, next_state = tpi(rgb, tir, earlier)
    assert torch.equal(fused, tpi.maf(rgb_weighted, tpi.cmi(rgb_weighted, tir_weighted)))
    assert all(map(torch.equal, next_state, state))


def test_tpi_ablations_leave_out_exactly_their_stage():
    rgb, tir = pair(2, CHANNELS, 4, 4)
    without_tmr = built(TPI, CHANNELS, tmr=False)
    assert torch.equal(without_tmr(rgb, tir).fused, without_tmr.maf(rgb, without_tmr.cmi(rgb, tir)))
    without_cmi = built(TPI, CHANNELS, cmi=None)
    rgb_weighted, tir_weighted, _ = without_cmi.tmr(rgb, tir)
    assert torch.equal(
        without_cmi(rgb, tir).fused, without_cmi.maf(rgb_weighted, rgb_weighted + tir_weighted)
    )
    without_maf = built(TPI, CHANNELS, maf=None)
    rgb_weighted, tir_weighted, _ = without_maf.tmr(rgb, tir)
    assert torch.equal(without_maf(rgb, tir).fused, without_maf.cmi(rgb_weighted, tir_weighted))
    assert torch.equal(TPI(CHANNELS, tmr=False, cmi=None, maf=None)(rgb, tir).fused, rgb + tir)


def test_tpi_hands_its_options_to_its_stages():
    tpi = TPI(
        CHANNELS, history=False, cmi="bidirectional", maf="spatial", scale=0.5, detach_history=False
    )
    assert tpi.tmr is not None
    assert tpi.cmi is not None
    assert tpi.maf is not None
    assert (tpi.tmr.history, tpi.tmr.detach_history) == (False, False)
    assert tpi.cmi.rgb_to_tir is not None
    assert (tpi.cmi.tir_to_rgb.scale, tpi.cmi.rgb_to_tir.scale, tpi.maf.pooling) == (
        0.5,
        0.5,
        "spatial",
    )


def test_tpi_without_tmr_passes_the_state_through():
    tpi = TPI(CHANNELS, tmr=False)
    rgb, tir = pair(2, CHANNELS, 4, 4, dtype=torch.float32)
    earlier = TMRState(torch.tensor([0.1, 0.9]), torch.tensor([2.0, -2.0]))
    assert all(map(torch.equal, tpi(rgb, tir, earlier).state, earlier))
    assert all(map(torch.equal, tpi(rgb, tir).state, TMRState.initial(2)))


def test_parameter_count_without_tmr_is_that_of_cmi_and_maf():
    assert count(TPI(8, tmr=False)) == 144 + 40


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: TPI(8, cmi="both"),
            "cmi must be one of 'tir_to_rgb', 'bidirectional', None, got 'both'",
        ),
        (lambda: TPI(8, maf="none"), "maf must be one of 'global', 'spatial', None, got 'none'"),
    ],
)
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
