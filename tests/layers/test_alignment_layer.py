"""AlignmentLayer: its equation, its start, what it leaves alone, and that it learns a shift."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.layers.alignment_layer import AlignmentLayer
from rgbt_fusion.losses.alignment import alignment_loss
from rgbt_fusion.typed_module import TypedModule

CHANNELS = 6
SIDE = 8


def maps(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def sure(dim: int = CHANNELS, **options: int) -> AlignmentLayer:
    """A layer in float64 that is sure of everything it sees."""
    torch.manual_seed(0)
    layer = AlignmentLayer(dim, **options).double()
    torch.nn.init.constant_(layer.trust.bias, 5.0)
    return layer


def cubic(distance: float) -> float:
    t = abs(distance)
    if t < 1:
        return 1.5 * t**3 - 2.5 * t**2 + 1
    if t < 2:
        return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return 0.0


def test_it_is_its_equation() -> None:
    torch.manual_seed(0)
    layer = AlignmentLayer(3, reach=1, hidden=2).double()
    with torch.no_grad():
        layer.of_tir.weight.add_(0.1)
        layer.sharpness.fill_(0.7)
        layer.trust.weight.copy_(torch.tensor([[0.02, -0.03]]))
        layer.trust.bias.fill_(0.15)
    height, width = 3, 4
    rgb, tir = maps(2, 3, height, width), maps(2, 3, height, width, seed=1)

    def projected(x: Tensor, weight: Tensor) -> Tensor:
        normed = F.instance_norm(x, eps=1e-5)
        return torch.einsum("bchw,kc->bkhw", normed, weight)

    a = projected(rgb, layer.of_rgb.weight.detach())
    b = projected(tir, layer.of_tir.weight.detach())
    scores = torch.zeros(2, 3, 3, dtype=torch.float64)
    for sample in range(2):
        lengths = a[sample].norm() * b[sample].norm()
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                total = 0.0
                for y in range(height):
                    for x in range(width):
                        if 0 <= y + dy < height and 0 <= x + dx < width:
                            there = b[sample, :, y + dy, x + dx]
                            total += float(a[sample, :, y, x] @ there)
                share = (height - abs(dy)) * (width - abs(dx)) / (height * width)
                scores[sample, dy + 1, dx + 1] = 7 * total / (share * lengths.item())
    out = layer(rgb, tir)
    for sample in range(2):
        fits = (scores[sample].exp() / scores[sample].exp().sum()).tolist()
        places = [(dx, dy) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        weights = [fits[dy + 1][dx + 1] for dx, dy in places]
        o_x = sum(w * dx for w, (dx, _) in zip(weights, places, strict=True))
        o_y = sum(w * dy for w, (_, dy) in zip(weights, places, strict=True))
        assert out.offset[sample].tolist() == pytest.approx([o_x, o_y], abs=1e-5)
        spread = sum(
            w * ((dx - o_x) ** 2 + (dy - o_y) ** 2)
            for w, (dx, dy) in zip(weights, places, strict=True)
        )
        height_of_peak = math.log(scores[sample].exp().mean().item())
        trust = 10 * (0.02 * height_of_peak - 0.03 * spread + 0.15)
        confidence = 1 / (1 + math.exp(-trust))
        assert out.confidence[sample].item() == pytest.approx(confidence, abs=1e-5)
        share = max(0.0, 2 * confidence - 1)
        assert share > 0.1
        # the row and the column that one cell is read from, held at the border
        y, x = 1, 3
        expected = torch.zeros(3, dtype=torch.float64)
        for q_y in range(-3, 4):
            for q_x in range(-3, 4):
                weight = cubic(q_y - share * o_y) * cubic(q_x - share * o_x)
                row = min(max(y + q_y, 0), height - 1)
                column = min(max(x + q_x, 0), width - 1)
                expected += weight * tir[sample, :, row, column]
        torch.testing.assert_close(out.tir[sample, :, y, x], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_new_layer_changes_no_bit(dtype: torch.dtype) -> None:
    layer = AlignmentLayer(CHANNELS).to(dtype)
    rgb, tir = (100 * maps(2, 2, CHANNELS, 5, 7)).to(dtype).unbind(0)
    tir[0, 0, 0, 0] = -0.0
    out = layer(rgb, tir)
    assert out.tir.dtype == dtype
    assert torch.equal(out.tir, tir)
    assert torch.equal(out.tir.signbit(), tir.signbit())
    assert (out.offset != 0).all()


def test_a_new_layer_changes_no_bit_under_autocast() -> None:
    layer = AlignmentLayer(CHANNELS)
    rgb, tir = maps(2, 2, CHANNELS, 8, 8).float().unbind(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(rgb, tir)
    assert out.tir.dtype == torch.float32
    assert torch.equal(out.tir, tir)
    assert out.offset.dtype == out.confidence.dtype == torch.float32


def test_under_autocast_it_moves_as_without() -> None:
    layer = sure(reach=1).float()
    rgb = maps(2, CHANNELS, 8, 8).float()
    tir = rgb.roll(1, dims=2)
    expected = layer(rgb, tir)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(rgb, tir)
    assert out.tir.dtype == torch.float32
    torch.testing.assert_close(out.offset, expected.offset, rtol=0, atol=0.02)
    torch.testing.assert_close(out.tir, expected.tir, rtol=0, atol=0.2)


@pytest.mark.parametrize("blank", ["rgb", "tir", "both"])
@pytest.mark.parametrize("level", [0.0, 0.1, 3e4])
def test_a_map_of_one_value_leaves_all_as_it_is(blank: str, level: float) -> None:
    layer = sure(reach=2).float()
    # a number of cells whose mean is rounded
    rgb, tir = maps(2, 3, CHANNELS, 7, 9).float().unbind(0)
    flat = level * torch.arange(1.0, CHANNELS + 1).view(1, -1, 1, 1).expand_as(rgb)
    if blank != "tir":
        rgb = flat
    if blank != "rgb":
        tir = flat
    out = layer(rgb, tir)
    assert (out.confidence > 0.99).all()
    assert torch.equal(out.offset, torch.zeros(3, 2))
    assert torch.equal(out.tir, tir)


def test_a_whole_shift_is_found_and_taken_back() -> None:
    layer = sure(reach=2)
    rgb = maps(1, CHANNELS, 12, 12)
    # what colour shows at a cell, thermal shows two cells to the left and one below
    tir = rgb.roll((-2, 1), dims=(3, 2))
    with torch.no_grad():
        layer.sharpness.fill_(5.0)
    out = layer(rgb, tir)
    torch.testing.assert_close(out.offset, torch.tensor([[-2.0, 1.0]]).double(), atol=1e-3, rtol=0)
    inside = (..., slice(0, 11), slice(2, 12))
    torch.testing.assert_close(out.tir[inside], rgb[inside], atol=2e-2, rtol=0)


def test_the_other_way_round_is_the_other_way() -> None:
    layer = sure(reach=2)
    rgb = maps(1, CHANNELS, 10, 10)
    tir = rgb.roll((1, -1), dims=(3, 2))
    there, back = layer.estimate(rgb, tir), layer.estimate(tir, rgb)
    # the projections of a new layer are the same
    torch.testing.assert_close(there.offset, -back.offset)
    torch.testing.assert_close(there.confidence, back.confidence)


def test_up_to_one_half_nothing_moves_and_above_it_more_and_more() -> None:
    layer = sure(reach=1)
    rgb = maps(1, CHANNELS, 8, 8)
    tir = rgb.roll(1, dims=3)
    distances = []
    for confidence in (0.3, 0.5, 0.6, 0.9):
        logit = math.log(confidence / (1 - confidence))
        torch.nn.init.constant_(layer.trust.bias, logit / 10)
        out = layer(rgb, tir)
        assert out.confidence.item() == pytest.approx(confidence)
        distances.append((out.tir - rgb)[..., :-1].abs().mean().item())
        assert torch.equal(out.tir, tir) == (confidence <= 0.5)
    assert distances[0] == distances[1] > distances[2] > distances[3]


class Waves:
    """Smooth random maps that can be looked at between the cells, as two cameras show them."""

    def __init__(self, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        waves = 10
        self.count = count
        self.frequency = 0.4 * torch.rand(count, 1, waves, 2, generator=generator) - 0.2
        self.phase = torch.rand(count, CHANNELS, waves, generator=generator)
        self.noise = torch.randn(count, CHANNELS, SIDE, SIDE, generator=generator)
        self.shift = 3 * torch.rand(count, 2, generator=generator) - 1.5
        # thermal has the colours in another order and inverted
        self.mix = -torch.eye(CHANNELS).roll(2, dims=0)

    def at(self, shift: Tensor) -> Tensor:
        cells = torch.arange(float(SIDE))
        u, v = self.frequency.unsqueeze(-1).unsqueeze(-1).unbind(3)
        x = cells - shift[:, 0].view(-1, 1, 1, 1, 1)
        y = cells[:, None] - shift[:, 1].view(-1, 1, 1, 1, 1)
        turns = u * x + v * y + self.phase.unsqueeze(-1).unsqueeze(-1)
        return (2 * math.pi * turns).cos().mean(2)

    def colour(self) -> Tensor:
        return self.at(torch.zeros(self.count, 2))

    def thermal(self, shift: Tensor) -> Tensor:
        shown = torch.einsum("dc,bchw->bdhw", self.mix, self.at(shift))
        return shown + 0.02 * self.noise


def test_it_learns_shifts_between_cells_and_when_there_is_none() -> None:
    torch.manual_seed(0)
    layer = AlignmentLayer(CHANNELS, reach=2)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=1e-2)
    empty = torch.zeros(4, CHANNELS, SIDE, SIDE)
    for step in range(250):
        waves, other = Waves(16, 2 * step), Waves(4, 2 * step + 1)
        zero = torch.zeros(4, 2)
        # sixteen pairs, four of two scenes and four with a blank thermal map
        rgb = torch.cat((waves.colour(), other.colour(), other.colour()))
        tir = torch.cat((waves.thermal(waves.shift), waves.thermal(waves.shift)[:4], empty))
        seen = torch.ones(24, 2)
        seen[16:, 1] = 0
        offset, confidence = layer.estimate(rgb, tir)
        truth = torch.cat((waves.shift, zero, zero))
        loss = alignment_loss(offset, confidence, truth, seen)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    unseen = Waves(64, 100_000)
    thermal = unseen.thermal(unseen.shift)
    with torch.no_grad():
        out = layer(unseen.colour(), thermal)
        foreign = layer(unseen.colour(), thermal.flip(0))
        blank = layer(unseen.colour(), torch.zeros_like(thermal))
    error = (out.offset - unseen.shift).abs().mean().item()
    of_identity = unseen.shift.abs().mean().item()
    assert error < 0.25 * of_identity, f"{error:.3f} cells, where no layer has {of_identity:.3f}"
    # what is moved comes close to what thermal would show without a shift
    inside = (..., slice(2, -2), slice(2, -2))
    aligned = unseen.thermal(torch.zeros(64, 2))[inside]
    before = (thermal[inside] - aligned).square().mean().item()
    after = (out.tir[inside] - aligned).square().mean().item()
    assert after < 0.4 * before, f"{after:.4f} from {before:.4f}"
    assert out.confidence.mean() > 0.6
    assert foreign.confidence.mean() < 0.35
    assert blank.confidence.max() < 0.5
    assert torch.equal(blank.tir, torch.zeros_like(thermal))


def test_the_losses_of_a_tracker_teach_it_where_it_is_sure() -> None:
    for bias, moves in ((5.0, True), (-0.1, False)):
        layer = sure(reach=1)
        torch.nn.init.constant_(layer.trust.bias, bias)
        out = layer(maps(1, CHANNELS, 5, 5), maps(1, CHANNELS, 5, 5, seed=1))
        gradient = torch.autograd.grad(
            out.tir.square().sum(), layer.of_rgb.weight, allow_unused=True
        )[0]
        assert (gradient is not None and bool(gradient.any())) == moves


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: AlignmentLayer(8)(torch.zeros(1, 8, 5, 5), torch.zeros(1, 8, 5, 4)),
            ShapeError,
            r"tir must have the shape of rgb \(1, 8, 5, 5\), got \(1, 8, 5, 4\)",
        ),
        (
            lambda: AlignmentLayer(8)(torch.zeros(1, 7, 5, 5), torch.zeros(1, 7, 5, 5)),
            ShapeError,
            "rgb must have shape",
        ),
        (
            lambda: AlignmentLayer(8, reach=4)(torch.zeros(1, 8, 5, 4), torch.zeros(1, 8, 5, 4)),
            ShapeError,
            r"rgb must have sides above reach = 4, got \(1, 8, 5, 4\)",
        ),
        (lambda: AlignmentLayer(0), ValueError, "dim must be"),
        (lambda: AlignmentLayer(8, reach=0), ValueError, "reach must be"),
        (lambda: AlignmentLayer(8, hidden=0), ValueError, "hidden must be"),
        (lambda: AlignmentLayer(8, reach=1.5), TypeError, "reach must be"),
    ],
)
def test_bad_input_is_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_it_is_a_layer_on_maps() -> None:
    assert AlignmentLayer.takes_maps
    assert issubclass(AlignmentLayer, TypedModule)
