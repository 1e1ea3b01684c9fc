"""ModalityReliability: its equation, its neutral start, and what it says of an empty modality."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.layers.modality_reliability import ModalityReliability
from token_material import DIM, tokens


def trained(**options) -> ModalityReliability:
    """A layer in float64 that is away from its start."""
    torch.manual_seed(0)
    layer = ModalityReliability(DIM, hidden=4, **options).double()
    torch.nn.init.constant_(layer.strength, 0.3)
    return layer


def test_it_is_its_equation() -> None:
    layer = trained()
    rgb, tir = tokens(2, 2, 5).unbind(0)

    def parts(x: Tensor) -> tuple[Tensor, ...]:
        return layer.judge(F.layer_norm(x, (DIM,))).chunk(3, dim=-1)

    def reliability(own: Tensor, other: Tensor) -> Tensor:
        a, _, c = parts(own)
        _, b, _ = parts(other)
        whole = sum(F.gelu(c[:, place]) for place in range(5)) / 5
        return layer.verdict(F.gelu(a + b + whole[:, None])).sigmoid()

    r_rgb, r_tir = reliability(rgb, tir), reliability(tir, rgb)
    exponent = 3.0
    both = r_rgb**exponent + r_tir**exponent
    out = layer(rgb, tir)
    torch.testing.assert_close(out.reliability, torch.cat((r_rgb, r_tir), dim=-1))
    torch.testing.assert_close(out.rgb, 2 * r_rgb**exponent / both * rgb)
    torch.testing.assert_close(out.tir, 2 * r_tir**exponent / both * tir)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_new_layer_changes_no_bit(dtype: torch.dtype) -> None:
    layer = ModalityReliability(DIM).to(dtype)
    rgb, tir = (100 * tokens(2, 2, 5)).to(dtype).unbind(0)
    out = layer(rgb, tir)
    assert torch.equal(out.rgb, rgb)
    assert torch.equal(out.tir, tir)
    assert 0 < out.reliability.min() < out.reliability.max() < 1


def test_several_depths_are_judged_together_and_weighed_alike() -> None:
    layer = trained(depths=3)
    rgb, tir = tokens(2, 2, 3, 5).unbind(0)
    out = layer(rgb, tir)
    assert out.rgb.shape == (2, 3, 5, DIM)
    assert out.reliability.shape == (2, 5, 2)
    weights = layer.estimate(rgb, tir).weights
    for depth in range(3):
        torch.testing.assert_close(out.rgb[:, depth], rgb[:, depth] * weights[..., :1])
    moved = rgb.clone()
    moved[:, 1] += torch.arange(DIM)
    assert not torch.allclose(layer(moved, tir).reliability, out.reliability)


def test_swapping_the_streams_swaps_the_results() -> None:
    layer = trained()
    rgb, tir = tokens(2, 2, 5).unbind(0)
    out, swapped = layer(rgb, tir), layer(tir, rgb)
    torch.testing.assert_close((swapped.tir, swapped.rgb), out[:2])
    torch.testing.assert_close(swapped.reliability.flip(-1), out.reliability)


def test_equal_streams_keep_their_weight_whatever_was_learned() -> None:
    layer = trained()
    (rgb,) = tokens(1, 2, 5).unbind(0)
    assert torch.equal(layer(rgb, rgb).tir, rgb)


def test_it_learns_which_stream_is_empty() -> None:
    torch.manual_seed(0)
    layer = ModalityReliability(DIM, hidden=4)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=2e-2)
    wanted = torch.tensor([1.0, 0.0])

    def streams() -> tuple[Tensor, Tensor]:
        # all tokens of an empty picture are alike, as one level is
        return torch.randn(8, 20, DIM), torch.randn(8, 1, DIM).expand(-1, 20, -1)

    for _ in range(150):
        rgb, empty = streams()
        out = layer(rgb, empty)
        # the loss on the reliability, and one that is better off with the first stream alone
        judged = F.binary_cross_entropy(out.reliability, wanted.expand(8, 20, 2))
        fused = (out.rgb + out.tir - 2 * rgb).square().mean()
        optimiser.zero_grad()
        (judged + fused).backward()
        optimiser.step()
    assert layer.strength > 0.1
    assert layer.estimate(*streams()).weights[..., 0].mean() > 1.5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ModalityReliability(8)(torch.zeros(1, 5, 8), torch.zeros(1, 4, 8)),
            ShapeError,
            r"tir must have the shape of rgb \(1, 5, 8\), got \(1, 4, 8\)",
        ),
        (
            lambda: ModalityReliability(8, depths=2)(torch.zeros(1, 5, 8), torch.zeros(1, 5, 8)),
            ShapeError,
            "rgb must",
        ),
        (
            lambda: ModalityReliability(8, depths=2)(
                torch.zeros(1, 3, 5, 8), torch.zeros(1, 3, 5, 8)
            ),
            ShapeError,
            "rgb must",
        ),
        (lambda: ModalityReliability(0), ValueError, "dim must be"),
        (lambda: ModalityReliability(8, hidden=0), ValueError, "hidden must be"),
        (lambda: ModalityReliability(8, depths=0), ValueError, "depths must be"),
    ],
)
def test_bad_input_is_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
