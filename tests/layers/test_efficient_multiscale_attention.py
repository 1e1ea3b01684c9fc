"""EMA against the published form written out, in values and gradients, and against one map computed
by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.layers.efficient_multiscale_attention import EfficientMultiscaleAttention


def written_out(ema: EfficientMultiscaleAttention, x: Tensor) -> Tensor:
    """The figure of the paper step by step: both branches as maps, both pooled, all products
    taken."""
    groups = x.reshape(-1, x.shape[1] // ema.factor, *x.shape[2:])
    height, width = x.shape[2:]
    rows = groups.mean(3, keepdim=True)
    columns = groups.mean(2, keepdim=True).transpose(2, 3)
    rows, columns = ema.conv1x1(torch.cat([rows, columns], 2)).split([height, width], 2)
    x1 = ema.gn(groups * rows.sigmoid() * columns.transpose(2, 3).sigmoid())
    x2 = ema.conv3x3(groups)
    x1_pooled, x2_pooled = (branch.mean((2, 3)).softmax(1)[:, None] for branch in (x1, x2))
    gate = x1_pooled @ x2.flatten(2) + x2_pooled @ x1.flatten(2)
    return (groups * gate.view(-1, 1, height, width).sigmoid()).reshape(x.shape)


def random_ema(channels: int, factor: int | None) -> EfficientMultiscaleAttention:
    """An EMA whose group normalisation is not at its initial ones and zeros."""
    torch.manual_seed(0)
    ema = EfficientMultiscaleAttention(channels, factor=factor).double()
    nn.init.normal_(ema.gn.weight)
    nn.init.normal_(ema.gn.bias)
    return ema


@pytest.mark.parametrize(
    ("channels", "factor", "size"),
    [
        (32, 8, (16, 16)),
        (24, 4, (5, 7)),
        (8, 8, (8, 8)),
        (6, 1, (3, 2)),
        (24, 4, (1, 3)),
        (16, 2, (2, 1)),
    ],
)
def test_equals_the_written_out_form_in_values_and_gradients(channels, factor, size):
    ema = random_ema(channels, factor)
    x = torch.randn(2, channels, *size, dtype=torch.float64, requires_grad=True)
    weights = torch.randn_like(x)
    ours, theirs = ema(x), written_out(ema, x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)

    leaves = [x, *ema.parameters()]
    for name, a, b in zip(
        ["x", *dict(ema.named_parameters())],
        torch.autograd.grad((ours * weights).sum(), leaves),
        torch.autograd.grad((theirs * weights).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(
            a, b, rtol=1e-10, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_one_channel_by_hand():
    ema = EfficientMultiscaleAttention(1).double()
    for parameter in (*ema.conv1x1.parameters(), *ema.conv3x3.parameters()):
        nn.init.zeros_(parameter)
    with torch.no_grad():
        ema.conv3x3.weight[0, 0, 1, 1] = 2.0
    x = torch.tensor([1.0, 3.0], dtype=torch.float64).view(1, 1, 1, 2)
    # Both pooled gates are sigmoid(0), so the first branch normalises (0.25, 0.75): mean 0.5,
    # variance 0.0625.
    deviation = 0.25 / math.sqrt(0.0625 + ema.gn.eps)
    # The second branch is twice the map; a softmax over one channel is 1.
    expected = [1 / (1 + math.exp(-(2 - deviation))), 3 / (1 + math.exp(-(6 + deviation)))]
    torch.testing.assert_close(ema(x).flatten().tolist(), expected)


def test_single_position_is_gated_by_the_bias_of_the_normalisation():
    ema = random_ema(4, 1)
    x = torch.randn(1, 4, 1, 1, dtype=torch.float64)
    x2 = ema.conv3x3(x).flatten()
    gate = ema.gn.bias.softmax(0) @ x2 + x2.softmax(0) @ ema.gn.bias
    torch.testing.assert_close(ema(x), x * gate.sigmoid())


@pytest.mark.parametrize("group", [1, 3, 96])
def test_parameter_count_and_the_authors_names(group):
    ema = EfficientMultiscaleAttention(8 * group, factor=8)
    assert sum(p.numel() for p in ema.parameters()) == 10 * group**2 + 4 * group
    assert {name.split(".")[0] for name in ema.state_dict()} == {"conv1x1", "conv3x3", "gn"}


@pytest.mark.parametrize(("channels", "factor"), [(768, 8), (12, 4), (7, 1), (8, 8)])
def test_default_factor_fits_any_width(channels, factor):
    ema = EfficientMultiscaleAttention(channels)
    assert ema.factor == factor
    assert ema.gate(torch.randn(2, channels, 3, 4)).shape == (2, factor, 3, 4)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (
            torch.zeros(2, 8, 4),
            ShapeError,
            r"x must have shape \(B, C, H, W\) with C = 16, got \(2, 8, 4\)",
        ),
        (torch.zeros(2, 8, 4, 4), ShapeError, r"x must have shape .* got \(2, 8, 4, 4\)"),
        (
            torch.zeros(2, 16, 0, 4),
            ShapeError,
            r"x must have at least one position, got \(2, 16, 0, 4\)",
        ),
        ([1.0], TypeError, "x must be a tensor .* got list"),
        (
            torch.zeros(2, 16, 4, 4, dtype=torch.int64),
            TypeError,
            "x must hold real floating-point numbers",
        ),
        (
            torch.zeros(2, 16, 4, 4, dtype=torch.float64),
            TypeError,
            "x must have the dtype of the layer's parameters",
        ),
    ],
)
def test_bad_input_is_named(x, error, message):
    with pytest.raises(error, match=message):
        EfficientMultiscaleAttention(16)(x)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="dim must be divisible by factor = 8, got 12"):
        EfficientMultiscaleAttention(12, factor=8)
    with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
        EfficientMultiscaleAttention(0)
    with pytest.raises(TypeError, match=r"factor must be a whole number, got 2\.0"):
        EfficientMultiscaleAttention(8, factor=2.0)  # pyright: ignore[reportArgumentType]
