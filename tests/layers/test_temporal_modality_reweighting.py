"""TMR: the equations by hand, and the state through time."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from map_material import CHANNELS, built, count, pair
from rgbt_fusion.checks import ShapeError
from rgbt_fusion.layers.progressive_interaction import TPI
from rgbt_fusion.layers.temporal_modality_reweighting import TMR, TMRState

MAP = torch.zeros(2, CHANNELS, 4, 4)


def test_tmr_follows_equations_1_to_3_over_two_frames():
    tmr = built(TMR, CHANNELS, hidden=5)
    weight, difference = (
        torch.full((3,), 0.5, dtype=torch.float64),
        torch.zeros(3, dtype=torch.float64),
    )
    state = None
    for frame in range(2):
        rgb, tir = pair(3, CHANNELS, 4, 6, seed=frame)
        out = tmr(rgb, tir, state)
        r_rgb, r_tir = tmr.ema_rgb(rgb).mean((1, 2, 3)), tmr.ema_tir(tir).mean((1, 2, 3))
        context = torch.stack([r_rgb, r_tir, difference, weight], 1)
        hidden = torch.relu(context @ tmr.fc1.weight.T + tmr.fc1.bias)
        weight = torch.sigmoid(hidden @ tmr.fc2.weight.T + tmr.fc2.bias)[:, 0]
        difference = r_rgb - r_tir
        torch.testing.assert_close(out.rgb, weight.view(3, 1, 1, 1) * rgb)
        torch.testing.assert_close(out.tir, (1 - weight).view(3, 1, 1, 1) * tir)
        torch.testing.assert_close(out.state, TMRState(weight, difference))
        state = out.state


def test_tmr_with_a_known_perceptron_gives_the_weight_computed_by_hand():
    tmr = TMR(1, hidden=1).double()
    for parameter in tmr.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        tmr.fc1.weight.copy_(torch.tensor([[2.0, -1.0, 3.0, 4.0]]))
        tmr.fc2.weight.fill_(0.5)
    # With all of EMA at zero its gate is sigmoid(0), so the responses are half the means: 1 and
    # 0.5.
    rgb = torch.tensor([1.0, 3.0], dtype=torch.float64).view(1, 1, 1, 2)
    tir = torch.ones(1, 1, 1, 2, dtype=torch.float64)
    state = TMRState(torch.tensor([0.25]), torch.tensor([-0.5]))
    weight = 1 / (1 + math.exp(-0.5 * (2 * 1 - 0.5 + 3 * -0.5 + 4 * 0.25)))
    rgb_out, tir_out, next_state = tmr(rgb, tir, state)
    torch.testing.assert_close(rgb_out.flatten().tolist(), [weight, 3 * weight])
    torch.testing.assert_close(tir_out.flatten().tolist(), [1 - weight] * 2)
    torch.testing.assert_close([x.item() for x in next_state], [weight, 0.5])


def test_tmr_starts_from_an_even_weight_and_no_difference():
    tmr = built(TMR, CHANNELS)
    rgb, tir = pair(2, CHANNELS, 4, 4)
    initial = TMRState.initial(2, dtype=torch.float64)
    assert [x.tolist() for x in initial] == [[0.5, 0.5], [0.0, 0.0]]
    assert torch.equal(tmr(rgb, tir).rgb, tmr(rgb, tir, initial).rgb)


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("layer_type", [TMR, TPI])
def test_a_clip_equals_its_frames_in_turn(layer_type, detach):
    layer = built(layer_type, CHANNELS, detach_history=detach)
    rgb, tir = (x.requires_grad_() for x in pair(2, 4, CHANNELS, 3, 5))
    at_once = layer(rgb, tir)
    state, frames = None, []
    for t in range(4):
        out = layer(rgb[:, t], tir[:, t], state)
        state = out.state
        frames.append(out[0])
    in_turn = torch.stack(frames, 1)
    torch.testing.assert_close(at_once[0], in_turn, rtol=0, atol=1e-13)
    torch.testing.assert_close(at_once.state, state, rtol=0, atol=1e-13)
    leaves = [rgb, tir, *layer.parameters()]
    ours = torch.autograd.grad(at_once[0].square().sum(), leaves)
    theirs = torch.autograd.grad(in_turn.square().sum(), leaves)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_a_clip_continues_from_a_state():
    tmr = built(TMR, CHANNELS)
    rgb, tir = pair(2, 5, CHANNELS, 3, 4)
    whole = tmr(rgb, tir)
    first = tmr(rgb[:, :2], tir[:, :2])
    rest = tmr(rgb[:, 2:], tir[:, 2:], first.state)
    torch.testing.assert_close(torch.cat([first.rgb, rest.rgb], 1), whole.rgb, rtol=0, atol=1e-13)
    torch.testing.assert_close(rest.state, whole.state, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("detach", "reaches"), [(True, False), (False, True)])
def test_gradient_reaches_the_previous_frame_only_when_asked(detach, reaches):
    tmr = built(TMR, CHANNELS, detach_history=detach)
    rgb, tir = (x.requires_grad_() for x in pair(2, 2, CHANNELS, 3, 4))
    tmr(rgb, tir).rgb[:, 1].sum().backward()
    assert rgb.grad is not None
    assert bool(rgb.grad[:, 0].any()) is reaches
    assert rgb.grad[:, 1].any()


def test_resetting_one_row_restarts_that_row_and_leaves_the_others_bit_for_bit():
    tmr = built(TMR, CHANNELS)
    state = tmr(*pair(3, CHANNELS, 4, 4, seed=1)).state
    reset = state.reset(torch.tensor([False, True, False]))
    for before, after, start in zip(
        state, reset, TMRState.initial(3, dtype=torch.float64), strict=True
    ):
        assert torch.equal(after[[0, 2]], before[[0, 2]])
        assert torch.equal(after[1], start[1])
        assert not torch.equal(after[1], before[1])

    rgb, tir = pair(3, CHANNELS, 4, 4, seed=2)
    kept, restarted, fresh = tmr(rgb, tir, state), tmr(rgb, tir, reset), tmr(rgb, tir)
    for stream in range(2):
        assert torch.equal(restarted[stream][[0, 2]], kept[stream][[0, 2]])
        assert torch.equal(restarted[stream][1], fresh[stream][1])
        assert not torch.equal(restarted[stream][1], kept[stream][1])


@pytest.mark.parametrize("file_format", ["torch", "safetensors"])
def test_a_saved_and_reloaded_state_continues_bit_for_bit(tmp_path, file_format):
    tmr = TMR(CHANNELS)
    state = tmr(*pair(2, CHANNELS, 4, 4, dtype=torch.float32, seed=1)).state
    path = tmp_path / "state"
    if file_format == "torch":
        torch.save(state._asdict(), path)
        reloaded = TMRState(**torch.load(path, weights_only=True))
    else:
        save_file(state._asdict(), path)
        reloaded = TMRState(**load_file(path))
    for frame in range(2, 5):
        rgb, tir = pair(2, CHANNELS, 4, 4, dtype=torch.float32, seed=frame)
        expected, found = tmr(rgb, tir, state), tmr(rgb, tir, reloaded)
        assert torch.equal(expected.rgb, found.rgb)
        assert torch.equal(expected.tir, found.tir)
        state, reloaded = expected.state, found.state
    assert all(map(torch.equal, state, reloaded))


def test_tmr_without_history_ignores_the_previous_frame_and_with_it_does_not():
    rgb, tir = pair(2, CHANNELS, 4, 4)
    earlier = TMRState(torch.tensor([0.1, 0.9]), torch.tensor([2.0, -2.0]))
    without = built(TMR, CHANNELS, history=False)
    assert without.fc1.in_features == 2
    assert torch.equal(without(rgb, tir).rgb, without(rgb, tir, earlier).rgb)
    with_history = built(TMR, CHANNELS)
    assert not torch.allclose(with_history(rgb, tir).rgb, with_history(rgb, tir, earlier).rgb)


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_the_state_is_kept_in_single_precision_or_better(dtype, kept):
    out = TMR(CHANNELS).to(dtype)(*pair(2, CHANNELS, 4, 4, dtype=dtype))
    assert {x.dtype for x in out.state} == {kept}
    assert out.rgb.dtype == out.tir.dtype == dtype


def test_parameter_count():
    # Two EMAs at 96 channels per group and a perceptron 4-64-1: the nearest natural form to the
    # published 0.2028 M.
    assert count(TMR(768)) == 2 * (10 * 96**2 + 4 * 96) + 4 * 64 + 64 + 64 + 1 == 185_473


@pytest.mark.parametrize(
    "layer",
    [TMR(CHANNELS), TPI(CHANNELS), TPI(CHANNELS, tmr=False, cmi=None, maf=None)],
    ids=["TMR", "TPI", "sum"],
)
def test_bad_states_are_named(layer):
    with pytest.raises(TypeError, match="state must be a TMRState or None, got tuple"):
        layer(MAP, MAP, (torch.zeros(2), torch.zeros(2)))
    with pytest.raises(
        ShapeError, match=r"state\.rgb_weight must have shape \(B\) with B = 2, got \(3,\)"
    ):
        layer(MAP, MAP, TMRState.initial(3))
    with pytest.raises(
        ValueError, match=r"state\.rgb_weight must be on the device of rgb cpu, got meta"
    ):
        layer(MAP, MAP, TMRState.initial(2, device="meta"))


def test_bad_masks_are_named():
    state = TMRState.initial(3)
    with pytest.raises(
        ShapeError, match=r"mask must have the shape of the state's rows \(3,\), got \(2,\)"
    ):
        state.reset(torch.zeros(2, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"mask must be boolean, got torch\.float32"):
        state.reset(torch.zeros(3))
    with pytest.raises(TypeError, match="mask must be a tensor, got list"):
        state.reset([True, False, False])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="batch must not be negative, got -1"):
        TMRState.initial(-1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TMR(12, factor=8), "dim must be divisible by factor = 8, got 12"),
        (lambda: TMR(8, hidden=0), "hidden must be at least 1, got 0"),
        (lambda: TMR(0), "dim must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
