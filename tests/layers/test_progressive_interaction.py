"""TMR, CMI, MAF and TPI: the equations by hand, the state through time, every ablation, published
parameter counts."""

import math
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.layers.cross_modality_interaction import CMI
from rgbt_fusion.layers.modality_aware_fusion import MAF
from rgbt_fusion.layers.progressive_interaction import TPI
from rgbt_fusion.layers.temporal_modality_reweighting import TMR, TMRState

CHANNELS = 8


def pair(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rgb, tir = torch.randn(2, *shape, dtype=dtype, generator=generator)
    return rgb, tir


def built(layer_type: type[nn.Module], *args, **options) -> Any:
    """A double-precision layer whose small perceptrons are large enough that every input of theirs
    matters."""
    torch.manual_seed(0)
    layer = layer_type(*args, **options).double()
    for name, parameter in layer.named_parameters():
        if "fc" in name:
            nn.init.normal_(parameter)
    return layer


def count(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters())


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


def test_parameter_counts():
    # Two EMAs at 96 channels a group and a perceptron 4-64-1: the nearest natural form to the
    # published 0.2028 M.
    assert count(TMR(768)) == 2 * (10 * 96**2 + 4 * 96) + 4 * 64 + 64 + 64 + 1 == 185_473
    assert count(CMI(8)) == 144
    assert count(CMI(8, direction="bidirectional")) == 288
    assert count(MAF(8)) == count(MAF(8, pooling="spatial")) == 40
    assert count(TPI(8, tmr=False)) == 184


def attention_by_loops(attention: Any, queries: Tensor, values: Tensor, scale: float) -> Tensor:
    """Equations 4 and 5 for one sample, one query position at a time."""
    x, y = queries.flatten(1), values.flatten(1)
    q, k, v = (
        conv.weight[:, :, 0, 0] @ stream + conv.bias[:, None]
        for conv, stream in ((attention.q, x), (attention.k, y), (attention.v, y))
    )
    columns = []
    for i in range(x.shape[1]):
        scores = torch.stack([scale * (q[:, i] * k[:, j]).sum() for j in range(y.shape[1])])
        shares = scores.exp() / scores.exp().sum()
        columns.append(sum(shares[j] * v[:, j] for j in range(y.shape[1])))
    return torch.stack(columns, 1).view_as(queries)


@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("direction", ["tir_to_rgb", "bidirectional"])
def test_cmi_follows_equations_4_to_6(direction, scale):
    cmi = built(CMI, 6, direction=direction, scale=scale)
    rgb, tir = pair(2, 6, 2, 3)
    for b, out in enumerate(cmi(rgb, tir)):
        expected = rgb[b] + attention_by_loops(cmi.tir_to_rgb, rgb[b], tir[b], scale)
        if direction == "bidirectional":
            expected = (
                expected + tir[b] + attention_by_loops(cmi.rgb_to_tir, tir[b], rgb[b], scale)
            ) / 2
        torch.testing.assert_close(out, expected)


def test_cmi_by_hand():
    cmi = CMI(2).double()
    with torch.no_grad():
        for parameter in cmi.parameters():
            parameter.zero_()
        cmi.tir_to_rgb.q.weight[0, :, 0, 0] = torch.tensor([1.0, 0.0])
        cmi.tir_to_rgb.k.weight[0, :, 0, 0] = torch.tensor([0.0, 1.0])
        cmi.tir_to_rgb.v.weight[:, :, 0, 0] = torch.eye(2)
    rgb = torch.tensor([[math.log(3.0), 0.0], [7.0, 8.0]], dtype=torch.float64).view(1, 2, 1, 2)
    tir = torch.tensor([[10.0, 20.0], [1.0, 0.0]], dtype=torch.float64).view(1, 2, 1, 2)
    # Position 0 asks log 3 of keys (1, 0): shares 3/4 and 1/4. Position 1 asks 0: shares 1/2 and
    # 1/2.
    expected = [[math.log(3.0) + 12.5, 15.0], [7.0 + 0.75, 8.0 + 0.5]]
    torch.testing.assert_close(cmi(rgb, tir)[0, :, 0].tolist(), expected)


def test_cmi_attends_within_a_sample_and_reads_only_tir():
    cmi = built(CMI, CHANNELS)
    rgb, tir = pair(2, CHANNELS, 3, 3)
    changed = tir.clone()
    changed[1] += 1
    assert torch.equal(cmi(rgb, tir)[0], cmi(rgb, changed)[0])
    # Another query position must not matter to a position's own result.
    rgb_changed = rgb.clone()
    rgb_changed[0, :, 0, 0] += 1
    torch.testing.assert_close(cmi(rgb, tir)[0, :, 1:], cmi(rgb_changed, tir)[0, :, 1:])


def test_maf_by_hand():
    maf = MAF(1).double()
    with torch.no_grad():
        maf.fc1.weight.copy_(torch.tensor([[1.0, 2.0]]))
        maf.fc1.bias.fill_(-3.0)
        maf.fc2.weight.copy_(torch.tensor([[0.0], [1.0]]))
        maf.fc2.bias.zero_()
    rgb = torch.tensor([0.0, 2.0], dtype=torch.float64).view(1, 1, 1, 2)
    enhanced = torch.tensor([1.0, 3.0], dtype=torch.float64).view(1, 1, 1, 2)
    # Means 1 and 2 give a hidden value of 2 and logits (0, 2).
    beta = math.exp(2) / (1 + math.exp(2))
    expected = [(1 - beta) * 0 + beta * 1, (1 - beta) * 2 + beta * 3]
    torch.testing.assert_close(maf(rgb, enhanced).flatten().tolist(), expected)


def test_maf_follows_equations_7_to_9():
    maf = built(MAF, CHANNELS)
    rgb, enhanced = pair(3, CHANNELS, 4, 5)
    pooled = torch.cat([rgb.mean((2, 3)), enhanced.mean((2, 3))], 1)
    weights = torch.softmax(maf.fc2(torch.relu(maf.fc1(pooled))), 1)[..., None, None, None]
    torch.testing.assert_close(maf(rgb, enhanced), weights[:, 0] * rgb + weights[:, 1] * enhanced)


def test_spatial_maf_is_the_global_one_at_every_position():
    spatial, pooled = built(MAF, CHANNELS, pooling="spatial"), MAF(CHANNELS).double()
    pooled.load_state_dict(spatial.state_dict())
    rgb, enhanced = pair(2, CHANNELS, 3, 4)
    out = spatial(rgb, enhanced)
    for i in range(3):
        for j in range(4):
            here = (..., slice(i, i + 1), slice(j, j + 1))
            torch.testing.assert_close(out[here], pooled(rgb[here], enhanced[here]))
    assert not torch.allclose(out, pooled(rgb, enhanced))


@pytest.mark.parametrize(
    "layer", [CMI(CHANNELS), MAF(CHANNELS), MAF(CHANNELS, pooling="spatial")], ids=str
)
def test_a_clip_of_the_stages_without_memory_is_a_batch_of_frames(layer):
    rgb, tir = pair(2, 3, CHANNELS, 4, 5, dtype=torch.float32)
    frames = layer(rgb.flatten(0, 1), tir.flatten(0, 1))
    torch.testing.assert_close(layer(rgb, tir), frames.view_as(rgb))


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


LAYERS = {
    "TMR": TMR(CHANNELS),
    "CMI": CMI(CHANNELS),
    "MAF": MAF(CHANNELS),
    "TPI": TPI(CHANNELS),
    "sum": TPI(CHANNELS, tmr=False, cmi=None, maf=None),
}
MAP = torch.zeros(2, CHANNELS, 4, 4)


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize(
    ("rgb", "tir", "error", "message"),
    [
        (
            MAP[0],
            MAP[0],
            ShapeError,
            r"rgb must have shape \(B, C, H, W\) with C = 8, got \(8, 4, 4\)",
        ),
        (MAP[:, :4], MAP[:, :4], ShapeError, r"rgb must have shape .* got \(2, 4, 4, 4\)"),
        (
            MAP[None, :, :4],
            MAP[None],
            ShapeError,
            r"rgb must have shape \(B, T, C, H, W\) .* got \(1, 2, 4, 4, 4\)",
        ),
        (
            MAP,
            MAP[..., :3],
            ShapeError,
            r"must have the shape of rgb \(2, 8, 4, 4\), got \(2, 8, 4, 3\)",
        ),
        (
            MAP[:, :, :0],
            MAP[:, :, :0],
            ShapeError,
            r"at least one frame and one position, got \(2, 8, 0, 4\)",
        ),
        (
            MAP,
            MAP.double(),
            TypeError,
            r"must have the dtype of rgb torch\.float32, got torch\.float64",
        ),
        (MAP, MAP.to("meta"), ValueError, "must be on the device of rgb cpu, got meta"),
        (
            MAP.int(),
            MAP.int(),
            TypeError,
            r"rgb must hold real floating-point numbers, got torch\.int32",
        ),
        (None, MAP, TypeError, "rgb must be a tensor .* got NoneType"),
        (MAP, None, TypeError, "must be a tensor, got NoneType"),
    ],
)
def test_bad_maps_are_named(layer, rgb, tir, error, message):
    with pytest.raises(error, match=message):
        layer(rgb, tir)


@pytest.mark.parametrize("name", ["TMR", "CMI", "MAF", "TPI"])
def test_inputs_of_another_precision_than_the_parameters_are_named(name):
    with pytest.raises(
        TypeError, match=r"rgb must have the dtype of the layer's parameters torch\.float32"
    ):
        LAYERS[name](MAP.double(), MAP.double())


@pytest.mark.parametrize(
    "layer", [LAYERS["TMR"], LAYERS["TPI"], LAYERS["sum"]], ids=["TMR", "TPI", "sum"]
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
        (lambda: TMR(12, factor=8), "channels must be divisible by factor = 8, got 12"),
        (lambda: TMR(8, hidden=0), "hidden must be at least 1, got 0"),
        (
            lambda: CMI(8, direction="rgb_to_tir"),
            "direction must be one of 'tir_to_rgb', 'bidirectional', got",
        ),
        (lambda: CMI(8, scale=math.nan), "scale must be finite, got nan"),
        (lambda: CMI(0), "channels must be at least 1, got 0"),
        (lambda: MAF(8, pooling="max"), "pooling must be one of 'global', 'spatial', got 'max'"),
        (lambda: MAF(8, reduction=0), "reduction must be at least 1, got 0"),
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


@pytest.mark.parametrize("layer_type", [TMR, CMI, MAF, TPI])
def test_runs_under_autocast_and_on_the_meta_device(layer_type):
    layer = layer_type(CHANNELS)
    rgb, tir = pair(2, CHANNELS, 4, 4, dtype=torch.float32)
    first = layer(rgb, tir)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(rgb, tir)
    torch.testing.assert_close(mixed, first, rtol=0, atol=0.1)
    shapes = layer.to("meta")(rgb.to("meta"), tir.to("meta"))
    assert (shapes if isinstance(shapes, Tensor) else shapes[0]).shape == rgb.shape
